//! Every map between the kernel side and the user side: its name, its capacity and its row.
//!
//! Rows are [`Pod`]: no hidden padding, no invariants; what a field may mean is decided by the code that reads it. Keys
//! and rows are made of words, because the BPF side copies byte arrays a byte at a time.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use bytemuck::{Pod, Zeroable};

use crate::bytes::{Be16, Ipv4};
use crate::checksum::Delta;
use crate::flow::Handle;

/// Names of the maps, as the object and the pins carry them (at most 15 bytes: BPF_OBJ_NAME_LEN).
pub mod name {
    /// LRU hash: [`FlowKey`](crate::flow::FlowKey) → [`FlowRow`](super::FlowRow).
    pub const FLOWS: &str = "FLOWS";
    /// Array: slot → [`EndpointRow`](super::EndpointRow).
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// Hash: index of a host-side veth → its endpoint's handle.
    pub const ENDPOINT_OF: &str = "ENDPOINT_OF";
    /// Array: slot → [`PublicationRow`](super::PublicationRow).
    pub const PUBLICATIONS: &str = "PUBLICATIONS";
    /// Array: protocol and host port → [`PortRow`](super::PortRow).
    pub const PORTS: &str = "PORTS";
    /// LPM trie: [`BoundPortKey`](super::BoundPortKey) → publication handle.
    pub const BOUND_PORTS: &str = "BOUND_PORTS";
    /// LPM trie: [`SubnetKey`](super::SubnetKey) → network number.
    pub const SUBNETS: &str = "SUBNETS";
    /// Hash: the host's own addresses, for the socket hooks.
    pub const LOCALS: &str = "LOCALS";
    /// LRU hash: [`SocketKey`](super::SocketKey) → [`SocketRow`](super::SocketRow).
    pub const SOCKETS: &str = "SOCKETS";
    /// Per-CPU array: [`Reason`](crate::verdict::Reason) → [`CounterRow`](super::CounterRow).
    pub const DROPS: &str = "DROPS";

    /// Every map, for pinning and checking.
    pub const ALL: [&str; 10] =
        [FLOWS, ENDPOINTS, ENDPOINT_OF, PUBLICATIONS, PORTS, BOUND_PORTS, SUBNETS, LOCALS, SOCKETS, DROPS];
}

/// Capacities of the maps, in rows.
pub mod capacity {
    /// Two rows a connection. At 128 bytes a row and 16 a bucket this is 36 MiB, allocated when netd is first used.
    pub const FLOWS: u32 = 1 << 18;
    /// Containers; a slot number fits 16 bits.
    pub const ENDPOINTS: u32 = 1 << 14;
    /// Publications; a range of ports is one.
    pub const PUBLICATIONS: u32 = 1 << 16;
    /// Every port of each protocol in [`super::port_index`].
    pub const PORTS: u32 = 3 << 16;
    /// Publications on one host address: one row a port, or up to 30 a range.
    pub const BOUND_PORTS: u32 = 1 << 18;
    /// Container subnets.
    pub const SUBNETS: u32 = 4096;
    /// Host addresses.
    pub const LOCALS: u32 = 4096;
    /// Host sockets that were sent to a container.
    pub const SOCKETS: u32 = 1 << 16;
}

/// A container's attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EndpointRow {
    /// The slot's present handle; zero in a free slot.
    pub handle: Handle,
    /// Index of the host-side veth.
    pub ifindex: u32,
    /// The container's address.
    pub address: Ipv4,
    /// The mask of its network.
    pub mask: Ipv4,
    /// The number of its network, see [`SubnetKey`].
    pub network: u32,
    /// Index of the network's bridge, whose forwarding switch opens the FIB to lookups.
    pub bridge: u32,
    /// MTU of the container's interface, bytes.
    pub mtu: u32,
    /// The first 12 bytes of a frame to the container: its MAC address, then the bridge's.
    pub ethernet: [u32; 3],
    /// The host's address on its network.
    pub gateway: Ipv4,
    /// [`network_flag`]s of its network.
    pub flags: u32,
}

/// What a network forbids.
pub mod network_flag {
    /// Containers on it do not reach each other directly.
    pub const NO_ICC: u32 = 1;
    /// Nothing beyond it is reached.
    pub const INTERNAL: u32 = 2;
}

