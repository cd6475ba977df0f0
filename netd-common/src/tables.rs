//! Every map between the kernel side and the user side: its name, its capacity and its row.
//!
//! Rows are [`Pod`]: no hidden padding, no invariants; what a field may mean is decided by the code that reads it. Keys
//! and rows are made of words, because the BPF side copies byte arrays a byte at a time.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use bytemuck::{Pod, Zeroable};

use crate::bytes::{Address, Be16, Ipv4, Ipv6};
use crate::checksum::Delta;
use crate::flow::{Handle, Tuple, Zone};
use crate::packet::Family;

/// Names of the maps, as the object and the pins carry them (at most 15 bytes: BPF_OBJ_NAME_LEN). Those of IPv6 end in 6.
pub mod name {
    /// LRU hash: [`FlowKey`](crate::flow::FlowKey) → [`FlowRow`](super::FlowRow), of connections that both sides want.
    pub const FLOWS: &str = "FLOWS";
    /// The same, IPv6.
    pub const FLOWS6: &str = "FLOWS6";
    /// As [`FLOWS`], of young and half-open connections: what a flood can push out is in here.
    pub const YOUNG: &str = "YOUNG";
    /// The same, IPv6.
    pub const YOUNG6: &str = "YOUNG6";
    /// LRU hash: [`FragmentKey`](super::FragmentKey) → [`FragmentRow`](super::FragmentRow).
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// The same, IPv6.
    pub const FRAGMENTS6: &str = "FRAGMENTS6";
    /// LRU hash: [`HeldKey`](super::HeldKey) → [`HeldRow`](super::HeldRow).
    pub const HELD: &str = "HELD";
    /// The same, IPv6.
    pub const HELD6: &str = "HELD6";
    /// Array: slot → [`EndpointRow`](super::EndpointRow).
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// Hash: index of a host-side veth → its endpoint's handle.
    pub const ENDPOINT_OF: &str = "ENDPOINT_OF";
    /// Hash: a container's address as an IPv6 one → its endpoint's handle.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// Array: slot → [`PublicationRow`](super::PublicationRow).
    pub const PUBLICATIONS: &str = "PUBLICATIONS";
    /// Array: protocol and host port → [`PortRow`](super::PortRow).
    pub const PORTS: &str = "PORTS";
    /// LPM trie: [`BoundPortKey`](super::BoundPortKey) → publication handle.
    pub const BOUND_PORTS: &str = "BOUND_PORTS";
    /// The same, IPv6.
    pub const BOUND_PORTS6: &str = "BOUND_PORTS6";
    /// LPM trie: [`TargetPortKey`](super::TargetPortKey) → publication handle.
    pub const TARGET_PORTS: &str = "TARGET_PORTS";
    /// LPM trie: address → network number, never zero.
    pub const SUBNETS: &str = "SUBNETS";
    /// The same, IPv6.
    pub const SUBNETS6: &str = "SUBNETS6";
    /// LPM trie: [`SourceKey`](super::SourceKey) → whether it may, see [`access`](super::access).
    pub const SOURCES: &str = "SOURCES";
    /// Hash: interface index → [`UplinkRow`](super::UplinkRow).
    pub const UPLINKS: &str = "UPLINKS";
    /// Hash, used as a set: [`TrustKey`](super::TrustKey).
    pub const TRUSTED: &str = "TRUSTED";
    /// Hash: the host's own addresses as IPv6 ones, for the socket hooks.
    pub const LOCALS: &str = "LOCALS";
    /// LRU hash: [`SocketKey`](super::SocketKey) → [`SocketRow`](super::SocketRow).
    pub const SOCKETS: &str = "SOCKETS";
    /// Array: [`Phase`](crate::track::Phase) → how long a connection in it may be idle, in [`tick`](super::tick)s.
    pub const TIMEOUTS: &str = "TIMEOUTS";
    /// Per-CPU array: [`Reason`](crate::verdict::Reason) → [`CounterRow`](super::CounterRow).
    pub const DROPS: &str = "DROPS";
    /// Per-CPU array: what the XDP stage has refused, [`RefusalRow`](super::RefusalRow).
    pub const REFUSALS: &str = "REFUSALS";
    /// The same, IPv6.
    pub const REFUSALS6: &str = "REFUSALS6";
    /// Array of one: how often the user side has changed whom it lets in, for who remembers what it judged.
    pub const EPOCH: &str = "EPOCH";
    /// Program array: [`stage`](super::stage) → program.
    pub const STAGES: &str = "STAGES";

