//! Bytes → headers. Judges only what must be right for the fields to mean anything.
//!
//! Where the bytes come from is [`PacketBytes`]' business: a slice in tests and fuzzing, the packet itself in the kernel.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use crate::abi::{EndpointRow, Subnet, UplinkRow};
use crate::bytes::{Address, Be16, Ipv4, Ipv6, number};
use crate::flow::{FlowKey, Tuple, Zone, protocol};
use crate::verdict::Reason;

/// Length of an Ethernet header without VLAN tag (IEEE 802.3); the kernel strips a tag before TC sees the packet.
pub const ETHERNET_LEN: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: Be16 = Be16::new(0x0800);
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: Be16 = Be16::new(0x86dd);
/// EtherType of a VLAN's tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: Be16 = Be16::new(0x8100);
/// EtherType of an outer tag of two (IEEE 802.1ad).
pub const ETHERTYPE_QINQ: Be16 = Be16::new(0x88a8);
/// EtherType of ARP.
pub const ETHERTYPE_ARP: Be16 = Be16::new(0x0806);
/// Length of an IPv6 header without extensions (RFC 8200 §3).
pub const IPV6_LEN: usize = 40;

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

/// TCP flags (RFC 9293 §3.1), as they stand in byte 13 of the header.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number means something.
    pub const ACK: u8 = 0x10;
}

/// Where a packet's bytes come from.
pub trait PacketBytes {
    /// The `N` bytes at `at`, or `None` if the packet is shorter.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The four words at `at`, or `None` if the packet is shorter.
    fn read_words(&self, at: usize) -> Option<[u32; 4]>;

    /// Where an offset is. The kernel's verifier wants to see its bound where it is used.
    #[inline(always)]
    fn place(&self, at: Offset) -> usize {
        at.get()
    }

    /// The same number, with nothing known of where it came from: the kernel's verifier follows each way to a place
    /// separately, unless they look alike there.
    #[inline(always)]
    fn opaque(&self, number: u32) -> u32 {
        number
    }
}

impl PacketBytes for [u8] {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn read_words(&self, at: usize) -> Option<[u32; 4]> {
        self.read::<16>(at).map(bytemuck::cast)
    }
}

/// An IP header's meaning, whichever family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol number of what follows, extension headers passed over.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4's header checksum, a native word of wire bytes; zero for IPv6.
    pub checksum: u16,
    /// Which part of a larger datagram it is.
    pub part: Part,
    /// Where the transport header starts, from the start of the frame.
    pub transport_at: Offset,
}

/// Which part of a larger datagram a packet is (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment, which holds the transport header; the datagram's number.
    First(u32),
    /// A later fragment; the datagram's number.
    Later(u32),
}

/// An offset from the start of the frame that is proved to be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(u32);

impl Offset {
    /// Beyond this nothing is read: room for the longest IPv4 header quoted behind another, or 128 bytes of IPv6
    /// extension headers.
    pub const MAX: u32 = 191;

    /// An offset, if it is small enough.
    #[inline(always)]
    pub const fn new(at: u32) -> Option<Self> {
        if at <= Self::MAX { Some(Self(at)) } else { None }
    }

    /// The offset in bytes.
    #[inline(always)]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// What a transport header says of its place in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Source port, see [`FlowKey`].
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// Where ports and checksum are.
    pub layout: Layout,
    /// TCP's flags; for SCTP those that say the same as its first chunk, see [`sctp`]; zero for others.
    pub tcp_flags: u8,
    /// Length of a TCP header with its options, bytes; zero for others.
    pub tcp_len: u8,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's acknowledgement number; SCTP's verification tag.
    pub acknowledgement: u32,
}

/// Where ports and checksum are in a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Layout {
    /// TCP: both ports in front, the checksum at 16.
    Tcp,
    /// UDP: both ports in front, the checksum at 6, where zero is none.
    Udp,
    /// SCTP: both ports in front, the checksum at 8, see [`crate::crc32c`].
    Sctp,
    /// An ICMP echo request: the identifier at 4 is the source port, the checksum at 2.
    EchoRequest,
    /// An ICMP echo reply: the identifier at 4 is the destination port, the checksum at 2.
    EchoReply,
    /// Nothing to be changed: a later fragment, or a protocol whose ports netd does not know.
    Bare,
}

