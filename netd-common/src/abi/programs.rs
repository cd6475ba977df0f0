//! The programs: those on the hooks, and the stages.

/// The stages: programs that are entered by a tail call when the first program on a hook cannot finish a packet. Each
/// has its own stack, and the code that every packet runs stays short.
///
/// ```text
/// uplink_ingress ────┐
/// tunnel_ingress ────┼──▶ conntrack ──▶ conntrack_new ──▶ uplink_new ──┬───────────┬─▶ direct ─┐
/// container_ingress ─┘       │               ▲    └──▶ container_new ──┼───────────┘           │
///                            │               │                         ├─▶ hairpin ─┬──────────┤
///                            │               │           uplink_new ───┼────────────┴─▶ forward┤
///                            │               │                         └─▶ masquerade ─────────┤
///                            │               └────────────────────────────────────────────────┘
///                            └──▶ icmp_error                           every one of them ──▶ answer, report
///
/// an error about no flow: icmp_error ──▶ uplink_new, container_new
/// a later fragment: uplink_new, hairpin, masquerade, direct ──▶ fragment_queue; conntrack, if the first one has come meanwhile
/// a first fragment: conntrack ──▶ fragment_first ──▶ conntrack; if others are queued, all of them are received again
/// a broadcast: uplink_ingress ──▶ broadcast ──▶ conntrack, as if it had been sent to the host alone
/// a flow that was opened: uplink_new, hairpin, masquerade, direct, forward ──▶ enlist ──▶ conntrack_new
/// a flow that is established or has ended: conntrack_new, conntrack ──▶ move_flow ──▶ nat64, nat46 or the end;
///     one that has ended by enlist
/// enlist, move_flow and reclaim call themselves again for each place in a ring that they look at
/// no room for a new connection: ──▶ reclaim ──▶ the end
/// NAT64: conntrack6, conntrack_new6 ──▶ nat64         hairpin ──▶ nat46_track, nat46_track_new ──▶ nat46
/// ```
pub mod stage {
    /// A packet that the first program cannot finish, IPv4: the table of established flows.
    pub const CONNTRACK: u32 = 0;
    /// The same, IPv6.
    pub const CONNTRACK6: u32 = 1;
    /// A packet without an established flow, IPv4: the table of unreplied flows.
    pub const CONNTRACK_NEW: u32 = 2;
    /// The same, IPv6.
    pub const CONNTRACK_NEW6: u32 = 3;
    /// A packet from outside without a flow, IPv4.
    pub const UPLINK_NEW: u32 = 4;
    /// The same, IPv6.
    pub const UPLINK_NEW6: u32 = 5;
    /// A packet from a container without a flow, IPv4.
    pub const CONTAINER_NEW: u32 = 6;
    /// The same, IPv6.
    pub const CONTAINER_NEW6: u32 = 7;
    /// An ICMP error, IPv4.
    pub const ICMP_ERROR: u32 = 8;
    /// The same, IPv6.
    pub const ICMP_ERROR6: u32 = 9;
    /// A packet that is dropped and answered with an ICMP error, IPv4.
    pub const ANSWER: u32 = 10;
    /// The same, IPv6.
    pub const ANSWER6: u32 = 11;
    /// A dropped packet that is reported.
    pub const REPORT: u32 = 12;
    /// A later fragment whose first has not come, IPv4.
    pub const FRAGMENT_QUEUE: u32 = 13;
    /// The same, IPv6.
    pub const FRAGMENT_QUEUE6: u32 = 14;
    /// A first fragment, IPv4.
    pub const FRAGMENT_FIRST: u32 = 15;
    /// The same, IPv6.
    pub const FRAGMENT_FIRST6: u32 = 16;
    /// An IPv6 packet of a flow that leads to IPv4: its headers are translated.
    pub const NAT64: u32 = 17;
    /// An IPv4 packet to a gateway, which may be the reply to an IPv6 client: the table of established IPv6 flows.
    pub const NAT46_TRACK: u32 = 18;
    /// The same, the table of unreplied IPv6 flows.
    pub const NAT46_TRACK_NEW: u32 = 19;
    /// An IPv4 packet of a flow that leads to IPv6: its headers are translated.
    pub const NAT46: u32 = 20;
    /// A packet from a container to the host, IPv4.
    pub const HAIRPIN: u32 = 21;
    /// The same, IPv6.
    pub const HAIRPIN6: u32 = 22;
    /// A packet from a container to outside, IPv4.
    pub const MASQUERADE: u32 = 23;
    /// The same, IPv6.
    pub const MASQUERADE6: u32 = 24;
    /// The first packet to a container's own address from beyond its network, IPv4.
    pub const DIRECT: u32 = 25;
    /// The same, IPv6.
    pub const DIRECT6: u32 = 26;
    /// A packet without a flow to a published port of another host, IPv4.
    pub const FORWARD: u32 = 27;
    /// The same, IPv6.
    pub const FORWARD6: u32 = 28;
    /// An IPv4 packet that was broadcast on an uplink's link.
    pub const BROADCAST: u32 = 29;
    /// A connection that was opened gets a place in the ring of unreplied ones, IPv4.
    pub const ENLIST: u32 = 30;
    /// The same, IPv6.
    pub const ENLIST6: u32 = 31;
    /// A connection goes to the other flow table: it is established, or it has ended. IPv4.
    pub const MOVE: u32 = 32;
    /// The same, IPv6.
    pub const MOVE6: u32 = 33;
    /// A new connection finds no room: expired ones are removed. IPv4.
    pub const RECLAIM: u32 = 34;
    /// The same, IPv6.
    pub const RECLAIM6: u32 = 35;

