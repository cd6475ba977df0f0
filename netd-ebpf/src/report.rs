//! The report of a dropped packet. Whoever drops a packet asks for it once a reason, CPU and tick, so that a flood costs no more than
//! a trickle.

use netd_common::abi::{DropEvent, cb};
use netd_common::bytes::{Ipv4, Ipv6};
use netd_common::packet::{self, ETHERTYPE_IPV6, Family, IP_AT, Part};

use crate::maps;
use crate::skb::{Frame, Skb};

/// Reports the packet as it is now. What cannot be read is zero.
#[inline(always)]
pub(crate) fn drop(skb: &Skb) {
    let (len, ifindex, reason) = (skb.len(), skb.ifindex(), skb.cb(cb::REASON));
    let frame = skb.front();
    let mut event = DropEvent::new(reason, len, ifindex);
    if packet::ethertype(&frame) == Some(ETHERTYPE_IPV6) {
        read::<Ipv6>(&frame, &mut event, |address| address);
    } else {
        read::<Ipv4>(&frame, &mut event, Ipv6::mapped);
    }
    maps::report(&event);
}

/// Reads addresses, protocol and ports.
#[inline(always)]
fn read<A: Family>(frame: &Frame, event: &mut DropEvent, unified: impl Fn(A) -> Ipv6) {
    let Ok(ip) = A::header(frame, IP_AT) else { return };
    (event.src, event.dst, event.protocol) = (unified(ip.src), unified(ip.dst), u32::from(ip.protocol));
    if !matches!(ip.part, Part::Later(_))
        && let Ok(transport) = packet::transport(frame, &ip)
    {
        (event.src_port, event.dst_port) = (transport.src_port, transport.dst_port);
    }
}
