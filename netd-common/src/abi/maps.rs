//! The maps: their names and how many rows each has room for.

/// Names of the maps, as the object and the pins have them: at most 15 bytes (`BPF_OBJ_NAME_LEN`). Those of IPv6 end in 6.
pub mod name {
    /// LRU hash: [`FlowKey`](crate::flow::FlowKey) → [`FlowRow`](crate::abi::FlowRow), flows that both sides have answered.
    pub const FLOWS: &str = "FLOWS";
    /// The same, IPv6.
    pub const FLOWS6: &str = "FLOWS6";
    /// As [`FLOWS`], unreplied and half-open flows. A flood of new connections evicts rows of this table only.
    pub const UNREPLIED: &str = "UNREPLIED";
    /// The same, IPv6.
    pub const UNREPLIED6: &str = "UNREPLIED6";
    /// LRU hash: [`FragmentKey`](crate::abi::FragmentKey) → [`FragmentRow`](crate::abi::FragmentRow).
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// The same, IPv6.
    pub const FRAGMENTS6: &str = "FRAGMENTS6";
    /// LRU hash: [`QueuedFragmentKey`](crate::abi::QueuedFragmentKey) →
    /// [`QueuedFragmentRow`](crate::abi::QueuedFragmentRow), fragments that came before the first of their datagram.
    pub const FRAGMENT_QUEUE: &str = "FRAGMENT_QUEUE";
    /// The same, IPv6.
    pub const FRAGMENT_QUEUE6: &str = "FRAGMENT_QUEUE6";
    /// Array: slot → [`EndpointRow`](crate::abi::EndpointRow).
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// Hash: index of a host-side veth → its endpoint's handle.
    pub const ENDPOINT_OF: &str = "ENDPOINT_OF";
    /// Hash: a container's address, IPv4 in its mapped form → its endpoint's handle.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// Array: slot → [`PublicationRow`](crate::abi::PublicationRow).
    pub const PUBLICATIONS: &str = "PUBLICATIONS";
    /// Array: protocol and host port ([`port_index`](crate::abi::port_index)) → [`PortRow`](crate::abi::PortRow).
    pub const PORTS: &str = "PORTS";
    /// LPM trie: [`BoundPortKey`](crate::abi::BoundPortKey) → publication handle.
    pub const BOUND_PORTS: &str = "BOUND_PORTS";
    /// The same, IPv6.
    pub const BOUND_PORTS6: &str = "BOUND_PORTS6";
    /// LPM trie: [`TargetPortKey`](crate::abi::TargetPortKey) → publication handle.
    pub const TARGET_PORTS: &str = "TARGET_PORTS";
    /// LPM trie: address → number of the network, never zero.
    pub const SUBNETS: &str = "SUBNETS";
    /// The same, IPv6.
    pub const SUBNETS6: &str = "SUBNETS6";
    /// LPM trie: [`SourceKey`](crate::abi::SourceKey) → [`access`](crate::abi::access).
    pub const SOURCES: &str = "SOURCES";
    /// Hash: interface index → [`UplinkRow`](crate::abi::UplinkRow).
    pub const UPLINKS: &str = "UPLINKS";
    /// Hash, used as a set: [`TrustKey`](crate::abi::TrustKey).
    pub const TRUSTED: &str = "TRUSTED";
    /// Hash, used as a set: the host's own addresses, IPv4 in its mapped form, for the socket hooks.
    pub const LOCALS: &str = "LOCALS";
    /// LRU hash: [`SocketKey`](crate::abi::SocketKey) → [`SocketRow`](crate::abi::SocketRow).
    pub const SOCKETS: &str = "SOCKETS";
    /// Array: conntrack [`State`](crate::track::State) → how long a connection may be idle in it, in
    /// [`tick`](crate::abi::tick)s.
    pub const TIMEOUTS: &str = "TIMEOUTS";
    /// Per-CPU array: [`Reason`](crate::verdict::Reason) → [`DropRow`](crate::abi::DropRow).
    pub const DROPS: &str = "DROPS";
    /// Per-CPU array: what the XDP program has denied, [`DenyCacheRow`](crate::abi::DenyCacheRow).
    pub const DENY_CACHE: &str = "DENY_CACHE";
    /// The same, IPv6.
    pub const DENY_CACHE6: &str = "DENY_CACHE6";
    /// Array of one: a number that the user side raises whenever it changes who may connect. It invalidates the deny cache.
    pub const EPOCH: &str = "EPOCH";
    /// Program array: [`stage`](crate::abi::stage) → program.
    pub const STAGES: &str = "STAGES";

    /// Every map that is pinned.
    pub const ALL: [&str; 29] = [
        FLOWS,
        FLOWS6,
        UNREPLIED,
        UNREPLIED6,
        FRAGMENTS,
        FRAGMENTS6,
        FRAGMENT_QUEUE,
        FRAGMENT_QUEUE6,
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
        DENY_CACHE,
        DENY_CACHE6,
        EPOCH,
        STAGES,
    ];
}

/// Capacities of the maps, in rows.
pub mod capacity {
    /// Established IPv4 connections, unless the user says how many. The flow tables follow from it, see [`flows`].
    pub const CONNECTIONS: u32 = 1 << 17;
    /// Two rows a connection, of 128 bytes and a bucket of 16.
    pub const FLOWS: u32 = flows(CONNECTIONS)[0].1;
    /// For a quarter as many IPv6 connections, at 192 bytes a row and 16 a bucket.
    pub const FLOWS6: u32 = flows(CONNECTIONS)[1].1;
    /// For a quarter as many unreplied and half-open connections.
    pub const UNREPLIED: u32 = flows(CONNECTIONS)[2].1;
    /// For an eighth as many of IPv6.
    pub const UNREPLIED6: u32 = flows(CONNECTIONS)[3].1;

    /// The fewest connections that the user may ask for: the kernel hands rows out to its CPUs in lots of 128.
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
            (super::name::UNREPLIED, at_least(connections / 2)),
            (super::name::UNREPLIED6, at_least(connections / 4)),
        ]
    }

    const fn at_least(rows: u32) -> u32 {
        if rows < 1024 { 1024 } else { rows }
    }
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
    /// Stages.
    #[expect(clippy::cast_possible_truncation, reason = "there are few stages")]
    pub const STAGES: u32 = crate::abi::stage::PROGRAMS.len() as u32;
}