    /// Every map that is pinned.
    pub const ALL: [&str; 29] = [
        FLOWS,
        FLOWS6,
        YOUNG,
        YOUNG6,
        FRAGMENTS,
        FRAGMENTS6,
        HELD,
        HELD6,
        ENDPOINTS,
        ENDPOINT_OF,
        ADDRESSES,
        PUBLICATIONS,
        PORTS,
        BOUND_PORTS,
        BOUND_PORTS6,
        TARGET_PORTS,
        SUBNETS,
        SUBNETS6,
        SOURCES,
        UPLINKS,
        TRUSTED,
        LOCALS,
        SOCKETS,
        TIMEOUTS,
        DROPS,
        REFUSALS,
        REFUSALS6,
        EPOCH,
        STAGES,
    ];
}

/// The programs that go on where the first one on a hook needs more than a look: they are entered by tail calls, so that
/// each has a stack of its own and what every packet runs stays short.
///
/// ```text
/// uplink_ingress ────┬──▶ follow ──▶ young ──▶ uplink_first ────┬───────────┬─▶ direct ─┐
/// container_ingress ─┘       │         ▲  └──▶ container_first ──┼───────────┘           │
///                            │         │                         ├─▶ hairpin ─┬──────────┤
///                            │         │         uplink_first ───┼────────────┴─▶ forward┤
///                            │         │                         └─▶ masquerade ─────────┤
///                            │         └────────────────────────────────────────────────┘
///                            └──▶ icmp_error                           every one of them ──▶ answer, report
///
/// an error about no flow: icmp_error ──▶ uplink_first, container_first
/// a later fragment: uplink_first, hairpin, masquerade, direct ──▶ hold; follow, if its first has come meanwhile
/// a first fragment: follow ──▶ first_part ──▶ follow; if others wait in `hold`, it and they come in anew
/// a flow between the families: follow6, young6 ──▶ to_four         hairpin ──▶ from_four, from_four_young ──▶ to_six
/// ```
pub mod stage {
    /// A packet of which the flow table alone does not say what becomes, IPv4.
    pub const FOLLOW: u32 = 0;
    /// The same, IPv6.
    pub const FOLLOW6: u32 = 1;
    /// A packet that has no flow that both sides want, IPv4.
    pub const YOUNG: u32 = 2;
    /// The same, IPv6.
    pub const YOUNG6: u32 = 3;
    /// A packet from outside of no flow, IPv4.
    pub const UPLINK: u32 = 4;
    /// The same, IPv6.
    pub const UPLINK6: u32 = 5;
    /// A packet from a container of no flow, IPv4.
    pub const CONTAINER: u32 = 6;
    /// The same, IPv6.
    pub const CONTAINER6: u32 = 7;
    /// An ICMP error, IPv4.
    pub const ICMP: u32 = 8;
    /// The same, IPv6.
    pub const ICMP6: u32 = 9;
    /// A packet that goes no further and is answered, IPv4.
    pub const ANSWER: u32 = 10;
    /// The same, IPv6.
    pub const ANSWER6: u32 = 11;
    /// A dropped packet that is to be told of.
    pub const REPORT: u32 = 12;
    /// A later fragment whose first has not come, IPv4.
    pub const HOLD: u32 = 13;
    /// The same, IPv6.
    pub const HOLD6: u32 = 14;
    /// A first fragment, which others may wait for, IPv4.
    pub const FIRST_PART: u32 = 15;
    /// The same, IPv6.
    pub const FIRST_PART6: u32 = 16;
    /// An IPv6 packet whose flow leads to IPv4.
    pub const TO_FOUR: u32 = 17;
    /// An IPv4 packet whose flow, if it has one, leads to IPv6.
    pub const FROM_FOUR: u32 = 18;
    /// The same, if both sides have not shown yet that they want it.
    pub const FROM_FOUR_YOUNG: u32 = 19;
    /// An IPv4 packet whose flow leads to IPv6.
    pub const TO_SIX: u32 = 20;
    /// A packet from a container to the host, IPv4.
    pub const HAIRPIN: u32 = 21;
    /// The same, IPv6.
    pub const HAIRPIN6: u32 = 22;
    /// A packet from a container to outside, IPv4.
    pub const MASQUERADE: u32 = 23;
    /// The same, IPv6.
    pub const MASQUERADE6: u32 = 24;
    /// A first packet to a container's own address from beyond its network, IPv4.
    pub const DIRECT: u32 = 25;
    /// The same, IPv6.
    pub const DIRECT6: u32 = 26;
    /// A packet of no flow to a published port whose target is no container, IPv4.
    pub const FORWARD: u32 = 27;
    /// The same, IPv6.
    pub const FORWARD6: u32 = 28;

