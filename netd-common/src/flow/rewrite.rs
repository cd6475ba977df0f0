//! Rewriting a packet by the row of its flow: addresses, ports, TTL and every checksum.
//!
//! TC, XDP, the fuzzers and the tests run this code. They write bytes and update checksums in different ways, which
//! [`PacketWrite`] hides.

#![expect(clippy::cast_possible_truncation, reason = "offsets are small")]

use bytemuck::Pod;

use crate::verdict::Reason;
use crate::wire::bytes::{Address as _, Be16, Ipv4, Ipv6};
use crate::wire::checksum::Delta;
use crate::wire::crc32c;
use crate::wire::ethernet::{ETHERNET_LEN, Offset, PacketBytes};
use crate::wire::ip::{Family, IPV6_LEN, Ip, Part, ipv4_at, ipv6_at};
use crate::wire::transport::{Layout, Transport};

use super::row::FlowRow;

/// A packet that can be changed in place.
pub trait PacketWrite: PacketBytes {
    /// Writes a value at an offset; [`Reason::Malformed`] if the packet is shorter.
    fn write<T: Pod>(&mut self, at: usize, value: T) -> Result<(), Reason>;

    /// Writes an IPv6 header from its payload length on.
    #[inline(always)]
    fn write_ipv6(&mut self, at: usize, words: [u32; 9]) -> Result<(), Reason> {
        self.write(at, words)
    }

    /// Updates the Internet checksum at an offset.
    #[inline(always)]
    fn update_checksum(&mut self, at: usize, update: ChecksumUpdate) -> Result<(), Reason> {
        let old = u16::from_ne_bytes(self.read(at).ok_or(Reason::Malformed)?);
        if update.zero_means_none && old == 0 {
            return Ok(());
        }
        let new = update.pseudo_header.unwrap_or(Delta::NONE).and(update.data).apply(old);
        // A sum of zero is sent as all ones, since zero means none (RFC 768).
        self.write(at, if update.zero_means_none && new == 0 { u16::MAX } else { new })
    }

    /// See [`crc32c::change`].
    #[inline(always)]
    fn crc32c_change(&self, first: u32, len: u32) -> u32 {
        crc32c::change(first, len)
    }
}

