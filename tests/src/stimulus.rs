//! Packets that may be malformed, for both families, built byte by byte; and a decoder that is independent of the code
//! under test.

use std::fmt::Write as _;
use std::net::IpAddr;

/// The tuple of a packet. An echo's identifier is the requester's port; the other port is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

impl Tuple {
    /// The tuple of the reply.
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport }
    }
}

/// The kind of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// TCP.
    Tcp {
        /// The flags' byte.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
    },
    /// UDP.
    Udp,
    /// An ICMP echo; the identifier is the tuple's.
    Echo {
        /// Whether it is a request.
        request: bool,
        /// Sequence number.
        seq: u16,
    },
    /// Another ICMP message.
    Message {
        /// Type and code.
        kind: [u8; 2],
        /// The header's second word.
        rest: u32,
    },
    /// Another protocol, by number.
    Other(u8),
}

/// The defect of a packet. Everything else, including the checksums, is correct for the packet without the defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// The transport checksum is wrong by this number.
    Checksum(u16),
    /// UDP over IPv4 without a checksum, which is allowed.
    NoChecksum,
    /// IPv4's header checksum is wrong by this number.
    HeaderChecksum(u16),
    /// The total length in the IP header is wrong by this number.
    Length(i16),
    /// The packet ends this many bytes after the IP header, and its length is correct.
    Cut(usize),
    /// This many bytes follow the packet, like Ethernet padding.
    Padding(usize),
    /// IPv4's header length, in words.
    HeaderLength(u8),
    /// IP's version.
    Version(u8),
    /// UDP's length.
    UdpLength(u16),
    /// TCP's header length, in words.
    TcpLength(u8),
}

/// A packet without its tuple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stimulus {
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// IPv4's identification, IPv6's flow label; also the number of a fragmented datagram.
    pub id: u16,
    /// IPv4's don't-fragment bit.
    pub whole: bool,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: the number of each, and its bytes from the third on.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Its kind.
    pub body: Body,
    /// The payload after the transport header.
    pub payload: Vec<u8>,
    /// Its defect.
    pub lie: Lie,
    /// Where it is fragmented: offsets after the IP header, multiples of eight.
    pub cuts: Vec<usize>,
}

/// Protocol numbers.
pub mod number {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6's fragment header.
    pub const FRAGMENT: u8 = 44;
}

impl Stimulus {
    /// A correct packet.
    pub fn new(body: Body) -> Self {
        Self {
            ttl: 64,
            tos: 0,
            id: 1,
            whole: false,
            options: Vec::new(),
            extensions: Vec::new(),
            body,
            payload: Vec::new(),
            lie: Lie::None,
            cuts: Vec::new(),
        }
    }

    /// The packets on the wire.
    pub fn packets(&self, tuple: &Tuple) -> Vec<Vec<u8>> {
        let transport = self.transport(tuple);
        if self.cuts.is_empty() {
            return vec![self.packet(tuple, &transport, None)];
        }
        let ends = self.cuts.iter().copied().chain([transport.len()]);
        let starts = [0].into_iter().chain(self.cuts.iter().copied());
        starts
            .zip(ends)
            .map(|(start, end)| {
                self.packet(tuple, &transport[start..end], Some((start, end < transport.len())))
            })
            .collect()
    }

