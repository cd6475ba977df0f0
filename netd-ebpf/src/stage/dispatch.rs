//! The next stage of a packet, and the action that TC gets. No other room names a TC action.

use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::programs::TcContext;
use netd_common::abi::{cb, previous, stage};
use netd_common::flow::Zone;
use netd_common::policy::Decision;
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::bytes::{Ipv4, Ipv6};
use netd_common::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ethertype, has_priority_tag};

use crate::flow::conntrack::{self, Step};
use crate::flow::fast::{self, Outsider};
use crate::flow::open::Opened;
use crate::flow::room::{self, Look, PLACES};
use crate::flow::table::{Assured, Unreplied};
use crate::kernel::inet::Inet;
use crate::kernel::maps::{call_previous, tail_call};
use crate::kernel::skb::Skb;
use crate::kernel::{clock, drops};
use crate::stage::answer::{self, Answer};
use crate::stage::container::{self, Container};
use crate::stage::new::{self, New};
use crate::stage::{broadcast, fragment, icmp, nat64, report};

/// The number of a stage in the family `A`; `v4` is the number of IPv4's, and IPv6's follows it.
#[inline(always)]
fn of<A: Inet>(v4: u32) -> u32 {
    if A::IS_V6 { v4 + 1 } else { v4 }
}

/// The hook of an uplink.
#[inline(always)]
pub(crate) fn uplink(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    if !skb.is_for_this_interface() {
        return if skb.is_broadcast() && !skb.is_v6() {
            begin(ctx, &skb, Zone::OUTSIDE, None, stage::BROADCAST)
        } else {
            TC_ACT_UNSPEC
        };
    }
    let frame = skb.frame();
    let (outcome, next) = match ethertype(&frame) {
        Some(ETHERTYPE_IPV4) => {
            (fast::established::<Ipv4, Outsider>(&skb, frame, Zone::OUTSIDE), stage::CONNTRACK)
        }
        Some(ETHERTYPE_IPV6) => {
            (fast::established::<Ipv6, Outsider>(&skb, frame, Zone::OUTSIDE), stage::CONNTRACK6)
        }
        // The stack removes a second tag after a priority tag, and does not run this program again.
        _ if has_priority_tag(&frame) => return action(ctx, &skb, Err(Reason::Foreign)),
        _ => return TC_ACT_UNSPEC,
    };
    begin(ctx, &skb, Zone::OUTSIDE, outcome, next)
}

/// The hook of an uplink whose packets have no link-layer header. They get an Ethernet header, which all programs expect; the kernel
/// takes it off again if the packet goes on to the stack, or out by such an interface.
#[inline(always)]
pub(crate) fn tunnel(ctx: &TcContext) -> i32 {
    if Skb::new(ctx).add_ethernet() { uplink(ctx) } else { TC_ACT_UNSPEC }
}

/// The hook of a container's host-side veth.
#[inline(always)]
pub(crate) fn container(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    if skb.has_vlan_tag() {
        return action(ctx, &skb, container::tagged(&skb));
    }
    let zone = Zone::container(skb.ifindex());
    let frame = skb.frame();
    let (outcome, next) = match ethertype(&frame) {
        Some(ETHERTYPE_IPV4) => (fast::established::<Ipv4, Container>(&skb, frame, zone), stage::CONNTRACK),
        Some(ETHERTYPE_IPV6) => (fast::established::<Ipv6, Container>(&skb, frame, zone), stage::CONNTRACK6),
        _ => (Some(container::other(&skb)), stage::CONNTRACK),
    };
    begin(ctx, &skb, zone, outcome, next)
}

/// The hook of a network's bridge, in the way into the network.
#[inline(always)]
pub(crate) fn bridge(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    // The host's own.
    if skb.input() == 0 {
        return TC_ACT_UNSPEC;
    }
    let frame = skb.frame();
    let outcome = match ethertype(&frame) {
        Some(ETHERTYPE_IPV4) => new::forwarded::<Ipv4>(&skb, &frame),
        Some(ETHERTYPE_IPV6) => new::forwarded::<Ipv6>(&skb, &frame),
        _ => Err(Reason::Unguarded),
    };
    action(ctx, &skb, outcome)
}

/// Returns the verdict on a packet that the hook's program has finished; otherwise sets the control block and calls the
/// next stage.
#[inline(always)]
fn begin(ctx: &TcContext, skb: &Skb, zone: Zone, outcome: Option<Result<Verdict, Reason>>, next: u32) -> i32 {
    if let Some(outcome) = outcome {
        return action(ctx, skb, outcome);
    }
    skb.set_cb(cb::ZONE, zone.ifindex());
    skb.set_cb(cb::OPENED, 0);
    skb.set_cb(cb::PORTS_NOTED, 0);
    skb.set_cb(cb::TRIES, 0);
    go_on(ctx, skb, next)
}