impl PacketWrite for [u8] {
    fn write<T: Pod>(&mut self, at: usize, value: T) -> Result<(), Reason> {
        let bytes = bytemuck::bytes_of(&value);
        let end = at.checked_add(bytes.len()).ok_or(Reason::Malformed)?;
        self.get_mut(at..end).ok_or(Reason::Malformed)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// How an Internet checksum changes.
///
/// The two parts are separate, because a checksum that the device completes (CHECKSUM_PARTIAL) holds only the sum of
/// the pseudo header: a change of the addresses must update it, a change of the data must not.
#[derive(Clone, Copy, Debug)]
pub struct ChecksumUpdate {
    /// The change of the pseudo header; `None` if the checksum does not cover one.
    pub pseudo_header: Option<Delta>,
    /// The change of the data.
    pub data: Delta,
    /// Whether a checksum of zero means that there is none (UDP, RFC 768).
    pub zero_means_none: bool,
}

/// What differs between the families in rewriting a header.
pub trait Rewrite: Family {
    /// Writes addresses into the header that starts at `at`, and no checksum.
    fn write_addresses<P: PacketWrite + ?Sized>(
        packet: &mut P,
        at: usize,
        src: Self,
        dst: Self,
    ) -> Result<(), Reason>;

    /// Writes the addresses of `row` and the decremented TTL into the header of `ip`, whose TTL is not zero.
    fn rewrite_header<P: PacketWrite + ?Sized>(
        packet: &mut P,
        ip: &Ip<Self>,
        row: &FlowRow<Self>,
    ) -> Result<(), Reason>;

    /// Sets the TTL to 1: the packet reaches who is on this link, and no router sends it any further (RFC 791 §3.2).
    fn confine<P: PacketWrite + ?Sized>(packet: &mut P, ip: &Ip<Self>) -> Result<(), Reason>;

    /// Where the datagram ends, from the start of the frame: a short frame has padding behind it.
    fn datagram_end<P: PacketBytes + ?Sized>(packet: &P) -> Result<u32, Reason>;
}

impl Rewrite for Ipv4 {
    #[inline(always)]
    fn write_addresses<P: PacketWrite + ?Sized>(
        packet: &mut P,
        at: usize,
        src: Self,
        dst: Self,
    ) -> Result<(), Reason> {
        packet.write(at + ipv4_at::SOURCE, src.word())?;
        packet.write(at + ipv4_at::DESTINATION, dst.word())
    }

    #[inline(always)]
    fn rewrite_header<P: PacketWrite + ?Sized>(
        packet: &mut P,
        ip: &Ip<Self>,
        row: &FlowRow<Self>,
    ) -> Result<(), Reason> {
        let change = row.addresses.and(Delta::TTL_DECREMENTED);
        packet.write(ETHERNET_LEN + ipv4_at::TTL, ip.ttl - 1)?;
        packet.write(ETHERNET_LEN + ipv4_at::CHECKSUM, change.apply(ip.checksum))?;
        Self::write_addresses(packet, ETHERNET_LEN, row.src, row.dst)
    }

    #[inline(always)]
    fn confine<P: PacketWrite + ?Sized>(packet: &mut P, ip: &Ip<Self>) -> Result<(), Reason> {
        let word = |ttl| u16::from_ne_bytes([ttl, ip.protocol]);
        let change = Delta::NONE.word(word(ip.ttl), word(CONFINED));
        packet.write(ETHERNET_LEN + ipv4_at::TTL, CONFINED)?;
        packet.write(ETHERNET_LEN + ipv4_at::CHECKSUM, change.apply(ip.checksum))
    }

    #[inline(always)]
    fn datagram_end<P: PacketBytes + ?Sized>(packet: &P) -> Result<u32, Reason> {
        let len = packet.read(ETHERNET_LEN + ipv4_at::TOTAL_LENGTH).ok_or(Reason::Malformed)?;
        Ok(ETHERNET_LEN as u32 + u32::from(Be16::from_wire(len).get()))
    }
}

impl Rewrite for Ipv6 {
    #[inline(always)]
    fn write_addresses<P: PacketWrite + ?Sized>(
        packet: &mut P,
        at: usize,
        src: Self,
        dst: Self,
    ) -> Result<(), Reason> {
        packet.write(at + ipv6_at::SOURCE, src.words())?;
        packet.write(at + ipv6_at::DESTINATION, dst.words())
    }

    #[inline(always)]
    fn rewrite_header<P: PacketWrite + ?Sized>(
        packet: &mut P,
        ip: &Ip<Self>,
        row: &FlowRow<Self>,
    ) -> Result<(), Reason> {
        write_ipv6(packet, ip.ttl - 1, row.src, row.dst)
    }

    #[inline(always)]
    fn confine<P: PacketWrite + ?Sized>(packet: &mut P, ip: &Ip<Self>) -> Result<(), Reason> {
        write_ipv6(packet, CONFINED, ip.src, ip.dst)
    }

    #[inline(always)]
    fn datagram_end<P: PacketBytes + ?Sized>(packet: &P) -> Result<u32, Reason> {
        let len = packet.read(ETHERNET_LEN + ipv6_at::LENGTH_WORD).ok_or(Reason::Malformed)?;
        Ok((ETHERNET_LEN + IPV6_LEN) as u32 + u32::from(Be16::from_wire(len).get()))
    }
}

/// The TTL of a packet that no router forwards.
const CONFINED: u8 = 1;

/// Writes hop limit and addresses of a frame's IPv6 header.
#[inline(always)]
fn write_ipv6<P: PacketWrite + ?Sized>(
    packet: &mut P,
    hop_limit: u8,
    src: Ipv6,
    dst: Ipv6,
) -> Result<(), Reason> {
    let at = ETHERNET_LEN + ipv6_at::LENGTH_WORD;
    let [len0, len1, next, _]: [u8; 4] = packet.read(at).ok_or(Reason::Malformed)?;
    let first = u32::from_ne_bytes([len0, len1, next, hop_limit]);
    let ([a, b, c, d], [e, f, g, h]) = (src.words(), dst.words());
    packet.write_ipv6(at, [first, a, b, c, d, e, f, g, h])
}

/// Rewrites addresses, ports, TTL and checksums by `row`. The TTL of `ip` is not zero.
#[inline(always)]
pub fn translate<A: Rewrite, P: PacketWrite + ?Sized>(
    packet: &mut P,
    ip: &Ip<A>,
    transport: &Transport,
    row: &FlowRow<A>,
) -> Result<(), Reason> {
    let at = packet.place(ip.transport_at);
    write_ports(packet, at, ip, transport, row)?;
    A::rewrite_header(packet, ip, row)?;
    update_checksum(packet, at, ip, transport, row)
}

/// Sends a UDP packet of no flow to another address, with the checksums.
#[inline(always)]
pub fn set_destination<P: PacketWrite + ?Sized>(
    packet: &mut P,
    ip: &Ip<Ipv4>,
    dst: Ipv4,
) -> Result<(), Reason> {
    let change = ip.dst.change(dst);
    packet.write(ETHERNET_LEN + ipv4_at::CHECKSUM, change.apply(ip.checksum))?;
    packet.write(ETHERNET_LEN + ipv4_at::DESTINATION, dst.word())?;
    let update = ChecksumUpdate { pseudo_header: Some(change), data: Delta::NONE, zero_means_none: true };
    packet.update_checksum(packet.place(ip.transport_at) + 6, update)
}

/// Rewrites the transport header only: the IP header will be replaced by one of the other family.
#[inline(always)]
pub fn translate_transport<A: Rewrite, P: PacketWrite + ?Sized>(
    packet: &mut P,
    ip: &Ip<A>,
    transport: &Transport,
    row: &FlowRow<A>,
) -> Result<(), Reason> {
    let at = packet.place(ip.transport_at);
    write_ports(packet, at, ip, transport, row)?;
    update_checksum(packet, at, ip, transport, row)
}

/// Rewrites the headers of an ICMP error; `quote` is the change of the packet that it quotes, see [`restore_quoted`].
#[inline(always)]
pub fn translate_error<A: Rewrite, P: PacketWrite + ?Sized>(
    packet: &mut P,
    ip: &Ip<A>,
    row: &FlowRow<A>,
    quote: Delta,
) -> Result<(), Reason> {
    A::rewrite_header(packet, ip, row)?;
    let pseudo_header = A::IS_V6.then_some(row.addresses);
    let update = ChecksumUpdate { pseudo_header, data: quote, zero_means_none: false };
    packet.update_checksum(ip.transport_at.get() + 2, update)
}

#[inline(always)]
fn write_ports<A: Rewrite, P: PacketWrite + ?Sized>(
    packet: &mut P,
    at: usize,
    ip: &Ip<A>,
    transport: &Transport,
    row: &FlowRow<A>,
) -> Result<(), Reason> {
    match transport.layout {
        Layout::Tcp | Layout::Udp => packet.write(at, row.port_words()),
        Layout::Sctp => {
            // The first fragment holds the checksum of the whole datagram, and the other fragments the rest of its
            // data.
            if ip.part != Part::Whole && row.ports != Delta::NONE {
                return Err(Reason::RewriteFailed);
            }
            let end = A::datagram_end(packet)?;
            write_sctp_ports(packet, at, row.port_words(), end.wrapping_sub(ip.transport_at.get() as u32))
        }
        Layout::EchoRequest => packet.write(at + 4, row.src_port.word()),
        Layout::EchoReply => packet.write(at + 4, row.dst_port.word()),
        Layout::Bare => Ok(()),
    }
}

/// Writes ports into an SCTP header and updates its checksum; `len` is the packet's length from there on. A checksum of
/// zero is not changed, since the device will compute it.
#[inline(always)]
fn write_sctp_ports<P: PacketWrite + ?Sized>(
    packet: &mut P,
    at: usize,
    ports: u32,
    len: u32,
) -> Result<(), Reason> {
    let old = u32::from_ne_bytes(packet.read(at).ok_or(Reason::Malformed)?);
    let checksum = u32::from_ne_bytes(packet.read(at + 8).ok_or(Reason::Malformed)?);
    if old == ports {
        return Ok(());
    }
    packet.write(at, ports)?;
    if checksum == 0 {
        return Ok(());
    }
    packet.write(at + 8, checksum ^ packet.crc32c_change(old ^ ports, len))
}

#[inline(always)]
fn update_checksum<A: Rewrite, P: PacketWrite + ?Sized>(
    packet: &mut P,
    at: usize,
    ip: &Ip<A>,
    transport: &Transport,
    row: &FlowRow<A>,
) -> Result<(), Reason> {
    let (checksum_at, zero_means_none) = match transport.layout {
        Layout::Tcp => (at + 16, false),
        Layout::Udp => (at + 6, true),
        Layout::EchoRequest | Layout::EchoReply => (at + 2, false),
        // SCTP's checksum does not cover the addresses, and is updated with the ports.
        Layout::Sctp | Layout::Bare => return Ok(()),
    };
    // Only the checksum of ICMP over IPv4 does not cover the addresses (RFC 792; RFC 4443 §2.3).
    let covers_addresses = A::IS_V6 || ip.protocol != A::ICMP;
    let pseudo_header = covers_addresses.then_some(row.addresses);
    packet.update_checksum(checksum_at, ChecksumUpdate { pseudo_header, data: row.ports, zero_means_none })
}

/// Restores a packet that an ICMP error quotes to what it was before `row`'s connection translated it: a packet that
/// was sent to the replier came from the originator. Returns how the quote's sum has changed.
#[inline(always)]
pub fn restore_quoted<A: Rewrite, P: PacketWrite + ?Sized>(
    packet: &mut P,
    at: Offset,
    ip: &Ip<A>,
    transport: &Transport,
    row: &FlowRow<A>,
) -> Result<Delta, Reason> {
    let mut quote = Quote { packet, change: Delta::NONE };
    quote.restore(at, ip, transport, row)?;
    Ok(quote.change)
}

/// A quoted packet, and how its sum has changed.
struct Quote<'a, P: ?Sized> {
    packet: &'a mut P,
    change: Delta,
}

impl<P: PacketWrite + ?Sized> Quote<'_, P> {
    #[inline(always)]
    fn replace(&mut self, at: usize, old: u16, new: u16) -> Result<(), Reason> {
        self.change = self.change.word(old, new);
        self.packet.write(at, new)
    }

