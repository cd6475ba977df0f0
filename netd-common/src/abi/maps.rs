//! The maps: name, kind, key, value and capacity of each.

use crate::abi::{
    AllowedAddressKey, BoundPortKey, DenyCacheRow, DropRow, EndpointRow, Field, Fields, FillRow, FlowRow,
    FragmentKey, FragmentRow, LayoutRow, LimitRow, LocalPorts, PortRow, PublicationRow, QueuedFragmentKey,
    QueuedFragmentRow, SocketKey, SocketRow, SourceKey, TargetPortKey, TrustKey, UplinkRow, UsageRow,
    VersionRow, table,
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
    /// A hash table that evicts the least recently used row.
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

/// The definition of a map.
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
    /// Its capacity: rows, or bytes for a [`Kind::RingBuf`]. The flow tables may be made with another number, see
    /// [`Self::is_sized_by_user`].
    pub rows: u32,
    /// The flags it is made with.
    pub flags: u32,
    /// The fields of a key, without a trie's prefix length.
    pub key_fields: &'static [Field],
    /// The fields of a value.
    pub value_fields: &'static [Field],
}

impl Map {
    #[expect(clippy::cast_possible_truncation, reason = "keys and rows are small")]
    const fn new<K: Fields, V: Fields>(name: &'static str, kind: Kind, rows: u32) -> Self {
        // BPF_OBJ_NAME_LEN, with the zero at the end.
        assert!(name.len() < 16);
        let key = size_of::<K>() as u32 + kind.prefix_len();
        let (key_fields, value_fields) = (K::FIELDS, V::FIELDS);
        Self {
            name,
            kind,
            key,
            value: size_of::<V>() as u32,
            rows,
            flags: kind.flags(),
            key_fields,
            value_fields,
        }
    }

    /// Whether the map holds programs, and is pinned beside them.
    pub const fn is_of_programs(&self) -> bool {
        matches!(self.kind, Kind::ProgramArray)
    }

    /// Whether the map says what it belongs to. Each set of programs has its own.
    pub fn is_of_one_set(&self) -> bool {
        self.is_of_programs() || matches!(self.name, name::VERSION | name::LAYOUT)
    }

    /// Whether its capacity depends on the setting `max-connections`, see [`capacity::flows`].
    pub fn is_sized_by_user(&self) -> bool {
        let mut sized = capacity::flows(capacity::CONNECTIONS).into_iter();
        sized.any(|flows| flows.name == self.name || flows.ring == self.name)
    }
}

