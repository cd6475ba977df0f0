//! IPv4 and IPv6 headers. Checks only what must be correct for the fields to be valid.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use crate::verdict::Reason;

use super::bytes::{Address, Be16, Ipv4, Ipv6};
use super::ethernet::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IP_AT, Offset, PacketBytes, mac_words};
use super::icmp::{self, Message};

/// Length of an IPv4 header without options (RFC 791 §3.1), bytes.
pub const IPV4_LEN: usize = 20;
/// Length of an IPv6 header without extensions (RFC 8200 §3), bytes.
pub const IPV6_LEN: usize = 40;

/// How much a packet grows when its IPv4 header becomes an IPv6 one, bytes.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
pub const NAT64_GROWTH: u32 = (IPV6_LEN - IPV4_LEN) as u32;

/// Protocol numbers (IANA "Protocol Numbers").
pub mod protocol {
    use super::Family;

    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;

    /// Whether a protocol's header begins with both ports.
    #[inline(always)]
    pub const fn has_ports(number: u8) -> bool {
        matches!(number, TCP | UDP | SCTP)
    }

    /// Whether packets of a protocol have a source port that netd can translate; the identifier of an ICMP echo counts
    /// as one.
    #[inline(always)]
    pub const fn has_source_port<A: Family>(number: u8) -> bool {
        has_ports(number) || number == A::ICMP
    }
}

/// Offsets of fields from the start of an IPv4 header (RFC 791 §3.1).
pub mod ipv4_at {
    /// Length of header and payload, bytes.
    pub const TOTAL_LENGTH: usize = 2;
    /// Time to live, then protocol.
    pub const TTL: usize = 8;
    /// Header checksum.
    pub const CHECKSUM: usize = 10;
    /// Source address, then destination address.
    pub const SOURCE: usize = 12;
    /// Destination address.
    pub const DESTINATION: usize = 16;
}

/// Offsets of fields from the start of an IPv6 header (RFC 8200 §3).
pub mod ipv6_at {
    /// Payload length, next header, hop limit: one word.
    pub const LENGTH_WORD: usize = 4;
    /// Source address, then destination address.
    pub const SOURCE: usize = 8;
    /// Destination address.
    pub const DESTINATION: usize = 24;
}

/// The fields of an IP header that netd uses, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol number of the transport header, after all extension headers.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4's header checksum, a native word of the packet's bytes; zero for IPv6.
    pub checksum: u16,
    /// Which part of a larger datagram it is.
    pub part: Part,
    /// Where the transport header starts, from the start of the frame.
    pub transport_at: Offset,
}

/// Which part of a larger datagram a packet is (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole datagram.
    Whole,
    /// The first fragment, which holds the transport header; the datagram's identification.
    First(u32),
    /// A later fragment; the datagram's identification.
    Later(u32),
}

impl<A: Family> Ip<A> {
    /// Whether the packet is an ICMP error.
    #[inline(always)]
    pub fn is_icmp_error<B: PacketBytes + ?Sized>(&self, bytes: &B) -> bool {
        self.protocol == A::ICMP
            && self.part == Part::Whole
            && icmp::kind(bytes, self.transport_at).is_ok_and(|kind| A::message(kind) == Message::Error)
    }
}

/// A quick classification of a packet without options: all that a decision to drop it early depends on, except the
/// interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class<A> {
    /// Destination MAC address, see [`mac_words`].
    pub mac: [u32; 2],
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Destination port in the low half (a native word of the packet's bytes), protocol number above.
    pub port_and_protocol: u32,
}

impl<A> Class<A> {
    #[inline(always)]
    fn new(mac: [u8; 6], src: A, dst: A, dst_port: [u8; 2], protocol: u8) -> Self {
        let port_and_protocol = Self::service(Be16::from_wire(dst_port), protocol);
        Self { mac: mac_words(mac), src, dst, port_and_protocol }
    }

    /// Port and protocol in one word.
    #[inline(always)]
    pub const fn service(port: Be16, protocol: u8) -> u32 {
        port.word() as u32 | ((protocol as u32) << 16)
    }
}

/// How many bytes of the transport header are required: the length of TCP's fixed part, so that one check is enough for
/// all protocols.
const CLASSIFIED: usize = 20;

/// What differs between the families in reading a packet.
pub trait Family: Address {
    /// Its EtherType.
    const ETHERTYPE: Be16;
    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// ICMP type of an echo reply.
    const ECHO_REPLY: u8;
    /// Whether it is IPv6.
    const IS_V6: bool;
    /// Length of a header without options, bytes.
    const HEADER_LEN: usize;

    /// Reads the header that starts at `at`, with its extension headers.
    fn header<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Ip<Self>, Reason>;