/// The table of assured flows.
#[inline(always)]
pub(crate) fn conntrack<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    match conntrack::follow::<A, Assured>(&skb) {
        Step::Done(outcome) => action(ctx, &skb, outcome),
        Step::IcmpError => go_on(ctx, &skb, of::<A>(stage::ICMP_ERROR)),
        Step::FragmentFirst => go_on(ctx, &skb, of::<A>(stage::FRAGMENT_FIRST)),
        Step::Nat64 => go_on(ctx, &skb, stage::NAT64),
        Step::Move { is_nat64 } => move_on::<A>(ctx, &skb, is_nat64.then_some(stage::NAT64)),
        Step::Unknown => go_on(ctx, &skb, of::<A>(stage::CONNTRACK_NEW)),
    }
}

/// The table of unreplied flows.
#[inline(always)]
pub(crate) fn conntrack_new<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    match conntrack::follow::<A, Unreplied>(&skb) {
        Step::Done(outcome) => action(ctx, &skb, outcome),
        Step::IcmpError | Step::FragmentFirst | Step::Unknown => without_flow::<A>(ctx, &skb),
        Step::Nat64 => go_on(ctx, &skb, stage::NAT64),
        Step::Move { is_nat64 } => move_on::<A>(ctx, &skb, is_nat64.then_some(stage::NAT64)),
    }
}

/// Moves the packet's connection to the other flow table. `then` is the stage that sends the packet on; none if it was sent.
#[inline(always)]
fn move_on<A: Inet>(ctx: &TcContext, skb: &Skb, then: Option<u32>) -> i32 {
    skb.set_cb(cb::AFTER_ROOM, then.unwrap_or(0));
    look_for_room(ctx, skb, of::<A>(stage::MOVE));
    after_room(ctx, skb)
}

/// A connection that goes to the other flow table.
#[inline(always)]
pub(crate) fn move_flow<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    let is_last = is_last_look(&skb);
    match room::change_table::<A>() {
        Look::Next if !is_last => tail_call(ctx, of::<A>(stage::MOVE)),
        Look::Next | Look::Done => {}
        Look::Enlist => look_for_room(ctx, &skb, of::<A>(stage::ENLIST)),
    }
    after_room(ctx, &skb)
}

/// A connection that was opened or has ended.
#[inline(always)]
pub(crate) fn enlist<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    let is_last = is_last_look(&skb);
    if room::enlist::<A>(is_last) == Look::Next && !is_last {
        tail_call(ctx, of::<A>(stage::ENLIST));
    }
    after_room(ctx, &skb)
}

/// Calls a stage that looks at places in a ring of connections; returns only if it is missing.
#[inline(always)]
fn look_for_room(ctx: &TcContext, skb: &Skb, stage: u32) {
    skb.set_cb(cb::LOOKED_AT, 0);
    tail_call(ctx, stage);
}

/// Counts a look at a place. Returns whether it is the last one for this packet.
#[inline(always)]
fn is_last_look(skb: &Skb) -> bool {
    let looked_at = skb.cb(cb::LOOKED_AT) + 1;
    skb.set_cb(cb::LOOKED_AT, looked_at);
    looked_at >= PLACES
}

/// What is left to be done with a packet whose connection has its place.
#[inline(always)]
fn after_room(ctx: &TcContext, skb: &Skb) -> i32 {
    match skb.cb(cb::AFTER_ROOM) {
        0 => TC_ACT_REDIRECT,
        then => go_on(ctx, skb, then),
    }
}

/// A packet whose connection found no room.
#[inline(always)]
pub(crate) fn reclaim<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    room::reclaim::<A>();
    if !is_last_look(&skb) {
        tail_call(ctx, of::<A>(stage::RECLAIM));
    }
    let is_quota = skb.cb(cb::REASON) == Reason::Quota as u32;
    action(ctx, &skb, Err(if is_quota { Reason::Quota } else { Reason::TableFull }))
}

/// An ICMP error.
#[inline(always)]
pub(crate) fn icmp_error<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    match icmp::pass::<A>(&skb) {
        Some(outcome) => action(ctx, &skb, outcome),
        None => without_flow::<A>(ctx, &skb),
    }
}

/// A packet without a flow continues in the stage that opens one, unless it comes from there. While another set of programs gives
/// way to this one, that may know its flow.
#[inline(always)]
fn without_flow<A: Inet>(ctx: &TcContext, skb: &Skb) -> i32 {
    if skb.cb(cb::OPENED) != 0 {
        action(ctx, skb, Err(Reason::TableFull))
    } else if skb.cb(cb::ZONE) == Zone::OUTSIDE.ifindex() {
        call_previous(ctx, previous::UPLINK);
        go_on(ctx, skb, of::<A>(stage::UPLINK_NEW))
    } else {
        call_previous(ctx, previous::CONTAINER);
        go_on(ctx, skb, of::<A>(stage::CONTAINER_NEW))
    }
}

