//! Where the storm is: the hosts and their addresses, what may be published, who serves what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_tests::lab::Lab;

use crate::label::Party;

/// How many containers there can be at a time.
pub(crate) const PLACES: u8 = 6;
/// How many ports of a range have servers behind them. The others are there to be mistaken for the host's.
pub(crate) const SERVED: u16 = 4;

/// Ports that are published together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// `tcp` or `udp`.
    pub(crate) proto: &'static str,
    /// First host port.
    pub(crate) host_port: u16,
    /// How many.
    pub(crate) count: u16,
    /// First container port.
    pub(crate) port: u16,
}

const fn group(proto: &'static str, host_port: u16, count: u16, port: u16) -> Group {
    Group { proto, host_port, count, port }
}

/// Everything that the administrator may publish. The ranges are part of the ports from which the host's own connections
/// get theirs.
pub(crate) const GROUPS: [Group; 8] = [
    group("tcp", 8080, 1, 80),
    group("tcp", 8081, 1, 81),
    group("tcp", 8082, 1, 80),
    group("udp", 5300, 1, 53),
    group("udp", 5301, 1, 54),
    group("udp", 5302, 1, 53),
    group("tcp", 40_000, 300, 31_000),
    group("udp", 40_000, 300, 31_000),
];

impl Group {
    /// As netd's command line says it.
    pub(crate) fn spec(&self) -> String {
        let span = |first: u16| match self.count {
            1 => first.to_string(),
            count => format!("{first}-{}", first + count - 1),
        };
        format!("{}:{}/{}", span(self.host_port), span(self.port), self.proto)
    }
}

/// Who serves what.
pub(crate) mod service {
    /// Ports of the neighbour's and the outsider's servers, TCP and UDP. By the second one both are reached, at
    /// [`super::ANYCAST`]: the host's routing decides.
    pub(crate) const OUTSIDE: [u16; 2] = [7000, ROUTED];
    /// The port for which the administrator makes routing rules.
    pub(crate) const ROUTED: u16 = 7777;
    /// The port of the host's own server.
    pub(crate) const HOST: u16 = 7100;
    /// The protocols of the host's tunnels and pings: ICMP, GRE, IPIP.
    pub(crate) const TUNNELS: [u8; 3] = [1, 47, 4];
    /// Not a port: says that the peer is that of the containers' tunnels.
    pub(crate) const CONTAINERS_TUNNEL: u16 = 1;
    /// From where the host's kernel takes source ports.
    pub(crate) const EPHEMERAL: (u16, u16) = (40_000, 40_999);
    /// A container's TCP ports, without those of ranges.
    pub(crate) const TCP: [u16; 2] = [80, 81];
    /// A container's UDP ports, likewise.
    pub(crate) const UDP: [u16; 2] = [53, 54];
}

/// A host's address of both families.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Both(Ipv4Addr, Ipv6Addr);

impl Both {
    /// The one of a family.
    pub(crate) fn of(self, v6: bool) -> IpAddr {
        if v6 { self.1.into() } else { self.0.into() }
    }

    /// Both, one after the other.
    pub(crate) fn all(self) -> [IpAddr; 2] {
        [self.0.into(), self.1.into()]
    }

    /// The IPv4 one.
    pub(crate) fn v4(self) -> Ipv4Addr {
        self.0
    }
}

const fn six(net: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, last)
}

/// The host, as its neighbour sees it.
pub(crate) const HOST: Both = Both(Ipv4Addr::new(198, 18, 0, 1), six(0x18, 1));
/// The host's second address there, which comes and goes.
pub(crate) const SECOND: Both = Both(Ipv4Addr::new(198, 18, 0, 7), six(0x18, 7));
/// The host, as the outsider sees it.
pub(crate) const HOST_OUTSIDE: Both = Both(Ipv4Addr::new(198, 19, 0, 1), six(0x19, 1));
/// The neighbour.
pub(crate) const CLIENT: Both = Both(Ipv4Addr::new(198, 18, 0, 2), six(0x18, 2));
/// The outsider.
pub(crate) const OUTSIDE: Both = Both(Ipv4Addr::new(198, 19, 0, 2), six(0x19, 2));
/// The peer of the containers' tunnels: the outsider by another address.
pub(crate) const TUNNEL_PEER: Both = Both(Ipv4Addr::new(198, 19, 0, 3), six(0x19, 3));
/// An address that neighbour and outsider share.
pub(crate) const ANYCAST: Both = Both(Ipv4Addr::new(192, 0, 2, 53), six(0x53, 53));
/// The host in the containers' network.
pub(crate) const GATEWAY: Both =
    Both(Ipv4Addr::new(10, 77, 0, 1), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
/// Loopback.
pub(crate) const LOOPBACK: Both = Both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);

/// The place of the internal network's container, which is always there.
pub(crate) const VAULT: Party = Party::Container(9, 0);
/// Where nobody is; the administrator makes it unreachable, but for what is routed by port.
pub(crate) const UNREACHABLE: [u8; 3] = [203, 0, 112];

/// The name of the containers' network.
pub(crate) const NETWORK: &str = "storm";

/// Whether an address is a container's, and must not be seen outside.
pub(crate) fn is_hidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[0] == 0xfd77,
    }
}

/// Makes the hosts, without netd's part.
pub(crate) fn lab() -> Lab {
    let lab = Lab::new();
    let (first, last) = service::EPHEMERAL;
    lab.host.sh(&format!("sysctl -qw net.ipv4.ip_local_port_range='{first} {last}'"));
    lab.outside.ip(&format!("address add {}/24 dev eth0", TUNNEL_PEER.v4()));
    for netns in [&lab.client, &lab.outside] {
        for (address, length) in ANYCAST.all().into_iter().zip([32, 128]) {
            netns.ip(&format!("address add {address}/{length} dev lo"));
        }
    }
    // Where rules lead.
    for (family, hop) in ["-4", "-6"].into_iter().zip(CLIENT.all()) {
        lab.host.ip(&format!("{family} route add default via {hop} dev up0 table 100"));
    }
    lab
}

/// How much room there is for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For all that the honest open: netd may refuse none of them.
    Ample,
    /// For less than that: netd refuses new connections, and must keep the established ones.
    Scarce,
}

impl Room {
    /// That of a storm with this seed.
    pub(crate) fn of(seed: u64) -> Self {
        if seed.is_multiple_of(2) { Self::Scarce } else { Self::Ample }
    }

    fn connections(self) -> u32 {
        match self {
            // The honest open about a thousand in a second, and answered datagrams keep theirs for three minutes.
            Self::Ample => 1 << 19,
            Self::Scarce => 1 << 14,
        }
    }
}

/// Makes the containers' networks.
pub(crate) fn make_networks(lab: &Lab, room: Room) {
    lab.netd(&["set", &format!("max-connections={}", room.connections())]).ok();
    let subnets = ["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"];
    lab.netd(&[&["network", "create", NETWORK], &subnets[..]].concat()).ok();
    lab.netd(&["network", "create", "vault", "--internal", "--subnet", "10.78.0.0/24"]).ok();
}
