//! NAT64: IPv6 clients of a container that has only IPv4. Headers of one family become headers of the other (RFC 7915).
//!
//! Such a connection is in the IPv6 flow tables, with IPv4-mapped addresses on the container's side. Keys, states,
//! timeouts and counters are as for any other connection. So are the checksum changes, since the extra bits of a mapped
//! address add up to zero in a ones'-complement sum.

use netd_common::abi::{EndpointRow, cb};
use netd_common::flow::rewrite::{self, PacketWrite as _};
use netd_common::flow::{FlowKey, FlowRow, Zone};
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::bytes::{self, Be16, Ipv4, Ipv6};
use netd_common::wire::checksum::Delta;
use netd_common::wire::ethernet::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IP_AT, PacketBytes as _};
use netd_common::wire::icmp;
use netd_common::wire::ip::{Family as _, IPV4_LEN, IPV6_LEN, Ip, Part};
use netd_common::wire::transport::{self, Layout, Transport};

use crate::flow::conntrack::{self, Follows, Step};
use crate::flow::table::{self, Table};
use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::skb::Skb;
use crate::kernel::stack::Aligned;

/// The smallest MTU that IPv6 allows (RFC 8200 §5), bytes.
const SMALLEST_MTU: u32 = 1280;

/// Looks up the flow of an IPv4 packet in an IPv6 table.
#[inline(always)]
pub(crate) fn follow<T: Table<Ipv6>>(skb: &Skb) -> Step {
    let frame = skb.front();
    match Ipv4::header(&frame, IP_AT) {
        Ok(ip) => conntrack::pass::<Ipv6, T>(skb, frame, mapped(&ip), Follows::Nat64),
        Err(_) => Step::Unknown,
    }
}

/// An IPv4 header with IPv4-mapped addresses.
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

/// A packet that changes its family, and its flow.
struct Translation {
    frame: Frame,
    transport: Transport,
    row: &'static mut FlowRow<Ipv6>,
    endpoint: &'static EndpointRow,
}

impl Translation {
    /// Finds the flow of a packet without options, extension headers and fragmentation: options and extension headers
    /// have no equivalent in the other family, and translated fragments would have wrong offsets.
    #[inline(always)]
    fn of(skb: &Skb, frame: Frame, ip: &Ip<Ipv6>, header_len: usize) -> Result<Self, Reason> {
        if ip.part != Part::Whole || ip.transport_at.get() != ETHERNET_LEN + header_len {
            return Err(Reason::Untranslatable);
        }
        let transport = transport::read(&frame, ip)?;
        let key = FlowKey::of(ip, &transport, Zone::container(skb.cb(cb::ZONE)));
        let (row, endpoint) = table::peek(key).ok_or(Reason::TableFull)?;
        Ok(Self { frame, transport, row, endpoint })
    }

    /// Writes the Ethernet header of a packet that now has room for the other family's IP header, and redirects it.
    #[inline(always)]
    fn send<A: Inet>(&self, skb: &Skb) -> Result<Verdict, Reason> {
        let mut frame = skb.frame();
        frame.write(2 * 6, if A::IS_V6 { ETHERTYPE_IPV6.word() } else { ETHERTYPE_IPV4.word() })?;
        if self.row.is_outward() {
            return Ok(Skb::redirect_to_neighbour(self.row.oif, self.row.next_hop));
        }
        frame.write_ethernet(&self.endpoint.ethernet)?;
        Ok(skb.redirect_to_peer(self.endpoint.ifindex))
    }
}