impl EndpointRow {
    /// The `ethernet` words for these addresses.
    pub fn ethernet(container: [u8; 6], bridge: [u8; 6]) -> [u32; 3] {
        let [a, b, c, d, e, f] = container;
        let [g, h, i, j, k, l] = bridge;
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), u32::from_ne_bytes([i, j, k, l])]
    }

    /// The container's MAC address.
    pub fn mac(&self) -> [u8; 6] {
        let [first, second, _] = self.ethernet;
        let [a, b, c, d] = first.to_ne_bytes();
        let [e, f, _, _] = second.to_ne_bytes();
        [a, b, c, d, e, f]
    }
}

/// A publication: one port or a range of them, at one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PublicationRow {
    /// The slot's present handle; zero in a free slot.
    pub handle: Handle,
    /// The container's.
    pub endpoint: Handle,
    /// Target address.
    pub target: Ipv4,
    /// The first host port.
    pub host_port: Be16,
    /// The first target port; host port `n` of the range goes to target port `n`.
    pub target_port: Be16,
    /// What passed and what did not.
    pub counters: PublicationCounters,
}

impl PublicationRow {
    /// The target's port for a packet to `host_port`, which lies in the range.
    #[inline(always)]
    pub const fn target_port(&self, host_port: Be16) -> Be16 {
        let offset = host_port.get().wrapping_sub(self.host_port.get());
        Be16::new(self.target_port.get().wrapping_add(offset))
    }
}

/// A publication's counters. Packets and bytes of live flows reach it once a second, see [`FlowRow::pending`].
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
    /// Packets dropped on their way.
    pub dropped: u64,
}

/// Who has a host port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PortRow {
    /// The publication on all of the host's addresses; none if zero.
    pub any: Handle,
    /// How many publications on single addresses have this port: whether to look in [`name::BOUND_PORTS`].
    pub bound: u32,
}

/// The row number of a port in [`name::PORTS`]; `None` for a protocol without ports.
#[inline(always)]
pub const fn port_index(protocol: u8, port: Be16) -> Option<u32> {
    let plane = match protocol {
        crate::flow::protocol::TCP => 0,
        crate::flow::protocol::UDP => 1,
        crate::flow::protocol::SCTP => 2,
        _ => return None,
    };
    Some((plane << 16) | port.get() as u32)
}

/// A publication on one host address, as the data of an LPM trie: the longest prefix wins, and a range of ports is a few
/// prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct BoundPortKey {
    /// The host's address.
    pub address: Ipv4,
    /// Protocol number, in network order so that the port's bits come last.
    pub protocol: Be16,
    /// The host port, or the first of an aligned block of them.
    pub port: Be16,
}

impl BoundPortKey {
    /// Bits of the whole key, for one port; a block of 2ⁿ ports has n fewer.
    pub const BITS: u32 = 64;
}

/// A container subnet, as the data of an LPM trie; its row is the number of the network, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SubnetKey {
    /// The address.
    pub address: Ipv4,
}

impl SubnetKey {
    /// Bits of the whole key.
    pub const BITS: u32 = 32;
}

/// One direction of a connection: everything needed to send its packets on (64 bytes).
///
/// Each direction writes its own row only, so that the two never share a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowRow {
    /// Source address after translation.
    pub src: Ipv4,
    /// Destination address after translation.
    pub dst: Ipv4,
    /// Source port after translation.
    pub src_port: Be16,
    /// Destination port after translation.
    pub dst_port: Be16,
    /// What the new addresses add to a checksum.
    pub addresses: Delta,
    /// What the new ports add to a checksum.
    pub ports: Delta,
    /// The container at the inner end.
    pub endpoint: Handle,
    /// The publication it was made by.
    pub publication: Handle,
    /// [`direction`] in the low bits; TCP flags seen this way from bit 8 up.
    pub state: u32,
    /// When a packet last passed, in [`tick`]s; counters and route are refreshed when it moves.
    pub last: u32,
    /// The interface to leave by, for packets to outside; 0 if not known yet.
    pub oif: u32,
    /// The next hop on that interface.
    pub next_hop: Ipv4,
    /// Packets and bytes since `last`, see [`pending`].
    pub pending: u64,
    /// Packets before that.
    pub packets: u64,
    /// Bytes before that.
    pub bytes: u64,
}

