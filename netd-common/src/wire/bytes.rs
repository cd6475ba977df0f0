//! Addresses and numbers in network order. Only this file changes byte order.
//!
//! Each type holds the bytes of the packet as they are in memory. So keys are filled, compared and summed without
//! swapping bytes (RFC 1071 §2(B): the sum does not depend on byte order).

use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

use crate::wire::checksum::Delta;

/// An address of either family. Code that does not depend on the family is generic over this trait. It has only two
/// implementations, which `crate::plain` relies on.
pub trait Address: Copy + Default + Eq + Hash + fmt::Debug + Pod + sealed::Sealed {
    /// Padding that makes the size of a row of the flow table a multiple of 8 bytes.
    type Pad: Copy + Default + Eq + fmt::Debug + Pod;
    /// 0.0.0.0 or ::.
    const UNSPECIFIED: Self;
    /// Length of an address, bits.
    const BITS: u32;

    /// Whether it is in 127.0.0.0/8 (RFC 1122 §3.2.1.3(g)) or is ::1 (RFC 4291 §2.5.3).
    fn is_loopback(self) -> bool;
    /// Whether it is not a unicast address: multicast, and for IPv4 also the reserved addresses and the limited
    /// broadcast.
    fn is_not_one_hosts(self) -> bool;
    /// Whether it stands for several hosts: a group (multicast) or IPv4's limited broadcast.
    fn is_group(self) -> bool;
    /// Whether it is a group that no router forwards packets to: 224.0.0.0/24 and the limited broadcast (RFC 5771 §4), IPv6's
    /// interface-local and link-local scopes (RFC 4291 §2.7).
    fn is_group_of_link(self) -> bool;
    /// Whether it is valid on one link only (RFC 4291 §2.5.6). Always false for IPv4: Linux forwards packets from
    /// 169.254.0.0/16 (RFC 3927) like others.
    fn is_link_local(self) -> bool;
    /// Whether it is an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2).
    fn is_mapped(self) -> bool;
    /// Whether both addresses are equal in the bits of `mask`.
    fn same_network(self, other: Self, mask: Self) -> bool;
    /// The change of a checksum when `new` replaces it.
    fn change(self, new: Self) -> Delta;
    /// As an IPv6 address, the form that keys of both families share: an IPv4 address becomes IPv4-mapped.
    fn to_ipv6(self) -> Ipv6;
    /// The reverse of [`Self::to_ipv6`]; unspecified for an address of the other family.
    fn from_ipv6(address: Ipv6) -> Self;
    /// A number in the place of an address, in its first word.
    fn with_first_word(word: u32) -> Self;
    /// The reverse of [`Self::with_first_word`].
    fn first_word(self) -> u32;
    /// The standard library's address.
    fn to_ip(self) -> IpAddr;
}

mod sealed {
    /// Prevents other implementations of `Address`.
    pub trait Sealed {}
    impl Sealed for super::Ipv4 {}
    impl Sealed for super::Ipv6 {}
}