    /// One packet; `fragment` is the offset of the fragment, and whether more follow.
    fn packet(&self, tuple: &Tuple, part: &[u8], fragment: Option<(usize, bool)>) -> Vec<u8> {
        let mut bytes = match (tuple.src, tuple.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let words = 5 + self.options.len() / 4;
                let (offset, more) = fragment.unwrap_or_default();
                let flags = u16::from(self.whole) << 14 | u16::from(more) << 13 | word(offset / 8);
                let mut header = vec![0x40 | small(words), self.tos];
                header.extend(word(words * 4 + part.len()).to_be_bytes());
                header.extend(self.id.to_be_bytes());
                header.extend(flags.to_be_bytes());
                header.extend([self.ttl, self.protocol(false), 0, 0]);
                header.extend(src.octets());
                header.extend(dst.octets());
                header.extend(&self.options);
                header
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut chain: Vec<(u8, Vec<u8>)> = self
                    .extensions
                    .iter()
                    .map(|(kind, rest)| {
                        let len = small(rest.len().div_ceil(8).saturating_sub(1));
                        (*kind, [&[0, len], rest.as_slice()].concat())
                    })
                    .collect();
                if let Some((offset, more)) = fragment {
                    let [high, low] = (word(offset) | u16::from(more)).to_be_bytes();
                    let id = (u32::from(self.id) | 0x5000_0000).to_be_bytes();
                    chain.push((number::FRAGMENT, [&[0, 0, high, low], id.as_slice()].concat()));
                }
                let kinds: Vec<u8> =
                    chain.iter().map(|(kind, _)| *kind).chain([self.protocol(true)]).collect();
                let mut extensions = Vec::new();
                for (next, (_, bytes)) in kinds[1..].iter().zip(&mut chain) {
                    bytes[0] = *next;
                    extensions.append(bytes);
                }
                let first = 6 << 28 | u32::from(self.tos) << 20 | u32::from(self.id);
                let mut header = first.to_be_bytes().to_vec();
                header.extend(word(extensions.len() + part.len()).to_be_bytes());
                header.extend([kinds[0], self.ttl]);
                header.extend(src.octets());
                header.extend(dst.octets());
                header.extend(extensions);
                header
            }
            _ => panic!("one family a packet"),
        };
        let start = bytes.len();
        bytes.extend(part);
        self.tell_lies(&mut bytes, start);
        bytes
    }

    /// Adds defects of the IP header and the length, then IPv4's header checksum.
    fn tell_lies(&self, bytes: &mut Vec<u8>, start: usize) {
        let v6 = bytes[0] >> 4 == 6;
        let length_at = if v6 { 4 } else { 2 };
        let length = u16::from_be_bytes([bytes[length_at], bytes[length_at + 1]]);
        let mut new_length = length;
        match self.lie {
            Lie::Length(by) => new_length = length.saturating_add_signed(by),
            Lie::Cut(at) => {
                let cut = (bytes.len() - start).saturating_sub(at);
                bytes.truncate(bytes.len() - cut);
                new_length = length - word(cut);
            }
            Lie::Padding(by) => bytes.extend(vec![0xee; by]),
            Lie::HeaderLength(words) if !v6 => bytes[0] = 0x40 | words,
            Lie::Version(version) => bytes[0] = version << 4 | bytes[0] & 15,
            _ => {}
        }
        bytes[length_at..length_at + 2].copy_from_slice(&new_length.to_be_bytes());
        if !v6 {
            let header = start.min(bytes.len());
            let sum = !sum(&bytes[..header]);
            let off = if let Lie::HeaderChecksum(by) = self.lie { by } else { 0 };
            bytes[10..12].copy_from_slice(&wrong(sum, off).to_be_bytes());
        }
    }

    /// The protocol's number.
    pub fn protocol(&self, v6: bool) -> u8 {
        match self.body {
            Body::Tcp { .. } => number::TCP,
            Body::Udp => number::UDP,
            Body::Echo { .. } | Body::Message { .. } if v6 => number::ICMPV6,
            Body::Echo { .. } | Body::Message { .. } => number::ICMP,
            Body::Other(protocol) => protocol,
        }
    }

    /// The transport header and the payload, with checksum and defects.
    pub fn transport(&self, tuple: &Tuple) -> Vec<u8> {
        let v6 = tuple.src.is_ipv6();
        let mut bytes = Vec::new();
        let checksum_at = match &self.body {
            Body::Tcp { flags, seq, ack, options } => {
                let words = small(5 + options.len() / 4);
                let words = if let Lie::TcpLength(words) = self.lie { words } else { words };
                bytes.extend(tuple.sport.to_be_bytes());
                bytes.extend(tuple.dport.to_be_bytes());
                bytes.extend(seq.to_be_bytes());
                bytes.extend(ack.to_be_bytes());
                bytes.extend([words << 4, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(options);
                16
            }
            Body::Udp => {
                let len = word(8 + self.payload.len());
                let len = if let Lie::UdpLength(len) = self.lie { len } else { len };
                bytes.extend(tuple.sport.to_be_bytes());
                bytes.extend(tuple.dport.to_be_bytes());
                bytes.extend(len.to_be_bytes());
                bytes.extend([0, 0]);
                6
            }
            Body::Echo { request, seq } => {
                let kind = match (request, v6) {
                    (true, false) => 8,
                    (false, false) => 0,
                    (true, true) => 128,
                    (false, true) => 129,
                };
                bytes.extend([kind, 0, 0, 0]);
                bytes.extend(if *request { tuple.sport } else { tuple.dport }.to_be_bytes());
                bytes.extend(seq.to_be_bytes());
                2
            }
            Body::Message { kind, rest } => {
                bytes.extend([kind[0], kind[1], 0, 0]);
                bytes.extend(rest.to_be_bytes());
                2
            }
            Body::Other(_) => {
                bytes.extend(&self.payload);
                return bytes;
            }
        };
        bytes.extend(&self.payload);
        let covered = match self.body {
            Body::Echo { .. } | Body::Message { .. } if !v6 => sum(&bytes),
            _ => add(sum(&bytes), pseudo(tuple.src, tuple.dst, self.protocol(v6), bytes.len())),
        };
        let is_udp = self.body == Body::Udp;
        let mut value = !covered;
        if is_udp && value == 0 {
            value = 0xffff;
        }
        match self.lie {
            Lie::NoChecksum if is_udp => value = 0,
            Lie::Checksum(by) => {
                value = wrong(value, by);
                // For UDP, zero would mean "no checksum".
                if value == 0 && is_udp {
                    value = 0xffff;
                }
            }
            _ => {}
        }
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    /// The payload that makes the UDP checksum of a packet with the tuple `to` zero, which is sent as all ones (RFC
    /// 768).
    pub fn tune_to_zero(&mut self, to: &Tuple) {
        if self.payload.len() < 2 {
            self.payload = vec![0; 2];
        }
        self.payload[..2].fill(0);
        let transport = self.transport(to);
        self.payload[..2].copy_from_slice(&transport[6..8]);
    }
}

/// A wrong checksum. Of the two representations of zero it has the one that an update by difference gives (RFC 1624).
fn wrong(checksum: u16, by: u16) -> u16 {
    match add(checksum, by) {
        0xffff if by != 0 => 0,
        value => value,
    }
}

fn word(value: usize) -> u16 {
    u16::try_from(value).expect("a packet is no longer")
}

fn small(value: usize) -> u8 {
    u8::try_from(value).expect("a header is no longer")
}

/// RFC 1071's sum of words, end-around carry included.
pub fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |total, pair| {
        add(total, u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    })
}

/// One's complement addition.
pub fn add(a: u16, b: u16) -> u16 {
    let (total, carry) = a.overflowing_add(b);
    total + u16::from(carry)
}

/// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u16 {
    let addresses = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
        (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
        _ => panic!("one family a packet"),
    };
    add(add(sum(&addresses), u16::from(protocol)), word(len))
}

