//! Bytes → headers. Judges only what must be right for the fields to mean anything.
//!
//! Where the bytes come from is [`PacketBytes`]' business: a slice in tests and fuzzing, the packet itself in the kernel.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use crate::bytes::{Be16, Ipv4};
use crate::flow::{FlowKey, Zone, protocol};
use crate::verdict::Reason;

/// Length of an Ethernet header without VLAN tag (IEEE 802.3); the kernel strips a tag before TC sees the packet.
pub const ETHERNET_LEN: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: Be16 = Be16::new(0x0800);

/// Offsets of IPv4 fields from the start of the Ethernet frame (RFC 791 §3.1).
pub mod ipv4_at {
    use super::ETHERNET_LEN;
    /// Time to live, then protocol.
    pub const TTL: usize = ETHERNET_LEN + 8;
    /// Header checksum.
    pub const CHECKSUM: usize = ETHERNET_LEN + 10;
    /// Source address, then destination address.
    pub const SOURCE: usize = ETHERNET_LEN + 12;
    /// Destination address.
    pub const DESTINATION: usize = ETHERNET_LEN + 16;
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
}

impl PacketBytes for [u8] {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}

/// An IPv4 header's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Source address.
    pub src: Ipv4,
    /// Destination address.
    pub dst: Ipv4,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live, hops.
    pub ttl: u8,
    /// Header checksum, a native word of wire bytes.
    pub checksum: u16,
    /// Whether it is a part of a larger datagram, the first one included (RFC 791 §3.2).
    pub fragment: bool,
    /// Where the transport header starts, from the start of the frame; options are behind us.
    pub transport_at: TransportAt,
}

/// Offset of the transport header from the start of the frame: 34 to 74.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportAt(u32);

impl TransportAt {
    /// The offset in bytes.
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// What TCP and UDP have in common, and TCP's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// Offset of the checksum field from the start of the frame.
    pub checksum_at: usize,
    /// TCP's flags; zero for UDP.
    pub tcp_flags: u8,
}

/// Reads the Ethernet header's EtherType; `None` for a frame too short to have one.
#[inline(always)]
pub fn ethertype<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Be16> {
    bytes.read::<2>(12).map(Be16::from_wire)
}

/// Reads an IPv4 header at the start of the Ethernet payload.
#[inline(always)]
pub fn ipv4<B: PacketBytes + ?Sized>(bytes: &B) -> Result<Ipv4Header, Reason> {
    let header: [u8; 20] = bytes.read(ETHERNET_LEN).ok_or(Reason::Malformed)?;
    let [
        version_and_length,
        _,
        _,
        _,
        _,
        _,
        fragment_high,
        fragment_low,
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
    Ok(Ipv4Header {
        src: Ipv4::from_wire([s0, s1, s2, s3]),
        dst: Ipv4::from_wire([d0, d1, d2, d3]),
        protocol,
        ttl,
        checksum: u16::from_ne_bytes([check0, check1]),
        // More-fragments flag or an offset; don't-fragment (0x40) and the reserved bit (0x80) do not count.
        fragment: fragment_high & 0x3f != 0 || fragment_low != 0,
        transport_at: TransportAt(ETHERNET_LEN as u32 + header_len),
    })
}

/// Reads the ports of an unfragmented TCP or UDP packet; `Ok(None)` for another protocol.
#[inline(always)]
pub fn transport<B: PacketBytes + ?Sized>(bytes: &B, ip: &Ipv4Header) -> Result<Option<Transport>, Reason> {
    let at = ip.transport_at.get();
    match ip.protocol {
        protocol::TCP => {
            let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, _, tcp_flags, _, _, _, _, _, _] =
                bytes.read::<20>(at).ok_or(Reason::Malformed)?;
            Ok(Some(Transport {
                src_port: Be16::from_wire([s0, s1]),
                dst_port: Be16::from_wire([d0, d1]),
                checksum_at: at + 16,
                tcp_flags,
            }))
        }
        protocol::UDP => {
            let [s0, s1, d0, d1, ..] = bytes.read::<8>(at).ok_or(Reason::Malformed)?;
            Ok(Some(Transport {
                src_port: Be16::from_wire([s0, s1]),
                dst_port: Be16::from_wire([d0, d1]),
                checksum_at: at + 6,
                tcp_flags: 0,
            }))
        }
        _ => Ok(None),
    }
}

/// The key of the flow that a packet belongs to.
#[inline(always)]
pub fn flow_key(ip: &Ipv4Header, transport: &Transport, zone: Zone) -> FlowKey {
    FlowKey::new(ip.src, ip.dst, transport.src_port, transport.dst_port, ip.protocol, zone)
}
