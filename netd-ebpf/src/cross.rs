//! IPv6 clients of a container that has only IPv4: headers of one family become headers of the other (RFC 7915).
//!
//! Such a connection is one of the IPv6 flow tables, with the container's side in IPv4-mapped addresses. Everything but the
//! headers follows: keys, states, timeouts, counters, and the checksums too, since the bits that a mapped address has more
//! than an IPv4 one add up to nothing in a ones'-complement sum.

use netd_common::abi::{EndpointRow, FlowRow, cb};
use netd_common::bytes::{Be16, Ipv4, Ipv6};
use netd_common::checksum::Delta;
use netd_common::flow::{FlowKey, Zone};
use netd_common::packet::{
    self, ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Family as _, IP_AT, IPV6_LEN, Ip, Layout,
    PacketBytes as _, Part, Transport,
};
use netd_common::verdict::{Reason, Verdict};

use crate::flow::{self, Follows, Step, Table};
use crate::skb::{Aligned, Frame, Skb, Wire};

/// Length of an IPv4 header without options, bytes.
const IPV4_LEN: usize = 20;
/// What a packet grows by on its way to IPv6, bytes.
pub(crate) const GROWTH: u32 = (IPV6_LEN - IPV4_LEN) as u32;
/// The smallest MTU that IPv6 knows (RFC 8200 §5), bytes.
const SMALLEST_MTU: u32 = 1280;

/// Follows the flow of an IPv4 packet as one of IPv6.
#[inline(always)]
pub(crate) fn follow<T: Table<Ipv6>>(skb: &Skb) -> Step {
    let frame = skb.front();
    match Ipv4::header(&frame, IP_AT) {
        Ok(ip) => flow::pass::<Ipv6, T>(skb, frame, mapped(&ip), Follows::Crossing),
        Err(_) => Step::Unknown,
    }
}

/// An IPv4 header in IPv6's words.
#[inline(always)]
fn mapped(ip: &Ip<Ipv4>) -> Ip<Ipv6> {
    Ip {
        src: Ipv6::mapped(ip.src),
        dst: Ipv6::mapped(ip.dst),
        protocol: ip.protocol,
        ttl: ip.ttl,
        checksum: 0,
        part: ip.part,
        transport_at: ip.transport_at,
    }
}

/// A packet that is to change families, and its flow.
struct Crossing {
    frame: Frame,
    transport: Transport,
    row: &'static mut FlowRow<Ipv6>,
    endpoint: &'static EndpointRow,
}

impl Crossing {
    /// Finds the flow of a packet whose header ends where one without options or extensions does: what those ask for has no
    /// words in the other family, nor have fragments of a translated datagram a common length.
    #[inline(always)]
    fn of(skb: &Skb, frame: Frame, ip: &Ip<Ipv6>, header_len: usize) -> Result<Self, Reason> {
        if ip.part != Part::Whole || ip.transport_at.get() != ETHERNET_LEN + header_len {
            return Err(Reason::Untranslatable);
        }
        let transport = packet::transport(&frame, ip)?;
        let key: FlowKey<Ipv6> = packet::flow_key(ip, &transport, Zone::container(skb.cb(cb::ZONE)));
        let (row, endpoint) = flow::peek(key).ok_or(Reason::TableFull)?;
        Ok(Self { frame, transport, row, endpoint })
    }

    /// Writes the Ethernet header of a packet whose IP header is the other family's by now, and says where it goes. The IP
    /// header is not written yet; no packet pointer is good after it is.
    #[inline(always)]
    fn send<A: Wire>(&self, skb: &Skb) -> Result<Verdict, Reason> {
        let frame = skb.frame();
        frame.write(2 * 6, if A::IS_V6 { ETHERTYPE_IPV6.word() } else { ETHERTYPE_IPV4.word() })?;
        if self.row.is_outward() {
            return Ok(Skb::redirect_to_neighbour(self.row.oif, self.row.next_hop));
        }
        Skb::write_ethernet(&frame, &self.endpoint.ethernet)?;
        Ok(skb.redirect_to_peer(self.endpoint.ifindex))
    }
}

