//! netd's BPF programs. This is the doormat: each program is one line, and a reason becomes an action in one place.
//!
//! | room | owns |
//! |---|---|
//! | [`fast`] | packets of established connections |
//! | [`xdp`] | packets from outside before the stack sees them, if the user wants that |
//! | [`shed`] | which of them are refused there |
//! | [`uplink`] | other packets from outside |
//! | [`container`] | other packets from containers |
//! | [`icmp`] | ICMP errors about a flow's packets |
//! | [`forward`] | connections to published ports whose target is no container |
//! | [`answer`] | answers to packets that go no further |
//! | [`fragment`] | fragments that come before their first |
//! | [`cross`] | IPv6 clients of containers that have only IPv4 |
//! | [`masquerade`] | connections from containers to outside |
//! | [`direct`] | connections to a container's own address from beyond its network |
//! | [`socket`] | connections that the host's own processes make |
//! | [`flow`] | the flow table: finding, making, keeping and following rows |
//! | [`publication`] | who has a host port |
//! | [`route`] | questions to the kernel's routing table |
//! | [`skb`] | reading and changing the packet |
//! | [`maps`] | the maps |
//! | [`report`] | what is told of a dropped packet |

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, unreachable_pub, reason = "the macros add public functions of their own")]
#![expect(clippy::needless_pass_by_value, reason = "the macros hand contexts over by value")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the kernel's helpers and contexts speak in C's integers"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key handed over by value would take a second place on a stack of 512 bytes"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a field's address and the atomic operation on it are one step"
)]

mod answer;
mod container;
mod cross;
mod direct;
mod fast;
mod flow;
mod forward;
mod fragment;
mod icmp;
mod maps;
mod masquerade;
mod publication;
mod report;
mod route;
mod shed;
mod skb;
mod socket;
mod uplink;
mod xdp;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier, xdp};
use aya_ebpf::programs::{SockAddrContext, SockContext, TcContext, XdpContext};
use netd_common::abi::{cb, stage};
use netd_common::bytes::{Ipv4, Ipv6};
use netd_common::flow::Zone;
use netd_common::packet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use netd_common::verdict::{Reason, Verdict};

use crate::container::{Container, Place};
use crate::fast::Outsider;
use crate::flow::{Assured, First, Step, Unreplied};
use crate::skb::Skb;
use crate::xdp::{Buff, Fate};

/// On each uplink before the stack, if the user wants that.
#[xdp]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    let buff = Buff::new(&ctx);
    let frame = buff.frame();
    let fate = match packet::ethertype(&frame) {
        Some(ETHERTYPE_IPV4) => xdp::pass::<Ipv4>(&buff, &frame),
        Some(ETHERTYPE_IPV6) => xdp::pass::<Ipv6>(&buff, &frame),
        _ => Fate::Pass,
    };
    match fate {
        Fate::Pass => XDP_PASS,
        Fate::EarlyDrop => XDP_DROP,
        Fate::Sent => XDP_REDIRECT,
    }
}

/// On the ingress of each uplink.
#[classifier]
pub fn uplink_ingress(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    if !skb.is_for_this_interface() {
        return TC_ACT_UNSPEC;
    }
    let frame = skb.frame();
    let (outcome, next) = match packet::ethertype(&frame) {
        Some(ETHERTYPE_IPV4) => {
            (fast::established::<Ipv4, Outsider>(&skb, frame, Zone::OUTSIDE), stage::CONNTRACK)
        }
        Some(ETHERTYPE_IPV6) => {
            (fast::established::<Ipv6, Outsider>(&skb, frame, Zone::OUTSIDE), stage::CONNTRACK6)
        }
        // The stack takes a second tag off behind a first one that names no VLAN, and comes by here no more.
        _ if packet::has_priority_tag(&frame) => return action(&ctx, &skb, Err(Reason::Foreign)),
        _ => return TC_ACT_UNSPEC,
    };
    match outcome {
        Some(outcome) => action(&ctx, &skb, outcome),
        None => {
            begin(&skb, Zone::OUTSIDE);
            go_on(&ctx, &skb, next)
        }
    }
}