/// Forwards an IPv6 packet as IPv4 (RFC 7915 §5.1).
#[inline(always)]
pub(crate) fn to_ipv4(skb: &Skb) -> Result<Verdict, Reason> {
    let frame = skb.front();
    let ip = Ipv6::header(&frame, IP_AT)?;
    let translation = Translation::of(skb, frame, &ip, IPV6_LEN)?;
    let row = &translation.row;
    let (Some(src), Some(dst)) = (row.src.as_mapped(), row.dst.as_mapped()) else {
        return Err(Reason::Untranslatable);
    };
    let [class_high, class_low, _, _, len0, len1, protocol, ttl] =
        translation.frame.read::<8>(ETHERNET_LEN).ok_or(Reason::Malformed)?;
    let class = (class_high << 4) | (class_low >> 4);
    let len = Be16::from_wire([len0, len1]).get().checked_add(IPV4_LEN as u16).ok_or(Reason::Malformed)?;
    let [len0, len1] = Be16::new(len).to_wire();
    let first = u32::from_ne_bytes([0x45, class, len0, len1]);
    // An atomic datagram, whose identification may be any number (RFC 6864 §4.1), since the container's link is the
    // last one and its MTU is known.
    let second = u32::from_ne_bytes([0, 0, 0x40, 0]);
    let third = |checksum: [u8; 2]| u32::from_ne_bytes([ttl - 1, protocol, checksum[0], checksum[1]]);
    let (src, dst) = (src.word(), dst.word());
    let checksum = Delta::NONE.put(first).put(second).put(third([0, 0])).put(src).put(dst).checksum();
    let third = third(checksum.to_ne_bytes());
    rewrite::translate_transport(&mut skb.writer(translation.frame), &ip, &translation.transport, row)?;
    skb.change_family::<Ipv4>()?;
    let verdict = translation.send::<Ipv4>(skb)?;
    skb.store(ETHERNET_LEN, &Aligned::<_>::new([first, second]).value)?;
    skb.store(ETHERNET_LEN + 8, &Aligned::<_>::new([third, src]).value)?;
    skb.store(ETHERNET_LEN + 16, &[dst])?;
    Ok(verdict)
}

/// Forwards an IPv4 packet as IPv6 (RFC 7915 §4.1).
#[inline(always)]
pub(crate) fn to_ipv6(skb: &Skb) -> Result<Verdict, Reason> {
    let frame = skb.front();
    let ip = Ipv4::header(&frame, IP_AT)?;
    let translation = Translation::of(skb, frame, &mapped(&ip), IPV4_LEN)?;
    if translation.transport.layout == Layout::Udp
        && translation.frame.read(ETHERNET_LEN + IPV4_LEN + 6) == Some([0, 0])
    {
        // UDP over IPv6 needs a checksum, and computing one would need the whole datagram (RFC 7915 §4.5).
        return Err(Reason::Untranslatable);
    }
    let [_, class, len0, len1] = translation.frame.read::<4>(ETHERNET_LEN).ok_or(Reason::Malformed)?;
    let len = Be16::from_wire([len0, len1]).get().checked_sub(IPV4_LEN as u16).ok_or(Reason::Malformed)?;
    let [len0, len1] = Be16::new(len).to_wire();
    let first = u32::from_ne_bytes([0x60 | (class >> 4), class << 4, 0, 0]);
    let second = u32::from_ne_bytes([len0, len1, ip.protocol, ip.ttl - 1]);
    let row = &translation.row;
    let (src, dst) = (row.src.words(), row.dst.words());
    rewrite::translate_transport(
        &mut skb.writer(translation.frame),
        &mapped(&ip),
        &translation.transport,
        row,
    )?;
    skb.change_family::<Ipv6>()?;
    let verdict = translation.send::<Ipv6>(skb)?;
    skb.store(ETHERNET_LEN, &Aligned::<_>::new([first, second]).value)?;
    skb.store(ETHERNET_LEN + 8, &Aligned::<_>::new(src).value)?;
    skb.store(ETHERNET_LEN + 24, &Aligned::<_>::new(dst).value)?;
    Ok(verdict)
}

/// Handles an ICMPv6 error about such a flow's packet. `own` is the row of a reply to the quoted packet, under `key`.
/// The MTU of a "packet too big" is stored for the replies; netd then sends their sender an IPv4 error. Other errors
/// have no equivalent.
#[inline(always)]
pub(crate) fn icmp_error<A: Inet>(
    frame: &Frame,
    ip: &Ip<A>,
    key: &FlowKey<A>,
    own: &FlowRow<A>,
) -> Result<Verdict, Reason> {
    const TOO_BIG: u8 = 2;
    if icmp::kind(frame, ip.transport_at)? != TOO_BIG {
        return Err(Reason::Untranslatable);
    }
    let mtu = frame.read(frame.place(ip.transport_at) + 4).ok_or(Reason::Malformed)?;
    let mtu = bytes::number(mtu);
    table::lower_mtu(key, own, if mtu < SMALLEST_MTU { SMALLEST_MTU } else { mtu });
    Ok(Verdict::Consumed)
}
