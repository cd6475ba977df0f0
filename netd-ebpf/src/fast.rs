//! What every packet of an established connection goes through, and nothing else: read, look up, rewrite, send.
//!
//! Whatever needs a decision is left to the next stage: no row, a row whose owner is gone, the first packet in a tick, the
//! beginning and the end of a TCP connection, a packet that is too old or too large, fragments, ICMP.

use netd_common::abi::pending;
use netd_common::flow::{FlowKey, Zone, protocol};
use netd_common::packet::{self, PacketBytes as _, tcp_flag};
use netd_common::verdict::{Reason, Verdict};

use crate::flow::{self, Packet};
use crate::maps;
use crate::skb::{Frame, Skb, Wire};

/// Who sends a packet, where that makes a difference here.
pub(crate) trait Sender {
    /// Whether it may speak to the host.
    const MAY_SPEAK_TO_HOST: bool;

    /// Whether there may be a row for its packets to an address.
    fn may_have_flow<A: Wire>(dst: A) -> bool;

    /// Whether a packet of no assured flow belongs to a connection with a socket of the host's.
    fn speaks_to_host<A: Wire>(packet: &Packet<'_, A>, key: &FlowKey<A>, may_have_flow: bool) -> bool;
}

/// Somebody beyond the uplinks.
pub(crate) enum Outsider {}

impl Sender for Outsider {
    /// What is for the host's stack is left to the stages.
    const MAY_SPEAK_TO_HOST: bool = false;

    #[inline(always)]
    fn may_have_flow<A: Wire>(_dst: A) -> bool {
        true
    }

    #[inline(always)]
    fn speaks_to_host<A: Wire>(_packet: &Packet<'_, A>, _key: &FlowKey<A>, _may_have_flow: bool) -> bool {
        false
    }
}

/// Sends a packet on by its row; `None` if there is anything to decide.
#[inline(always)]
pub(crate) fn established<A: Wire, S: Sender>(
    skb: &Skb,
    frame: Frame,
    zone: Zone,
) -> Option<Result<Verdict, Reason>> {
    const DECIDES: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;
    let ip = A::plain(&frame)?;
    let transport = match ip.protocol {
        protocol::TCP => packet::tcp(&frame, ip.transport_at),
        protocol::UDP => packet::udp(&frame, ip.transport_at),
        _ => return None,
    };
    let transport = transport.ok()?;
    if ip.ttl <= 1 {
        return None;
    }
    let decides = transport.tcp_flags & DECIDES != 0;
    if decides && !S::MAY_SPEAK_TO_HOST {
        return None;
    }
    let key = packet::flow_key(&ip, &transport, zone);
    let may_have_flow = S::may_have_flow(ip.dst);
    let looks = may_have_flow && !decides;
    let packet = Packet { skb, frame, ip, transport };
    let (row, assured) = match if looks { A::flows().get_ptr_mut(&key) } else { None } {
        Some(row) => (row, true),
        None if S::speaks_to_host(&packet, &key, may_have_flow) => return Some(Ok(Verdict::Pass)),
        // Hidden from the compiler, which would write out twice what stands before.
        None if S::MAY_SPEAK_TO_HOST && packet.frame.opaque(u32::from(looks)) == 0 => return None,
        // A stream that nobody answers stays among the young for good, and is a stream all the same.
        None => (A::unreplied().get_ptr_mut(&key)?, false),
    };
    // SAFETY: the pointer comes from the flow table in this run of the program, see the note in `maps`.
    let row = unsafe { &mut *row };
    let now = flow::now();
    if row.last != now {
        if !assured || !row.may_skip_refresh(now) {
            return None;
        }
        row.last = now;
    }
    if A::IS_V6 && row.is_nat64() {
        return None;
    }
    let endpoint = maps::endpoint(row.endpoint)?;
    if !row.publication.is_none() {
        maps::publication(row.publication)?;
    }
    if packet.is_too_big(flow::mtu(row, endpoint)) {
        return None;
    }
    if packet.ip.protocol == protocol::TCP {
        if row.seen().flags & tcp_flag::ACK == 0 {
            // The handshake's end, which is to be noted.
            return None;
        }
        row.acknowledged = packet.transport.acknowledgement;
    }
    // SAFETY: an aligned word of a map's value, which the kernel side changes by atomic operations only.
    unsafe { maps::add(&raw mut row.pending, pending::packet(skb.len())) };
    Some(flow::send(&packet, row, endpoint))
}