/// On the ingress of each container's host-side veth: what the container sends.
#[classifier]
pub fn container_ingress(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    if skb.has_vlan_tag() {
        return action(&ctx, &skb, Err(Reason::Foreign));
    }
    let zone = Zone::container(skb.ifindex());
    let frame = skb.frame();
    let (outcome, next) = match packet::ethertype(&frame) {
        Some(ETHERTYPE_IPV4) => (fast::established::<Ipv4, Container>(&skb, frame, zone), stage::CONNTRACK),
        Some(ETHERTYPE_IPV6) => (fast::established::<Ipv6, Container>(&skb, frame, zone), stage::CONNTRACK6),
        _ => (Some(container::other(&skb)), stage::CONNTRACK),
    };
    match outcome {
        Some(outcome) => action(&ctx, &skb, outcome),
        None => {
            begin(&skb, zone);
            go_on(&ctx, &skb, next)
        }
    }
}

/// Leaves what the stages ask for.
#[inline(always)]
fn begin(skb: &Skb, zone: Zone) {
    skb.set_cb(cb::ZONE, zone.ifindex());
    skb.set_cb(cb::OPENED, 0);
    skb.set_cb(cb::PORTS_NOTED, 0);
    skb.set_cb(cb::TRIES, 0);
}

/// A packet of which the flow table alone does not say what becomes, IPv4.
#[classifier]
pub fn conntrack(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match flow::follow::<Ipv4, Assured>(&skb) {
        Step::Done(outcome) => action(&ctx, &skb, outcome),
        Step::Message => go_on(&ctx, &skb, stage::ICMP_ERROR),
        Step::FragmentFirst => go_on(&ctx, &skb, stage::FRAGMENT_FIRST),
        Step::Nat64 => go_on(&ctx, &skb, stage::NAT64),
        Step::Unknown => go_on(&ctx, &skb, stage::CONNTRACK_NEW),
    }
}

/// A packet of which the flow table alone does not say what becomes, IPv6.
#[classifier]
pub fn conntrack6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match flow::follow::<Ipv6, Assured>(&skb) {
        Step::Done(outcome) => action(&ctx, &skb, outcome),
        Step::Message => go_on(&ctx, &skb, stage::ICMP_ERROR6),
        Step::FragmentFirst => go_on(&ctx, &skb, stage::FRAGMENT_FIRST6),
        Step::Nat64 => go_on(&ctx, &skb, stage::NAT64),
        Step::Unknown => go_on(&ctx, &skb, stage::CONNTRACK_NEW6),
    }
}

/// A packet that has no flow that both sides want, IPv4.
#[classifier]
pub fn conntrack_new(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match flow::follow::<Ipv4, Unreplied>(&skb) {
        Step::Done(outcome) => action(&ctx, &skb, outcome),
        Step::Message | Step::FragmentFirst | Step::Unknown => {
            unknown(&ctx, &skb, stage::UPLINK_NEW, stage::CONTAINER_NEW)
        }
        Step::Nat64 => go_on(&ctx, &skb, stage::NAT64),
    }
}

/// A packet that has no flow that both sides want, IPv6.
#[classifier]
pub fn conntrack_new6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match flow::follow::<Ipv6, Unreplied>(&skb) {
        Step::Done(outcome) => action(&ctx, &skb, outcome),
        Step::Message | Step::FragmentFirst | Step::Unknown => {
            unknown(&ctx, &skb, stage::UPLINK_NEW6, stage::CONTAINER_NEW6)
        }
        Step::Nat64 => go_on(&ctx, &skb, stage::NAT64),
    }
}

/// An ICMP error, IPv4.
#[classifier]
pub fn icmp_error(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match icmp::pass::<Ipv4>(&skb) {
        Some(outcome) => action(&ctx, &skb, outcome),
        None => unknown(&ctx, &skb, stage::UPLINK_NEW, stage::CONTAINER_NEW),
    }
}

