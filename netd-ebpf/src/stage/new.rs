//! Packets of no flow: the policy decides about them, and a flow is opened for those that it accepts.

use netd_common::abi::cb;
use netd_common::flow::nat::Nat;
use netd_common::flow::{FlowKey, Tuple, Zone};
use netd_common::policy::{
    Decision, Packet, Refusal, direct as direct_policy, forward as forward_policy,
    forwarded as forwarded_policy, inbound, outbound, source_port,
};
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ethernet::IP_AT;
use netd_common::wire::ip::Ip;

use crate::flow::datagram;
use crate::flow::open::{self, Opened};
use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::lookups::Kernel;
use crate::kernel::skb::Skb;
use crate::kernel::{clock, host_flows, scratch, tables};

/// The result for a packet of no flow.
pub(crate) enum New {
    /// A flow was opened for it.
    Opened(Opened),
    /// Any other decision of the policy.
    Decided(Decision),
}

/// A packet from outside.
#[inline(always)]
pub(crate) fn uplink<A: Inet>(skb: &Skb) -> Result<New, Reason> {
    let (frame, lookups) = (skb.front(), Kernel(skb.context()));
    // A packet whose headers cannot be read has no flow; the host's stack drops and counts it. But that stack reads
    // more extension headers than netd, so the addresses are checked anyway.
    let Ok(ip) = A::header(&frame, IP_AT) else {
        let unpublished = |ip| inbound::unpublished(&lookups, &ip);
        return A::plain(&frame).map_or(Ok(Decision::Pass), unpublished).map(New::Decided).map_err(refused);
    };
    let packet = packet(skb, &frame, &ip, Zone::OUTSIDE);
    let nat = scratch::nat()?;
    let decision = note(&packet, inbound::decide(&lookups, &packet, nat));
    carry_out(skb, decision, nat, Source::Gateway)
}

/// A packet from a container: decides where it goes.
#[inline(always)]
pub(crate) fn container<A: Inet>(skb: &Skb) -> Result<New, Reason> {
    let (zone, frame) = (zone(skb), skb.front());
    // While the container is being removed, its veth still exists but its row does not.
    let sender = tables::endpoint_behind(skb.ifindex()).ok_or(Reason::NoWayOut)?;
    let ip = match A::header(&frame, IP_AT) {
        Ok(ip) => ip,
        Err(_unreadable) if sender.is_unmanaged() => return Ok(New::Decided(Decision::Pass)),
        Err(reason) => return Err(reason),
    };
    let packet = packet(skb, &frame, &ip, zone);
    let decision = outbound::decide(&Kernel(skb.context()), &frame, &packet, sender)?;
    // Noted here, since the verifier refuses a decision of which a part is undefined, as that of the others would be.
    if let Decision::Leave(oif) = decision {
        skb.set_cb(cb::OIF, oif);
    }
    Ok(New::Decided(decision))
}

/// A packet from a container to an address of the host.
#[inline(always)]
pub(crate) fn hairpin<A: Inet>(skb: &Skb) -> Result<New, Reason> {
    let (zone, frame, lookups) = (zone(skb), skb.front(), Kernel(skb.context()));
    let ip = A::header(&frame, IP_AT)?;
    let packet = packet(skb, &frame, &ip, zone);
    let nat = scratch::nat()?;
    let decision = note(&packet, outbound::hairpin(&lookups, &packet, nat));
    carry_out(skb, decision, nat, Source::Gateway)
}

/// A packet from a container that leaves the host.
#[inline(always)]
pub(crate) fn leave<A: Inet>(skb: &Skb) -> Result<New, Reason> {
    let (zone, frame, lookups) = (zone(skb), skb.front(), Kernel(skb.context()));
    let ip = A::header(&frame, IP_AT)?;
    let packet = packet(skb, &frame, &ip, zone);
    let nat = scratch::nat()?;
    let decision = outbound::leave(&lookups, &packet, skb.cb(cb::OIF), nat);
    carry_out(skb, decision, nat, Source::Uplink)
}

