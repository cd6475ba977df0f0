//! Failures about published ports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::kind::{Kind, list};

/// Who has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A publication.
    Publication {
        /// As it is written for `-p`.
        spec: String,
        /// The container's name or the target's address.
        target: String,
        /// The one interface that its clients come in by.
        interface: Option<String>,
    },
    /// A process of the host.
    Process {
        /// Name and process number; none if they cannot be seen.
        process: Option<(String, i32)>,
        /// What it listens on.
        address: SocketAddr,
        /// The protocol.
        protocol: &'static str,
    },
    /// Unknown: it let go of the port meanwhile.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publication { spec, target, interface } => {
                write!(f, "published to {target} as {spec}")?;
                interface.as_ref().map_or(Ok(()), |name| write!(f, " on interface {name}"))
            }
            Self::Process { process: Some((name, pid)), address, protocol } => {
                write!(f, "{name} (pid {pid}) listens on {address}/{protocol}")
            }
            Self::Process { process: None, address, protocol } => {
                write!(f, "an unknown process listens on {address}/{protocol}")
            }
            Self::Unknown => f.write_str("it was in use, and has just become free"),
        }
    }
}

/// A failure about a published port. `spec` is a port as it is written for `-p`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicationError {
    /// Nothing is published so.
    #[error("{spec} is not published")]
    NotFound {
        /// The port.
        spec: String,
    },
    /// The ports are part of a range.
    #[error("{spec} is part of {whole}")]
    PartOfRange {
        /// The ports that were asked for.
        spec: String,
        /// The range.
        whole: String,
    },
    /// Several publications have the ports, on different addresses.
    #[error("{spec} is published on several addresses: {}", list(found))]
    Ambiguous {
        /// The ports that were asked for.
        spec: String,
        /// The publications.
        found: Vec<String>,
    },
    /// Somebody has the port.
    #[error("port {spec} is in use: {holder}")]
    Taken {
        /// The port.
        spec: String,
        /// Who has it.
        holder: Holder,
    },
    /// Every port of the range is taken.
    #[error("'{spec}': every port of {range} is in use")]
    RangeTaken {
        /// What was asked for.
        spec: String,
        /// The range.
        range: String,
    },
    /// So many free ports in a row are not to be found.
    #[error("'{spec}': no {count} consecutive host ports are free")]
    NoFreePorts {
        /// What was asked for.
        spec: String,
        /// How many ports.
        count: u32,
    },
    /// What is replaced must have host ports.
    #[error("'{spec}' names no host ports to replace")]
    ReplaceWithoutPorts {
        /// What was asked for.
        spec: String,
    },
    /// Only the very same address and ports can be replaced.
    #[error("'{spec}' is not the same address and ports as {other}, published to {target}")]
    ReplaceOther {
        /// What was asked for.
        spec: String,
        /// The publication that is in the way.
        other: String,
        /// Its target.
        target: String,
    },
    /// The host address is not the host's.
    #[error("'{spec}': {address} is not an address of this host")]
    NotOwnAddress {
        /// What was asked for.
        spec: String,
        /// The address.
        address: IpAddr,
        /// The host's addresses of that family.
        own: Vec<IpAddr>,
    },
    /// Host address and target are of different families.
    #[error("'{spec}': {host} and {target} are of different IP versions")]
    Families {
        /// What was asked for.
        spec: String,
        /// The host address.
        host: IpAddr,
        /// The target's address.
        target: IpAddr,
    },
    /// The container's network has no ports to publish.
    #[error("container {container} is on network {network}, where ports cannot be published")]
    NoPorts {
        /// The container.
        container: String,
        /// Its network.
        network: String,
    },
    /// The network is internal.
    #[error("network {network} is internal, so its containers' ports cannot be published")]
    Internal {
        /// The network.
        network: String,
    },
    /// Containers see their clients' addresses in any case.
    #[error("keeping source addresses is for other hosts only, not for container {container}")]
    KeepSource {
        /// The container.
        container: String,
    },
    /// The target is no address of one host.
    #[error("{address} is not the unicast address of a host")]
    NotUnicast {
        /// The address.
        address: IpAddr,
    },
    /// The target is the host itself.
    #[error("{address} is an address of this host")]
    TargetIsHost {
        /// The address.
        address: IpAddr,
    },
    /// The target is an address of a network, but no container has it.
    #[error("no container has address {address} of network {network}")]
    NoContainerHas {
        /// The address.
        address: IpAddr,
        /// The network.
        network: String,
    },
    /// The route to the target leads out by an interface that is no uplink.
    #[error("the route to {address} leads through {}, which is not an uplink", interface.as_deref().unwrap_or("no interface"))]
    NoUplink {
        /// The address.
        address: IpAddr,
        /// The interface.
        interface: Option<String>,
    },
    /// Clients do not come in by the interface.
    #[error("interface {interface} is not an uplink")]
    NotAnUplink {
        /// The interface.
        interface: String,
        /// The uplinks.
        uplinks: Vec<String>,
    },
    /// A source is both allowed and denied.
    #[error("{source_net} is both allowed and denied")]
    AllowedAndDenied {
        /// The source.
        source_net: ipnet::IpNet,
    },
    /// The tables have no more room.
    #[error("no more {what} are possible: the maximum is {capacity}")]
    Full {
        /// "containers" or "publications".
        what: &'static str,
        /// How many there can be.
        capacity: u32,
    },
}

impl PublicationError {
    /// The failure's kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } | Self::NoContainerHas { .. } => Kind::NotFound,
            Self::Ambiguous { .. }
            | Self::Taken { .. }
            | Self::RangeTaken { .. }
            | Self::NoFreePorts { .. }
            | Self::ReplaceOther { .. }
            | Self::Full { .. } => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }
}
