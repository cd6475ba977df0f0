//! Packets of no flow to a published port of another host: the connection leaves by an uplink. The packet comes from
//! outside or from a container; [`inbound`](super::inbound) or [`outbound`](super::outbound) has accepted it.

use crate::abi::FamilyRows;
use crate::flow::key::{FlowKey, Tuple};
use crate::flow::nat::{Nat, Side};
use crate::verdict::Reason;

use super::publication::{self, Found};
use super::{Decision, Lookups, Packet, Refusal, Route, is_masqueraded, snat_address};

/// Opens a connection to the target. Its source is the host's address, or the client's if the target is published with
/// `--keep-source`.
#[inline(always)]
pub fn decide<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    nat: &mut Nat<A>,
) -> Result<Decision, Refusal> {
    let key = FlowKey::of(packet.ip, packet.transport()?, packet.zone);
    // The publication may have been removed since the previous stage.
    let found = publication::find(lookups, key.protocol(), key.dst, key.dst_port).ok_or(Reason::NoWayOut)?;
    open(lookups, &key, &found, nat).map_err(|reason| found.refuse(reason))?;
    found.admit(lookups, nat.original.src)?;
    Ok(Decision::Open)
}

#[inline(always)]
fn open<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    key: &FlowKey<A>,
    found: &Found<'_>,
    nat: &mut Nat<A>,
) -> Result<(), Reason> {
    let target = found.endpoint;
    let dst = A::subnet(target).address();
    if !target.is_remote() || dst == A::UNSPECIFIED {
        return Err(Reason::NoWayOut);
    }
    if lookups.is_ipsec_peer(dst) {
        return Err(Reason::Ipsec);
    }
    let routed = Tuple { dst, dst_port: found.row.target_port(key.dst_port), ..key.tuple() };
    let oif = match lookups.route(target.bridge, key.protocol(), &routed) {
        Route::Via(oif, _) => oif,
        Route::Local => return Err(Reason::NoRoute),
        Route::Refused(reason) => return Err(reason),
    };
    let uplink = lookups.uplink(oif).ok_or(Reason::NoWayOut)?;
    // A container's connection gets the same source address as all of its connections, even with --keep-source.
    let sender = match lookups.endpoint_behind(key.zone().ifindex()) {
        Some(container) => container,
        None => target,
    };
    let src = if is_masqueraded::<A>(sender) { snat_address(sender, uplink)? } else { key.src };
    let translated = Tuple { src, ..routed };
    *nat = Nat::new(*key, translated, Side::outside(target.handle), sender.handle);
    nat.publication = found.row.handle;
    Ok(())
}