/// A packet to a container's own address.
#[inline(always)]
pub(crate) fn direct<A: Inet>(skb: &Skb) -> Result<New, Reason> {
    let (zone, frame, lookups) = (zone(skb), skb.front(), Kernel(skb.context()));
    let ip = A::header(&frame, IP_AT).map_err(|_unreadable| direct_policy::refused(zone))?;
    let packet = packet(skb, &frame, &ip, zone);
    let nat = scratch::nat()?;
    let decision = direct_policy::decide(&lookups, &packet, nat);
    carry_out(skb, decision, nat, Source::Own)
}

/// A packet to a published port of another host.
#[inline(always)]
pub(crate) fn forward<A: Inet>(skb: &Skb) -> Result<New, Reason> {
    let (zone, frame, lookups) = (zone(skb), skb.front(), Kernel(skb.context()));
    let ip = A::header(&frame, IP_AT)?;
    let packet = packet(skb, &frame, &ip, zone);
    let nat = scratch::nat()?;
    let decision = forward_policy::decide(&lookups, &packet, nat);
    carry_out(skb, decision, nat, Source::Uplink)
}

/// A packet that the host's stack forwards into a network.
#[inline(always)]
pub(crate) fn forwarded<A: Inet>(skb: &Skb, frame: &Frame) -> Result<Verdict, Reason> {
    let dst = A::destination(frame).ok_or(Reason::Malformed)?;
    forwarded_policy::decide(&Kernel(skb.context()), skb.input(), dst).map(|()| Verdict::Pass)
}

/// The zone that the packet comes from.
#[inline(always)]
fn zone(skb: &Skb) -> Zone {
    Zone::container(skb.cb(cb::ZONE))
}

/// A packet in the form that the policy takes.
#[inline(always)]
fn packet<'a, A: Inet>(skb: &Skb, frame: &Frame, ip: &'a Ip<A>, zone: Zone) -> Packet<'a, A> {
    Packet::new(ip, datagram::transport(frame, ip, zone), zone, skb.ifindex())
}

/// Notes a packet of an exchange of the host itself, if the policy has decided that it is one.
#[inline(always)]
fn note<A: Inet>(packet: &Packet<'_, A>, decision: Result<Decision, Refusal>) -> Result<Decision, Refusal> {
    if let (Ok(Decision::Note), Ok(transport)) = (&decision, packet.transport()) {
        host_flows::note(&FlowKey::of(packet.ip, transport, packet.zone));
    }
    decision
}

/// The source address that connections of a stage may get.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Their own.
    Own,
    /// The gateway of the container's network.
    Gateway,
    /// One of an uplink.
    Uplink,
}

/// Opens the flow that the policy has decided on.
#[inline(always)]
fn carry_out<A: Inet>(
    skb: &Skb,
    decision: Result<Decision, Refusal>,
    nat: &Nat<A>,
    source: Source,
) -> Result<New, Reason> {
    match decision.map_err(refused)? {
        Decision::Open => {}
        decided => return Ok(New::Decided(decided)),
    }
    let lookups = Kernel(skb.context());
    let tries = skb.cb(cb::TRIES);
    let src_port = source_port::candidate(&lookups, nat, tries, clock::random)?;
    if source != Source::Own && !nat.is_rebuilt && nat.translates_source() {
        let (sender, number) = ((nat.back, nat.original.src_port), nat.original.protocol());
        let tuple = Tuple { src_port, ..nat.translated };
        let is_free = match source {
            Source::Gateway => {
                source_port::is_free_on_gateway::<A, _>(&lookups, sender, number, &tuple, tries)
            }
            Source::Own | Source::Uplink => source_port::is_free(&lookups, sender, number, &tuple, tries),
        };
        if !is_free {
            return Ok(New::Opened(Opened::Taken));
        }
    }
    open::open(nat, src_port).map(New::Opened)
}

/// Counts a drop for its publication.
#[inline(always)]
fn refused(refusal: Refusal) -> Reason {
    tables::count_dropped(refusal.publication, 1);
    refusal.reason
}