/// Defines each map once: its name for both sides, and its definition.
macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident: $kind:ident<$key:ty, $value:ty>, $rows:expr;)*) => {
        /// Names of the maps, as the object and the pins have them: at most 15 bytes (`BPF_OBJ_NAME_LEN`). Those of
        /// IPv6 end in 6.
        pub mod name {
            $($(#[$doc])* pub const $name: &str = stringify!($name);)*
        }

        /// Every map that is pinned.
        pub const MAPS: [Map; [$(name::$name),*].len()] =
            [$(Map::new::<$key, $value>(name::$name, Kind::$kind, $rows)),*];
    };
}

maps! {
    /// Hash: [`FlowKey`](crate::flow::FlowKey) → [`FlowRow`](crate::abi::FlowRow), established flows. No live row is
    /// removed for another one.
    FLOWS: Hash<FlowKey<Ipv4>, FlowRow<Ipv4>>, capacity::FLOWS.rows;
    /// The same, IPv6.
    FLOWS6: Hash<FlowKey<Ipv6>, FlowRow<Ipv6>>, capacity::FLOWS6.rows;
    /// As [`FLOWS`], unreplied, half-open and ended flows. A flood of new connections evicts rows of this table only.
    UNREPLIED: Hash<FlowKey<Ipv4>, FlowRow<Ipv4>>, capacity::UNREPLIED.rows;
    /// The same, IPv6.
    UNREPLIED6: Hash<FlowKey<Ipv6>, FlowRow<Ipv6>>, capacity::UNREPLIED6.rows;
    /// Array: the ring of [`FLOWS`]: the originator's [`FlowKey`](crate::flow::FlowKey) of each connection, in the order
    /// in which they came. A place whose connection has gone is free.
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
    /// Array: a Bloom filter of 2²³ bits, one for each address (several addresses share a bit). It is set for addresses
    /// that have had a connection with a container, and for container addresses that host sockets use. It is never
    /// cleared. If it is not set, no flow table has a row of the address.
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
    /// LPM trie, used as a set: [`AllowedAddressKey`](crate::abi::AllowedAddressKey), what containers may use besides their own
    /// addresses.
    ALLOWED: LpmTrie<AllowedAddressKey, u32>, capacity::ALLOWED;
    /// Hash: interface index → [`UplinkRow`](crate::abi::UplinkRow).
    UPLINKS: Hash<u32, UplinkRow>, capacity::UPLINKS;
    /// Hash, used as a set: trusted interfaces, [`TrustKey`](crate::abi::TrustKey).
    TRUSTED: Hash<TrustKey, u32>, capacity::TRUSTED;
    /// LPM trie: the host's own addresses, prefixes that are local by a route, and broadcast addresses, IPv4 in its mapped form
    /// → [`local`](crate::abi::local). For the socket hooks, and for what the routing table does not tell apart.
    LOCALS: LpmTrie<Ipv6, u32>, capacity::LOCALS;
    /// LPM trie: a peer's address, IPv4 in its mapped form → 1 if an IPsec policy of the host encrypts or blocks packets from or to it,
    /// 0 if one lets them pass.
    IPSEC_PEERS: LpmTrie<Ipv6, u32>, capacity::IPSEC_PEERS;
    /// LPM trie: a destination, IPv4 in its mapped form → the MTU of its route, bytes; 0 if the route has none of its own.
    ROUTE_MTUS: LpmTrie<Ipv6, u32>, capacity::ROUTE_MTUS;
    /// LRU hash: [`SocketKey`](crate::abi::SocketKey) → [`SocketRow`](crate::abi::SocketRow).
    SOCKETS: LruHash<SocketKey, SocketRow>, capacity::SOCKETS;
    /// Array of one: the host's [`LocalPorts`](crate::abi::LocalPorts), as the last netd command found them.
    LOCAL_PORTS: Array<u32, LocalPorts>, 1;
    /// LRU hash: what the host itself exchanges and no socket tells of, or none will once it has closed, as the
    /// [`FlowKey`](crate::flow::FlowKey) of what it receives, IPv4 in its mapped form → the [`tick`](crate::abi::tick) of the last
    /// packet. What the host's sockets have exchanged from published ports (without a destination address), and packets of
    /// protocols without ports.
    HOST_FLOWS: LruHash<FlowKey<Ipv6>, u32>, capacity::HOST_FLOWS;
    /// Array: conntrack [`State`](crate::flow::state::State) → how long a connection may be idle in it, in
    /// [`tick`](crate::abi::tick)s.
    TIMEOUTS: Array<u32, u32>, capacity::TIMEOUTS;
    /// Per-CPU array: [`Reason`](crate::verdict::Reason) → [`DropRow`](crate::abi::DropRow).
    DROPS: PerCpuArray<u32, DropRow>, capacity::DROPS;
    /// Ring buffer: what the programs report, [`DropEvent`](crate::abi::DropEvent)s.
    EVENTS: RingBuf<(), ()>, capacity::EVENTS;
    /// Per-CPU array: the deny cache, [`DenyCacheRow`](crate::abi::DenyCacheRow).
    DENY_CACHE: PerCpuArray<u32, DenyCacheRow<Ipv4>>, capacity::DENY_CACHE;
    /// The same, IPv6.
    DENY_CACHE6: PerCpuArray<u32, DenyCacheRow<Ipv6>>, capacity::DENY_CACHE;
    /// Array of one: a number that the user side increments when it changes a table that the policy reads. It
    /// invalidates the deny cache.
    EPOCH: Array<u32, u32>, 1;
    /// Program array: [`stage`](crate::abi::stage) → program.
    STAGES: ProgramArray<u32, u32>, capacity::STAGES;
    /// Program array: [`xdp_stage`](crate::abi::xdp_stage) → program.
    XDP_STAGES: ProgramArray<u32, u32>, capacity::XDP_STAGES;
    /// Program array: [`previous`](crate::abi::previous) → the program that gets packets without a flow. Empty but while another
    /// set of programs, whose flow tables differ, gives way to this one.
    PREVIOUS: ProgramArray<u32, u32>, capacity::PREVIOUS;
    /// Array of one: until when [`HOLD`](crate::abi::previous::HOLD) holds packets, nanoseconds of `CLOCK_MONOTONIC`.
    HOLD_UNTIL: Array<u32, u64>, 1;
    /// Array of one: [`VersionRow`](crate::abi::VersionRow), frozen once the programs are loaded.
    VERSION: Array<u32, VersionRow>, 1;
    /// Array of one: the fields of every map's rows as JSON, frozen once the programs are loaded. Zeros fill it up.
    LAYOUT: Array<u32, LayoutRow>, 1;
}

/// Capacities of the maps, in rows.
pub mod capacity {
    /// Established IPv4 connections, unless the user says how many. The flow tables follow from it, see [`flows`].
    pub const CONNECTIONS: u32 = 1 << 17;
    /// Two rows for each connection, of 128 bytes, and 16 for a bucket.
    pub const FLOWS: Flows = flows(CONNECTIONS)[super::table::FLOWS as usize];
    /// A quarter as many IPv6 connections, with 192 bytes for a row and 16 for a bucket.
    pub const FLOWS6: Flows = flows(CONNECTIONS)[super::table::FLOWS6 as usize];
    /// A quarter as many unreplied and half-open connections.
    pub const UNREPLIED: Flows = flows(CONNECTIONS)[super::table::UNREPLIED as usize];
    /// An eighth as many of IPv6.
    pub const UNREPLIED6: Flows = flows(CONNECTIONS)[super::table::UNREPLIED6 as usize];

    /// The smallest number that the user may choose.
    pub const FEWEST_CONNECTIONS: u32 = 1000;
    /// The largest number: 9 GiB of tables.
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
    /// Endpoints: interfaces of containers, and other hosts that are targets; a slot number fits 16 bits.
    pub const ENDPOINTS: u32 = 1 << 14;
    /// Addresses of containers, one of each family.
    pub const ADDRESSES: u32 = 2 * ENDPOINTS;
    /// Publications; a range of ports counts as one.
    pub const PUBLICATIONS: u32 = 1 << 16;
    /// Every port of each protocol in [`port_index`](crate::abi::port_index).
    pub const PORTS: u32 = 3 << 16;
    /// Publications on one host address: one row for a port, up to 30 for a range.
    pub const BOUND_PORTS: u32 = 1 << 18;
    /// Published ports of containers: one row for a port, up to 30 for a range.
    pub const TARGET_PORTS: u32 = 1 << 18;
    /// Container subnets.
    pub const SUBNETS: u32 = 4096;
    /// Sources that are allowed or denied, of all publications together.
    pub const SOURCES: u32 = 1 << 18;
    /// Further addresses and prefixes, of all containers together.
    pub const ALLOWED: u32 = 1 << 16;
    /// Interfaces that lead outside.
    pub const UPLINKS: u32 = 1024;
    /// Interfaces that networks trust, of all networks together.
    pub const TRUSTED: u32 = 4096;
    /// Routes with an MTU of their own, and routes within these.
    pub const ROUTE_MTUS: u32 = 1 << 14;
    /// Prefixes that IPsec policies name.
    pub const IPSEC_PEERS: u32 = 1 << 14;
    /// Host addresses and local prefixes.
    pub const LOCALS: u32 = 1 << 16;
    /// Host sockets whose packets are sent to a container.
    pub const SOCKETS: u32 = 1 << 16;
    /// Exchanges of the host itself that no socket tells of.
    pub const HOST_FLOWS: u32 = 1 << 14;
    /// Rows of a CPU's deny cache, each family; a power of two.
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
    /// Bytes of unread reports: a power of two, and whole pages.
    pub const EVENTS: u32 = 1 << 17;
    /// Stages.
    #[expect(clippy::cast_possible_truncation, reason = "there are few stages")]
    pub const STAGES: u32 = crate::abi::stage::PROGRAMS.len() as u32;
    /// Hooks whose packets may go to the programs before.
    pub const PREVIOUS: u32 = crate::abi::previous::COUNT;
    /// Stages of XDP.
    #[expect(clippy::cast_possible_truncation, reason = "there are few stages")]
    pub const XDP_STAGES: u32 = crate::abi::xdp_stage::PROGRAMS.len() as u32;
}
