//! Packets from outside.

use netd_common::flow::{FlowKey, Zone};
use netd_common::nat::{self, Connection};
use netd_common::packet::{self, ETHERTYPE_IPV4, Ipv4Header};
use netd_common::verdict::{Reason, Verdict};

use crate::flow::{self, Live, Packet};
use crate::maps;
use crate::publication::{self, Found};
use crate::route::{self, Route};
use crate::skb::Skb;

/// A flow's packets are translated; a first packet to a published port makes a flow; nothing else from outside reaches a
/// container; the rest is the host's.
#[inline(always)]
pub(crate) fn ingress(skb: &Skb) -> Result<Verdict, Reason> {
    if !skb.is_for_this_interface() {
        return Ok(Verdict::Pass);
    }
    let frame = skb.frame();
    if packet::ethertype(&frame) != Some(ETHERTYPE_IPV4) {
        return Ok(Verdict::Pass);
    }
    // What cannot be read has no flow; the host's own stack refuses it and counts it.
    let Ok(ip) = packet::ipv4(&frame) else { return Ok(Verdict::Pass) };
    let transport = if ip.fragment { None } else { packet::transport(&frame, &ip).unwrap_or(None) };
    let Some(transport) = transport else {
        return unpublished(&ip);
    };
    let key = packet::flow_key(&ip, &transport, Zone::OUTSIDE);
    let packet = Packet { skb, frame: &frame, ip, transport };
    let live = match flow::find(&key) {
        Some(live) => live,
        None => match first(&packet, key)? {
            Some(live) => live,
            None => return unpublished(&packet.ip),
        },
    };
    live.forward(&packet)
}

/// The flow of a first packet to a published port; none if it is not ours.
#[inline(always)]
fn first(packet: &Packet<'_>, key: FlowKey) -> Result<Option<Live>, Reason> {
    let Packet { skb, ip, transport, .. } = packet;
    // A source that no answer may be sent to makes no flow.
    if ip.src.is_loopback() || ip.src.is_multicast_or_reserved() {
        return Ok(None);
    }
    match publication::find(ip.protocol, ip.dst, transport.dst_port) {
        Some(found) if is_ours(skb, ip, &found) && maps::network_of(ip.src).is_none() => {
            open(key, &found).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether the packet is addressed to the host, for a publication on all of its addresses.
#[inline(always)]
fn is_ours(skb: &Skb, ip: &Ipv4Header, found: &Found) -> bool {
    if ip.dst.is_loopback() {
        return false;
    }
    !found.any_address || matches!(route::lookup(skb, found.endpoint.bridge, ip.src, ip.dst), Route::Local)
}

/// How many ports are tried for a client whose own is taken.
const TRIES: u32 = 16;

/// Makes the two rows of a connection and returns the original direction's.
#[inline(always)]
fn open(key: FlowKey, found: &Found) -> Result<Live, Reason> {
    // SAFETY: array rows are never freed, and a publication's row is complete before its port leads to it.
    let publication = unsafe { &*found.publication };
    let now = flow::now();
    let mut client_port = key.src_port;
    for _try in 0..TRIES {
        let Connection { original, mut forward, reply, mut backward } =
            nat::publish(key, client_port, publication, found.endpoint);
        if let Some(taken) = flow::find(&reply)
            && !taken.leads_to(&backward)
        {
            client_port = flow::random_port();
            continue;
        }
        forward.last = now;
        backward.last = now;
        maps::put_flow(&reply, &backward)?;
        if let Err(reason) = maps::put_flow(&original, &forward) {
            maps::remove_flow(&reply);
            return Err(reason);
        }
        // SAFETY: an aligned word of a publication's row.
        unsafe { maps::add(&raw mut (*maps::counters(found.publication)).flows, 1) };
        return flow::find(&original).ok_or(Reason::TableFull);
    }
    Err(Reason::Collision)
}

/// No flow and no publication: the host's, unless its addresses give it away.
#[inline(always)]
fn unpublished(ip: &Ipv4Header) -> Result<Verdict, Reason> {
    if ip.src.is_loopback() || ip.dst.is_loopback() {
        return Err(Reason::Martian);
    }
    if maps::network_of(ip.dst).is_some() {
        return Err(Reason::DirectAccess);
    }
    if maps::network_of(ip.src).is_some() {
        return Err(Reason::ForgedSource);
    }
    Ok(Verdict::Pass)
}