/// An ICMP error, IPv6.
#[classifier]
pub fn icmp_error6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match icmp::pass::<Ipv6>(&skb) {
        Some(outcome) => action(&ctx, &skb, outcome),
        None => unknown(&ctx, &skb, stage::UPLINK_NEW6, stage::CONTAINER_NEW6),
    }
}

/// A packet without a flow goes on to where one is made, unless it comes from there.
#[inline(always)]
fn unknown(ctx: &TcContext, skb: &Skb, uplink: u32, container: u32) -> i32 {
    if skb.cb(cb::OPENED) != 0 {
        action(ctx, skb, Err(Reason::TableFull))
    } else if skb.cb(cb::ZONE) == Zone::OUTSIDE.ifindex() {
        go_on(ctx, skb, uplink)
    } else {
        go_on(ctx, skb, container)
    }
}

/// Goes on in the next stage. If that were missing, the host would keep its own traffic, and nothing would leave a
/// container.
#[inline(always)]
fn go_on(ctx: &TcContext, skb: &Skb, next: u32) -> i32 {
    maps::go_on(ctx, next);
    if skb.cb(cb::ZONE) == Zone::OUTSIDE.ifindex() { TC_ACT_UNSPEC } else { TC_ACT_SHOT }
}

/// A packet from outside of no flow, IPv4.
#[classifier]
pub fn uplink_new(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, uplink::first::<Ipv4>(&skb), stage::UPLINK_NEW, stage::CONNTRACK_NEW)
}

/// A packet from outside of no flow, IPv6.
#[classifier]
pub fn uplink_new6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, uplink::first::<Ipv6>(&skb), stage::UPLINK_NEW6, stage::CONNTRACK_NEW6)
}

/// A packet from a container of no flow, IPv4.
#[classifier]
pub fn container_new(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    placed(&ctx, &skb, container::first::<Ipv4>(&skb), stage::HAIRPIN, stage::MASQUERADE)
}

/// A packet from a container of no flow, IPv6.
#[classifier]
pub fn container_new6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    placed(&ctx, &skb, container::first::<Ipv6>(&skb), stage::HAIRPIN6, stage::MASQUERADE6)
}

/// A packet from a container goes on to where its kind of flow is made.
#[inline(always)]
fn placed(ctx: &TcContext, skb: &Skb, outcome: Result<Place, Reason>, hairpin: u32, masquerade: u32) -> i32 {
    match outcome {
        Ok(Place::Link) => action(ctx, skb, Ok(Verdict::Pass)),
        Ok(Place::Container) => go_on(ctx, skb, if skb.is_v6() { stage::DIRECT6 } else { stage::DIRECT }),
        Ok(Place::Host) => go_on(ctx, skb, hairpin),
        Ok(Place::Beyond(oif)) => {
            skb.set_cb(cb::OIF, oif);
            go_on(ctx, skb, masquerade)
        }
        Err(reason) => action(ctx, skb, Err(reason)),
    }
}

/// A packet from a container to the host, IPv4.
#[classifier]
pub fn hairpin(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, container::hairpin::<Ipv4>(&skb), stage::HAIRPIN, stage::CONNTRACK_NEW)
}

/// A packet from a container to the host, IPv6.
#[classifier]
pub fn hairpin6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, container::hairpin::<Ipv6>(&skb), stage::HAIRPIN6, stage::CONNTRACK_NEW6)
}

/// A packet from a container to outside, IPv4.
#[classifier]
pub fn masquerade(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, container::beyond::<Ipv4>(&skb), stage::MASQUERADE, stage::CONNTRACK_NEW)
}

/// A packet from a container to outside, IPv6.
#[classifier]
pub fn masquerade6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, container::beyond::<Ipv6>(&skb), stage::MASQUERADE6, stage::CONNTRACK_NEW6)
}

/// A packet to a container's own address, IPv4.
#[classifier]
pub fn direct(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, direct::first::<Ipv4>(&skb), stage::DIRECT, stage::CONNTRACK_NEW)
}

/// A packet to a container's own address, IPv6.
#[classifier]
pub fn direct6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, direct::first::<Ipv6>(&skb), stage::DIRECT6, stage::CONNTRACK_NEW6)
}