impl Layout {
    /// The layout of a number, as `as u32` gives it; bare for a number of none.
    #[inline(always)]
    pub const fn of(number: u32) -> Self {
        const TCP: u32 = Layout::Tcp as u32;
        const UDP: u32 = Layout::Udp as u32;
        const SCTP: u32 = Layout::Sctp as u32;
        const ECHO_REQUEST: u32 = Layout::EchoRequest as u32;
        const ECHO_REPLY: u32 = Layout::EchoReply as u32;
        match number {
            TCP => Self::Tcp,
            UDP => Self::Udp,
            SCTP => Self::Sctp,
            ECHO_REQUEST => Self::EchoRequest,
            ECHO_REPLY => Self::EchoReply,
            _ => Self::Bare,
        }
    }
}

impl Transport {
    /// Of a packet that has no transport header to be changed.
    #[inline(always)]
    pub const fn bare(src_port: Be16, dst_port: Be16) -> Self {
        Self {
            src_port,
            dst_port,
            layout: Layout::Bare,
            tcp_flags: 0,
            tcp_len: 0,
            sequence: 0,
            acknowledgement: 0,
        }
    }

    /// Whether it asks for a connection: TCP's SYN without an acknowledgement, or what says the same in SCTP.
    #[inline(always)]
    pub const fn asks(&self) -> bool {
        self.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
    }
}

/// What an ICMP message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A question or an answer of a ping, or another exchange.
    Query,
    /// It tells of a packet's fate and quotes it from its ninth byte on.
    Error,
    /// Neighbours finding each other, and groups (IPv6).
    Link,
}

/// What one look at a frame's front says of a packet without options: all that a refusal depends on, in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<A> {
    /// The MAC address that the frame is for, see [`mac_words`](crate::abi::mac_words).
    pub mac: [u32; 2],
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Destination port in the low half (a native word of wire bytes), protocol number above.
    pub port_and_protocol: u32,
}

impl<A> Glance<A> {
    #[inline(always)]
    fn new(mac: [u8; 6], src: A, dst: A, dst_port: [u8; 2], protocol: u8) -> Self {
        let port_and_protocol = Self::service(Be16::from_wire(dst_port), protocol);
        Self { mac: crate::abi::mac_words(mac), src, dst, port_and_protocol }
    }

    /// Port and protocol in one word.
    #[inline(always)]
    pub const fn service(port: Be16, protocol: u8) -> u32 {
        port.word() as u32 | ((protocol as u32) << 16)
    }
}

/// The shortest transport header that is not read twice: TCP's.
const GLANCED: usize = 20;

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

    /// Reads the header that starts at `at`, with whatever comes before the transport header.
    fn header<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Ip<Self>, Reason>;

    /// Reads the header of a frame that is neither a fragment nor has IPv6 extension headers; `None` for another one.
    fn plain<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Ip<Self>>;

    /// Looks at a frame of the family, by its EtherType. `None` for whatever takes another look: options, extension headers,
    /// fragments, what is too old to be sent on, a protocol without ports, and a frame that TCP's header would not fit.
    fn glance<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Glance<Self>>;

    /// What an ICMP message of this type is for.
    fn message(kind: u8) -> Message;

    /// Whether it is an address that an interface with this MAC address has on its link without being given it.
    fn is_own_on_link(self, mac: [u8; 6]) -> bool;

    /// A container's place in this family.
    fn subnet(endpoint: &EndpointRow) -> Subnet<Self>;

    /// In whose name connections leave by an uplink.
    fn masquerade(uplink: &UplinkRow) -> Self;

    /// This family's bit of a pair of [`network_flag`](crate::abi::network_flag)s, of which `flag` is IPv4's.
    #[inline(always)]
    fn flag(flag: u32) -> u32 {
        if Self::IS_V6 { flag << 1 } else { flag }
    }
}

