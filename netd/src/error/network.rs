//! Failures about networks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::kind::{Kind, list};

/// A failure about a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No network has this name.
    #[error("there is no network {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// A network has this name.
    #[error("network {name} already exists")]
    Exists {
        /// The name.
        name: String,
        /// Whether it is one of those that always exist: bridge, host and none.
        predefined: bool,
    },
    /// A network that always exists cannot be removed.
    #[error("network {name} is built in and cannot be removed")]
    Predefined {
        /// The name.
        name: String,
    },
    /// Containers are on it.
    #[error("network {name} has containers: {}", list(containers))]
    HasContainers {
        /// The network.
        name: String,
        /// The containers' names.
        containers: Vec<String>,
    },
    /// Something about it is decided when it is made, and it is in use.
    #[error("{what} of network {name} cannot change from {from} to {to} while it is in use: {}", list(users))]
    Fixed {
        /// The network.
        name: String,
        /// What should change.
        what: String,
        /// What it is.
        from: String,
        /// What it should be.
        to: String,
        /// The containers and publications that need it.
        users: Vec<String>,
    },
    /// A publication needs it, though its target is no container.
    #[error("network {name} is needed by {publication}, published to {target}")]
    Needed {
        /// The network.
        name: String,
        /// The publication, as it is written for `-p`.
        publication: String,
        /// The target's address.
        target: String,
    },
    /// Its bridge has been removed by somebody else.
    #[error("bridge {bridge} of network {name} is gone")]
    BridgeGone {
        /// The network.
        name: String,
        /// The bridge.
        bridge: String,
    },
    /// An interface that should be adopted as a bridge is none.
    #[error("interface {interface} is not a bridge")]
    NotABridge {
        /// The interface.
        interface: String,
    },
    /// Another network has this bridge already.
    #[error("bridge {bridge} belongs to network {network}")]
    BridgeTaken {
        /// The bridge.
        bridge: String,
        /// The network that has it.
        network: String,
    },
    /// The subnet overlaps another one that is in use.
    #[error("subnet {subnet} overlaps {held} ({holder})")]
    Overlap {
        /// The subnet that was asked for.
        subnet: IpNet,
        /// What it overlaps.
        held: IpNet,
        /// Who has that: a network, a route or an address.
        holder: String,
    },
    /// No default address pool of IPv4 is free.
    #[error("all default address pools overlap with routes or networks of this host")]
    NoFreeSubnet,
    /// No random IPv6 prefix was free.
    #[error("all unique local IPv6 prefixes that were tried overlap with routes of this host")]
    NoFreeSubnet6,
    /// More than one subnet of a family.
    #[error("a network can have only one IPv{family} subnet")]
    SubnetTwice {
        /// 4 or 6.
        family: u8,
    },
    /// The subnet cannot be used.
    #[error("subnet {subnet} {}", why.text())]
    BadSubnet {
        /// The subnet.
        subnet: IpNet,
        /// Why.
        why: SubnetFault,
    },
    /// The gateway is no host address of the subnet.
    #[error("gateway {gateway} is not a usable address in {subnet}")]
    BadGateway {
        /// The gateway.
        gateway: IpAddr,
        /// The subnet.
        subnet: IpNet,
        /// One that would do.
        first: IpAddr,
    },
    /// A gateway without a subnet of its family.
    #[error("there is no subnet for gateway {gateway}")]
    ExtraGateway {
        /// The gateway.
        gateway: IpAddr,
    },
    /// The source NAT address is not the host's.
    #[error("SNAT address {address} is not an address of this host")]
    SnatNotOwn {
        /// The address.
        address: IpAddr,
    },
    /// A source NAT address without a subnet of its family.
    #[error("there is no subnet for SNAT address {address}")]
    ExtraSnat {
        /// The address.
        address: IpAddr,
    },
    /// A gateway mode of IPv6, but no IPv6 subnet.
    #[error("network {name} has no IPv6 subnet, so it has no IPv6 gateway mode")]
    ModeWithoutIpv6 {
        /// The network.
        name: String,
    },
    /// The same family's mode is given twice.
    #[error("the gateway mode of one IP version is given twice")]
    ModeTwice,
    /// Gateway mode isolated is for internal networks only.
    #[error("gateway mode isolated is not possible: network {name} is not internal")]
    IsolatedNotInternal {
        /// The network.
        name: String,
    },
    /// Gateway mode isolated has no gateway.
    #[error("in gateway mode isolated, {subnet} has no gateway, so {gateway} cannot be one")]
    IsolatedGateway {
        /// The subnet.
        subnet: IpNet,
        /// The gateway that was asked for.
        gateway: IpAddr,
    },
    /// A mode that lets clients in, on an internal network.
    #[error("gateway mode {mode} is not possible: network {name} is internal")]
    ModeInternal {
        /// The mode.
        mode: &'static str,
        /// The network.
        name: String,
    },
    /// Gateway mode routed does not masquerade.
    #[error("in gateway mode routed, connections keep the container's address, so {address} is not used")]
    RoutedSnat {
        /// The address that was asked for.
        address: IpAddr,
    },
    /// An internal network with a trusted interface.
    #[error("a trusted interface is not possible: network {name} is internal")]
    TrustedInternal {
        /// The network.
        name: String,
    },
    /// Only an adopted bridge has somebody else who routes it.
    #[error("network {name} cannot be unmanaged: its bridge is to be made by netd")]
    UnmanagedMade {
        /// The network.
        name: String,
    },
    /// An unmanaged network has terms that netd does not decide.
    #[error("network {name} is unmanaged, so netd does not decide about {what}")]
    UnmanagedTerms {
        /// The network.
        name: String,
        /// What was asked for.
        what: &'static str,
    },
    /// Nobody routes a bridge that is to be unmanaged.
    #[error("the kernel does not forward packets of {bridge}, so nobody routes its containers")]
    NotRouted {
        /// The bridge.
        bridge: String,
    },
}

/// Why a subnet cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubnetFault {
    /// Bits are set below its prefix.
    HostBits,
    /// There is no room for a gateway and a container.
    TooSmall,
    /// It contains reserved addresses.
    Reserved,
}

impl SubnetFault {
    const fn text(self) -> &'static str {
        match self {
            Self::HostBits => "has host bits set",
            Self::TooSmall => "is too small for a gateway and a container",
            Self::Reserved => "contains reserved addresses",
        }
    }
}

impl NetworkError {
    /// The failure's kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } | Self::BridgeGone { .. } => Kind::NotFound,
            Self::Exists { .. }
            | Self::HasContainers { .. }
            | Self::Needed { .. }
            | Self::Fixed { .. }
            | Self::BridgeTaken { .. }
            | Self::Overlap { .. }
            | Self::NoFreeSubnet
            | Self::NoFreeSubnet6 => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }
}