    /// Reads the header of a frame as if it had no IPv6 extension headers; `None` for an IPv4 fragment.
    fn plain<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Ip<Self>>;

    /// Reads the destination address of a frame.
    fn destination<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Self>;

    /// Classifies a frame whose EtherType is of this family. `None` for options, extension headers, fragments, a TTL
    /// that runs out, a protocol without ports, and a frame that is too short for a TCP header.
    fn classify<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Class<Self>>;

    /// The kind of an ICMP message type.
    fn message(kind: u8) -> Message;

    /// Whether an interface with this MAC address may use it on its link without being assigned it.
    fn is_own_on_link(self, mac: [u8; 6]) -> bool;
}

impl Family for Ipv4 {
    const ETHERTYPE: Be16 = ETHERTYPE_IPV4;
    const ICMP: u8 = protocol::ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const IS_V6: bool = false;
    const HEADER_LEN: usize = IPV4_LEN;

    #[inline(always)]
    fn header<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Ip<Self>, Reason> {
        let header: [u8; 20] = bytes.read(bytes.place(at)).ok_or(Reason::Malformed)?;
        let [
            version_and_length,
            _,
            _,
            _,
            id0,
            id1,
            flags_and_offset,
            offset,
            ttl,
            protocol,
            check0,
            check1,
            addresses @ ..,
        ] = header;
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        let header_len = u32::from(version_and_length & 0x0f) * 4;
        if version_and_length >> 4 != 4 || header_len < 20 {
            return Err(Reason::Malformed);
        }
        let id = u32::from(u16::from_ne_bytes([id0, id1]));
        // The offset's bits, then more-fragments. Don't-fragment (0x40) and the reserved bit (0x80) are ignored.
        let part = if flags_and_offset & 0x1f != 0 || offset != 0 {
            Part::Later(id)
        } else if flags_and_offset & 0x20 != 0 {
            Part::First(id)
        } else {
            Part::Whole
        };
        Ok(Ip {
            src: Self::from_wire([s0, s1, s2, s3]),
            dst: Self::from_wire([d0, d1, d2, d3]),
            protocol,
            ttl,
            checksum: u16::from_ne_bytes([check0, check1]),
            part,
            transport_at: Offset::new(at.get() as u32 + header_len).ok_or(Reason::Malformed)?,
        })
    }

    #[inline(always)]
    fn plain<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Ip<Self>> {
        Self::header(bytes, IP_AT).ok().filter(|ip| ip.part == Part::Whole)
    }

    #[inline(always)]
    fn destination<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Self> {
        bytes.read(ETHERNET_LEN + ipv4_at::DESTINATION).map(Self::from_wire)
    }

    #[inline(always)]
    fn classify<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Class<Self>> {
        const PORTS_AT: usize = ETHERNET_LEN + 20;
        let _its_end: [u8; 1] = bytes.read(PORTS_AT + CLASSIFIED - 1)?;
        let mac = bytes.read(0)?;
        let [version_and_length] = bytes.read(ETHERNET_LEN)?;
        let flags_and_offset = bytes.read(ETHERNET_LEN + 6)?;
        let [ttl, number] = bytes.read(ETHERNET_LEN + ipv4_at::TTL)?;
        let src = Self::from_wire(bytes.read(ETHERNET_LEN + ipv4_at::SOURCE)?);
        let dst = Self::from_wire(bytes.read(ETHERNET_LEN + ipv4_at::DESTINATION)?);
        let port = bytes.read(PORTS_AT + 2)?;
        // More-fragments and the offset.
        let is_part = u16::from_ne_bytes(flags_and_offset) & u16::from_ne_bytes([0x3f, 0xff]) != 0;
        if version_and_length != 0x45 || is_part || ttl <= 1 || !protocol::has_ports(number) {
            return None;
        }
        Some(Class::new(mac, src, dst, port, number))
    }

    #[inline(always)]
    fn message(kind: u8) -> Message {
        icmp::message_v4(kind)
    }

    #[inline(always)]
    fn is_own_on_link(self, _mac: [u8; 6]) -> bool {
        false
    }
}

impl Family for Ipv6 {
    const ETHERTYPE: Be16 = ETHERTYPE_IPV6;
    const ICMP: u8 = protocol::ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const IS_V6: bool = true;
    const HEADER_LEN: usize = IPV6_LEN;

