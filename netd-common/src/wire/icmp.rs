//! Types of ICMP messages.

use crate::verdict::Reason;

use super::ethernet::{Offset, PacketBytes};

/// The kind of an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request or a reply, such as an echo.
    Query,
    /// An error about another packet, which it quotes from its ninth byte on.
    Error,
    /// Neighbour discovery or group membership (IPv6).
    Link,
}

/// The kind of a message type in IPv4 (RFC 792).
#[inline(always)]
pub const fn message_v4(kind: u8) -> Message {
    match kind {
        3 | 4 | 5 | 11 | 12 => Message::Error,
        _ => Message::Query,
    }
}

/// The kind of a message type in IPv6 (RFC 4443 §2.1, RFC 4861 §4, RFC 2710, RFC 3810).
#[inline(always)]
pub const fn message_v6(kind: u8) -> Message {
    match kind {
        0..128 => Message::Error,
        130..=137 | 143 => Message::Link,
        _ => Message::Query,
    }
}

/// The type of an ICMP message.
#[inline(always)]
pub fn kind<B: PacketBytes + ?Sized>(bytes: &B, at: Offset) -> Result<u8, Reason> {
    // Two bytes, since the verifier does not accept the bounds check of a single byte.
    bytes.read::<2>(bytes.place(at)).map(|[kind, _code]| kind).ok_or(Reason::Malformed)
}
