//! What is told of a dropped packet, through aya-log's ring: one packet a reason, CPU and tick, so that a flood costs no
//! more than a trickle. `netd log` reads it and puts it into words; here are numbers only.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use netd_common::abi::cb;
use netd_common::bytes::{Ipv4, Ipv6};
use netd_common::packet::{self, ETHERTYPE_IPV6, Family, IP_AT, Part};

use crate::skb::{Frame, Skb};

/// What is told of either family's packet.
#[derive(Default)]
struct Told {
    src: [u32; 4],
    dst: [u32; 4],
    protocol: u8,
    ports: u32,
}

/// Tells of a packet as it is now; what could not be read is zero. The user side's `dataplane::log` reads these fields
/// in this order.
#[inline(always)]
pub(crate) fn drop(ctx: &TcContext, skb: &Skb) {
    let (len, ifindex, reason) = (skb.len(), skb.ifindex(), skb.cb(cb::REASON));
    let frame = skb.front();
    let told = if packet::ethertype(&frame) == Some(ETHERTYPE_IPV6) {
        read::<Ipv6>(&frame, Ipv6::words)
    } else {
        read::<Ipv4>(&frame, |address| Ipv6::mapped(address).words())
    };
    let what = reason | (u32::from(told.protocol) << 8);
    let [s0, s1, s2, s3] = told.src;
    let [d0, d1, d2, d3] = told.dst;
    let (src_high, src_low) = (pair(s0, s1), pair(s2, s3));
    let (dst_high, dst_low) = (pair(d0, d1), pair(d2, d3));
    warn!(
        ctx,
        "{} {} {} {} {} {} {} {}", what, src_high, src_low, dst_high, dst_low, told.ports, len, ifindex
    );
}

/// Two words of an address, as they lie in memory.
const fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[inline(always)]
fn read<A: Family>(frame: &Frame, words: impl Fn(A) -> [u32; 4]) -> Told {
    let Ok(ip) = A::header(frame, IP_AT) else { return Told::default() };
    let mut told = Told { src: words(ip.src), dst: words(ip.dst), protocol: ip.protocol, ports: 0 };
    if !matches!(ip.part, Part::Later(_))
        && let Ok(transport) = packet::transport(frame, &ip)
    {
        told.ports = (u32::from(transport.src_port.get()) << 16) | u32::from(transport.dst_port.get());
    }
    told
}
