//! Packets from outside that have no flow.

use crate::abi::FamilyRows;
use crate::flow::key::{FlowKey, Tuple, Zone};
use crate::flow::nat::Nat;
use crate::verdict::Reason;
use crate::wire::ip::Ip;

use super::publication::{self, Found};
use super::{Decision, Lookups, Packet, Refusal, Route, Then, has_martian_source, host, may_open};

/// A packet to a published port opens a connection, unless the host itself is in one with its sender. A client that is known by its
/// link-local address only is hidden behind the gateway, since the container could not answer it. A packet to a
/// container's own address is decided by [`direct`](super::direct). Everything else is for the host, unless its addresses
/// are forged.
#[inline(always)]
pub fn decide<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    nat: &mut Nat<A>,
) -> Result<Decision, Refusal> {
    if let Ok(transport) = packet.transport() {
        let key = FlowKey::of(packet.ip, transport, Zone::OUTSIDE);
        if let Some(found) = find(lookups, packet, &key)
            && let Some(translated) = found.translated(&key, key.src.is_link_local())
        {
            if let Some(decision) = host::claim(lookups, &key, transport.opens()) {
                return Ok(decision);
            }
            if packet.ip.ttl <= 1 {
                return Err(found.refuse(Reason::TtlExceeded));
            }
            if lookups.is_ipsec_peer(key.src) {
                return Err(found.refuse(Reason::Ipsec));
            }
            if found.endpoint.is_remote() {
                return Ok(Decision::Forward);
            }
            *nat = Nat::new(key, translated, found.endpoint.side(), found.endpoint.handle);
            nat.publication = found.row.handle;
            nat.input = input(lookups, packet, &found);
            found.admit(lookups, nat.original.src)?;
            return Ok(Decision::Open);
        }
    }
    match unpublished(lookups, packet.ip)? {
        Decision::Pass if packet.awaits_first_fragment() => Ok(Decision::Queue(Then::Pass)),
        Decision::Pass => Ok(host::pass::<A>(packet.ip.protocol)),
        decision => Ok(decision),
    }
}

/// The interface that all packets of a connection must come in by, zero if any: that of its first one, where the publication is
/// for one interface, the client is on the link or the reverse path is strict.
#[inline(always)]
fn input<A: FamilyRows, L: Lookups<A>>(lookups: &L, packet: &Packet<'_, A>, found: &Found<'_>) -> u32 {
    let is_bound = found.row.interface != 0
        || packet.ip.src.is_link_local()
        || lookups.has_strict_reverse_path(packet.ifindex);
    if is_bound { packet.ifindex } else { 0 }
}

/// The publication that a packet is for; none if it is not for netd.
#[inline(always)]
fn find<'a, A: FamilyRows, L: Lookups<A>>(
    lookups: &'a L,
    packet: &Packet<'_, A>,
    key: &FlowKey<A>,
) -> Option<Found<'a>> {
    let is_neighbour = key.src.is_link_local();
    if !is_neighbour && !may_open(key.src) {
        return None;
    }
    let found = publication::find(lookups, key.protocol(), key.dst, key.dst_port)?;
    if !found.is_for(packet.ifindex) || !is_to_host(lookups, packet.ip, &found) {
        return None;
    }
    let is_ours = if is_neighbour {
        // No router forwards its packets (RFC 4291 §2.5.6), so another host is no target.
        !lookups.is_local(key.src) && !found.endpoint.is_remote()
    } else {
        !lookups.is_in_network(key.src) && !has_martian_source(lookups, packet, found.endpoint.bridge)
    };
    is_ours.then_some(found)
}

/// Whether the destination is an address of the host. The routing table does not tell it from a broadcast address, from which
/// nobody must answer (RFC 1122 §3.2.1.3).
#[inline(always)]
fn is_to_host<A: FamilyRows, L: Lookups<A>>(lookups: &L, ip: &Ip<A>, found: &Found<'_>) -> bool {
    // The lookup refuses both ends if one is link-local.
    if ip.src.is_link_local() || ip.dst.is_link_local() {
        return lookups.is_local(ip.dst);
    }
    let tuple = Tuple::between(ip.src, ip.dst);
    !ip.dst.is_loopback()
        && matches!(lookups.route(found.endpoint.bridge, 0, &tuple), Route::Local)
        && !lookups.is_broadcast(ip.dst)
}

/// A packet to no publication, by its addresses alone: for the host, for a container's own address, or forged.
#[inline(always)]
pub fn unpublished<A: FamilyRows, L: Lookups<A>>(lookups: &L, ip: &Ip<A>) -> Result<Decision, Refusal> {
    if ip.src.is_loopback() || ip.dst.is_loopback() {
        return Err(Reason::Martian.into());
    }
    if lookups.is_in_network(ip.src) {
        return Err(Reason::ForgedSource.into());
    }
    if lookups.is_in_network(ip.dst) {
        return Ok(Decision::Direct);
    }
    Ok(Decision::Pass)
}
