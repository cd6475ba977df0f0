//! The Internet checksum as a value that can be changed without reading the packet (RFC 1624).
//!
//! Three facts carry everything: the checksum is the complement of a ones'-complement sum of 16-bit words; replacing a
//! word adds `!old + new` to that sum; and carries out of the top are added back in at the bottom. A [`Delta`] is what a
//! set of replacements adds, folded to 16 bits. It can be computed once per flow and applied to every packet.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use bytemuck::{Pod, Zeroable};

/// What some replaced words add to a ones'-complement sum (native words of wire bytes, see [`crate::wire::bytes`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Delta(u16);

impl Delta {
    /// What decrementing TTL adds. TTL is the first byte of its 16-bit word, so the sum loses 0x0100 in network order.
    pub const TTL_DECREMENTED: Self = Self(!u16::from_ne_bytes([1, 0]));

    /// No change.
    pub const NONE: Self = Self(0);

    /// Takes a 16-bit word out and puts another in.
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(fold(self.0 as u32 + !old as u32 + new as u32))
    }

    /// Takes a 32-bit word out and puts another in.
    #[must_use]
    pub const fn double(self, old: u32, new: u32) -> Self {
        self.word(old as u16, new as u16).word((old >> 16) as u16, (new >> 16) as u16)
    }

    /// Both changes.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(fold(self.0 as u32 + other.0 as u32))
    }

    /// The checksum field (a native word of wire bytes) after the change: RFC 1624 equation 3.
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(!checksum as u32 + self.0 as u32)
    }

    /// Puts a 32-bit word in where nothing was.
    #[must_use]
    pub const fn put(self, new: u32) -> Self {
        self.double(u32::MAX, new)
    }

    /// The checksum of what was put in: its complement (RFC 1071 §1).
    pub const fn checksum(self) -> u16 {
        !self.0
    }

    /// A sum that the kernel has made (`__wsum`).
    pub const fn of_wsum(sum: u32) -> Self {
        Self(fold(sum))
    }

    /// As the kernel's `__wsum` difference, the `to` of `bpf_l4_csum_replace(.., 0, to, ..)`.
    pub const fn as_wsum(self) -> u32 {
        self.0 as u32
    }
}

/// Adds the carries back in. Two rounds suffice: after the first at most one carry is left.
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}
