//! Packets that are broadcast on an uplink's link.

use netd_common::flow::Zone;
use netd_common::flow::rewrite;
use netd_common::policy::{Packet, broadcast};
use netd_common::verdict::Reason;
use netd_common::wire::bytes::Ipv4;
use netd_common::wire::ethernet::IP_AT;
use netd_common::wire::ip::Family as _;

use crate::flow::datagram;
use crate::kernel::lookups::Kernel;
use crate::kernel::skb::Skb;

/// Sends a packet that is for a published port to the host's own address. `None` if it is for the host's stack.
#[inline(always)]
pub(crate) fn to_host(skb: &Skb) -> Option<Result<(), Reason>> {
    let frame = skb.front();
    let ip = Ipv4::header(&frame, IP_AT).ok()?;
    let transport = datagram::transport(&frame, &ip, Zone::OUTSIDE);
    let packet = Packet::new(&ip, transport, Zone::OUTSIDE, skb.ifindex());
    let address = broadcast::receiver(&Kernel(skb.context()), &packet)?;
    Some(rewrite::set_destination(&mut skb.writer(skb.front()), &ip, address))
}