/// A packet without a flow, while the last flows of another set of programs are carried over: it comes in once more. If that takes
/// too long, it is one without a flow.
#[inline(always)]
pub(crate) fn hold(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    if clock::is_held() {
        return action(ctx, &skb, Ok(skb.come_in_again()));
    }
    let is_outside = skb.cb(cb::ZONE) == Zone::OUTSIDE.ifindex();
    let next = if is_outside { stage::UPLINK_NEW } else { stage::CONTAINER_NEW };
    go_on(ctx, &skb, if skb.is_v6() { of::<Ipv6>(next) } else { next })
}

/// A packet from outside without a flow.
#[inline(always)]
pub(crate) fn uplink_new<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    next::<A>(ctx, &skb, new::uplink::<A>(&skb), stage::UPLINK_NEW)
}

/// A packet from a container without a flow.
#[inline(always)]
pub(crate) fn container_new<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    next::<A>(ctx, &skb, new::container::<A>(&skb), stage::CONTAINER_NEW)
}

/// A packet from a container to an address of the host.
#[inline(always)]
pub(crate) fn hairpin<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    next::<A>(ctx, &skb, new::hairpin::<A>(&skb), stage::HAIRPIN)
}

/// A packet from a container that leaves the host.
#[inline(always)]
pub(crate) fn masquerade<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    next::<A>(ctx, &skb, new::leave::<A>(&skb), stage::MASQUERADE)
}

/// A packet to a container's own address.
#[inline(always)]
pub(crate) fn direct<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    next::<A>(ctx, &skb, new::direct::<A>(&skb), stage::DIRECT)
}

/// A packet to a published port whose target is not a container.
#[inline(always)]
pub(crate) fn forward<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    next::<A>(ctx, &skb, new::forward::<A>(&skb), stage::FORWARD)
}

/// The next stage of a packet without a flow. If its source port was taken, another run of its stage tries the next
/// port; `own` is the IPv4 number of that stage.
#[inline(always)]
fn next<A: Inet>(ctx: &TcContext, skb: &Skb, outcome: Result<New, Reason>, own: u32) -> i32 {
    let decision = match outcome {
        Ok(New::Decided(decision)) => decision,
        Ok(New::Opened(Opened::New)) => {
            skb.set_cb(cb::OPENED, 1);
            skb.set_cb(cb::AFTER_ROOM, of::<A>(stage::CONNTRACK_NEW));
            look_for_room(ctx, skb, of::<A>(stage::ENLIST));
            return after_room(ctx, skb);
        }
        Ok(New::Opened(Opened::Known)) => {
            skb.set_cb(cb::OPENED, 1);
            return go_on(ctx, skb, of::<A>(stage::CONNTRACK));
        }
        Ok(New::Opened(Opened::Taken)) => {
            skb.set_cb(cb::TRIES, skb.cb(cb::TRIES) + 1);
            return go_on(ctx, skb, of::<A>(own));
        }
        Err(reason) => {
            if matches!(reason, Reason::TableFull | Reason::Quota) {
                skb.set_cb(cb::REASON, reason as u32);
                look_for_room(ctx, skb, of::<A>(stage::RECLAIM));
            }
            return action(ctx, skb, Err(reason));
        }
    };
    match decision {
        // For a decision to open a flow, `new` has already opened it.
        Decision::Pass | Decision::Note | Decision::Open => action(ctx, skb, Ok(Verdict::Pass)),
        Decision::Local => action(ctx, skb, skb.pass_to_host::<A>()),
        Decision::Direct => go_on(ctx, skb, of::<A>(stage::DIRECT)),
        Decision::Forward => go_on(ctx, skb, of::<A>(stage::FORWARD)),
        Decision::Hairpin => go_on(ctx, skb, of::<A>(stage::HAIRPIN)),
        // `new` has noted the interface.
        Decision::Leave(_) => go_on(ctx, skb, of::<A>(stage::MASQUERADE)),
        Decision::MayBeNat46 => go_on(ctx, skb, stage::NAT46_TRACK),
        Decision::Queue(then) => {
            skb.set_cb(cb::AFTER_QUEUE, then as u32);
            go_on(ctx, skb, of::<A>(stage::FRAGMENT_QUEUE))
        }
    }
}

/// A later fragment whose first one has not arrived.
#[inline(always)]
pub(crate) fn fragment_queue<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    match fragment::queue::<A>(&skb) {
        Some(outcome) => action(ctx, &skb, outcome),
        None => go_on(ctx, &skb, of::<A>(stage::CONNTRACK)),
    }
}

