//! Publications: the ports of the host that lead to endpoints.

use bytemuck::{Pod, Zeroable};

use crate::flow::handle::Handle;
use crate::wire::bytes::{Address, Be16, Ipv6};
use crate::wire::ip::Family;

/// A publication: one port or a range of ports of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PublicationRow {
    /// The slot's current handle; zero in a free slot.
    pub handle: Handle,
    /// The target's handle.
    pub endpoint: Handle,
    /// The first host port.
    #[cfg(not(feature = "other-layout"))]
    pub host_port: Be16,
    /// The first target port; host port `n` of the range goes to target port `n`.
    pub target_port: Be16,
    /// In another place.
    #[cfg(feature = "other-layout")]
    pub host_port: Be16,
    /// How many ports it has.
    pub ports: u32,
    /// Index of the interface on which its clients must arrive; any interface if zero.
    pub interface: u32,
    /// Flags of [`publication_flag`].
    pub flags: u32,
    /// Its host address, IPv4 in its mapped form; unspecified for all addresses.
    pub address: Ipv6,
    /// Its counters.
    pub counters: PublicationCounters,
}

impl PublicationRow {
    /// The target's port for a packet to `host_port`, which lies in the range.
    #[inline(always)]
    pub const fn target_port(&self, host_port: Be16) -> Be16 {
        let offset = host_port.get().wrapping_sub(self.host_port.get());
        Be16::new(self.target_port.get().wrapping_add(offset))
    }

    /// The host port for a packet from `target_port`; the first, if the publication has no such port.
    #[inline(always)]
    pub const fn host_port_of(&self, target_port: Be16) -> Be16 {
        let offset = target_port.get().wrapping_sub(self.target_port.get());
        let offset = if (offset as u32) < self.ports { offset } else { 0 };
        Be16::new(self.host_port.get().wrapping_add(offset))
    }
}

/// The state of a publication.
pub mod publication_flag {
    /// Draining: another publication has its ports. Its connections continue, and it accepts no new ones.
    pub const DRAINING: u32 = 1;
    /// Another publication leads to one of its target's ports in IPv4 as well: a packet from there does not tell which of them
    /// its client had used. IPv6's flag is the next bit, see [`FamilyRows::flag`](crate::abi::FamilyRows::flag).
    pub const SHARED_TARGET: u32 = 2;
}

/// A publication's counters. Packets and bytes of live flows reach it with the first packet of a tick or of eight, and at their
/// end, see [`FlowRow::pending`](super::FlowRow::pending).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PublicationCounters {
    /// Packets to the container.
    pub packets_in: u64,
    /// Bytes to the container, as the uplink carried them (Ethernet header included).
    pub bytes_in: u64,
    /// Packets from the container.
    pub packets_out: u64,
    /// Bytes from the container.
    pub bytes_out: u64,
    /// Connections ever made.
    pub flows: u64,
    /// Packets to it that were dropped.
    pub dropped: u64,
}

/// The publications of a host port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PortRow {
    /// The publication on all addresses of the host; none if zero.
    pub any: Handle,
    /// How many publications on single addresses have this port. If not zero, [`BOUND_PORTS`](super::name::BOUND_PORTS)
    /// is looked up too.
    pub bound: u32,
}

impl PortRow {
    /// Whether the port has a publication.
    #[inline(always)]
    pub const fn has_any(&self) -> bool {
        !self.any.is_none() || self.bound != 0
    }
}

/// The row number of a port in [`PORTS`](super::name::PORTS); `None` for a protocol without ports.
#[inline(always)]
pub const fn port_index(protocol: u8, port: Be16) -> Option<u32> {
    let plane = match protocol {
        crate::wire::ip::protocol::TCP => 0,
        crate::wire::ip::protocol::UDP => 1,
        crate::wire::ip::protocol::SCTP => 2,
        _ => return None,
    };
    Some((plane << 16) | port.get() as u32)
}

/// A publication on one host address, as the data of an LPM trie: the longest prefix wins, and a range of ports is a
/// few prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct BoundPortKey<A> {
    /// The host's address; unspecified for all of them in this family.
    pub address: A,
    /// Protocol number, in network order so that the port's bits come last.
    pub protocol: Be16,
    /// The host port, or the first of an aligned block of them.
    pub port: Be16,
}

impl<A: Address> BoundPortKey<A> {
    /// Bits of the whole key, for one port; a block of 2ⁿ ports has n fewer.
    pub const BITS: u32 = A::BITS + 32;
}

/// A published port of a container by its target port, as the data of an LPM trie. It is looked up for a packet whose
/// connection is no longer in the flow table, and for a packet to the container's own address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct TargetPortKey {
    /// The container's handle.
    pub endpoint: Handle,
    /// Protocol number, in network order so that the port's bits come last; above it 4 or 6, the family.
    pub(crate) protocol: Be16,
    /// The container's port, or the first of an aligned block of them.
    pub(crate) port: Be16,
}

impl TargetPortKey {
    /// Bits of the whole key, for one port; a block of 2ⁿ ports has n fewer.
    pub const BITS: u32 = 64;

    /// The key of a port in a family.
    #[inline(always)]
    pub fn new<A: Family>(endpoint: Handle, protocol: u8, port: Be16) -> Self {
        let family = if A::IS_V6 { 6 } else { 4 };
        Self { endpoint, protocol: Be16::new(u16::from(protocol) | (family << 8)), port }
    }
}

const _: () = assert!(size_of::<PublicationRow>() == 88);
