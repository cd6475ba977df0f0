//! The maps: name, kind, key, value and capacity of each.

use crate::abi::{
    BoundPortKey, DenyCacheRow, DropRow, EndpointRow, FillRow, FlowRow, FragmentKey, FragmentRow, LimitRow,
    PortRow, PublicationRow, QueuedFragmentKey, QueuedFragmentRow, SocketKey, SocketRow, SourceKey,
    TargetPortKey, TrustKey, UplinkRow, UsageRow, VersionRow, table,
};
use crate::flow::state::State;
use crate::flow::{FlowKey, Handle};
use crate::verdict::Reason;
use crate::wire::bytes::{Ipv4, Ipv6};

/// The kernel's type of a map (`enum bpf_map_type`, include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A hash table.
    Hash = 1,
    /// An array.
    Array = 2,
    /// An array of programs, for tail calls.
    ProgramArray = 3,
    /// An array of which each CPU has its own copy.
    PerCpuArray = 6,
    /// A hash table that evicts the row that was not used for longest.
    LruHash = 9,
    /// A trie that finds the longest prefix of a key.
    LpmTrie = 11,
    /// A queue from the programs to the user side (kernel 5.8).
    RingBuf = 27,
}

impl Kind {
    /// `BPF_F_NO_PREALLOC`.
    const NO_PREALLOC: u32 = 1;

    /// The flags that a map of this kind is made with: the kernel makes no trie without `BPF_F_NO_PREALLOC`.
    const fn flags(self) -> u32 {
        match self {
            Self::LpmTrie => Self::NO_PREALLOC,
            _ => 0,
        }
    }

    /// What precedes the data of a key, bytes: a trie's prefix length.
    const fn prefix_len(self) -> u32 {
        match self {
            Self::LpmTrie => 4,
            _ => 0,
        }
    }
}

/// What a map must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Its name, as the object and the pins have it.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Length of a key, bytes.
    pub key: u32,
    /// Length of a value, bytes.
    pub value: u32,
    /// How many rows it has room for, or bytes for a [`Kind::RingBuf`]. The flow tables may be made with another number, see
    /// [`Self::is_sized_by_user`].
    pub rows: u32,
    /// The flags it is made with.
    pub flags: u32,
}

impl Map {
    #[expect(clippy::cast_possible_truncation, reason = "keys and rows are small")]
    const fn new<K, V>(name: &'static str, kind: Kind, rows: u32) -> Self {
        // BPF_OBJ_NAME_LEN, with the zero at the end.
        assert!(name.len() < 16);
        let key = size_of::<K>() as u32 + kind.prefix_len();
        Self { name, kind, key, value: size_of::<V>() as u32, rows, flags: kind.flags() }
    }

    /// Whether the map belongs to one set of programs and is pinned beside them. All other maps are shared by all sets of
    /// programs with the same ABI.
    pub const fn is_of_programs(&self) -> bool {
        matches!(self.kind, Kind::ProgramArray)
    }

    /// Whether the user says how many rows it has, see [`capacity::flows`].
    pub fn is_sized_by_user(&self) -> bool {
        let mut sized = capacity::flows(capacity::CONNECTIONS).into_iter();
        sized.any(|flows| flows.name == self.name || flows.ring == self.name)
    }
}

