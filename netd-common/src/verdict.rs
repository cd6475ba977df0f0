//! Verdicts on packets, and the reasons for drops.

/// Why a packet was dropped: the index of its counter.
///
/// The programs' code returns reasons; only the BPF side's `stage::dispatch` turns them into actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[must_use]
pub enum Reason {
    /// A header is truncated or has wrong lengths (RFC 1122 §3.2.1.1 asks for silence).
    Malformed = 0,
    /// From outside, with a loopback address as source or destination (RFC 1122 §3.2.1.3(g)).
    Martian = 1,
    /// From outside, with a container's address as its source.
    ForgedSource = 2,
    /// From outside to a container's own address, which its network does not allow.
    DirectAccess = 3,
    /// From a container, with a source address that is not its own.
    Spoofed = 4,
    /// From a container to another one that it is isolated from, on another network or on its own.
    Isolated = 5,
    /// To a destination that the container's network cannot reach, or by an uplink without an address.
    NoWayOut = 6,
    /// TTL would reach zero (RFC 791 §3.2).
    TtlExceeded = 7,
    /// Larger than the MTU of the next link, and not a segmentation-offload packet.
    TooBig = 8,
    /// There is no route to the destination.
    NoRoute = 9,
    /// The flow table has no room for a new connection.
    TableFull = 10,
    /// No source port is free for a new connection.
    Collision = 11,
    /// A later fragment that could not be queued until the first one arrives.
    Fragment = 12,
    /// A kernel helper refused to change the packet.
    RewriteFailed = 13,
    /// From a container: neither IP nor ARP, or with a VLAN tag. From outside: behind a VLAN tag that names no VLAN.
    Foreign = 14,
    /// A FIN, RST or SYN-ACK of no known connection.
    OutOfState = 15,
    /// An ICMP error or reply that belongs to no known flow.
    NotRelated = 16,
    /// The access lists deny the source.
    Denied = 17,
    /// A packet of a NAT64 flow without an equivalent in the other family.
    Untranslatable = 18,
    /// Forwarded by the host's stack into a network, from an interface that has none of netd's programs and that the network does
    /// not trust.
    Unguarded = 19,
    /// An `unreachable` route leads there.
    Unreachable = 20,
    /// A `prohibit` route leads there.
    Prohibited = 21,
    /// With a peer for which the host has an IPsec policy, which netd does not carry out.
    Ipsec = 22,
    /// A new connection of a container that has its quota of the flow table already.
    Quota = 23,
}

impl Reason {
    /// Every reason, in counter order.
    pub const ALL: [Self; 24] = [
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
        Self::Unguarded,
        Self::Unreachable,
        Self::Prohibited,
        Self::Ipsec,
        Self::Quota,
    ];

    /// Whether the sender of a dropped packet is told by an ICMP error.
    #[inline(always)]
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::TtlExceeded | Self::TooBig | Self::Unreachable | Self::Prohibited)
    }

    /// Its name in JSON (`netd status --json`).
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
            Self::Unguarded => "unguarded",
            Self::Unreachable => "unreachable",
            Self::Prohibited => "prohibited",
            Self::Ipsec => "ipsec",
            Self::Quota => "quota",
        }
    }

    /// Its meaning, as text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "a header is truncated or has wrong lengths",
            Self::Martian => "a loopback address in a packet from outside",
            Self::ForgedSource => "a container's address as the source of a packet from outside",
            Self::DirectAccess => "from outside to a container's own address",
            Self::Spoofed => "a container used an address that is not its own",
            Self::Isolated => "between containers that are isolated from each other",
            Self::NoWayOut => "no uplink with an address, or none for its network, leads there",
            Self::TtlExceeded => "its TTL ran out",
            Self::TooBig => "larger than the MTU of the next link",
            Self::NoRoute => "no route to the destination",
            Self::TableFull => "the flow table has no room for a new connection",
            Self::Collision => "no source port was free",
            Self::Fragment => "a fragment that could not be queued until the first one arrived",
            Self::RewriteFailed => "the kernel refused to rewrite it",
            Self::Foreign => "neither IP nor ARP from a container, or behind VLAN tags",
            Self::OutOfState => "it ends or answers no known connection",
            Self::NotRelated => "an ICMP message about no known flow",
            Self::Denied => "its source may not use the port",
            Self::Untranslatable => "it has no equivalent in the other IP version",
            Self::Unguarded => "from an interface that has no program of netd's and is not trusted",
            Self::Unreachable => "a route says that the destination is unreachable",
            Self::Prohibited => "a route prohibits the destination",
            Self::Ipsec => "an IPsec policy of the host is for it, which netd does not carry out",
            Self::Quota => "its container has its quota of the flow table",
        }
    }
}

/// What a program decides about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is not for netd: the next program and the stack get it unchanged.
    Pass,
    /// It is dropped silently, since a copy of it is queued or has been sent on.
    Consumed,
    /// It was translated and is redirected.
    Redirected,
}