/// A packet of no flow to a published port whose target is no container, IPv4.
#[classifier]
pub fn forward(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, forward::first::<Ipv4>(&skb), stage::FORWARD, stage::CONNTRACK_NEW)
}

/// A packet of no flow to a published port whose target is no container, IPv6.
#[classifier]
pub fn forward6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    opened(&ctx, &skb, forward::first::<Ipv6>(&skb), stage::FORWARD6, stage::CONNTRACK_NEW6)
}

/// A packet that has a flow now follows it; one whose source port was taken tries another, in another run of `first`.
#[inline(always)]
fn opened(ctx: &TcContext, skb: &Skb, outcome: Result<First, Reason>, first: u32, follow: u32) -> i32 {
    match outcome {
        Ok(First::Opened) => {
            skb.set_cb(cb::OPENED, 1);
            go_on(ctx, skb, follow)
        }
        Ok(First::Known) => {
            skb.set_cb(cb::OPENED, 1);
            go_on(ctx, skb, if skb.is_v6() { stage::CONNTRACK6 } else { stage::CONNTRACK })
        }
        Ok(First::Taken) => {
            skb.set_cb(cb::TRIES, skb.cb(cb::TRIES) + 1);
            go_on(ctx, skb, first)
        }
        Ok(First::Direct) => go_on(ctx, skb, if skb.is_v6() { stage::DIRECT6 } else { stage::DIRECT }),
        Ok(First::Forward) => go_on(ctx, skb, if skb.is_v6() { stage::FORWARD6 } else { stage::FORWARD }),
        Ok(First::Pass) => action(ctx, skb, Ok(Verdict::Pass)),
        Ok(First::Queue(then)) => {
            skb.set_cb(cb::AFTER_QUEUE, then as u32);
            go_on(ctx, skb, if skb.is_v6() { stage::FRAGMENT_QUEUE6 } else { stage::FRAGMENT_QUEUE })
        }
        Ok(First::MayBeNat46) => go_on(ctx, skb, stage::NAT46_TRACK),
        Err(reason) => action(ctx, skb, Err(reason)),
    }
}

/// A later fragment whose first has not come, IPv4.
#[classifier]
pub fn fragment_queue(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match fragment::hold::<Ipv4>(&skb) {
        Some(outcome) => action(&ctx, &skb, outcome),
        None => go_on(&ctx, &skb, stage::CONNTRACK),
    }
}

/// A later fragment whose first has not come, IPv6.
#[classifier]
pub fn fragment_queue6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match fragment::hold::<Ipv6>(&skb) {
        Some(outcome) => action(&ctx, &skb, outcome),
        None => go_on(&ctx, &skb, stage::CONNTRACK6),
    }
}

/// A first fragment, which others may wait for, IPv4.
#[classifier]
pub fn fragment_first(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match fragment::first::<Ipv4>(&skb) {
        Some(outcome) => action(&ctx, &skb, outcome),
        None => noted(&ctx, &skb, stage::CONNTRACK),
    }
}

/// A first fragment, which others may wait for, IPv6.
#[classifier]
pub fn fragment_first6(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match fragment::first::<Ipv6>(&skb) {
        Some(outcome) => action(&ctx, &skb, outcome),
        None => noted(&ctx, &skb, stage::CONNTRACK6),
    }
}

/// A first fragment goes on as any packet does.
#[inline(always)]
fn noted(ctx: &TcContext, skb: &Skb, next: u32) -> i32 {
    skb.set_cb(cb::PORTS_NOTED, 1);
    go_on(ctx, skb, next)
}

/// An IPv6 packet whose flow leads to IPv4.
#[classifier]
pub fn nat64(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    action(&ctx, &skb, cross::to_four(&skb))
}

/// An IPv4 packet to its network's gateway, which may be an answer to an IPv6 client.
#[classifier]
pub fn nat46_track(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match cross::follow::<Assured>(&skb) {
        Step::Done(outcome) => action(&ctx, &skb, outcome),
        Step::Nat64 => go_on(&ctx, &skb, stage::NAT46),
        Step::Message | Step::FragmentFirst | Step::Unknown => go_on(&ctx, &skb, stage::NAT46_TRACK_NEW),
    }
}