impl Family for Ipv4 {
    const ETHERTYPE: Be16 = ETHERTYPE_IPV4;
    const ICMP: u8 = protocol::ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const IS_V6: bool = false;
    const HEADER_LEN: usize = 20;

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
        // Bits of the offset; then more-fragments. Don't-fragment (0x40) and the reserved bit (0x80) do not count.
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
            transport_at: Offset::new(at.0 + header_len).ok_or(Reason::Malformed)?,
        })
    }

    #[inline(always)]
    fn plain<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Ip<Self>> {
        Self::header(bytes, IP_AT).ok().filter(|ip| ip.part == Part::Whole)
    }

    #[inline(always)]
    fn glance<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Glance<Self>> {
        const PORTS_AT: usize = ETHERNET_LEN + 20;
        let _its_end: [u8; 1] = bytes.read(PORTS_AT + GLANCED - 1)?;
        let mac = bytes.read(0)?;
        let [version_and_length] = bytes.read(ETHERNET_LEN)?;
        let flags_and_offset = bytes.read(ETHERNET_LEN + 6)?;
        let [ttl, number] = bytes.read(ETHERNET_LEN + ipv4_at::TTL)?;
        let src = Self::from_wire(bytes.read(ETHERNET_LEN + ipv4_at::SOURCE)?);
        let dst = Self::from_wire(bytes.read(ETHERNET_LEN + ipv4_at::DESTINATION)?);
        let port = bytes.read(PORTS_AT + 2)?;
        // More fragments, and the offset, of which there is none.
        let is_part = u16::from_ne_bytes(flags_and_offset) & u16::from_ne_bytes([0x3f, 0xff]) != 0;
        if version_and_length != 0x45 || is_part || ttl <= 1 || !has_ports(number) {
            return None;
        }
        Some(Glance::new(mac, src, dst, port, number))
    }

    /// RFC 792.
    #[inline(always)]
    fn message(kind: u8) -> Message {
        match kind {
            3 | 4 | 5 | 11 | 12 => Message::Error,
            _ => Message::Query,
        }
    }

    #[inline(always)]
    fn is_own_on_link(self, _mac: [u8; 6]) -> bool {
        false
    }

    #[inline(always)]
    fn subnet(endpoint: &EndpointRow) -> Subnet<Self> {
        endpoint.subnet4
    }

    #[inline(always)]
    fn masquerade(uplink: &UplinkRow) -> Self {
        uplink.address4
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
        let mut next_at = at.0 + IPV6_LEN as u32;
        let (mut fragment, mut id) = (fragment::NONE, 0);
        // Six are more than any host sends (RFC 8200 §4.1 knows of seven kinds, two of which hide the rest).
        for _header in 0..6 {
            let fragmented = ip.protocol == extension::FRAGMENT;
            if !(fragmented || extension::is_skipped(ip.protocol)) || fragment & fragment::LATER != 0 {
                break;
            }
            let place = Offset::new(next_at).ok_or(Reason::Malformed)?;
            let [next, len, offset, flags, i0, i1, i2, i3] =
                bytes.read(bytes.place(place)).ok_or(Reason::Malformed)?;
            ip.protocol = next;
            // Without a branch for each kind, so that what has to be proved of the loop stays small.
            let only = |value: u32| if fragmented { value } else { 0 };
            next_at = place.0 + 8 + if fragmented { 0 } else { u32::from(len) * 8 };
            id |= only(u32::from_ne_bytes([i0, i1, i2, i3]));
            fragment |= only(u32::from(flags & 1) | u32::from(flags & 0xf8) | (u32::from(offset) << 8));
        }
        let word = bytes.opaque(u32::from(ip.protocol) | (next_at << 16));
        let (fragment, id) = (bytes.opaque(fragment), bytes.opaque(id));
        ip.protocol = word as u8;
        // What is behind more headers than are followed is not to be taken for a protocol of their number.
        let is_extension = ip.protocol == extension::FRAGMENT || extension::is_skipped(ip.protocol);
        if is_extension && fragment & fragment::LATER == 0 {
            return Err(Reason::Malformed);
        }
        ip.part = if fragment & fragment::LATER != 0 {
            Part::Later(id)
        } else if fragment & fragment::MORE != 0 {
            Part::First(id)
        } else {
            // Without more to come it is an atomic fragment, which is whole (RFC 6946).
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
    fn glance<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Glance<Self>> {
        const PORTS_AT: usize = ETHERNET_LEN + IPV6_LEN;
        let _its_end: [u8; 1] = bytes.read(PORTS_AT + GLANCED - 1)?;
        let mac = bytes.read(0)?;
        let [version, _, _, _, _, _, number, ttl] = bytes.read(ETHERNET_LEN)?;
        let src = Self::from_words(bytes.read_words(ETHERNET_LEN + ipv6_at::SOURCE)?);
        let dst = Self::from_words(bytes.read_words(ETHERNET_LEN + ipv6_at::DESTINATION)?);
        let port = bytes.read(PORTS_AT + 2)?;
        if version >> 4 != 6 || ttl <= 1 || !has_ports(number) {
            return None;
        }
        Some(Glance::new(mac, src, dst, port, number))
    }

    /// RFC 4443 §2.1, RFC 4861 §4, RFC 2710, RFC 3810.
    #[inline(always)]
    fn message(kind: u8) -> Message {
        match kind {
            0..128 => Message::Error,
            130..=137 | 143 => Message::Link,
            _ => Message::Query,
        }
    }

    /// The link-local address, and none: for finding out whether an address is free (RFC 4862 §5.4).
    #[inline(always)]
    fn is_own_on_link(self, mac: [u8; 6]) -> bool {
        self == Self::link_local(mac) || self == Self::UNSPECIFIED
    }

    #[inline(always)]
    fn subnet(endpoint: &EndpointRow) -> Subnet<Self> {
        endpoint.subnet6
    }

    #[inline(always)]
    fn masquerade(uplink: &UplinkRow) -> Self {
        uplink.address6
    }
}

/// Extension headers (RFC 8200 §4).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION: u8 = 60;

    /// Whether it has its length in its second byte and is of no interest here.
    #[inline(always)]
    pub(super) const fn is_skipped(number: u8) -> bool {
        matches!(number, HOP_BY_HOP | ROUTING | DESTINATION)
    }
}

