//! The words that packets and rows are made of, kept in network order: the one room where byte order changes.
//!
//! A wrapped integer holds the wire's bytes as they lie in memory. So a key can be filled straight from a packet, compared
//! as a word, and summed for a checksum (RFC 1071 §2(B): the sum does not depend on byte order), all without swapping.

use core::fmt;
use core::net::Ipv4Addr;

use bytemuck::{Pod, Zeroable};

/// A 16-bit number in network order: a port, an EtherType, a length.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From the number as people write it.
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// From two bytes as they travel.
    pub const fn from_wire(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// The number as people write it.
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The bytes as they travel.
    pub const fn to_wire(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }

    /// The wire's bytes as a native word: for sums, not for people.
    pub const fn word(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

/// An IPv4 address in network order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Ipv4(u32);

impl Ipv4 {
    /// 0.0.0.0: "any" in configuration.
    pub const UNSPECIFIED: Self = Self(0);

    /// From four bytes as they travel.
    pub const fn from_wire(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// From the wire's bytes already loaded as a native word (a `__be32` of the kernel).
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The bytes as they travel.
    pub const fn to_wire(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The wire's bytes as a native word.
    pub const fn word(self) -> u32 {
        self.0
    }

    /// Whether it lies in 127.0.0.0/8 (RFC 1122 §3.2.1.3(g)).
    pub const fn is_loopback(self) -> bool {
        self.to_wire()[0] == 127
    }

    /// Whether it is multicast, reserved or the limited broadcast: 224.0.0.0 and up (RFC 1112 §4, RFC 1122 §3.2.1.3).
    pub const fn is_multicast_or_reserved(self) -> bool {
        self.to_wire()[0] >= 224
    }

    /// Whether both addresses agree in the bits of `mask`.
    pub const fn same_network(self, other: Self, mask: Self) -> bool {
        (self.0 ^ other.0) & mask.0 == 0
    }
}

impl From<Ipv4Addr> for Ipv4 {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_wire(address.octets())
    }
}

impl From<Ipv4> for Ipv4Addr {
    fn from(address: Ipv4) -> Self {
        Self::from(address.to_wire())
    }
}

impl fmt::Debug for Ipv4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv4Addr::from(*self), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_survives_the_wire() {
        let port = Be16::new(8080);
        assert_eq!(port.to_wire(), [0x1f, 0x90]);
        assert_eq!(Be16::from_wire([0x1f, 0x90]), port);
        assert_eq!(port.get(), 8080);
    }

    #[test]
    fn networks_are_compared_under_the_mask() {
        let address = |a, b, c, d| Ipv4::from(Ipv4Addr::new(a, b, c, d));
        let mask = address(255, 255, 0, 0);
        assert!(address(172, 17, 0, 2).same_network(address(172, 17, 255, 1), mask));
        assert!(!address(172, 17, 0, 2).same_network(address(172, 18, 0, 2), mask));
        assert!(address(127, 1, 2, 3).is_loopback());
        assert!(address(224, 0, 0, 1).is_multicast_or_reserved());
    }
}
