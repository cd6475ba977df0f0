//! Early drop: denied packets are dropped before they get an skb. The policy is the same as in TC.
//!
//! A decision is cached for at most 128 jiffies, by everything that it depends on, which excludes the source port. So
//! the policy decides about a flood from one source only a few times a second; its other packets need only the frame
//! and one row.

use netd_common::abi::DenyCacheRow;
use netd_common::flow::Zone;
use netd_common::policy::{Packet, early_drop};
use netd_common::wire::ip::{Class, Ip};
use netd_common::wire::transport::Transport;

use crate::kernel::inet::Inet;
use crate::kernel::lookups::Kernel;
use crate::kernel::xdp_buff::XdpBuff;
use crate::kernel::{clock, deny_cache, drops, scratch, seen_peers, tables};
use crate::xdp::frame::Received;

/// The current time in the low half, and the epoch in the high half.
#[inline(always)]
fn stamp() -> u64 {
    u64::from(clock::coarse()) | (u64::from(deny_cache::epoch()) << 32)
}

/// The row where a decision about such a packet is cached.
#[inline(always)]
fn place<A: Inet>(class: &Class<A>) -> Option<&'static mut DenyCacheRow<A>> {
    let [_, _, _, low] = class.dst.to_ipv6().words();
    let service = u64::from(low ^ class.port_and_protocol).wrapping_mul(seen_peers::MIX);
    deny_cache::row(seen_peers::hash(class.src).wrapping_add(service))
}

/// The cached decision to drop such a packet.
#[inline(always)]
pub(crate) fn known<A: Inet>(class: &Class<A>, ifindex: u32) -> Option<&'static mut DenyCacheRow<A>> {
    place(class).filter(|row| {
        row.stamp == stamp()
            && row.src == class.src
            && row.dst == class.dst
            && row.port_and_protocol == class.port_and_protocol
            && row.ifindex == ifindex
            && row.mac == class.mac
    })
}

/// Counts a packet that is dropped.
#[inline(always)]
pub(crate) fn count<A: Inet>(row: &mut DenyCacheRow<A>, len: u32) {
    row.pending += 1;
    row.bytes += u64::from(len);
}

/// Asks the policy about a packet of no flow, and caches a decision to drop it. None if TC must handle the packet. TC
/// also gets the first one of a reason, to count and report it.
#[inline(always)]
pub(crate) fn decide<A: Inet>(
    buff: &XdpBuff,
    ip: &Ip<A>,
    transport: &Transport,
    received: &Received<A>,
) -> Option<&'static mut DenyCacheRow<A>> {
    let key = &received.key;
    let port_and_protocol = Class::<A>::service(key.dst_port, key.protocol());
    let class = Class { mac: received.mac, src: key.src, dst: key.dst, port_and_protocol };
    // Read before the lookups, so that a later change has another epoch.
    let stamp = stamp();
    if tables::uplink(received.ifindex).is_none_or(|uplink| uplink.mac != received.mac) {
        return None;
    }
    let packet = Packet::new(ip, Ok(*transport), Zone::OUTSIDE, received.ifindex);
    let refusal = early_drop::decide(&Kernel(buff.context()), &packet, scratch::nat().ok()?)?;
    let row = place(&class)?;
    if row.pending != 0 {
        drops::count_early(row.reason, row.pending, row.bytes);
        tables::count_dropped(row.publication, row.pending);
    }
    *row = DenyCacheRow {
        stamp,
        mac: class.mac,
        ifindex: received.ifindex,
        port_and_protocol,
        reason: refusal.reason as u32,
        peer: seen_peers::bit(class.src),
        pending: 0,
        publication: refusal.publication,
        src: class.src,
        dst: class.dst,
        bytes: 0,
    };
    drops::may_drop_early(row.reason, clock::coarse()).then_some(row)
}
