//! The identification of a packet in XDP.

use netd_common::flow::{FlowKey, Zone};
use netd_common::wire::ethernet::{PacketBytes as _, mac_words};
use netd_common::wire::ip::{Ip, protocol};
use netd_common::wire::transport::{self, Transport};

use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::xdp_buff::XdpBuff;

/// A packet that has arrived.
pub(crate) struct Received<A> {
    /// Its flow's key.
    pub(crate) key: FlowKey<A>,
    /// The interface that it came in by.
    pub(crate) ifindex: u32,
    /// Its destination MAC address.
    pub(crate) mac: [u32; 2],
}

/// Reads a packet; `None` if TC must handle it: fragments and options, other protocols, and a TTL that runs out, which TC
/// answers.
#[inline(always)]
pub(crate) fn read<A: Inet>(buff: &XdpBuff, frame: &Frame) -> Option<(Ip<A>, Transport, Received<A>)> {
    let ip = A::plain(frame)?;
    let transport = match ip.protocol {
        protocol::TCP => transport::tcp(frame, ip.transport_at),
        protocol::UDP => transport::udp(frame, ip.transport_at),
        protocol::SCTP => transport::sctp(frame, ip.transport_at),
        _ => return None,
    };
    let (Ok(transport), Some(mac)) = (transport, frame.read::<6>(0)) else { return None };
    if ip.ttl <= 1 {
        return None;
    }
    let key = FlowKey::of(&ip, &transport, Zone::OUTSIDE);
    Some((ip, transport, Received { key, ifindex: buff.ifindex(), mac: mac_words(mac) }))
}
