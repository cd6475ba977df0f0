//! Packets to a container's own address, from outside or from another network, that have no flow.
//!
//! Such a connection is not translated: each row maps a tuple to itself. So the replies keep the container's address
//! and are not masqueraded.

use crate::abi::{FamilyRows, network_flag};
use crate::flow::key::{FlowKey, Zone};
use crate::flow::nat::Nat;
use crate::verdict::Reason;
use crate::wire::transport::Layout;

use super::publication::{self, is_routed};
use super::{Decision, Lookups, Packet, Refusal, Then, has_martian_source, may_open};

/// The reason for a drop here, by the zone that the packet comes from.
#[inline(always)]
pub fn refused(zone: Zone) -> Reason {
    if zone == Zone::OUTSIDE { Reason::DirectAccess } else { Reason::Isolated }
}

/// Opens a connection if the container's network allows the sender.
#[inline(always)]
pub fn decide<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    nat: &mut Nat<A>,
) -> Result<Decision, Refusal> {
    let (ip, zone) = (packet.ip, packet.zone);
    let refused = refused(zone);
    let is_outside = zone == Zone::OUTSIDE;
    let endpoint = lookups.endpoint_at(ip.dst).ok_or(refused)?;
    if packet.awaits_first_fragment() {
        return Ok(Decision::Queue(Then::End));
    }
    let transport = packet.transport().map_err(|_not_a_connection| refused)?;
    if !may_open(ip.src) || (is_outside && has_martian_source(lookups, packet, endpoint.bridge)) {
        return Err(refused.into());
    }
    if is_outside && lookups.is_ipsec_peer(ip.src) {
        return Err(Reason::Ipsec.into());
    }
    let back = if is_outside {
        endpoint.handle
    } else {
        lookups.endpoint_behind(zone.ifindex()).ok_or(refused)?.handle
    };
    let is_unprotected = endpoint.flags & A::flag(network_flag::UNPROTECTED) != 0;
    let is_routed = is_routed::<A>(endpoint);
    let is_trusted = is_outside && lookups.is_trusted(endpoint.network, packet.ifindex);
    if !(is_unprotected || is_routed || is_trusted) {
        return Err(refused.into());
    }
    let key = FlowKey::of(ip, transport, zone);
    *nat = Nat::new(key, key.tuple(), endpoint.side(), back);
    if is_outside && lookups.has_strict_reverse_path(packet.ifindex) {
        nat.input = packet.ifindex;
    }
    let found = publication::of_target(lookups, endpoint.handle, key.protocol(), key.dst_port);
    let is_ping = transport.layout == Layout::EchoRequest;
    match found.filter(|found| found.is_for(packet.ifindex) && !found.is_draining()) {
        None if !(is_unprotected || is_routed && is_ping) => Err(refused.into()),
        _ if ip.ttl <= 1 => Err(Reason::TtlExceeded.into()),
        Some(found) => {
            nat.publication = found.row.handle;
            found.admit(lookups, nat.original.src)?;
            Ok(Decision::Open)
        }
        None => Ok(Decision::Open),
    }
}