    #[inline(always)]
    fn header<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Ip<Self>, Reason> {
        let mut ip = fixed(bytes, at)?;
        let mut next_at = at.get() as u32 + IPV6_LEN as u32;
        let (mut fragment, mut id) = (fragment::NONE, 0);
        // No host sends more than six: RFC 8200 §4.1 defines seven kinds, and nothing can be read behind two of them.
        for _header in 0..6 {
            let fragmented = ip.protocol == extension::FRAGMENT;
            if !(fragmented || extension::is_skipped(ip.protocol)) || fragment & fragment::LATER != 0 {
                break;
            }
            let place = Offset::new(next_at).ok_or(Reason::Malformed)?;
            let [next, len, offset, flags, i0, i1, i2, i3] =
                bytes.read(bytes.place(place)).ok_or(Reason::Malformed)?;
            ip.protocol = next;
            // No branch for each kind, since the verifier would follow every combination.
            let only = |value: u32| if fragmented { value } else { 0 };
            next_at = place.get() as u32 + 8 + if fragmented { 0 } else { u32::from(len) * 8 };
            id |= only(u32::from_ne_bytes([i0, i1, i2, i3]));
            fragment |= only(u32::from(flags & 1) | u32::from(flags & 0xf8) | (u32::from(offset) << 8));
        }
        let word = bytes.opaque(u32::from(ip.protocol) | (next_at << 16));
        let (fragment, id) = (bytes.opaque(fragment), bytes.opaque(id));
        ip.protocol = word as u8;
        // If more extension headers follow, their number must not be used as a transport protocol.
        let is_extension = ip.protocol == extension::FRAGMENT || extension::is_skipped(ip.protocol);
        if is_extension && fragment & fragment::LATER == 0 {
            return Err(Reason::Malformed);
        }
        ip.part = if fragment & fragment::LATER != 0 {
            Part::Later(id)
        } else if fragment & fragment::MORE != 0 {
            Part::First(id)
        } else {
            // A fragment header without offset and more-fragments is an atomic fragment: a whole datagram (RFC 6946).
            Part::Whole
        };
        ip.transport_at = Offset::new(word >> 16).ok_or(Reason::Malformed)?;
        Ok(ip)
    }

    #[inline(always)]
    fn plain<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Ip<Self>> {
        fixed(bytes, IP_AT).ok()
    }

    #[inline(always)]
    fn destination<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Self> {
        bytes.read_words(ETHERNET_LEN + ipv6_at::DESTINATION).map(Self::from_words)
    }

    #[inline(always)]
    fn classify<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Class<Self>> {
        const PORTS_AT: usize = ETHERNET_LEN + IPV6_LEN;
        let _its_end: [u8; 1] = bytes.read(PORTS_AT + CLASSIFIED - 1)?;
        let mac = bytes.read(0)?;
        let [version, _, _, _, _, _, number, ttl] = bytes.read(ETHERNET_LEN)?;
        let src = Self::from_words(bytes.read_words(ETHERNET_LEN + ipv6_at::SOURCE)?);
        let dst = Self::from_words(bytes.read_words(ETHERNET_LEN + ipv6_at::DESTINATION)?);
        let port = bytes.read(PORTS_AT + 2)?;
        if version >> 4 != 6 || ttl <= 1 || !protocol::has_ports(number) {
            return None;
        }
        Some(Class::new(mac, src, dst, port, number))
    }

    #[inline(always)]
    fn message(kind: u8) -> Message {
        icmp::message_v6(kind)
    }

    /// Its link-local address, and the unspecified one for duplicate address detection (RFC 4862 §5.4).
    #[inline(always)]
    fn is_own_on_link(self, mac: [u8; 6]) -> bool {
        self == Self::link_local(mac) || self == Self::UNSPECIFIED
    }
}

/// Extension headers (RFC 8200 §4).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION: u8 = 60;

    /// Whether it is skipped: its length is in its second byte.
    #[inline(always)]
    pub(super) const fn is_skipped(number: u8) -> bool {
        matches!(number, HOP_BY_HOP | ROUTING | DESTINATION)
    }
}

/// Bits of a fragment header (RFC 8200 §4.5).
mod fragment {
    pub(super) const NONE: u32 = 0;
    /// More fragments follow.
    pub(super) const MORE: u32 = 1;
    /// Bits of the offset: a later fragment.
    pub(super) const LATER: u32 = 0xfff8;
}

/// Reads an IPv6 header without its extension headers.
#[inline(always)]
fn fixed<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Ip<Ipv6>, Reason> {
    let start = bytes.place(at);
    let [version, _, _, _, _, _, protocol, ttl] = bytes.read::<8>(start).ok_or(Reason::Malformed)?;
    if version >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let src = bytes.read_words(start + ipv6_at::SOURCE).ok_or(Reason::Malformed)?;
    let dst = bytes.read_words(start + ipv6_at::DESTINATION).ok_or(Reason::Malformed)?;
    Ok(Ip {
        src: Ipv6::from_words(src),
        dst: Ipv6::from_words(dst),
        protocol,
        ttl,
        checksum: 0,
        part: Part::Whole,
        transport_at: Offset::new(at.get() as u32 + IPV6_LEN as u32).ok_or(Reason::Malformed)?,
    })
}
