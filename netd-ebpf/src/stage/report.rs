//! The report of a dropped packet. At most one is made for each reason, CPU and tick, so that a flood costs no more
//! than a few packets.

use netd_common::abi::{DropEvent, cb};
use netd_common::verdict::Reason;
use netd_common::wire::bytes::{Ipv4, Ipv6};
use netd_common::wire::ethernet::{ETHERTYPE_IPV6, IP_AT, ethertype};
use netd_common::wire::ip::{Family, Part};
use netd_common::wire::transport;

use crate::kernel::drops;
use crate::kernel::frame::Frame;
use crate::kernel::skb::Skb;

/// Reports the packet in its current form. Fields that cannot be read are zero.
#[inline(always)]
pub(crate) fn drop(skb: &Skb) {
    let (len, reason) = (skb.len(), skb.cb(cb::REASON));
    // Of one that is dropped on its way into a network, the interface that it came in by says more.
    let ifindex = if reason == Reason::Unguarded as u32 { skb.input() } else { skb.ifindex() };
    let frame = skb.front();
    let mut event = DropEvent::new(reason, len, ifindex);
    if ethertype(&frame) == Some(ETHERTYPE_IPV6) {
        read::<Ipv6>(&frame, &mut event);
    } else {
        read::<Ipv4>(&frame, &mut event);
    }
    drops::report(&event);
}

/// Reads addresses, protocol and ports.
#[inline(always)]
fn read<A: Family>(frame: &Frame, event: &mut DropEvent) {
    let Ok(ip) = A::header(frame, IP_AT) else { return };
    (event.src, event.dst, event.protocol) = (ip.src.to_ipv6(), ip.dst.to_ipv6(), u32::from(ip.protocol));
    if !matches!(ip.part, Part::Later(_))
        && let Ok(transport) = transport::read(frame, &ip)
    {
        (event.src_port, event.dst_port) = (transport.src_port, transport.dst_port);
    }
}
