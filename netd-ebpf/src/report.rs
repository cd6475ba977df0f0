//! What is told of a dropped packet, through aya-log's ring: one packet a reason, CPU and tick, so that a flood costs no
//! more than a trickle. `netd log` reads it and puts it into words; here are numbers only, since each argument of a log
//! line is a stretch of code in every program.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use netd_common::packet;
use netd_common::verdict::Reason;

use crate::skb::Skb;

/// Tells of a packet as it is now; what could not be read is zero. The user side's `dataplane::log` reads these fields
/// in this order.
#[inline(never)]
pub(crate) fn drop(ctx: &TcContext, skb: &Skb, reason: Reason) {
    let (len, ifindex) = (skb.len(), skb.ifindex());
    let frame = skb.frame();
    let (mut src, mut dst, mut protocol, mut ports) = (0, 0, 0, 0);
    if let Ok(ip) = packet::ipv4(&frame) {
        (src, dst, protocol) = (u32::from_be(ip.src.word()), u32::from_be(ip.dst.word()), ip.protocol);
        if !ip.fragment
            && let Ok(Some(transport)) = packet::transport(&frame, &ip)
        {
            ports = (u32::from(transport.src_port.get()) << 16) | u32::from(transport.dst_port.get());
        }
    }
    let reason_and_protocol = (reason as u32) | (u32::from(protocol) << 8);
    warn!(ctx, "{} {} {} {} {} {}", reason_and_protocol, src, dst, ports, len, ifindex);
}