/// A first fragment.
#[inline(always)]
pub(crate) fn fragment_first<A: Inet>(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    match fragment::first::<A>(&skb) {
        Some(outcome) => action(ctx, &skb, outcome),
        None => {
            skb.set_cb(cb::PORTS_NOTED, 1);
            go_on(ctx, &skb, of::<A>(stage::CONNTRACK))
        }
    }
}

/// A packet that is broadcast on an uplink's link.
#[inline(always)]
pub(crate) fn broadcast(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    match broadcast::to_host(&skb) {
        None => action(ctx, &skb, Ok(Verdict::Pass)),
        Some(Ok(())) => go_on(ctx, &skb, stage::CONNTRACK),
        Some(Err(reason)) => action(ctx, &skb, Err(reason)),
    }
}

/// An IPv6 packet of a flow that leads to IPv4.
#[inline(always)]
pub(crate) fn nat64(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    action(ctx, &skb, nat64::to_ipv4(&skb))
}

/// An IPv4 packet of a flow that leads to IPv6.
#[inline(always)]
pub(crate) fn nat46(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    action(ctx, &skb, nat64::to_ipv6(&skb))
}

/// An IPv4 packet to its network's gateway: the table of assured IPv6 flows.
#[inline(always)]
pub(crate) fn nat46_track(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    match nat64::follow::<Assured>(&skb) {
        Step::Done(outcome) => action(ctx, &skb, outcome),
        Step::Nat64 => go_on(ctx, &skb, stage::NAT46),
        Step::Move { is_nat64 } => move_on::<Ipv6>(ctx, &skb, is_nat64.then_some(stage::NAT46)),
        Step::IcmpError | Step::FragmentFirst | Step::Unknown => go_on(ctx, &skb, stage::NAT46_TRACK_NEW),
    }
}

/// The same: the table of unreplied IPv6 flows. A packet that has none is for the host.
#[inline(always)]
pub(crate) fn nat46_track_new(ctx: &TcContext) -> i32 {
    let skb = Skb::new(ctx);
    match nat64::follow::<Unreplied>(&skb) {
        Step::Done(outcome) => action(ctx, &skb, outcome),
        Step::Nat64 => go_on(ctx, &skb, stage::NAT46),
        Step::Move { is_nat64 } => move_on::<Ipv6>(ctx, &skb, is_nat64.then_some(stage::NAT46)),
        Step::IcmpError | Step::FragmentFirst | Step::Unknown => {
            let is_unmanaged = container::is_unmanaged(&skb);
            action(ctx, &skb, if is_unmanaged { Ok(Verdict::Pass) } else { skb.pass_to_host::<Ipv4>() })
        }
    }
}

/// A dropped packet that is answered with an ICMP error.
#[inline(always)]
pub(crate) fn answer<A: Answer>(ctx: &TcContext) -> i32 {
    match answer::send::<A>(&Skb::new(ctx)) {
        Ok(Verdict::Redirected) => TC_ACT_REDIRECT,
        Ok(Verdict::Pass | Verdict::Consumed) | Err(_) => TC_ACT_SHOT,
    }
}

/// A dropped packet that is reported.
#[inline(always)]
pub(crate) fn report(ctx: &TcContext) -> i32 {
    report::drop(&Skb::new(ctx));
    TC_ACT_SHOT
}

/// Calls the next stage. If it is missing, packets from outside are passed on, and packets of containers are dropped.
#[inline(always)]
fn go_on(ctx: &TcContext, skb: &Skb, next: u32) -> i32 {
    tail_call(ctx, next);
    if skb.cb(cb::ZONE) == Zone::OUTSIDE.ifindex() { TC_ACT_UNSPEC } else { TC_ACT_SHOT }
}

/// The action that TC gets. A packet that is not for netd goes on to the next program (`TC_ACT_UNSPEC` has the number
/// of `TCX_NEXT`), so other programs still run.
#[inline(always)]
fn action(ctx: &TcContext, skb: &Skb, outcome: Result<Verdict, Reason>) -> i32 {
    let reason = match outcome {
        Ok(Verdict::Pass) => return TC_ACT_UNSPEC,
        Ok(Verdict::Redirected) => return TC_ACT_REDIRECT,
        Ok(Verdict::Consumed) => return TC_ACT_SHOT,
        Err(reason) => reason,
    };
    let is_first = drops::count(reason as u32, skb.len(), clock::now());
    skb.set_cb(cb::REASON, reason as u32);
    if reason.is_answered() {
        tail_call(ctx, if skb.is_v6() { stage::ANSWER6 } else { stage::ANSWER });
    }
    if is_first {
        tail_call(ctx, stage::REPORT);
    }
    TC_ACT_SHOT
}
