//! Packets from containers.

use netd_common::flow::Zone;
use netd_common::packet::{self, ETHERTYPE_IPV4, Ipv4Header};
use netd_common::tables::network_flag;
use netd_common::verdict::{Reason, Verdict};

use crate::flow::{self, Packet};
use crate::maps;
use crate::route::{self, Route};
use crate::skb::Skb;

/// A flow's packets are translated; neighbours and the host are reached through the bridge; no other network is.
///
/// The flow table comes first: its keys name the veth and the container's address, so a packet that matches a row needs
/// no further proof of who sent it.
#[inline(always)]
pub(crate) fn ingress(skb: &Skb) -> Result<Verdict, Reason> {
    let frame = skb.frame();
    if packet::ethertype(&frame) != Some(ETHERTYPE_IPV4) {
        return Ok(Verdict::Pass);
    }
    let ip = packet::ipv4(&frame)?;
    let transport = if ip.fragment { None } else { packet::transport(&frame, &ip)? };
    if let Some(transport) = transport {
        let key = packet::flow_key(&ip, &transport, Zone::container(skb.ifindex()));
        let packet = Packet { skb, frame: &frame, ip, transport };
        if let Some(live) = flow::find(&key) {
            return live.forward(&packet);
        }
    }
    unpublished(skb, &ip)
}

/// A packet of no flow.
#[inline(always)]
fn unpublished(skb: &Skb, ip: &Ipv4Header) -> Result<Verdict, Reason> {
    let Some(endpoint) = maps::endpoint_behind(skb.ifindex()) else {
        // The container is being taken down: its veth is still there, its row is not.
        return Err(Reason::NoWayOut);
    };
    if ip.src != endpoint.address {
        return Err(Reason::Spoofed);
    }
    if ip.dst.is_multicast_or_reserved() {
        return Ok(Verdict::Pass);
    }
    if ip.dst.same_network(endpoint.address, endpoint.mask) {
        let neighbour = ip.dst != endpoint.gateway;
        return if neighbour && endpoint.flags & network_flag::NO_ICC != 0 {
            Err(Reason::Isolated)
        } else {
            Ok(Verdict::Pass)
        };
    }
    if endpoint.flags & network_flag::INTERNAL != 0 {
        return Err(Reason::NoWayOut);
    }
    if maps::network_of(ip.dst).is_some_and(|network| network != endpoint.network) {
        return Err(Reason::Isolated);
    }
    match route::lookup(skb, endpoint.bridge, ip.src, ip.dst) {
        Route::Local => Ok(Verdict::Pass),
        Route::Via(..) | Route::None => Err(Reason::NoWayOut),
    }
}
