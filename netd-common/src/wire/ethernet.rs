//! Access to a packet's bytes, and the Ethernet header.

use super::bytes::Be16;

/// Length of an Ethernet header without VLAN tag (IEEE 802.3), bytes. The kernel removes a tag before TC sees the
/// packet.
pub const ETHERNET_LEN: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: Be16 = Be16::new(0x0800);
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: Be16 = Be16::new(0x86dd);
/// EtherType of a VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: Be16 = Be16::new(0x8100);
/// EtherType of the outer one of two tags (IEEE 802.1ad).
pub const ETHERTYPE_QINQ: Be16 = Be16::new(0x88a8);
/// EtherType of ARP.
pub const ETHERTYPE_ARP: Be16 = Be16::new(0x0806);

/// Where the EtherType of a frame without tag is.
pub const ETHERTYPE_AT: usize = 12;
/// Where a frame's IP header starts.
pub const IP_AT: Offset = Offset(14);

/// A packet's bytes: a slice in tests and fuzzing, the packet itself in the kernel.
pub trait PacketBytes {
    /// The `N` bytes at `at`, or `None` if the packet is shorter.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The four words at `at`, or `None` if the packet is shorter.
    fn read_words(&self, at: usize) -> Option<[u32; 4]>;

    /// An offset as a number. The kernel's verifier has to see its bound where it is used.
    #[inline(always)]
    fn place(&self, at: Offset) -> usize {
        at.get()
    }

    /// The same number, opaque to the verifier. Otherwise it would check the following code once for each possible
    /// origin of the number.
    #[inline(always)]
    fn opaque(&self, number: u32) -> u32 {
        number
    }
}

impl PacketBytes for [u8] {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn read_words(&self, at: usize) -> Option<[u32; 4]> {
        self.read::<16>(at).map(bytemuck::cast)
    }
}

/// An offset from the start of the frame that is known to be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(u32);

impl Offset {
    /// The largest offset, bytes: room for the longest IPv4 header quoted behind another, or for 128 bytes of IPv6
    /// extension headers.
    pub const MAX: u32 = 191;

    /// An offset, if it is small enough.
    #[inline(always)]
    pub const fn new(at: u32) -> Option<Self> {
        if at <= Self::MAX { Some(Self(at)) } else { None }
    }

    /// The offset in bytes.
    #[inline(always)]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The offset plus this many bytes, if it is small enough.
    #[inline(always)]
    pub const fn plus(self, bytes: u32) -> Option<Self> {
        Self::new(self.0 + bytes)
    }
}

/// Reads the EtherType; `None` for a frame that is too short to have one.
#[inline(always)]
pub fn ethertype<B: PacketBytes + ?Sized>(bytes: &B) -> Option<Be16> {
    bytes.read::<2>(12).map(Be16::from_wire)
}

/// Whether a frame starts with a priority tag, that is a VLAN tag with VLAN 0 (IEEE 802.1Q §9.6), in addition to the
/// tag that the kernel removes.
#[inline(always)]
pub fn has_priority_tag<B: PacketBytes + ?Sized>(bytes: &B) -> bool {
    let tagged = matches!(ethertype(bytes), Some(ETHERTYPE_VLAN | ETHERTYPE_QINQ));
    // The upper four bits of the tag are the priority.
    tagged && bytes.read::<2>(ETHERNET_LEN).is_some_and(|[high, low]| high << 4 == 0 && low == 0)
}

/// A MAC address as two words of wire bytes; the last two bytes are zero.
#[inline(always)]
pub const fn mac_words(mac: [u8; 6]) -> [u32; 2] {
    let [a, b, c, d, e, f] = mac;
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, 0, 0])]
}
