//! What becomes of a packet, and why.

/// Why a packet was dropped: the index of its counter.
///
/// Below the entry points of the programs everything returns a reason; one `match` there turns it into an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[must_use]
pub enum Reason {
    /// A header is cut short or its lengths lie (RFC 1122 §3.2.1.1 asks for silence).
    Malformed = 0,
    /// From the wire, with an address that must never be on one: 127/8 at either end (RFC 1122 §3.2.1.3(g)).
    Martian = 1,
    /// From the wire, claiming a container's address as its source.
    ForgedSource = 2,
    /// From the wire, straight to a container's own address, to which its network lets nobody there.
    DirectAccess = 3,
    /// From a container, with a source address that is not its own.
    Spoofed = 4,
    /// From a container to one that it is kept apart from, of another network or of its own.
    Isolated = 5,
    /// To a place that a container's network has no way to, or by no uplink with an address.
    NoWayOut = 6,
    /// TTL would reach zero (RFC 791 §3.2).
    TtlExceeded = 7,
    /// Larger than the MTU of the next link, and not a segmentation-offload packet.
    TooBig = 8,
    /// The routing table has no way to the destination.
    NoRoute = 9,
    /// The flow table refused a row.
    TableFull = 10,
    /// No port is free that would tell the answers of a new connection from those of others.
    Collision = 11,
    /// A later fragment that could not be held until its first comes.
    Fragment = 12,
    /// The kernel's helpers refused to change the packet.
    RewriteFailed = 13,
    /// From a container: neither IP nor ARP, or with a VLAN tag. From the wire: what a VLAN tag of no VLAN hides.
    Foreign = 14,
    /// The end of a TCP connection, or an answer to its beginning, of no connection that there is.
    OutOfState = 15,
    /// An ICMP message about a packet, or an answer, of no flow that there is.
    NotRelated = 16,
    /// The source is not allowed to use the port.
    Denied = 17,
    /// Of a flow between IPv6 and IPv4, and without words in the other family.
    Untranslatable = 18,
}

impl Reason {
    /// Every reason, in counter order.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::Martian,
        Self::ForgedSource,
        Self::DirectAccess,
        Self::Spoofed,
        Self::Isolated,
        Self::NoWayOut,
        Self::TtlExceeded,
        Self::TooBig,
        Self::NoRoute,
        Self::TableFull,
        Self::Collision,
        Self::Fragment,
        Self::RewriteFailed,
        Self::Foreign,
        Self::OutOfState,
        Self::NotRelated,
        Self::Denied,
        Self::Untranslatable,
    ];

    /// The name programs see (`netd status --json`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Martian => "martian",
            Self::ForgedSource => "forged_source",
            Self::DirectAccess => "direct_access",
            Self::Spoofed => "spoofed",
            Self::Isolated => "isolated",
            Self::NoWayOut => "no_way_out",
            Self::TtlExceeded => "ttl_exceeded",
            Self::TooBig => "too_big",
            Self::NoRoute => "no_route",
            Self::TableFull => "table_full",
            Self::Collision => "collision",
            Self::Fragment => "fragment",
            Self::RewriteFailed => "rewrite_failed",
            Self::Foreign => "foreign",
            Self::OutOfState => "out_of_state",
            Self::NotRelated => "not_related",
            Self::Denied => "denied",
            Self::Untranslatable => "untranslatable",
        }
    }

    /// What it means, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "a header is cut short or its lengths lie",
            Self::Martian => "a loopback address arrived from the wire",
            Self::ForgedSource => "a container's address as source, arrived from the wire",
            Self::DirectAccess => "from outside straight to a container's own address",
            Self::Spoofed => "a container used an address that is not its own",
            Self::Isolated => "between containers that are kept apart",
            Self::NoWayOut => "no uplink with an address, or none for its network, leads there",
            Self::TtlExceeded => "its time to live ran out",
            Self::TooBig => "larger than the next link takes",
            Self::NoRoute => "no route to the destination",
            Self::TableFull => "the flow table took no new row",
            Self::Collision => "no port was free to tell its answers from others'",
            Self::Fragment => "a fragment for which there was no room until its first part comes",
            Self::RewriteFailed => "the kernel refused to change it",
            Self::Foreign => "neither IP nor ARP from a container, or hidden under VLAN tags",
            Self::OutOfState => "it ends or answers a connection that does not exist",
            Self::NotRelated => "an ICMP message about no flow that exists",
            Self::Denied => "its source may not use the port",
            Self::Untranslatable => "it cannot be said in the other IP version",
        }
    }
}

/// What a program decides about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Not ours: the next program and the stack see it untouched.
    Pass,
    /// Nobody is to see it any more: what it was for is done.
    Consumed,
    /// It was translated and leaves as the helper noted that sends it on.
    Redirected,
}