    /// The programs in the order of their numbers.
    pub const PROGRAMS: [&str; 29] = [
        "follow",
        "follow6",
        "young",
        "young6",
        "uplink_first",
        "uplink_first6",
        "container_first",
        "container_first6",
        "icmp_error",
        "icmp_error6",
        "answer",
        "answer6",
        "report",
        "hold",
        "hold6",
        "first_part",
        "first_part6",
        "to_four",
        "from_four",
        "from_four_young",
        "to_six",
        "hairpin",
        "hairpin6",
        "masquerade",
        "masquerade6",
        "direct",
        "direct6",
        "forward",
        "forward6",
    ];
}

/// Capacities of the maps, in rows.
pub mod capacity {
    /// IPv4 connections that both sides want, unless the user says how many. The flow tables follow from it, see [`flows`].
    pub const CONNECTIONS: u32 = 1 << 17;
    /// Two rows a connection, of 128 bytes and a bucket of 16.
    pub const FLOWS: u32 = flows(CONNECTIONS)[0].1;
    /// For a quarter as many IPv6 connections, at 192 bytes a row and 16 a bucket.
    pub const FLOWS6: u32 = flows(CONNECTIONS)[1].1;
    /// For a quarter as many young and half-open connections.
    pub const YOUNG: u32 = flows(CONNECTIONS)[2].1;
    /// For an eighth as many of IPv6.
    pub const YOUNG6: u32 = flows(CONNECTIONS)[3].1;

    /// The fewest connections there can be room for: the kernel hands rows out to its CPUs in lots of 128.
    pub const FEWEST_CONNECTIONS: u32 = 1000;
    /// The most: 8 GiB of tables.
    pub const MOST_CONNECTIONS: u32 = 1 << 24;