/// The offsets and fields of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// The protocol number after all extension headers.
    pub protocol: u8,
    /// Where the transport header starts.
    pub start: usize,
    /// The end of the packet, according to its header.
    pub end: usize,
    /// Offset, whether more follows, and number of a fragment; where its header starts (IPv6).
    pub fragment: Option<(usize, bool, u32, usize)>,
}

/// Reads a packet's headers; none if they are malformed.
pub fn view(packet: &[u8]) -> Option<View> {
    let half = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    if packet.first()? >> 4 == 4 {
        let address = |at: usize| Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into());
        let flags = half(6)?;
        let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
        let start = usize::from(packet[0] & 15) * 4;
        return Some(View {
            src: address(12)?,
            dst: address(16)?,
            ttl: packet[8],
            protocol: packet[9],
            start,
            end: usize::from(half(2)?),
            fragment: (offset != 0 || more).then_some((offset, more, u32::from(half(4)?), 0)),
        });
    }
    let address = |at: usize| Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into());
    let mut view = View {
        src: address(8)?,
        dst: address(24)?,
        ttl: packet[7],
        protocol: packet[6],
        start: 40,
        end: 40 + usize::from(half(4)?),
        fragment: None,
    };
    while let 0 | 43 | 44 | 60 = view.protocol {
        let at = view.start;
        let is_later = view.fragment.is_some_and(|(offset, ..)| offset != 0);
        if is_later {
            break;
        }
        if view.protocol == number::FRAGMENT {
            let (offset, id) = (half(at + 2)?, u32::from(half(at + 4)?) << 16 | u32::from(half(at + 6)?));
            view.fragment = Some((usize::from(offset & 0xfff8), offset & 1 != 0, id, at));
            view.start += 8;
        } else {
            view.start += 8 + usize::from(*packet.get(at + 1)?) * 8;
        }
        view.protocol = *packet.get(at)?;
    }
    Some(view)
}

/// The error of a packet's checksums, IPv4 header and transport: zero if correct; none without a checksum, or if the
/// packet does not hold all that it covers.
pub fn residues(packet: &[u8]) -> (Option<u16>, Option<u16>) {
    let Some(view) = view(packet) else { return (None, None) };
    // All ones also means zero.
    let residue = |total: u16| !total;
    let header = (packet[0] >> 4 == 4).then(|| packet.get(..view.start).map(|header| residue(sum(header))));
    let transport = packet.get(view.start..view.end).filter(|_| view.fragment.is_none()).and_then(|bytes| {
        let field = match view.protocol {
            number::TCP => 16,
            number::UDP => 6,
            number::ICMP | number::ICMPV6 => 2,
            _ => return None,
        };
        let value = bytes.get(field..field + 2)?;
        if view.protocol == number::UDP && value == [0, 0] {
            return None;
        }
        let covered = if view.protocol == number::ICMP {
            sum(bytes)
        } else {
            add(sum(bytes), pseudo(view.src, view.dst, view.protocol, bytes.len()))
        };
        Some(residue(covered))
    });
    (header.flatten(), transport)
}