/// What fragment headers say (RFC 8200 §4.5).
mod fragment {
    pub(super) const NONE: u32 = 0;
    /// More fragments follow.
    pub(super) const MORE: u32 = 1;
    /// Bits of the offset: what follows is the middle of something.
    pub(super) const LATER: u32 = 0xfff8;
}

/// Where a frame's IP header starts.
pub const IP_AT: Offset = Offset(ETHERNET_LEN as u32);

/// Reads an IPv6 header as if no extension followed.
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
        transport_at: Offset::new(at.0 + IPV6_LEN as u32).ok_or(Reason::Malformed)?,
    })
}

/// Reads the Ethernet header's EtherType; `None` for a frame too short to have one.
#[inline(always)]
pub fn ethertype<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Be16> {
    bytes.read::<2>(12).map(Be16::from_wire)
}

/// Whether a frame has a VLAN tag in front that names no VLAN but a priority, beside the one that the kernel takes off.
#[inline(always)]
pub fn has_priority_tag<B: PacketBytes + ?Sized>(bytes: &B) -> bool {
    let tagged = matches!(ethertype(bytes), Some(ETHERTYPE_VLAN | ETHERTYPE_QINQ));
    // Its upper four bits are the priority.
    tagged && bytes.read::<2>(ETHERNET_LEN).is_some_and(|[high, low]| high << 4 == 0 && low == 0)
}

/// Reads TCP's header.
#[inline(always)]
pub fn tcp<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Transport, Reason> {
    let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, tcp_flags, _, _, _, _, _, _] =
        bytes.read::<20>(bytes.place(at)).ok_or(Reason::Malformed)?;
    Ok(Transport {
        src_port: Be16::from_wire([s0, s1]),
        dst_port: Be16::from_wire([d0, d1]),
        layout: Layout::Tcp,
        tcp_flags,
        tcp_len: (offset >> 4) * 4,
        sequence: number([q0, q1, q2, q3]),
        acknowledgement: number([a0, a1, a2, a3]),
    })
}

/// Reads UDP's header.
#[inline(always)]
pub fn udp<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Transport, Reason> {
    let [s0, s1, d0, d1, ..] = bytes.read::<8>(bytes.place(at)).ok_or(Reason::Malformed)?;
    let ports = Transport::bare(Be16::from_wire([s0, s1]), Be16::from_wire([d0, d1]));
    Ok(Transport { layout: Layout::Udp, ..ports })
}