    /// The rows of each flow table for this many connections. All are allocated when netd is first used: 516 bytes a
    /// connection, of which [`FLOWS`] are 288.
    #[must_use]
    pub const fn flows(connections: u32) -> [(&'static str, u32); 4] {
        [
            (super::name::FLOWS, at_least(connections * 2)),
            (super::name::FLOWS6, at_least(connections / 2)),
            (super::name::YOUNG, at_least(connections / 2)),
            (super::name::YOUNG6, at_least(connections / 4)),
        ]
    }

    const fn at_least(rows: u32) -> u32 {
        if rows < 1024 { 1024 } else { rows }
    }
    /// Fragmented datagrams under way, each family.
    pub const FRAGMENTS: u32 = 1 << 12;
    /// Fragments that wait for the first of their datagram, at 1.6 KiB each.
    pub const HELD: u32 = 1 << 10;
    /// Containers, and targets that are none; a slot number fits 16 bits.
    pub const ENDPOINTS: u32 = 1 << 14;
    /// Addresses of containers, one of each family.
    pub const ADDRESSES: u32 = 2 * ENDPOINTS;
    /// Publications; a range of ports is one.
    pub const PUBLICATIONS: u32 = 1 << 16;
    /// Every port of each protocol in [`super::port_index`].
    pub const PORTS: u32 = 3 << 16;
    /// Publications on one host address: one row a port, or up to 30 a range.
    pub const BOUND_PORTS: u32 = 1 << 18;
    /// Published ports of containers: one row a port, or up to 30 a range.
    pub const TARGET_PORTS: u32 = 1 << 18;
    /// Container subnets.
    pub const SUBNETS: u32 = 4096;
    /// Sources that are allowed or denied, of all publications together.
    pub const SOURCES: u32 = 1 << 18;
    /// Interfaces that lead outside.
    pub const UPLINKS: u32 = 1024;
    /// Interfaces that networks trust, of all networks together.
    pub const TRUSTED: u32 = 4096;
    /// Host addresses.
    pub const LOCALS: u32 = 4096;
    /// Host sockets that were sent to a container.
    pub const SOCKETS: u32 = 1 << 16;
    /// Refusals that a CPU remembers, each family; a power of two.
    pub const REFUSALS: u32 = 1 << 11;
    /// Stages.
    pub const STAGES: u32 = super::stage::PROGRAMS.len() as u32;
}

/// A container's attachment, or a published port's target that is no container. What every packet needs is in front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EndpointRow {
    /// The slot's present handle; zero in a free slot.
    pub handle: Handle,
    /// Index of the host-side veth; zero if it is no container.
    pub ifindex: u32,
    /// MTU of the container's interface, bytes.
    pub mtu: u32,
    /// The first 12 bytes of a frame to the container: its MAC address, then the bridge's.
    pub ethernet: [u32; 3],
    /// Index of the network's bridge (`bridge`'s, if it is no container), whose forwarding switch opens the FIB to lookups.
    pub bridge: u32,
    /// The number of its network, see [`name::SUBNETS`].
    pub network: u32,
    /// [`network_flag`]s of its network.
    pub flags: u32,
    /// Its place in IPv4.
    pub subnet4: Subnet<Ipv4>,
    /// Its place in IPv6; all zero if it has none.
    pub subnet6: Subnet<Ipv6>,
}

/// A container's place in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Subnet<A>([A; 4]);

impl<A: Address> Subnet<A> {
    /// The container's `address`, the `mask` of its network, the host's address on it (`gateway`), and the source address
    /// of its connections to outside (`snat`), unspecified for that of the uplink.
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

/// What a network forbids or wants. Of a pair that differs by family IPv6's is the next bit, see
/// [`Family::flag`].
pub mod network_flag {
    /// Containers on it do not reach each other directly.
    pub const NO_ICC: u32 = 1;
    /// Nothing beyond it is reached.
    pub const INTERNAL: u32 = 2;
    /// IPv4 connections to outside keep the container's address.
    pub const NO_MASQUERADE: u32 = 4;
    /// The same for IPv6.
    pub const NO_MASQUERADE6: u32 = 8;
    /// Whoever routes to it reaches every port by IPv4 addresses of its containers.
    pub const UNPROTECTED: u32 = 16;
    /// The same for IPv6.
    pub const UNPROTECTED6: u32 = 32;
    /// Whoever routes to it reaches published ports by IPv4 addresses of its containers, and nobody by the host's.
    pub const ROUTED: u32 = 64;
    /// The same for IPv6.
    pub const ROUTED6: u32 = 128;
}

/// An interface by which published ports of a network are reached by its containers' own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct TrustKey {
    /// The network's number, see [`name::SUBNETS`].
    pub network: u32,
    /// The interface's index.
    pub ifindex: u32,
}