/// Whether a packet's checksums are correct, or will be once a device has completed them: a host sends its own packets
/// with the sum of the pseudo header only (CHECKSUM_PARTIAL).
pub fn is_right(packet: &[u8]) -> bool {
    let (header, transport) = residues(packet);
    let is_unfinished = || {
        let Some(view) = view(packet) else { return false };
        let field = match view.protocol {
            number::TCP => view.start + 16,
            number::UDP => view.start + 6,
            _ => return false,
        };
        let pseudo = pseudo(view.src, view.dst, view.protocol, view.end - view.start);
        packet.get(field..field + 2) == Some(&pseudo.to_be_bytes())
    };
    header.unwrap_or_default() == 0 && (transport.unwrap_or_default() == 0 || is_unfinished())
}

/// Reassembles datagrams whose fragments are in order and complete; other packets are unchanged.
pub fn reassemble(packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut open: Option<(u32, Vec<Vec<u8>>, Vec<u8>)> = None;
    for packet in packets {
        let seen = view(&packet);
        let Some((view, (offset, more, id, at))) = seen.and_then(|view| Some((view, view.fragment?))) else {
            whole.push(packet);
            continue;
        };
        let end = view.end.min(packet.len());
        let mut datagram = match open.take() {
            Some((number, mut parts, mut datagram))
                if number == id && datagram.len() - header_len(&datagram) == offset =>
            {
                datagram.extend(&packet[view.start..end]);
                parts.push(packet);
                (number, parts, datagram)
            }
            other => {
                whole.extend(other.into_iter().flat_map(|(_, parts, _)| parts));
                if offset != 0 {
                    whole.push(packet);
                    continue;
                }
                let mut datagram = packet[..end].to_vec();
                if packet[0] >> 4 == 6 {
                    // Removes the fragment header and keeps its next header number.
                    datagram.drain(at..at + 8);
                    datagram[6] = packet[at];
                }
                (id, vec![packet], datagram)
            }
        };
        if more {
            open = Some(datagram);
            continue;
        }
        finish(&mut datagram.2);
        whole.push(datagram.2);
    }
    whole.extend(open.into_iter().flat_map(|(_, parts, _)| parts));
    whole
}

fn header_len(packet: &[u8]) -> usize {
    view(packet).map_or(0, |view| view.start)
}

/// Makes a reassembled datagram's header say that it is whole.
fn finish(datagram: &mut [u8]) {
    let len = datagram.len();
    if datagram[0] >> 4 == 6 {
        datagram[4..6].copy_from_slice(&word(len - 40).to_be_bytes());
        return;
    }
    let start = header_len(datagram);
    datagram[2..4].copy_from_slice(&word(len).to_be_bytes());
    datagram[6] &= 0x40;
    datagram[7] = 0;
    datagram[10..12].fill(0);
    let checksum = !sum(&datagram[..start]);
    datagram[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// A packet as text, for debugging.
pub fn describe(packet: &[u8]) -> String {
    let mut text = String::new();
    let hex = packet.iter().take(160).fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    });
    if let Some(view) = view(packet) {
        write!(text, "{} > {} proto {} ttl {} ", view.src, view.dst, view.protocol, view.ttl)
            .expect("a string takes all");
        if let Some(bytes) = packet.get(view.start..)
            && let [a, b, c, d, ..] = *bytes
        {
            match view.protocol {
                number::ICMP | number::ICMPV6 => write!(text, "type {a} code {b} "),
                number::TCP | number::UDP => {
                    write!(text, "ports {} > {} ", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
                }
                _ => Ok(()),
            }
            .expect("a string takes all");
            if let (number::TCP, Some(flags)) = (view.protocol, bytes.get(13)) {
                write!(text, "flags {flags:#04x} ").expect("a string takes all");
            }
        }
        if let Some((offset, more, id, _)) = view.fragment {
            write!(text, "fragment {id:#x} at {offset}{} ", if more { " and more" } else { "" })
                .expect("a string takes all");
        }
        write!(text, "says {} bytes; ", view.end).expect("a string takes all");
    }
    let (header, transport) = residues(packet);
    write!(text, "{} bytes, checksums off by {header:x?} {transport:x?}\n      {hex}", packet.len())
        .expect("a string takes all");
    text
}