impl FlowRow {
    /// Whether its packets go from a container to outside.
    pub const fn is_outward(&self) -> bool {
        self.state & direction::OUTWARD != 0
    }

    /// The TCP flags seen this way, all packets together.
    pub const fn tcp_flags(&self) -> u8 {
        (self.state >> 8) as u8
    }

    /// Whether a packet with these TCP flags begins a new connection on a row whose old one has ended: a client may use a
    /// port again as soon as it likes.
    #[inline(always)]
    pub const fn begins_anew(&self, flags: u8) -> bool {
        use crate::packet::tcp_flag::{ACK, FIN, RST, SYN};
        flags & (SYN | ACK) == SYN && !self.is_outward() && self.tcp_flags() & (FIN | RST) != 0
    }

    /// Forgets the TCP flags.
    #[inline(always)]
    pub fn forget_flags(&mut self) {
        self.state &= 0xff;
    }

    /// Whether a packet passed in the last `millis` and the connection has not been ended this way.
    pub const fn is_active(&self, now: u32, millis: u64) -> bool {
        let ended = self.tcp_flags() & (crate::packet::tcp_flag::FIN | crate::packet::tcp_flag::RST) != 0;
        !ended && tick::to_millis(now.wrapping_sub(self.last)) <= millis
    }
}

/// The clock of the flow table: the kernel's monotonic clock in units of 2³⁰ ns, a shift instead of a division.
pub mod tick {
    /// The tick of a monotonic time in nanoseconds. It wraps after 146 years.
    #[inline(always)]
    pub const fn of_nanos(nanos: u64) -> u32 {
        (nanos >> 30) as u32
    }

    /// Milliseconds in that many ticks.
    pub const fn to_millis(ticks: u32) -> u64 {
        ((ticks as u64) << 30) / 1_000_000
    }
}

/// Which way a row's packets go.
pub mod direction {
    /// From outside to a container.
    pub const INWARD: u32 = 0;
    /// From a container to outside.
    pub const OUTWARD: u32 = 1;
}

/// Packets and bytes in one word, so that counting a packet is one atomic addition. Emptied every second: 2²⁴ packets and
/// 2⁴⁰ bytes are more than a second holds.
pub mod pending {
    const BYTES: u32 = 40;

    /// One packet of `len` bytes.
    #[inline(always)]
    pub const fn packet(len: u32) -> u64 {
        (1 << BYTES) | len as u64
    }

    /// The packets in a word.
    #[inline(always)]
    pub const fn packets(word: u64) -> u64 {
        word >> BYTES
    }

    /// The bytes in a word.
    #[inline(always)]
    pub const fn bytes(word: u64) -> u64 {
        word & ((1 << BYTES) - 1)
    }
}

/// A host socket and the container's address that it was sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SocketKey {
    /// The kernel's number for the socket.
    pub cookie: u64,
    /// The container's address.
    pub target: Ipv4,
    /// The container's port, and zero.
    pub target_port: Be16,
    /// Protocol number.
    pub protocol: Be16,
}

/// The address that the application thinks it talks to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SocketRow {
    /// The address, as four words of a 16-byte address; an IPv4 one is mapped (RFC 4291 §2.5.5.2).
    pub address: [u32; 4],
    /// The port.
    pub port: Be16,
    /// Zero.
    pub pad: u16,
}

/// Dropped packets and bytes on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CounterRow {
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
    /// The [`tick`] in which one of them was last reported.
    pub reported: u32,
    /// Zero.
    pub pad: u32,
}

// The kernel hashes and compares keys by their bytes, and the memory per connection is a promise of the README.
const _: () = {
    assert!(size_of::<crate::flow::FlowKey>() == 16);
    assert!(size_of::<FlowRow>() == 64);
    assert!(size_of::<EndpointRow>() == 48);
    assert!(size_of::<PublicationRow>() == 64);
    assert!(size_of::<SocketKey>() == 16);
};