/// An interface that leads outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct UplinkRow {
    /// In whose name IPv4 connections leave by it; unspecified if it has no address.
    pub address4: Ipv4,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// The same for IPv6.
    pub address6: Ipv6,
    /// Its MAC address, as two words of the wire's bytes; the last two bytes are zero.
    pub mac: [u32; 2],
    /// [`uplink_flag`]s.
    pub flags: u32,
}

/// What an uplink can do.
pub mod uplink_flag {
    /// It takes frames that the XDP stage of an uplink redirects to it. Whoever redirects to one that does not is not told: the
    /// frame is lost.
    pub const TAKES_FRAMES: u32 = 1;
}

/// A MAC address as [`UplinkRow::mac`] has it.
pub const fn mac_words(mac: [u8; 6]) -> [u32; 2] {
    let [a, b, c, d, e, f] = mac;
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, 0, 0])]
}

impl EndpointRow {
    /// Whether it is no container, but a host that is reached by an uplink.
    #[inline(always)]
    pub const fn is_remote(&self) -> bool {
        self.ifindex == 0
    }

    /// The `ethernet` words for these addresses.
    pub fn ethernet(container: [u8; 6], bridge: [u8; 6]) -> [u32; 3] {
        let [a, b, c, d, e, f] = container;
        let [g, h, i, j, k, l] = bridge;
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), u32::from_ne_bytes([i, j, k, l])]
    }

    /// The container's MAC address as the wire's bytes in native words.
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

/// A publication: one port or a range of them, at one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PublicationRow {
    /// The slot's present handle; zero in a free slot.
    pub handle: Handle,
    /// The target's.
    pub endpoint: Handle,
    /// The first host port.
    pub host_port: Be16,
    /// The first target port; host port `n` of the range goes to target port `n`.
    pub target_port: Be16,
    /// How many ports it has.
    pub ports: u32,
    /// The one interface that its clients come in by; any if zero.
    pub interface: u32,
    /// [`publication_flag`]s.
    pub flags: u32,
    /// The one host address that it is on, IPv4 in its mapped form; unspecified for all.
    pub address: Ipv6,
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

    /// The host port for a packet from `target_port`; the first, if the publication has no such port.
    #[inline(always)]
    pub const fn host_port_of(&self, target_port: Be16) -> Be16 {
        let offset = target_port.get().wrapping_sub(self.target_port.get());
        let offset = if (offset as u32) < self.ports { offset } else { 0 };
        Be16::new(self.host_port.get().wrapping_add(offset))
    }
}

/// What holds for a publication.
pub mod publication_flag {
    /// Another one has taken its ports: its connections go on, and none begins.
    pub const DRAINING: u32 = 1;
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

/// A published port of a container that is reached from beyond the host, as the data of an LPM trie: for a packet of a
/// connection that the flow table has forgotten, and for one to the container's own address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct TargetPortKey {
    /// The container's handle.
    pub endpoint: Handle,
    /// Protocol number, in network order so that the port's bits come last; above it 4 or 6, the family.
    protocol: Be16,
    /// The container's port, or the first of an aligned block of them.
    port: Be16,
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

/// Whom a publication lets in, as the data of an LPM trie: the longest prefix wins, and that of the publication alone stands
/// for everybody else. A publication without a row is ruled by those of no publication, and without them open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SourceKey {
    /// The publication's handle; [`Handle::NONE`] for all that have no rows of their own.
    pub publication: Handle,
    /// The source address, or the first of a network's; IPv4 in its mapped form.
    pub source: Ipv6,
}

impl SourceKey {
    /// Bits before the source address.
    pub const PUBLICATION_BITS: u32 = 32;
    /// Bits of the whole key, for one address.
    pub const BITS: u32 = Self::PUBLICATION_BITS + Ipv6::BITS;
    /// Bits of the source address before an IPv4 one.
    pub const MAPPED_BITS: u32 = 96;
}

/// What [`name::SOURCES`] says.
pub mod access {
    /// It may not.
    pub const DENY: u32 = 0;
    /// It may.
    pub const ALLOW: u32 = 1;
}