    #[inline(always)]
    fn restore<A: Rewrite>(
        &mut self,
        at: Offset,
        ip: &Ip<A>,
        transport: &Transport,
        row: &FlowRow<A>,
    ) -> Result<(), Reason> {
        let addresses = ip.src.change(row.dst).and(ip.dst.change(row.src));
        let start = self.packet.place(at);
        A::write_addresses(self.packet, start, row.dst, row.src)?;
        self.change = self.change.and(addresses);
        if !A::IS_V6 {
            let start = self.packet.place(at);
            self.replace(start + ipv4_at::CHECKSUM, ip.checksum, addresses.apply(ip.checksum))?;
        }
        let start = self.packet.place(ip.transport_at);
        let (src_port, dst_port) = (transport.src_port.word(), transport.dst_port.word());
        let ports = match transport.layout {
            Layout::Tcp | Layout::Udp | Layout::Sctp => {
                self.replace(start, src_port, row.dst_port.word())?;
                self.replace(start + 2, dst_port, row.src_port.word())?;
                Delta::NONE.word(src_port, row.dst_port.word()).word(dst_port, row.src_port.word())
            }
            Layout::EchoRequest => {
                self.replace(start + 4, src_port, row.dst_port.word())?;
                Delta::NONE.word(src_port, row.dst_port.word())
            }
            Layout::EchoReply => {
                self.replace(start + 4, dst_port, row.src_port.word())?;
                Delta::NONE.word(dst_port, row.src_port.word())
            }
            Layout::Bare => return Ok(()),
        };
        let (checksum_at, change) = match transport.layout {
            Layout::Tcp => (start + 16, addresses.and(ports)),
            // SCTP's checksum covers the whole packet, but only a part is quoted, so it cannot be checked.
            Layout::Sctp => return Ok(()),
            Layout::Udp => (start + 6, addresses.and(ports)),
            _ if A::IS_V6 => (start + 2, addresses.and(ports)),
            _ => (start + 2, ports),
        };
        // A quote may end before the checksum, and a UDP packet may have none.
        let Some(old) = self.packet.read::<2>(checksum_at).map(u16::from_ne_bytes) else { return Ok(()) };
        let is_udp = transport.layout == Layout::Udp;
        if is_udp && old == 0 {
            return Ok(());
        }
        let new = match change.apply(old) {
            0 if is_udp => u16::MAX,
            new => new,
        };
        self.replace(checksum_at, old, new)
    }
}
