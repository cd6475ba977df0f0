//! The Internet checksum, updated without reading the whole packet (RFC 1624).
//!
//! The checksum is the complement of a ones'-complement sum of 16-bit words. Replacing a word adds `!old + new` to that
//! sum, and carries are added back in at the bottom. A [`Delta`] is the sum of such changes, folded to 16 bits. It is
//! computed once for a flow and applied to every packet.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use bytemuck::{Pod, Zeroable};

/// The change of a ones'-complement sum by replaced words, which are native words of a packet's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Delta(u16);

impl Delta {
    /// The change when the TTL is decremented. The TTL is the first byte of its 16-bit word, so the sum loses 0x0100 in
    /// network order.
    pub const TTL_DECREMENTED: Self = Self(!u16::from_ne_bytes([1, 0]));

    /// No change.
    pub const NONE: Self = Self(0);

    /// Replaces a 16-bit word.
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(fold(self.0 as u32 + !old as u32 + new as u32))
    }

    /// Replaces a 32-bit word.
    #[must_use]
    pub const fn double(self, old: u32, new: u32) -> Self {
        self.word(old as u16, new as u16).word((old >> 16) as u16, (new >> 16) as u16)
    }

    /// Both changes.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(fold(self.0 as u32 + other.0 as u32))
    }

    /// The checksum field (a native word of the packet's bytes) after the change: RFC 1624 equation 3.
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(!checksum as u32 + self.0 as u32)
    }

    /// Adds a 32-bit word.
    #[must_use]
    pub const fn put(self, new: u32) -> Self {
        self.double(u32::MAX, new)
    }

    /// The checksum of the added words: the complement of their sum (RFC 1071 §1).
    pub const fn checksum(self) -> u16 {
        !self.0
    }

    /// From a sum that the kernel has computed (`__wsum`).
    pub const fn of_wsum(sum: u32) -> Self {
        Self(fold(sum))
    }

    /// As the kernel's `__wsum` difference, the `to` of `bpf_l4_csum_replace(.., 0, to, ..)`.
    pub const fn as_wsum(self) -> u32 {
        self.0 as u32
    }
}

/// Adds the carries back in. Two rounds are enough: after the first, at most one carry is left.
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}