/// One direction of a connection: everything needed to send its packets on (64 or 104 bytes).
///
/// Each direction writes its own row only, so that the two never share a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowRow<A: Address> {
    /// Source address after translation.
    pub src: A,
    /// Destination address after translation.
    pub dst: A,
    /// Source port after translation.
    pub src_port: Be16,
    /// Destination port after translation.
    pub dst_port: Be16,
    /// What the new addresses add to a checksum.
    pub addresses: Delta,
    /// What the new ports add to a checksum.
    pub ports: Delta,
    /// The container that the packets go to; for those to outside the one at the other end.
    pub endpoint: Handle,
    /// The publication it was made by; none for a connection that a container made to outside.
    pub publication: Handle,
    /// [`direction`] in the low bits; TCP flags seen this way from bit 8; MTU of the way from bit 16, see [`Self::mtu`].
    pub state: u32,
    /// When a packet last passed, in [`tick`]s; zero if none has. Whatever is done once a tick is done when it moves, but see
    /// [`Self::rests`].
    pub last: u32,
    /// The interface to leave by, for packets to outside; 0 if not known yet.
    pub oif: u32,
    /// TCP's acknowledgement number of the last packet this way: what the other side may go on with.
    pub acknowledged: u32,
    /// The next hop on that interface.
    pub next_hop: A,
    /// The low part of the packets before `last`, see [`Self::totals`].
    pub(crate) packets_low: u32,
    /// Zero.
    pub(crate) pad: A::Pad,
    /// Packets and bytes since the connection was last settled, see [`pending`].
    pub pending: u64,
    /// The bytes before `last`, and above them the high part of the packets.
    pub(crate) bytes_and_packets: u64,
}

/// Bits of a row's total bytes, 64 PiB; above them 8 bits of its packets, 40 altogether.
const TOTAL_BYTES: u32 = 56;

impl<A: Address> FlowRow<A> {
    /// The addresses and ports after translation.
    #[inline(always)]
    pub const fn tuple(&self) -> Tuple<A> {
        Tuple { src: self.src, dst: self.dst, src_port: self.src_port, dst_port: self.dst_port }
    }

    /// Whether its packets go to outside.
    #[inline(always)]
    pub const fn is_outward(&self) -> bool {
        self.state & direction::OUTWARD != 0
    }

    /// Whether a packet in a later tick than the last may pass with nothing done but the tick's note: not to outside, whose
    /// routes change; not an answer to a container's own connection, which a socket of the host's may have come to want; and
    /// not if so many packets are pending that those of one more tick might not fit.
    #[inline(always)]
    pub const fn rests(&self, now: u32) -> bool {
        !self.is_outward()
            && !self.publication.is_none()
            && tick::round(self.last) == tick::round(now)
            && pending::packets(self.pending) < pending::MANY
    }

    /// Whether its packets are the answers.
    #[inline(always)]
    pub const fn is_reply(&self) -> bool {
        self.state & direction::REPLY != 0
    }

    /// Whether its packets change families on the way.
    #[inline(always)]
    pub const fn crosses(&self) -> bool {
        self.state & direction::CROSSES != 0
    }

    /// What has been seen this way.
    #[inline(always)]
    pub const fn seen(&self) -> crate::track::Seen {
        crate::track::Seen { any: self.last != 0, flags: (self.state >> 8) as u8 }
    }

    /// Notes TCP flags.
    #[inline(always)]
    pub fn see(&mut self, flags: u8) {
        self.state |= u32::from(flags) << 8;
    }

    /// Forgets the TCP flags.
    #[inline(always)]
    pub fn forget_flags(&mut self) {
        self.state &= !0xff00;
        self.acknowledged = 0;
    }

    /// MTU of the way to outside, bytes; 0 if not known yet. Larger ones than 65,535 are as good as that.
    #[inline(always)]
    pub const fn mtu(&self) -> u32 {
        self.state >> 16
    }