/// Types of SCTP chunks (RFC 9260 §3.2).
mod chunk {
    pub(super) const INIT: u8 = 1;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Reads SCTP's header and the type of its first chunk, which says where in an association the packet stands: no packet
/// bundles anything before a chunk that begins or ends one (RFC 9260 §3.1, §6.10).
#[inline(always)]
pub fn sctp<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Transport, Reason> {
    use tcp_flag::{ACK, FIN, RST, SYN};
    let [s0, s1, d0, d1, t0, t1, t2, t3, _, _, _, _, kind, ..] =
        bytes.read::<16>(bytes.place(at)).ok_or(Reason::Malformed)?;
    let tcp_flags = match kind {
        chunk::INIT => SYN,
        chunk::INIT_ACK => SYN | ACK,
        chunk::ABORT => RST,
        chunk::SHUTDOWN_ACK | chunk::SHUTDOWN_COMPLETE => FIN | ACK,
        _ => ACK,
    };
    Ok(Transport {
        layout: Layout::Sctp,
        tcp_flags,
        acknowledgement: number([t0, t1, t2, t3]),
        ..Transport::bare(Be16::from_wire([s0, s1]), Be16::from_wire([d0, d1]))
    })
}

/// Reads the first 8 bytes of a transport header: all that an ICMP error must quote (RFC 792), and enough for the tuple.
/// Fails for an ICMP message that is part of no exchange.
#[inline(always)]
pub fn quoted<A: Family, B: PacketBytes + ?Sized>(bytes: &B, ip: &Ip<A>) -> Result<Transport, Reason> {
    let at = bytes.place(ip.transport_at);
    let layout = match ip.protocol {
        protocol::TCP => Layout::Tcp,
        protocol::UDP => Layout::Udp,
        protocol::SCTP => Layout::Sctp,
        _ => Layout::Bare,
    };
    if layout != Layout::Bare {
        let [s0, s1, d0, d1, q0, q1, q2, q3] = bytes.read::<8>(at).ok_or(Reason::Malformed)?;
        let ports = Transport::bare(Be16::from_wire([s0, s1]), Be16::from_wire([d0, d1]));
        let word = number([q0, q1, q2, q3]);
        return Ok(match layout {
            Layout::Tcp => Transport { layout, sequence: word, ..ports },
            Layout::Sctp => Transport { layout, acknowledgement: word, ..ports },
            _ => Transport { layout, ..ports },
        });
    }
    if ip.protocol == A::ICMP {
        return echo::<A, B>(bytes, ip.transport_at);
    }
    Ok(Transport::bare(Be16::default(), Be16::default()))
}

/// Reads an ICMP echo's header; fails for another message.
#[inline(always)]
pub fn echo<A: Family, B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Transport, Reason> {
    let [kind, _, _, _, i0, i1, _, _] = bytes.read::<8>(bytes.place(at)).ok_or(Reason::Malformed)?;
    let id = Be16::from_wire([i0, i1]);
    let none = Be16::default();
    if kind == A::ECHO_REQUEST {
        Ok(Transport { layout: Layout::EchoRequest, ..Transport::bare(id, none) })
    } else if kind == A::ECHO_REPLY {
        Ok(Transport { layout: Layout::EchoReply, ..Transport::bare(none, id) })
    } else {
        Err(Reason::NotRelated)
    }
}

/// The type of an ICMP message.
#[inline(always)]
pub fn icmp_type<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<u8, Reason> {
    // The verifier takes no comparison for a single byte as proof that it is there.
    bytes.read::<2>(bytes.place(at)).map(|[kind, _code]| kind).ok_or(Reason::Malformed)
}

/// Reads the transport header of a packet that has one.
#[inline(always)]
pub fn transport<A: Family, B: PacketBytes + ?Sized>(bytes: &B, ip: &Ip<A>) -> Result<Transport, Reason> {
    match ip.protocol {
        protocol::TCP => tcp(bytes, ip.transport_at),
        protocol::UDP => udp(bytes, ip.transport_at),
        protocol::SCTP => sctp(bytes, ip.transport_at),
        icmp if icmp == A::ICMP => echo::<A, B>(bytes, ip.transport_at),
        _ => Ok(Transport::bare(Be16::default(), Be16::default())),
    }
}

/// Whether packets of a protocol have a source port, or what stands for it, that netd can change.
#[inline(always)]
pub const fn has_port<A: Family>(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | protocol::SCTP) || number == A::ICMP
}

/// Whether a protocol's header begins with both ports.
#[inline(always)]
pub const fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | protocol::SCTP)
}

/// The key of the flow that a packet belongs to.
#[inline(always)]
pub fn flow_key<A: Family>(ip: &Ip<A>, transport: &Transport, zone: Zone) -> FlowKey<A> {
    let tuple =
        Tuple { src: ip.src, dst: ip.dst, src_port: transport.src_port, dst_port: transport.dst_port };
    FlowKey::new(tuple, ip.protocol, zone)
}
