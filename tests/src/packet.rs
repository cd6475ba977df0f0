//! Packets that are built and checked without netd-common, so that both do not have the same bug.

use etherparse::{
    Ethernet2Header, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, TcpHeader, UdpHeader,
};

/// An ICMP error over IPv4 and Ethernet that quotes an IP packet; `rest` is the second word of its header.
pub fn icmp_error(from: [u8; 4], to: [u8; 4], ttl: u8, kind: [u8; 2], rest: u32, quote: &[u8]) -> Vec<u8> {
    let mut message = vec![kind[0], kind[1], 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend(quote);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = Packet { ttl, payload: message, ..Packet::other(from, to, 1) }.bytes();
    bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    bytes
}

/// The Internet checksum, written from the text of RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// SCTP's checksum, written from the text of RFC 9260, appendix A.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _bit in 0..8 {
            remainder = if remainder & 1 == 1 { (remainder >> 1) ^ 0x82f6_3b78 } else { remainder >> 1 };
        }
    }
    !remainder
}

/// The verification tag of SCTP packets in both directions.
const SCTP_TAG: [u8; 4] = [1, 2, 3, 4];

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP with these flags: letters of SAFR.
    Tcp(&'static str),
    /// UDP.
    Udp,
    /// SCTP whose first chunk is of this type.
    Sctp(u8),
    /// An ICMP echo with this identifier: a request or a reply.
    Echo {
        /// Identifier.
        id: u16,
        /// Whether it is a request.
        request: bool,
    },
    /// Another protocol, by number.
    Other(u8),
}

/// A packet over IPv4 and Ethernet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Source address and port.
    pub from: ([u8; 4], u16),
    /// Destination address and port.
    pub to: ([u8; 4], u16),
    /// What it is.
    pub kind: Kind,
    /// Time to live.
    pub ttl: u8,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether a UDP packet has no checksum, or an SCTP packet leaves it to the device.
    pub no_checksum: bool,
}

impl Packet {
    /// A UDP packet.
    pub fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Self {
        Self {
            from,
            to,
            kind: Kind::Udp,
            ttl: 64,
            options: Vec::new(),
            payload: b"payload".to_vec(),
            no_checksum: false,
        }
    }

    /// A TCP packet with these flags: letters of SAFR.
    pub fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: &'static str) -> Self {
        Self { kind: Kind::Tcp(flags), payload: Vec::new(), ..Self::udp(from, to) }
    }

    /// An SCTP packet whose first chunk is of this type.
    pub fn sctp(from: ([u8; 4], u16), to: ([u8; 4], u16), chunk: u8) -> Self {
        Self { kind: Kind::Sctp(chunk), ..Self::udp(from, to) }
    }

    /// An ICMP echo.
    pub fn echo(from: [u8; 4], to: [u8; 4], id: u16, request: bool) -> Self {
        Self { kind: Kind::Echo { id, request }, ..Self::udp((from, 0), (to, 0)) }
    }

    /// A packet of another protocol.
    pub fn other(from: [u8; 4], to: [u8; 4], number: u8) -> Self {
        Self { kind: Kind::Other(number), ..Self::udp((from, 0), (to, 0)) }
    }

    /// The bytes on the wire, every checksum right.
    pub fn bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let number = match self.kind {
            Kind::Tcp(_) => IpNumber::TCP,
            Kind::Udp => IpNumber::UDP,
            Kind::Sctp(_) => IpNumber::SCTP,
            Kind::Echo { .. } => IpNumber::ICMP,
            Kind::Other(number) => IpNumber(number),
        };
        let len = u16::try_from(transport.len()).expect("a small packet");
        let mut ip = Ipv4Header::new(len, self.ttl, number, self.from.0, self.to.0).expect("a header");
        ip.options = self.options.as_slice().try_into().expect("options");
        ip.header_checksum = ip.calc_header_checksum();
        let mut bytes = Vec::new();
        let ethernet = Ethernet2Header {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            ether_type: etherparse::EtherType::IPV4,
        };
        ethernet.write(&mut bytes).expect("write");
        ip.write(&mut bytes).expect("write");
        bytes.extend(transport);
        bytes
    }

    /// The transport header and what it carries.
    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ip = Ipv4Header { source: self.from.0, destination: self.to.0, ..Ipv4Header::default() };
        match self.kind {
            Kind::Tcp(flags) => {
                let mut tcp = TcpHeader::new(self.from.1, self.to.1, 1000, 65535);
                tcp.syn = flags.contains('S');
                tcp.ack = flags.contains('A');
                tcp.fin = flags.contains('F');
                tcp.rst = flags.contains('R');
                tcp.checksum = tcp.calc_checksum_ipv4(&ip, &self.payload).expect("checksum");
                tcp.write(&mut bytes).expect("write");
            }
            Kind::Udp => {
                let mut udp =
                    UdpHeader::with_ipv4_checksum(self.from.1, self.to.1, &ip, &self.payload).expect("udp");
                if self.no_checksum {
                    udp.checksum = 0;
                }
                udp.write(&mut bytes).expect("write");
            }
            Kind::Echo { id, request } => {
                let echo = IcmpEchoHeader { id, seq: 1 };
                let kind = if request { Icmpv4Type::EchoRequest(echo) } else { Icmpv4Type::EchoReply(echo) };
                Icmpv4Header::with_checksum(kind, &self.payload).write(&mut bytes).expect("write");
            }
            Kind::Sctp(chunk) => {
                bytes.extend(self.from.1.to_be_bytes());
                bytes.extend(self.to.1.to_be_bytes());
                // Both sides ask for the same tag.
                let initiate_tag: &[u8] = if matches!(chunk, 1 | 2) { &SCTP_TAG } else { &[] };
                bytes.extend(if chunk == 1 { [0; 4] } else { SCTP_TAG });
                bytes.extend([0; 4]);
                let len = u16::try_from(4 + initiate_tag.len() + self.payload.len()).expect("a small chunk");
                bytes.extend([chunk, 0]);
                bytes.extend(len.to_be_bytes());
                bytes.extend(initiate_tag);
            }
            Kind::Other(_) => {}
        }
        bytes.extend_from_slice(&self.payload);
        if matches!(self.kind, Kind::Sctp(_)) && !self.no_checksum {
            let sum = crc32c(&bytes);
            bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    }
}