    /// Notes the MTU of the way to outside.
    #[inline(always)]
    pub fn set_mtu(&mut self, mtu: u32) {
        let mtu = if mtu > 0xffff { 0xffff } else { mtu };
        self.state = (self.state & 0xffff) | (mtu << 16);
    }

    /// Packets and bytes before `last`.
    pub const fn totals(&self) -> (u64, u64) {
        let packets = (self.bytes_and_packets >> TOTAL_BYTES << 32) | self.packets_low as u64;
        (packets, self.bytes_and_packets & ((1 << TOTAL_BYTES) - 1))
    }

    /// Adds to [`Self::totals`].
    #[inline(always)]
    pub fn add_totals(&mut self, packets: u64, bytes: u64) {
        let sum = u64::from(self.packets_low) + packets;
        self.packets_low = sum as u32;
        self.bytes_and_packets = self.bytes_and_packets.wrapping_add(bytes + (sum >> 32 << TOTAL_BYTES));
    }
}

/// A fragmented datagram under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// The datagram's number (a native word of wire bytes).
    pub id: u32,
    /// Protocol number in the low 8 bits, zone above, as in a flow's key.
    protocol_and_zone: u32,
}

impl<A: Address> FragmentKey<A> {
    /// The key of the datagram with this number, coming in from `zone`.
    #[inline(always)]
    pub const fn new(src: A, dst: A, id: u32, protocol: u8, zone: Zone) -> Self {
        Self { src, dst, id, protocol_and_zone: protocol as u32 | (zone.ifindex() << 8) }
    }
}

/// The ports that only a datagram's first fragment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FragmentRow {
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// When the first fragment passed, or the first of those that wait for it, in [`tick`]s: numbers are used again.
    pub last: u32,
    /// Whether the first fragment has come: 1 or 0.
    first: u32,
    /// Zero.
    pad: u32,
    /// How many fragments wait for it.
    pub held: u64,
}

impl FragmentRow {
    /// Of a datagram whose first fragment has come.
    pub const fn first(src_port: Be16, dst_port: Be16, now: u32) -> Self {
        Self { src_port, dst_port, last: now, first: 1, pad: 0, held: 0 }
    }

    /// Of one whose first fragment has not come.
    pub const fn awaited(now: u32) -> Self {
        Self { src_port: Be16::new(0), dst_port: Be16::new(0), last: now, first: 0, pad: 0, held: 0 }
    }

    /// Whether the first fragment has come.
    #[inline(always)]
    pub const fn has_first(&self) -> bool {
        self.first != 0
    }

    /// Takes over all but the number of those that wait.
    #[inline(always)]
    pub fn take_ports(&mut self, from: &Self) {
        self.src_port = from.src_port;
        self.dst_port = from.dst_port;
        self.last = from.last;
        self.first = from.first;
    }
}

/// A fragment that waits for the first of its datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct HeldKey<A> {
    /// The datagram.
    pub datagram: FragmentKey<A>,
    /// Which of those that wait, from 0.
    pub number: u32,
    /// Zero.
    pad: u32,
}

impl<A: Address> HeldKey<A> {
    /// The key of a datagram's fragment.
    #[inline(always)]
    pub const fn new(datagram: FragmentKey<A>, number: u32) -> Self {
        Self { datagram, number, pad: 0 }
    }
}

/// The fragment itself.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HeldRow {
    /// Its length, bytes, Ethernet header included; at most [`Self::ROOM`].
    pub len: u32,
    /// Zero.
    pad: u32,
    /// The frame, and zeros behind it.
    pub frame: [u64; Self::ROOM / 8],
}

impl HeldRow {
    /// The longest frame that is held, bytes: Ethernet's.
    pub const ROOM: usize = 1536;
}

/// How long a datagram's fragments may be apart, ticks: the reassembly timeout of Linux (`IP_FRAG_TIME`, 30 s).
pub const FRAGMENT_TICKS: u32 = 28;

