//! Packets of established connections: read, look up, rewrite, send.
//!
//! Whatever needs a decision is left to the next stage: no row, a row that is not live, the first packet in a tick,
//! SYN, FIN and RST, a packet whose TTL has run out or that is too large, fragments, ICMP.

use netd_common::abi::pending;
use netd_common::flow::{FlowKey, Zone};
use netd_common::policy::host;
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ethernet::PacketBytes as _;
use netd_common::wire::ip::protocol;
use netd_common::wire::transport::{self, tcp_flag};

use crate::flow::packet::{Packet, mtu};
use crate::flow::table;
use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::skb::Skb;
use crate::kernel::{atomic, clock, flows, tables};

/// TCP flags that begin or end a connection.
pub(crate) const BEGINS_OR_ENDS: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;

/// The sender of a packet.
pub(crate) trait Sender {
    /// Whether its packets may be for a local socket.
    const MAY_SPEAK_TO_HOST: bool;

    /// Whether a row for its packets to an address may exist.
    fn may_have_flow<A: Inet>(dst: A) -> bool;

    /// Whether a packet without an assured flow belongs to a connection with a local socket.
    fn speaks_to_host<A: Inet>(packet: &Packet<'_, A>, key: &FlowKey<A>, may_have_flow: bool) -> bool;
}

/// A host beyond the uplinks.
pub(crate) enum Outsider {}

impl Sender for Outsider {
    /// Packets for the host's stack are left to the stages.
    const MAY_SPEAK_TO_HOST: bool = false;

    #[inline(always)]
    fn may_have_flow<A: Inet>(_dst: A) -> bool {
        true
    }

    #[inline(always)]
    fn speaks_to_host<A: Inet>(_packet: &Packet<'_, A>, _key: &FlowKey<A>, _may_have_flow: bool) -> bool {
        false
    }
}

/// Forwards a packet by its row; `None` if a decision is needed.
#[inline(always)]
pub(crate) fn established<A: Inet, S: Sender>(
    skb: &Skb,
    frame: Frame,
    zone: Zone,
) -> Option<Result<Verdict, Reason>> {
    let ip = A::plain(&frame)?;
    let transport = match ip.protocol {
        protocol::TCP => transport::tcp(&frame, ip.transport_at),
        protocol::UDP => transport::udp(&frame, ip.transport_at),
        _ => return None,
    };
    let transport = transport.ok()?;
    if ip.ttl <= 1 {
        return None;
    }
    let begins_or_ends = transport.tcp_flags & BEGINS_OR_ENDS != 0;
    if begins_or_ends && !S::MAY_SPEAK_TO_HOST {
        return None;
    }
    let key = FlowKey::of(&ip, &transport, zone);
    let may_have_flow = S::may_have_flow(ip.dst);
    let looks = may_have_flow && !begins_or_ends;
    let packet = Packet { skb, frame, ip, transport };
    let (row, is_assured) = match if looks { flows::get(flows::established(), &key) } else { None } {
        Some(row) => (row, true),
        None if S::speaks_to_host(&packet, &key, may_have_flow) => {
            return Some(A::confine(&mut skb.writer(packet.frame), &packet.ip).map(|()| Verdict::Pass));
        }
        // Opaque to the compiler, which would otherwise duplicate the code above.
        None if S::MAY_SPEAK_TO_HOST && packet.frame.opaque(u32::from(looks)) == 0 => return None,
        // A stream without replies stays in this table, and must be as fast as others.
        None => (flows::get(flows::unreplied(), &key)?, false),
    };
    if !is_assured && host::may_have_asked(row, key.dst_port, tables::local_ports()) {
        return None;
    }
    let now = clock::now();
    if row.last != now {
        if !is_assured || !row.may_skip_refresh(now) {
            return None;
        }
        row.last = now;
    }
    if A::IS_V6 && row.is_nat64() {
        return None;
    }
    if zone == Zone::OUTSIDE && row.is_of_other_input(skb.ifindex()) {
        return None;
    }
    let endpoint = table::owner(row)?;
    if packet.is_too_big(mtu(row, endpoint)) {
        return None;
    }
    if packet.ip.protocol == protocol::TCP {
        if row.seen().flags & packet.transport.tcp_flags & tcp_flag::ACK == 0 {
            // The numbers of the handshake must be stored; or the packet acknowledges nothing.
            return None;
        }
        row.acknowledged = packet.transport.acknowledgement;
    }
    atomic::add(&mut row.pending, pending::packet(skb.len()));
    Some(packet.send(row, endpoint))
}