/// A 16-bit number in network order: a port, an EtherType, a length.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From the number in host order.
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// From two bytes of a packet.
    pub const fn from_wire(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// The number in host order.
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The bytes of a packet.
    pub const fn to_wire(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }

    /// The bytes of a packet as a native word, for sums.
    pub const fn word(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

/// The number in host order of four bytes of a packet.
pub const fn number(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes)
}

/// The bytes in a packet of a number in host order, as a native word.
pub const fn word(number: u32) -> u32 {
    number.to_be()
}

/// An IPv4 address in network order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Ipv4(u32);

impl Ipv4 {
    /// Every host on the link (RFC 919 §7).
    pub const LIMITED_BROADCAST: Self = Self(u32::MAX);

    /// From four bytes of a packet.
    pub const fn from_wire(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// From the bytes of a packet as a native word (the kernel's `__be32`).
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The bytes of a packet.
    pub const fn to_wire(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The bytes of a packet as a native word.
    pub const fn word(self) -> u32 {
        self.0
    }
}

impl Address for Ipv4 {
    #[cfg(not(feature = "other-layout"))]
    type Pad = [u32; 0];
    #[cfg(feature = "other-layout")]
    type Pad = [u32; 4];
    const UNSPECIFIED: Self = Self(0);
    const BITS: u32 = 32;

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.to_wire()[0] == 127
    }

    /// 224.0.0.0 and up (RFC 1112 §4, RFC 1122 §3.2.1.3).
    #[inline(always)]
    fn is_not_one_hosts(self) -> bool {
        self.to_wire()[0] >= 224
    }

    #[inline(always)]
    fn is_group(self) -> bool {
        self.to_wire()[0] & 0xf0 == 224 || self.word() == u32::MAX
    }

    #[inline(always)]
    fn is_group_of_link(self) -> bool {
        let [a, b, c, _] = self.to_wire();
        (a, b, c) == (224, 0, 0) || self.word() == u32::MAX
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        false
    }

    #[inline(always)]
    fn is_mapped(self) -> bool {
        false
    }

    #[inline(always)]
    fn same_network(self, other: Self, mask: Self) -> bool {
        (self.0 ^ other.0) & mask.0 == 0
    }

    #[inline(always)]
    fn change(self, new: Self) -> Delta {
        Delta::NONE.double(self.0, new.0)
    }

    #[inline(always)]
    fn to_ipv6(self) -> Ipv6 {
        Ipv6::mapped(self)
    }

    #[inline(always)]
    fn from_ipv6(address: Ipv6) -> Self {
        address.as_mapped().unwrap_or(Self::UNSPECIFIED)
    }

    #[inline(always)]
    fn with_first_word(word: u32) -> Self {
        Self(word)
    }

    #[inline(always)]
    fn first_word(self) -> u32 {
        self.0
    }

    fn to_ip(self) -> IpAddr {
        IpAddr::V4(self.into())
    }
}

/// An IPv6 address in network order, as four native words of a packet's bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Ipv6([u32; 4]);

impl Ipv6 {
    /// ::1, the loopback address.
    pub const LOCALHOST: Self = Self([0, 0, 0, 1_u32.to_be()]);
    /// The third word of an IPv4-mapped address, ::ffff:0:0/96 (RFC 4291 §2.5.5.2).
    const MAPPED: u32 = 0x0000_ffff_u32.to_be();

    /// From the bytes of a packet as four native words (the kernel's `in6_addr`).
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The bytes of a packet as four native words.
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// The IPv4-mapped form of an IPv4 address.
    pub const fn mapped(address: Ipv4) -> Self {
        Self([0, 0, Self::MAPPED, address.0])
    }

    /// The IPv4 address of an IPv4-mapped one.
    #[inline(always)]
    pub const fn as_mapped(self) -> Option<Ipv4> {
        let [a, b, c, d] = self.0;
        if a == 0 && b == 0 && c == Self::MAPPED { Some(Ipv4(d)) } else { None }
    }

    /// The first two bytes, which identify the kind of an address.
    const fn head(self) -> [u8; 2] {
        let [a, b, _, _] = self.0[0].to_ne_bytes();
        [a, b]
    }

    /// The link-local address that an interface derives from its MAC address (RFC 4291 appendix A).
    pub const fn link_local(mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self([
            u32::from_ne_bytes([0xfe, 0x80, 0, 0]),
            0,
            u32::from_ne_bytes([a ^ 2, b, c, 0xff]),
            u32::from_ne_bytes([0xfe, d, e, f]),
        ])
    }
}

impl Address for Ipv6 {
    #[cfg(not(feature = "other-layout"))]
    type Pad = [u32; 1];
    #[cfg(feature = "other-layout")]
    type Pad = [u32; 3];
    const UNSPECIFIED: Self = Self([0; 4]);
    const BITS: u32 = 128;

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self == Self::LOCALHOST
    }

    /// ff00::/8 (RFC 4291 §2.7).
    #[inline(always)]
    fn is_not_one_hosts(self) -> bool {
        self.head()[0] == 0xff
    }

    #[inline(always)]
    fn is_group(self) -> bool {
        self.is_not_one_hosts()
    }

    #[inline(always)]
    fn is_group_of_link(self) -> bool {
        let [a, b] = self.head();
        a == 0xff && b & 0x0f <= 2
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        let [a, b] = self.head();
        a == 0xfe && b & 0xc0 == 0x80
    }

    #[inline(always)]
    fn is_mapped(self) -> bool {
        self.as_mapped().is_some()
    }

    #[inline(always)]
    fn same_network(self, other: Self, mask: Self) -> bool {
        let (a, b, m) = (self.0, other.0, mask.0);
        ((a[0] ^ b[0]) & m[0]) | ((a[1] ^ b[1]) & m[1]) | ((a[2] ^ b[2]) & m[2]) | ((a[3] ^ b[3]) & m[3]) == 0
    }

    #[inline(always)]
    fn change(self, new: Self) -> Delta {
        let (a, b) = (self.0, new.0);
        Delta::NONE.double(a[0], b[0]).double(a[1], b[1]).double(a[2], b[2]).double(a[3], b[3])
    }

    #[inline(always)]
    fn to_ipv6(self) -> Ipv6 {
        self
    }

    #[inline(always)]
    fn from_ipv6(address: Ipv6) -> Self {
        address
    }

    #[inline(always)]
    fn with_first_word(word: u32) -> Self {
        Self([word, 0, 0, 0])
    }

    #[inline(always)]
    fn first_word(self) -> u32 {
        self.0[0]
    }

    fn to_ip(self) -> IpAddr {
        IpAddr::V6(self.into())
    }
}

impl From<Ipv6Addr> for Ipv6 {
    fn from(address: Ipv6Addr) -> Self {
        Self(bytemuck::cast(address.octets()))
    }
}

impl From<Ipv6> for Ipv6Addr {
    fn from(address: Ipv6) -> Self {
        Self::from(bytemuck::cast::<_, [u8; 16]>(address.0))
    }
}

impl fmt::Debug for Ipv6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv6Addr::from(*self), f)
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
    fn a_number_keeps_its_value_in_network_order() {
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
        assert!(address(224, 0, 0, 1).is_not_one_hosts());
        assert!(address(239, 1, 2, 3).is_group() && !address(239, 1, 2, 3).is_group_of_link());
        assert!(address(224, 0, 0, 251).is_group_of_link() && address(255, 255, 255, 255).is_group_of_link());
        assert!(!address(240, 1, 2, 3).is_group() && !address(223, 255, 255, 255).is_group());
        let address = |text: &str| Ipv6::from(text.parse::<Ipv6Addr>().unwrap());
        let mask = address("ffff:ffff:ffff:ffff::");
        assert!(address("fd00::1").same_network(address("fd00::ffff:2"), mask));
        assert!(!address("fd00::1").same_network(address("fd00:0:0:1::1"), mask));
        assert!(address("::1").is_loopback() && !address("::2").is_loopback());
        assert!(address("ff02::1").is_not_one_hosts() && address("fe80::1").is_link_local());
        assert!(address("ff02::fb").is_group_of_link() && !address("ff05::2").is_group_of_link());
        assert_eq!(Ipv6::link_local([0x02, 0x42, 0xac, 0x11, 0, 2]), address("fe80::42:acff:fe11:2"));
        assert_eq!(address("::ffff:192.0.2.1").as_mapped(), Some(Ipv4::from(Ipv4Addr::new(192, 0, 2, 1))));
    }
}
