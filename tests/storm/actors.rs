//! Who takes part: the one table of actors, each with its share and with what is known to go wrong when it acts.

use clap::ValueEnum;

/// A kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// Processes of the host that use servers elsewhere.
    HostClient,
    /// … from a source port within a range that is or will be published.
    HostPortInRange,
    /// … that use published ports by loopback or the host's own addresses.
    HostLocal,
    /// … that try to take a port that is published.
    HostBinds,
    /// … that serve others on ports of their own.
    HostServer,
    /// The host's tunnels: GRE and IPIP to one peer, and its pings.
    HostTunnel,
    /// Containers that use servers elsewhere.
    ContainerClient,
    /// … from source ports that the host, or others, use as well.
    ContainerPort,
    /// … that use published ports and their neighbours.
    ContainerLocal,
    /// … with tunnels of their own, to another peer.
    ContainerTunnel,
    /// Echoes of containers and of the host, by few identifiers.
    Ping,
    /// Containers that flood.
    ContainerFlood,
    /// … that lie about their address.
    ContainerSpoof,
    /// … that send protocols without ports to the peer of the host's tunnels.
    ContainerTakesTunnel,
    /// … that send to addresses that nobody has.
    ContainerReserved,
    /// The container of an internal network, which tries to get out.
    Vault,
    /// Outsiders that use published ports.
    Outsider,
    /// … that flood.
    OutsiderFlood,
    /// … that lie about their address, or go for containers' own.
    OutsiderSpoof,
    /// … that guess at others' connections.
    OutsiderBlind,
    /// The administrator adds and removes containers.
    Containers,
    /// … publishes, replaces and takes back.
    Publishing,
    /// … lets netd look at the host again.
    Sync,
    /// … adds and removes an address of the host.
    HostAddress,
    /// … adds and removes a route.
    HostRoute,
    /// … adds and removes a rule that routes by port.
    HostRule,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    /// Who.
    pub(crate) kind: Kind,
    /// How often it acts, compared with the others.
    pub(crate) weight: u32,
    /// What goes wrong when it acts, if that is known: it takes part only if asked for.
    pub(crate) known: Option<&'static str>,
}

/// Its name on the command line.
pub(crate) fn name(kind: Kind) -> String {
    kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

const fn actor(kind: Kind, weight: u32) -> Actor {
    Actor { kind, weight, known: None }
}

/// Everybody.
pub(crate) const ACTORS: [Actor; 26] = [
    actor(Kind::HostClient, 40),
    actor(Kind::HostPortInRange, 30),
    actor(Kind::HostLocal, 40),
    actor(Kind::HostBinds, 10),
    actor(Kind::HostServer, 30),
    actor(Kind::HostTunnel, 40),
    actor(Kind::ContainerClient, 40),
    actor(Kind::ContainerPort, 40),
    actor(Kind::ContainerLocal, 40),
    actor(Kind::ContainerTunnel, 10),
    actor(Kind::Ping, 20),
    actor(Kind::ContainerFlood, 5),
    actor(Kind::ContainerSpoof, 10),
    actor(Kind::ContainerTakesTunnel, 10),
    actor(Kind::ContainerReserved, 10),
    actor(Kind::Vault, 5),
    actor(Kind::Outsider, 70),
    actor(Kind::OutsiderFlood, 5),
    actor(Kind::OutsiderSpoof, 10),
    actor(Kind::OutsiderBlind, 10),
    actor(Kind::Containers, 2),
    actor(Kind::Publishing, 4),
    actor(Kind::Sync, 1),
    actor(Kind::HostAddress, 1),
    actor(Kind::HostRoute, 1),
    actor(Kind::HostRule, 1),
];