/// The same, if both sides have not shown yet that they want it; the host's own otherwise.
#[classifier]
pub fn nat46_track_new(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match cross::follow::<Unreplied>(&skb) {
        Step::Done(outcome) => action(&ctx, &skb, outcome),
        Step::Nat64 => go_on(&ctx, &skb, stage::NAT46),
        Step::Message | Step::FragmentFirst | Step::Unknown => action(&ctx, &skb, Ok(Verdict::Pass)),
    }
}

/// An IPv4 packet whose flow leads to IPv6.
#[classifier]
pub fn nat46(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    action(&ctx, &skb, cross::to_six(&skb))
}

/// What TC is told. A packet that is not ours goes on to the next program (TCX_NEXT is TC_ACT_UNSPEC's number too), so
/// netd ends nobody else's chain.
#[inline(always)]
fn action(ctx: &TcContext, skb: &Skb, outcome: Result<Verdict, Reason>) -> i32 {
    match outcome {
        Ok(Verdict::Pass) => TC_ACT_UNSPEC,
        Ok(Verdict::Redirected) => TC_ACT_REDIRECT,
        Ok(Verdict::Consumed) => TC_ACT_SHOT,
        Err(reason) => {
            let is_first = maps::count_drop(reason, skb.len(), flow::now());
            skb.set_cb(cb::REASON, reason as u32);
            if matches!(reason, Reason::TtlExceeded | Reason::TooBig) {
                maps::go_on(ctx, if skb.is_v6() { stage::ANSWER6 } else { stage::ANSWER });
            }
            if is_first {
                maps::go_on(ctx, stage::REPORT);
            }
            TC_ACT_SHOT
        }
    }
}

/// A packet that goes no further and is answered, IPv4.
#[classifier]
pub fn answer(ctx: TcContext) -> i32 {
    match answer::send::<Ipv4>(&Skb::new(&ctx)) {
        Ok(Verdict::Redirected) => TC_ACT_REDIRECT,
        Ok(Verdict::Pass | Verdict::Consumed) | Err(_) => TC_ACT_SHOT,
    }
}

/// A packet that goes no further and is answered, IPv6.
#[classifier]
pub fn answer6(ctx: TcContext) -> i32 {
    match answer::send::<Ipv6>(&Skb::new(&ctx)) {
        Ok(Verdict::Redirected) => TC_ACT_REDIRECT,
        Ok(Verdict::Pass | Verdict::Consumed) | Err(_) => TC_ACT_SHOT,
    }
}

/// Where a dropped packet ends that is to be told of.
#[classifier]
pub fn report(ctx: TcContext) -> i32 {
    report::drop(&Skb::new(&ctx));
    TC_ACT_SHOT
}

/// A host process connects (IPv4).
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    socket::outgoing4(&ctx, socket::Call::Connect)
}

/// A host process connects (IPv6 socket, IPv4-mapped addresses too).
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    socket::outgoing6(&ctx, socket::Call::Connect)
}

/// A host process sends a datagram to an address (IPv4, from an IPv6 socket too).
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    socket::outgoing4(&ctx, socket::Call::Send)
}

/// A host process sends a datagram to an address (IPv6). The kernel takes no IPv4 address in exchange here, so a container
/// without IPv6 needs a connected socket.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    socket::outgoing6(&ctx, socket::Call::Send)
}

/// A host process asks where a datagram came from (IPv4).
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    socket::peer4(&ctx)
}

/// A host process asks where a datagram came from (IPv6 socket).
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    socket::peer6(&ctx)
}

/// A host process asks whom it is connected to (IPv4).
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    socket::peer4(&ctx)
}

/// A host process asks whom it is connected to (IPv6 socket).
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    socket::peer6(&ctx)
}

/// A host process lets go of a socket.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    socket::closed(&ctx)
}

/// A loop without end, so that a panic which survives the optimiser is refused by the verifier instead of running.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// SAFETY: the kernel reads the section by this name as the programs' licence; nothing else has it.
#[unsafe(link_section = "license")]
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