/// The clock of the flow table: the kernel's monotonic clock in units of 2³⁰ ns, a shift instead of a division.
pub mod tick {
    /// The tick of a monotonic time in nanoseconds. It wraps after 146 years.
    #[inline(always)]
    pub const fn of_nanos(nanos: u64) -> u32 {
        (nanos >> 30) as u32
    }

    /// The round of a tick: eight of them. What leads into a container asks nobody for the way, and is settled once a round.
    #[inline(always)]
    pub const fn round(tick: u32) -> u32 {
        tick >> 3
    }

    /// The ticks of that many seconds, one at least.
    pub const fn of_seconds(seconds: u32) -> u32 {
        let ticks = of_nanos(seconds as u64 * 1_000_000_000);
        if ticks == 0 { 1 } else { ticks }
    }

    /// Milliseconds in that many ticks.
    pub const fn to_millis(ticks: u32) -> u64 {
        ((ticks as u64) << 30) / 1_000_000
    }
}

/// Which way a row's packets go.
pub mod direction {
    /// To a container.
    pub const INWARD: u32 = 0;
    /// To outside.
    pub const OUTWARD: u32 = 1;
    /// The row is of the answers.
    pub const REPLY: u32 = 2;
    /// One side is IPv6 and the other IPv4, in mapped addresses.
    pub const CROSSES: u32 = 4;
}

/// Packets and bytes in one word, so that counting a packet is one atomic addition. Emptied every second: 2²⁴ packets and
/// 2⁴⁰ bytes are more than a second holds.
pub mod pending {
    const BYTES: u32 = 40;

    /// A quarter of the packets that a word has room for: fewer than this may wait for another tick's.
    pub const MANY: u64 = 1 << (64 - BYTES - 2);

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
    /// The container's address, IPv4 in its mapped form.
    pub target: Ipv6,
    /// The container's port.
    pub target_port: Be16,
    /// Protocol number.
    pub protocol: Be16,
    /// Zero.
    pub pad: u32,
}

/// The address that the application thinks it talks to. Aligned, because the verifier takes no double word across two of the
/// stack's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct SocketRow {
    /// The address, IPv4 in its mapped form (RFC 4291 §2.5.5.2).
    pub address: Ipv6,
    /// The port.
    pub port: Be16,
    /// Zeros.
    pad: [u16; 3],
}

impl SocketRow {
    /// Where an application wants to get.
    #[inline(always)]
    pub const fn new(address: Ipv6, port: Be16) -> Self {
        Self { address, port, pad: [0; 3] }
    }
}

/// What the XDP stage of one CPU has refused, to be refused again without a judgement; it stands for packets of every source
/// port. Nobody has been refused a connection that goes on: sources that have had one are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RefusalRow<A: Address> {
    /// When it was judged; below it, the [`name::EPOCH`] in which.
    pub stamp: u64,
    /// The MAC address that it was for, see [`mac_words`].
    pub mac: [u32; 2],
    /// The interface that it came in by.
    pub ifindex: u32,
    /// Destination port and protocol, see [`Glance`](crate::packet::Glance).
    pub port_and_protocol: u32,
    /// The [`Reason`](crate::verdict::Reason)'s number.
    pub reason: u32,
    /// Which bit tells whether the source has had a connection.
    pub peer: u32,
    /// Packets that neither its reason nor its publication has counted yet.
    pub pending: u32,
    /// The publication that counts it as well; none if none was asked for.
    pub publication: Handle,
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// The pending packets' bytes.
    pub bytes: u64,
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
    /// When the XDP stage last left one to the programs behind it, to be reported, as in [`RefusalRow::stamp`].
    pub left: u32,
}

// The memory per connection is what `capacity` counts with; what every packet reads of an endpoint is one cache line.
const _: () = {
    assert!(size_of::<FlowRow<Ipv4>>() == 64);
    assert!(size_of::<EndpointRow>() == 36 + 16 + 64);
    assert!(size_of::<PublicationRow>() == 88);
};
