//! TCP, UDP, SCTP and ICMP echo headers.

use crate::verdict::Reason;

use super::bytes::{Be16, number};
use super::ethernet::{Offset, PacketBytes};
use super::ip::{Family, Ip, protocol};

/// TCP flags (RFC 9293 §3.1), as they stand in byte 13 of the header.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

/// The fields of a transport header that netd uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Source port, see [`FlowKey`](crate::flow::FlowKey).
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// The offsets of ports and checksum.
    pub layout: Layout,
    /// TCP's flags; for SCTP the flags that correspond to its first chunk, see [`sctp`]; zero for others.
    pub tcp_flags: u8,
    /// Length of a TCP header with its options, bytes; zero for others.
    pub tcp_len: u8,
    /// TCP's sequence number; the tag that an SCTP INIT or INIT ACK asks for.
    pub sequence: u32,
    /// TCP's acknowledgement number; SCTP's verification tag.
    pub acknowledgement: u32,
}

/// The offsets of ports and checksum in a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Layout {
    /// TCP: both ports in front, the checksum at 16.
    Tcp,
    /// UDP: both ports in front, the checksum at 6, where zero means none.
    Udp,
    /// SCTP: both ports in front, the checksum at 8, see [`crate::wire::crc32c`].
    Sctp,
    /// An ICMP echo request: the identifier at 4 is the source port, the checksum at 2.
    EchoRequest,
    /// An ICMP echo reply: the identifier at 4 is the destination port, the checksum at 2.
    EchoReply,
    /// Neither: a later fragment, or a protocol without ports that netd knows.
    Bare,
}

impl Layout {
    /// The layout with this number (`as u32`); bare for an unknown number.
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
    /// The header of a packet whose transport header is not read.
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

    /// Whether it opens a connection: a TCP SYN without ACK, or an SCTP INIT.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
    }
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

/// Reads SCTP's header and the type of its first chunk. A chunk that opens or ends an association is always the first
/// one (RFC 9260 §3.1, §6.10).
#[inline(always)]
pub fn sctp<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<Transport, Reason> {
    use tcp_flag::{ACK, FIN, RST, SYN};
    let [s0, s1, d0, d1, t0, t1, t2, t3, _, _, _, _, kind, ..] =
        bytes.read::<16>(bytes.place(at)).ok_or(Reason::Malformed)?;
    let mut initiate_tag = 0;
    if matches!(kind, chunk::INIT | chunk::INIT_ACK) {
        initiate_tag = number(bytes.read::<4>(bytes.place(at) + 16).ok_or(Reason::Malformed)?);
    }
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
        sequence: initiate_tag,
        acknowledgement: number([t0, t1, t2, t3]),
        ..Transport::bare(Be16::from_wire([s0, s1]), Be16::from_wire([d0, d1]))
    })
}

/// Reads the first 8 bytes of a transport header: an ICMP error need not quote more (RFC 792), and
/// they hold the ports. Fails for an ICMP message that is not an echo.
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

/// Reads the transport header of a packet that is not a later fragment.
#[inline(always)]
pub fn read<A: Family, B: PacketBytes + ?Sized>(bytes: &B, ip: &Ip<A>) -> Result<Transport, Reason> {
    match ip.protocol {
        protocol::TCP => tcp(bytes, ip.transport_at),
        protocol::UDP => udp(bytes, ip.transport_at),
        protocol::SCTP => sctp(bytes, ip.transport_at),
        icmp if icmp == A::ICMP => echo::<A, B>(bytes, ip.transport_at),
        _ => Ok(Transport::bare(Be16::default(), Be16::default())),
    }
}