/// States each map once: its name for both sides, and what it must look like.
macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident: $kind:ident<$key:ty, $value:ty>, $rows:expr;)*) => {
        /// Names of the maps, as the object and the pins have them: at most 15 bytes (`BPF_OBJ_NAME_LEN`). Those of IPv6 end
        /// in 6.
        pub mod name {
            $($(#[$doc])* pub const $name: &str = stringify!($name);)*
        }

        /// Every map that is pinned.
        pub const MAPS: [Map; [$(name::$name),*].len()] =
            [$(Map::new::<$key, $value>(name::$name, Kind::$kind, $rows)),*];
    };
}

maps! {
    /// Hash: [`FlowKey`](crate::flow::FlowKey) → [`FlowRow`](crate::abi::FlowRow), established flows. No live row is removed for
    /// another one.
    FLOWS: Hash<FlowKey<Ipv4>, FlowRow<Ipv4>>, capacity::FLOWS.rows;
    /// The same, IPv6.
    FLOWS6: Hash<FlowKey<Ipv6>, FlowRow<Ipv6>>, capacity::FLOWS6.rows;
    /// As [`FLOWS`], unreplied, half-open and ended flows. A flood of new connections evicts rows of this table only.
    UNREPLIED: Hash<FlowKey<Ipv4>, FlowRow<Ipv4>>, capacity::UNREPLIED.rows;
    /// The same, IPv6.
    UNREPLIED6: Hash<FlowKey<Ipv6>, FlowRow<Ipv6>>, capacity::UNREPLIED6.rows;
    /// Array: the ring of [`FLOWS`]: the originator's [`FlowKey`](crate::flow::FlowKey) of each connection, in the order in which
    /// they came. A place whose connection has gone is free.
    FLOWS_RING: Array<u32, FlowKey<Ipv4>>, capacity::FLOWS.places;
    /// The same, IPv6.
    FLOWS_RING6: Array<u32, FlowKey<Ipv6>>, capacity::FLOWS6.places;
    /// The ring of [`UNREPLIED`].
    UNREPLIED_RING: Array<u32, FlowKey<Ipv4>>, capacity::UNREPLIED.places;
    /// The same, IPv6.
    UNREPLIED_RING6: Array<u32, FlowKey<Ipv6>>, capacity::UNREPLIED6.places;
    /// Array: [`table`](crate::abi::table) → [`LimitRow`](crate::abi::LimitRow).
    LIMITS: Array<u32, LimitRow>, capacity::TABLES;
    /// Array: [`table`](crate::abi::table) → [`FillRow`](crate::abi::FillRow).
    FILL: Array<u32, FillRow>, capacity::TABLES;
    /// Array: slot of an endpoint → [`UsageRow`](crate::abi::UsageRow).
    USAGE: Array<u32, UsageRow>, capacity::ENDPOINTS;
    /// Array: a filter of 2²³ bits, a bit for each address (several addresses share one). Set for addresses that have had a connection with a container, and for
    /// those that host sockets were sent to; never cleared. A bit that is not set says that no flow table has a row.
    SEEN_PEERS: Array<u32, u64>, capacity::SEEN_PEERS;
    /// LRU hash: [`FragmentKey`](crate::abi::FragmentKey) → [`FragmentRow`](crate::abi::FragmentRow).
    FRAGMENTS: LruHash<FragmentKey<Ipv4>, FragmentRow>, capacity::FRAGMENTS;
    /// The same, IPv6.
    FRAGMENTS6: LruHash<FragmentKey<Ipv6>, FragmentRow>, capacity::FRAGMENTS;
    /// LRU hash: [`QueuedFragmentKey`](crate::abi::QueuedFragmentKey) →
    /// [`QueuedFragmentRow`](crate::abi::QueuedFragmentRow), fragments that came before the first of their datagram.
    FRAGMENT_QUEUE: LruHash<QueuedFragmentKey<Ipv4>, QueuedFragmentRow>, capacity::FRAGMENT_QUEUE;
    /// The same, IPv6.
    FRAGMENT_QUEUE6: LruHash<QueuedFragmentKey<Ipv6>, QueuedFragmentRow>, capacity::FRAGMENT_QUEUE;
    /// Array: slot → [`EndpointRow`](crate::abi::EndpointRow).
    ENDPOINTS: Array<u32, EndpointRow>, capacity::ENDPOINTS;
    /// Hash: index of a host-side veth → its endpoint's handle.
    ENDPOINT_OF: Hash<u32, Handle>, capacity::ENDPOINTS;
    /// Hash: a container's address, IPv4 in its mapped form → its endpoint's handle.
    ADDRESSES: Hash<Ipv6, Handle>, capacity::ADDRESSES;
    /// Array: slot → [`PublicationRow`](crate::abi::PublicationRow).
    PUBLICATIONS: Array<u32, PublicationRow>, capacity::PUBLICATIONS;
    /// Array: protocol and host port ([`port_index`](crate::abi::port_index)) → [`PortRow`](crate::abi::PortRow).
    PORTS: Array<u32, PortRow>, capacity::PORTS;
    /// LPM trie: [`BoundPortKey`](crate::abi::BoundPortKey) → publication handle.
    BOUND_PORTS: LpmTrie<BoundPortKey<Ipv4>, Handle>, capacity::BOUND_PORTS;
    /// The same, IPv6.
    BOUND_PORTS6: LpmTrie<BoundPortKey<Ipv6>, Handle>, capacity::BOUND_PORTS;
    /// LPM trie: [`TargetPortKey`](crate::abi::TargetPortKey) → publication handle.
    TARGET_PORTS: LpmTrie<TargetPortKey, Handle>, capacity::TARGET_PORTS;
    /// LPM trie: address → number of the network, never zero.
    SUBNETS: LpmTrie<Ipv4, u32>, capacity::SUBNETS;
    /// The same, IPv6.
    SUBNETS6: LpmTrie<Ipv6, u32>, capacity::SUBNETS;
    /// LPM trie: [`SourceKey`](crate::abi::SourceKey) → [`access`](crate::abi::access).
    SOURCES: LpmTrie<SourceKey, u32>, capacity::SOURCES;
    /// Hash: interface index → [`UplinkRow`](crate::abi::UplinkRow).
    UPLINKS: Hash<u32, UplinkRow>, capacity::UPLINKS;
    /// Hash, used as a set: [`TrustKey`](crate::abi::TrustKey).
    TRUSTED: Hash<TrustKey, u32>, capacity::TRUSTED;
    /// Hash, used as a set: the host's own addresses, IPv4 in its mapped form, for the socket hooks.
    LOCALS: Hash<Ipv6, u32>, capacity::LOCALS;
    /// LRU hash: [`SocketKey`](crate::abi::SocketKey) → [`SocketRow`](crate::abi::SocketRow).
    SOCKETS: LruHash<SocketKey, SocketRow>, capacity::SOCKETS;
    /// Array: conntrack [`State`](crate::flow::state::State) → how long a connection may be idle in it, in
    /// [`tick`](crate::abi::tick)s.
    TIMEOUTS: Array<u32, u32>, capacity::TIMEOUTS;
    /// Per-CPU array: [`Reason`](crate::verdict::Reason) → [`DropRow`](crate::abi::DropRow).
    DROPS: PerCpuArray<u32, DropRow>, capacity::DROPS;
    /// Ring buffer: what the programs report, [`DropEvent`](crate::abi::DropEvent)s.
    EVENTS: RingBuf<(), ()>, capacity::EVENTS;
    /// Per-CPU array: what the XDP program has denied, [`DenyCacheRow`](crate::abi::DenyCacheRow).
    DENY_CACHE: PerCpuArray<u32, DenyCacheRow<Ipv4>>, capacity::DENY_CACHE;
    /// The same, IPv6.
    DENY_CACHE6: PerCpuArray<u32, DenyCacheRow<Ipv6>>, capacity::DENY_CACHE;
    /// Array of one: a number that the user side raises whenever it changes who may connect. It invalidates the deny cache.
    EPOCH: Array<u32, u32>, 1;
    /// Program array: [`stage`](crate::abi::stage) → program.
    STAGES: ProgramArray<u32, u32>, capacity::STAGES;
    /// Array of one: [`VersionRow`](crate::abi::VersionRow), frozen once the programs are loaded.
    VERSION: Array<u32, VersionRow>, 1;
}

/// Capacities of the maps, in rows.
pub mod capacity {
    /// Established IPv4 connections, unless the user says how many. The flow tables follow from it, see [`flows`].
    pub const CONNECTIONS: u32 = 1 << 17;
    /// Established IPv4 connections: two rows each, of 128 bytes and a bucket of 16.
    pub const FLOWS: Flows = flows(CONNECTIONS)[super::table::FLOWS as usize];
    /// A quarter as many IPv6 connections, at 192 bytes a row and 16 a bucket.
    pub const FLOWS6: Flows = flows(CONNECTIONS)[super::table::FLOWS6 as usize];
    /// A quarter as many unreplied and half-open connections.
    pub const UNREPLIED: Flows = flows(CONNECTIONS)[super::table::UNREPLIED as usize];
    /// An eighth as many of IPv6.
    pub const UNREPLIED6: Flows = flows(CONNECTIONS)[super::table::UNREPLIED6 as usize];

    /// The fewest connections that the user may ask for.
    pub const FEWEST_CONNECTIONS: u32 = 1000;
    /// The most: 9 GiB of tables.
    pub const MOST_CONNECTIONS: u32 = 1 << 24;

    /// The size of a flow table.
    #[derive(Clone, Copy)]
    pub struct Flows {
        /// Its name.
        pub name: &'static str,
        /// The name of its ring.
        pub ring: &'static str,
        /// How many connections it has room for.
        pub connections: u32,
        /// Its rows, two a connection.
        pub rows: u32,
        /// The places of its ring.
        pub places: u32,
    }

    /// The sizes of the flow tables for this many connections, by [`table`](crate::abi::table) number. All rows are allocated
    /// when netd is first used: 577 bytes a connection, of which [`FLOWS`] are 320.
    #[must_use]
    pub const fn flows(connections: u32) -> [Flows; super::table::COUNT] {
        use super::name;
        [
            established(name::FLOWS, name::FLOWS_RING, connections * 2),
            established(name::FLOWS6, name::FLOWS_RING6, connections / 2),
            unreplied(name::UNREPLIED, name::UNREPLIED_RING, connections / 2),
            unreplied(name::UNREPLIED6, name::UNREPLIED_RING6, connections / 4),
        ]
    }

    /// A table whose ring has two places for each connection, so that a free one is found soon.
    const fn established(name: &'static str, ring: &'static str, rows: u32) -> Flows {
        let rows = at_least(rows);
        Flows { name, ring, connections: rows / 2, rows, places: rows }
    }

    /// A table whose ring bounds its connections. The rows beyond are for those that are being opened: a connection gets its
    /// place when its rows are made.
    const fn unreplied(name: &'static str, ring: &'static str, rows: u32) -> Flows {
        let rows = at_least(rows);
        let connections = rows / 2 - rows / 32;
        Flows { name, ring, connections, rows, places: connections }
    }

    const fn at_least(rows: u32) -> u32 {
        if rows < 1024 { 1024 } else { rows }
    }

    /// Flow tables.
    #[expect(clippy::cast_possible_truncation, reason = "there are few tables")]
    pub const TABLES: u32 = super::table::COUNT as u32;
    /// Fragmented datagrams at a time, each family.
    pub const FRAGMENTS: u32 = 1 << 12;
    /// Fragments in the queue, at 1.6 KiB each, each family.
    pub const FRAGMENT_QUEUE: u32 = 1 << 10;
    /// Containers, and targets that are none; a slot number fits 16 bits.
    pub const ENDPOINTS: u32 = 1 << 14;
    /// Addresses of containers, one of each family.
    pub const ADDRESSES: u32 = 2 * ENDPOINTS;
    /// Publications; a range of ports is one.
    pub const PUBLICATIONS: u32 = 1 << 16;
    /// Every port of each protocol in [`port_index`](crate::abi::port_index).
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
    /// Host sockets whose packets are sent to a container.
    pub const SOCKETS: u32 = 1 << 16;
    /// Denials that a CPU remembers, each family; a power of two.
    pub const DENY_CACHE: u32 = 1 << 11;
    /// Words of 64 bits in the seen-peers filter, 1 MiB.
    pub const SEEN_PEERS: u32 = 1 << (SEEN_PEERS_BITS - 6);
    /// Bits of the seen-peers filter, as a power of two.
    pub const SEEN_PEERS_BITS: u32 = 23;
    /// Conntrack states.
    #[expect(clippy::cast_possible_truncation, reason = "there are few states")]
    pub const TIMEOUTS: u32 = super::State::ALL.len() as u32;
    /// Reasons of drops.
    #[expect(clippy::cast_possible_truncation, reason = "there are few reasons")]
    pub const DROPS: u32 = super::Reason::ALL.len() as u32;
    /// Bytes of reports that nobody has read: a power of two, and pages.
    pub const EVENTS: u32 = 1 << 17;
    /// Stages.
    #[expect(clippy::cast_possible_truncation, reason = "there are few stages")]
    pub const STAGES: u32 = crate::abi::stage::PROGRAMS.len() as u32;
}
