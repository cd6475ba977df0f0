//! Endpoints: a container's interface, or another host that is the target of a publication.

use bytemuck::{Pod, Zeroable};

use crate::flow::handle::Handle;
use crate::flow::key::Zone;
use crate::flow::nat::Side;
use crate::wire::bytes::{Address, Ipv4, Ipv6};

/// An endpoint. The fields that every packet needs come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EndpointRow {
    /// The slot's current handle; zero in a free slot.
    pub handle: Handle,
    /// Index of the host-side veth; zero if the endpoint is another host.
    pub ifindex: u32,
    /// MTU of the container's interface, bytes.
    pub mtu: u32,
    /// The first 12 bytes of a frame to the container: its MAC address, then the bridge's.
    pub ethernet: [u32; 3],
    /// Index of the network's bridge; that of network `bridge` if the endpoint is another host. The kernel answers FIB
    /// lookups only for an input interface with forwarding on, which netd turns on for these bridges.
    pub bridge: u32,
    /// The number of its network, see [`SUBNETS`](super::name::SUBNETS).
    pub network: u32,
    /// Flags of [`network_flag`], those of its network.
    pub flags: u32,
    /// Its addresses in IPv4.
    pub subnet4: Subnet<Ipv4>,
    /// Its addresses in IPv6; all zero if it has none.
    pub subnet6: Subnet<Ipv6>,
}

impl EndpointRow {
    /// Whether it is another host, which is reached by an uplink.
    #[inline(always)]
    pub const fn is_remote(&self) -> bool {
        self.ifindex == 0
    }

    /// Whether netd takes only the packets of its published ports.
    #[inline(always)]
    pub const fn is_unmanaged(&self) -> bool {
        self.flags & network_flag::UNMANAGED != 0
    }

    /// The zone of packets to the container.
    #[inline(always)]
    pub const fn side(&self) -> Side {
        Side { zone: Zone::container(self.ifindex), endpoint: self.handle }
    }

    /// The `ethernet` words for these addresses.
    pub fn ethernet(container: [u8; 6], bridge: [u8; 6]) -> [u32; 3] {
        let [a, b, c, d, e, f] = container;
        let [g, h, i, j, k, l] = bridge;
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), u32::from_ne_bytes([i, j, k, l])]
    }

    /// The container's MAC address in wire order, in native words.
    #[inline(always)]
    pub const fn mac_words(&self) -> (u32, u16) {
        let [a, b, _, _] = self.ethernet[1].to_ne_bytes();
        (self.ethernet[0], u16::from_ne_bytes([a, b]))
    }

    /// The container's MAC address.
    #[inline(always)]
    pub fn mac(&self) -> [u8; 6] {
        let [first, second, _] = self.ethernet;
        let [a, b, c, d] = first.to_ne_bytes();
        let [e, f, _, _] = second.to_ne_bytes();
        [a, b, c, d, e, f]
    }
}

/// An endpoint's addresses in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Subnet<A>([A; 4]);

impl<A: Address> Subnet<A> {
    /// The container's `address`, the `mask` of its network, the host's address on it (`gateway`), and the source
    /// address of its connections to outside (`snat`), unspecified for that of the uplink.
    pub const fn new(address: A, mask: A, gateway: A, snat: A) -> Self {
        Self([address, mask, gateway, snat])
    }

    /// The container's address; unspecified if it has none in this family.
    #[inline(always)]
    pub const fn address(&self) -> A {
        self.0[0]
    }

    /// The mask of its network.
    #[inline(always)]
    pub const fn mask(&self) -> A {
        self.0[1]
    }

    /// The host's address on its network.
    #[inline(always)]
    pub const fn gateway(&self) -> A {
        self.0[2]
    }

    /// The source address of its connections to outside; unspecified for that of the uplink.
    #[inline(always)]
    pub const fn snat(&self) -> A {
        self.0[3]
    }
}

/// A further address of a container, as the data of an LPM trie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct AllowedAddressKey {
    /// The endpoint.
    pub endpoint: Handle,
    /// The address, or the first one of a prefix; IPv4 in its mapped form.
    pub address: Ipv6,
}

impl AllowedAddressKey {
    /// Bits before the address.
    pub const ENDPOINT_BITS: u32 = 32;
    /// Bits of the whole key, for one address.
    pub const BITS: u32 = Self::ENDPOINT_BITS + Ipv6::BITS;
}

/// What a network forbids or allows, and two facts about an endpoint. Where the two families differ, IPv6's flag is the next bit, see
/// [`FamilyRows::flag`](super::FamilyRows::flag).
pub mod network_flag {
    /// Its containers do not reach each other directly.
    pub const NO_ICC: u32 = 1;
    /// The network is internal: its containers reach nothing beyond it.
    pub const INTERNAL: u32 = 2;
    /// IPv4 connections to outside keep the container's address.
    pub const NO_MASQUERADE: u32 = 4;
    /// The same for IPv6.
    pub const NO_MASQUERADE6: u32 = 8;
    /// Clients with a route to the network reach every port by the containers' IPv4 addresses (`nat-unprotected`).
    pub const UNPROTECTED: u32 = 16;
    /// Clients with a route to the network reach published ports by the containers' IPv4 addresses, and not by the
    /// host's (`routed`).
    pub const ROUTED: u32 = 64;
    /// The container may use further addresses, see [`ALLOWED`](super::super::name::ALLOWED).
    pub const MORE_ADDRESSES: u32 = 256;
    /// The host's stack routes the network: netd takes only the packets of published ports.
    pub const UNMANAGED: u32 = 512;
}

// The fields that every packet reads are in one cache line.
const _: () = assert!(size_of::<EndpointRow>() == 36 + 16 + 64);
