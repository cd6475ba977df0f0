//! Packets of established connections that come in by one uplink and leave by another.

use netd_common::abi::{EndpointRow, pending, uplink_flag};
use netd_common::flow::{FlowRow, rewrite};
use netd_common::policy::Route;
use netd_common::wire::ethernet::ETHERNET_LEN;
use netd_common::wire::ip::Ip;
use netd_common::wire::transport::{Layout, Transport, tcp_flag};

use crate::flow::fast::BEGINS_OR_ENDS;
use crate::flow::table;
use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::maps::{NeighbourRow, neighbour};
use crate::kernel::xdp_buff::XdpBuff;
use crate::kernel::{atomic, clock, fib, seen_peers, tables};
use crate::xdp::frame::Received;

/// Forwards a packet by its row; `None` if a decision is needed, as in [`crate::flow::fast`].
#[inline(always)]
pub(crate) fn send<A: Inet>(
    buff: &XdpBuff,
    mut frame: Frame,
    ip: &Ip<A>,
    transport: &Transport,
    received: &Received<A>,
    row: &mut FlowRow<A>,
) -> Option<()> {
    let now = clock::now();
    if row.last != now || !row.is_outward() || row.is_nat64() {
        return None;
    }
    let is_tcp = match transport.layout {
        Layout::Tcp => true,
        Layout::Udp => false,
        _ => return None,
    };
    if transport.tcp_flags & BEGINS_OR_ENDS != 0
        || (is_tcp && row.seen().flags & transport.tcp_flags & tcp_flag::ACK == 0)
    {
        return None;
    }
    let endpoint = table::owner(row)?;
    let mtu = row.mtu();
    if mtu != 0 && frame.len() - ETHERNET_LEN as u32 > mtu {
        return None;
    }
    let ethernet = ethernet(buff, received, row, endpoint, now)?;
    let len = frame.len();
    rewrite::translate(&mut frame, ip, transport, row).ok()?;
    frame.write_ethernet(&ethernet).ok()?;
    if is_tcp {
        row.acknowledged = transport.acknowledgement;
    }
    atomic::add(&mut row.pending, pending::packet(len));
    XdpBuff::redirect(row.oif);
    Some(())
}

/// The first 12 bytes of a frame that a row forwards. They are looked up once a tick, only for an uplink that accepts
/// redirected frames, and only for packets that are addressed to this host.
#[inline(always)]
fn ethernet<A: Inet>(
    buff: &XdpBuff,
    received: &Received<A>,
    row: &FlowRow<A>,
    endpoint: &EndpointRow,
    now: u32,
) -> Option<[u32; 3]> {
    let known = neighbour((seen_peers::hash(row.next_hop) >> 32) as u32 ^ row.oif)?;
    let is_known = known.last == now
        && known.next_hop == row.next_hop
        && known.oif == row.oif
        && known.ifindex == received.ifindex
        && known.mac == received.mac;
    if is_known {
        return Some(known.ethernet);
    }
    if tables::uplink(received.ifindex)?.mac != received.mac {
        return None;
    }
    if tables::uplink(row.oif)?.flags & uplink_flag::TAKES_FRAMES == 0 {
        return None;
    }
    let (Route::Via(oif, next_hop), Some(ethernet)) = fib::lookup_neighbour(
        buff.context(),
        endpoint.bridge,
        received.key.protocol(),
        &row.routed(&received.key),
    ) else {
        return None;
    };
    if oif != row.oif || next_hop != row.next_hop || next_hop == A::UNSPECIFIED {
        return None;
    }
    let (ifindex, mac) = (received.ifindex, received.mac);
    *known = NeighbourRow { last: now, ifindex, mac, oif, next_hop, ethernet };
    Some(ethernet)
}