/// Sends an IPv6 packet on as IPv4 (RFC 7915 §5.1).
#[inline(always)]
pub(crate) fn to_four(skb: &Skb) -> Result<Verdict, Reason> {
    let frame = skb.front();
    let ip = Ipv6::header(&frame, IP_AT)?;
    let crossing = Crossing::of(skb, frame, &ip, IPV6_LEN)?;
    let row = &crossing.row;
    let (Some(src), Some(dst)) = (row.src.as_mapped(), row.dst.as_mapped()) else {
        return Err(Reason::Untranslatable);
    };
    let [class_high, class_low, _, _, len0, len1, protocol, ttl] =
        crossing.frame.read::<8>(ETHERNET_LEN).ok_or(Reason::Malformed)?;
    let class = (class_high << 4) | (class_low >> 4);
    let len = Be16::from_wire([len0, len1]).get().checked_add(IPV4_LEN as u16).ok_or(Reason::Malformed)?;
    let [len0, len1] = Be16::new(len).to_wire();
    let first = u32::from_ne_bytes([0x45, class, len0, len1]);
    // Atomic, so that its number may be any (RFC 6864 §4.1): the container's link is the last, and its MTU known.
    let second = u32::from_ne_bytes([0, 0, 0x40, 0]);
    let third = |checksum: [u8; 2]| u32::from_ne_bytes([ttl - 1, protocol, checksum[0], checksum[1]]);
    let (src, dst) = (src.word(), dst.word());
    let checksum = Delta::NONE.put(first).put(second).put(third([0, 0])).put(src).put(dst).checksum();
    let third = third(checksum.to_ne_bytes());
    skb.translate_transport(&crossing.frame, &ip, &crossing.transport, row)?;
    skb.change_family::<Ipv4>()?;
    let verdict = crossing.send::<Ipv4>(skb)?;
    skb.store(ETHERNET_LEN, &Aligned([first, second]).0)?;
    skb.store(ETHERNET_LEN + 8, &Aligned([third, src]).0)?;
    skb.store(ETHERNET_LEN + 16, &[dst])?;
    Ok(verdict)
}

/// Sends an IPv4 packet on as IPv6 (RFC 7915 §4.1).
#[inline(always)]
pub(crate) fn to_six(skb: &Skb) -> Result<Verdict, Reason> {
    let frame = skb.front();
    let ip = Ipv4::header(&frame, IP_AT)?;
    let crossing = Crossing::of(skb, frame, &mapped(&ip), IPV4_LEN)?;
    if crossing.transport.layout == Layout::Udp
        && crossing.frame.read(ETHERNET_LEN + IPV4_LEN + 6) == Some([0, 0])
    {
        // IPv6 has no datagrams without a checksum, and who would make one reads all of it (RFC 7915 §4.5).
        return Err(Reason::Untranslatable);
    }
    let [_, class, len0, len1] = crossing.frame.read::<4>(ETHERNET_LEN).ok_or(Reason::Malformed)?;
    let len = Be16::from_wire([len0, len1]).get().checked_sub(IPV4_LEN as u16).ok_or(Reason::Malformed)?;
    let [len0, len1] = Be16::new(len).to_wire();
    let first = u32::from_ne_bytes([0x60 | (class >> 4), class << 4, 0, 0]);
    let second = u32::from_ne_bytes([len0, len1, ip.protocol, ip.ttl - 1]);
    let row = &crossing.row;
    let (src, dst) = (row.src.words(), row.dst.words());
    skb.translate_transport(&crossing.frame, &mapped(&ip), &crossing.transport, row)?;
    skb.change_family::<Ipv6>()?;
    let verdict = crossing.send::<Ipv6>(skb)?;
    skb.store(ETHERNET_LEN, &Aligned([first, second]).0)?;
    skb.store(ETHERNET_LEN + 8, &Aligned(src).0)?;
    skb.store(ETHERNET_LEN + 24, &Aligned(dst).0)?;
    Ok(verdict)
}

/// Takes note of an ICMPv6 error about such a flow's packets; `own` is the row that an answer to the quoted one would have
/// taken, `sent` its key. What the way carries is remembered for the answers, whose sender netd then tells in IPv4; the
/// rest has no words there.
#[inline(always)]
pub(crate) fn told<A: Wire>(
    frame: &Frame,
    ip: &Ip<A>,
    key: &FlowKey<A>,
    own: &FlowRow<A>,
    endpoint: &EndpointRow,
) -> Result<Verdict, Reason> {
    const TOO_BIG: u8 = 2;
    if packet::icmp_type(frame, ip.transport_at)? != TOO_BIG {
        return Err(Reason::Untranslatable);
    }
    let mtu = frame.read(frame.place(ip.transport_at) + 4).ok_or(Reason::Malformed)?;
    let mtu = netd_common::bytes::number(mtu);
    flow::lower_mtu(key, own, endpoint, if mtu < SMALLEST_MTU { SMALLEST_MTU } else { mtu });
    Ok(Verdict::Consumed)
}
