//! Packets from outside that have no flow.

use netd_common::flow::{FlowKey, Tuple, Zone};
use netd_common::nat::Side;
use netd_common::packet::{self, IP_AT, Ip};
use netd_common::verdict::Reason;

use crate::flow::{self, First, Plan};
use crate::maps;
use crate::publication::{self, Found};
use crate::route::{self, Route};
use crate::skb::{Skb, Wire};

/// A first packet to a published port makes a flow; nothing else from outside reaches a container; the rest is the host's.
#[inline(always)]
pub(crate) fn first<A: Wire>(skb: &Skb) -> Result<First, Reason> {
    let frame = skb.front();
    // What cannot be read has no flow; the host's own stack refuses it and counts it.
    let Ok(ip) = A::header(&frame, IP_AT) else { return Ok(First::Pass) };
    if let Ok(transport) = flow::transport(&frame, &ip, Zone::OUTSIDE)
        && let Some(first) = open(skb, &ip, &packet::flow_key(&ip, &transport, Zone::OUTSIDE))?
    {
        return Ok(first);
    }
    unpublished(&ip)
}

/// Opens a flow to a published port; none if it is not ours.
#[inline(always)]
fn open<A: Wire>(skb: &Skb, ip: &Ip<A>, key: &FlowKey<A>) -> Result<Option<First>, Reason> {
    // A source that no answer may be sent to makes no flow, nor one that no router sends on (RFC 4291 §2.5.6).
    let src = key.src;
    if src.is_loopback() || src.is_not_one_hosts() || src.is_link_local() || src == A::UNSPECIFIED {
        return Ok(None);
    }
    let Some(found) = publication::find(key.protocol(), key.dst, key.dst_port) else { return Ok(None) };
    if !is_ours(skb, ip, &found) || maps::network_of(key.src).is_some() || is_hosts_own(skb, ip, &found) {
        return Ok(None);
    }
    let row = found.row();
    let target = A::subnet(found.endpoint).address();
    if target == A::UNSPECIFIED {
        return Ok(None);
    }
    if ip.ttl <= 1 {
        found.count_drop();
        return Err(Reason::TtlExceeded);
    }
    let plan = Plan {
        original: key,
        inner: Tuple { dst: target, dst_port: row.target_port(key.dst_port), ..key.tuple() },
        to: Side { zone: Zone::container(found.endpoint.ifindex), endpoint: found.endpoint.handle },
        back: found.endpoint.handle,
        publication: row.handle,
    };
    found.open(skb, &plan).map(Some)
}

/// Whether the packet is addressed to the host, for a publication on all of its addresses.
#[inline(always)]
fn is_ours<A: Wire>(skb: &Skb, ip: &Ip<A>, found: &Found) -> bool {
    if ip.dst.is_loopback() {
        return false;
    }
    !found.any_address || matches!(route::lookup(skb, found.endpoint.bridge, ip.src, ip.dst), Route::Local)
}

/// Whether the source is an address of the host, or the broadcast address of one of its networks: the stack, which such a
/// packet is left to, calls it a martian.
#[inline(always)]
fn is_hosts_own<A: Wire>(skb: &Skb, ip: &Ip<A>, found: &Found) -> bool {
    matches!(route::lookup(skb, found.endpoint.bridge, ip.dst, ip.src), Route::Local)
}

/// No flow and no publication: the host's, unless its addresses give it away.
#[inline(always)]
fn unpublished<A: Wire>(ip: &Ip<A>) -> Result<First, Reason> {
    if ip.src.is_loopback() || ip.dst.is_loopback() {
        return Err(Reason::Martian);
    }
    if maps::network_of(ip.dst).is_some() {
        return Err(Reason::DirectAccess);
    }
    if maps::network_of(ip.src).is_some() {
        return Err(Reason::ForgedSource);
    }
    Ok(First::Pass)
}
