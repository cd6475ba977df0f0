//! Packets built and judged independently of netd-common: the oracle must not share the bug.

use etherparse::{Ethernet2Header, IpNumber, Ipv4Header, TcpHeader, UdpHeader};

/// A TCP or UDP packet over IPv4 and Ethernet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Source address and port.
    pub from: ([u8; 4], u16),
    /// Destination address and port.
    pub to: ([u8; 4], u16),
    /// TCP flags: `None` makes it UDP.
    pub tcp: Option<&'static str>,
    /// Time to live.
    pub ttl: u8,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Whether a UDP packet does without a checksum.
    pub no_checksum: bool,
}

impl Packet {
    /// A UDP packet.
    pub fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Self {
        Self {
            from,
            to,
            tcp: None,
            ttl: 64,
            options: Vec::new(),
            payload: b"payload".to_vec(),
            no_checksum: false,
        }
    }

    /// A TCP packet with these flags: letters of SAFR.
    pub fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: &'static str) -> Self {
        Self { tcp: Some(flags), payload: Vec::new(), ..Self::udp(from, to) }
    }

    /// The bytes on the wire, every checksum right.
    pub fn bytes(&self) -> Vec<u8> {
        let transport_len = self.payload.len() + if self.tcp.is_some() { 20 } else { 8 };
        let number = if self.tcp.is_some() { IpNumber::TCP } else { IpNumber::UDP };
        let len = u16::try_from(transport_len).expect("a small packet");
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
        match self.tcp {
            Some(flags) => {
                let mut tcp = TcpHeader::new(self.from.1, self.to.1, 1000, 65535);
                tcp.syn = flags.contains('S');
                tcp.ack = flags.contains('A');
                tcp.fin = flags.contains('F');
                tcp.rst = flags.contains('R');
                tcp.checksum = tcp.calc_checksum_ipv4(&ip, &self.payload).expect("checksum");
                tcp.write(&mut bytes).expect("write");
            }
            None => {
                let mut udp =
                    UdpHeader::with_ipv4_checksum(self.from.1, self.to.1, &ip, &self.payload).expect("udp");
                if self.no_checksum {
                    udp.checksum = 0;
                }
                udp.write(&mut bytes).expect("write");
            }
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}