    /// The programs in the order of their numbers.
    pub const PROGRAMS: [&str; 36] = [
        "conntrack",
        "conntrack6",
        "conntrack_new",
        "conntrack_new6",
        "uplink_new",
        "uplink_new6",
        "container_new",
        "container_new6",
        "icmp_error",
        "icmp_error6",
        "answer",
        "answer6",
        "report",
        "fragment_queue",
        "fragment_queue6",
        "fragment_first",
        "fragment_first6",
        "nat64",
        "nat46_track",
        "nat46_track_new",
        "nat46",
        "hairpin",
        "hairpin6",
        "masquerade",
        "masquerade6",
        "direct",
        "direct6",
        "forward",
        "forward6",
        "broadcast",
        "enlist",
        "enlist6",
        "move_flow",
        "move_flow6",
        "reclaim",
        "reclaim6",
    ];
}

/// The stages of XDP: `uplink_xdp ──▶ early_drop`.
pub mod xdp_stage {
    /// A packet from outside without a flow, IPv4.
    pub const EARLY_DROP: u32 = 0;
    /// The same, IPv6.
    pub const EARLY_DROP6: u32 = 1;

    /// The programs in the order of their numbers.
    pub const PROGRAMS: [&str; 2] = ["early_drop", "early_drop6"];
}

/// Where packets without a flow go while another set of programs gives way: to its programs, which know the connections that have
/// not been carried over yet, or round again by [`HOLD`](previous::HOLD) while the last ones are.
pub mod previous {
    /// Packets from outside. The program of an uplink takes them.
    pub const UPLINK: u32 = 0;
    /// Packets from containers.
    pub const CONTAINER: u32 = 1;
    /// How many there are.
    pub const COUNT: u32 = 2;

    /// The program that lets a packet come in once more.
    pub const HOLD: &str = "hold";
}

/// The programs that are attached to a hook of the kernel.
pub mod hook {
    /// XDP of an uplink, if the user wants it.
    pub const UPLINK_XDP: &str = "uplink_xdp";
    /// TC ingress of an uplink.
    pub const UPLINK_INGRESS: &str = "uplink_ingress";
    /// TC ingress of an uplink whose packets have no link-layer header.
    pub const TUNNEL_INGRESS: &str = "tunnel_ingress";
    /// TC ingress of a container's host-side veth.
    pub const CONTAINER_INGRESS: &str = "container_ingress";
    /// TC egress of a network's bridge: what the host's stack sends into the network.
    pub const BRIDGE_EGRESS: &str = "bridge_egress";
    /// A host process connects an IPv4 socket.
    pub const CONNECT4: &str = "connect4";
    /// A host process connects an IPv6 socket.
    pub const CONNECT6: &str = "connect6";
    /// A host process binds an IPv4 socket (kernel 6.1).
    pub const BIND4: &str = "bind4";
    /// A host process binds an IPv6 socket (kernel 6.1).
    pub const BIND6: &str = "bind6";
    /// A host process sends a datagram to an IPv4 address.
    pub const SENDMSG4: &str = "sendmsg4";
    /// A host process sends a datagram to an IPv6 address.
    pub const SENDMSG6: &str = "sendmsg6";
    /// A host process asks where a datagram came from, IPv4 socket.
    pub const RECVMSG4: &str = "recvmsg4";
    /// A host process asks where a datagram came from, IPv6 socket.
    pub const RECVMSG6: &str = "recvmsg6";
    /// A host process asks for the peer of an IPv4 socket.
    pub const GETPEERNAME4: &str = "getpeername4";
    /// A host process asks for the peer of an IPv6 socket.
    pub const GETPEERNAME6: &str = "getpeername6";
    /// A host process releases a socket.
    pub const SOCK_RELEASE: &str = "sock_release";

    /// All of them.
    pub const ALL: [&str; 16] = [
        UPLINK_XDP,
        UPLINK_INGRESS,
        TUNNEL_INGRESS,
        CONTAINER_INGRESS,
        BRIDGE_EGRESS,
        CONNECT4,
        CONNECT6,
        BIND4,
        BIND6,
        SENDMSG4,
        SENDMSG6,
        RECVMSG4,
        RECVMSG6,
        GETPEERNAME4,
        GETPEERNAME6,
        SOCK_RELEASE,
    ];
}
