//! Where the kernel differs from the records: what `netd check` finds.

use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Serialize;

/// One difference between the records and the kernel. Its text says what differs, [`Self::effect`] what follows from that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Difference {
    /// The BPF programs or tables are gone.
    ProgramsGone,
    /// A network has no bridge.
    BridgeGone {
        /// The network.
        network: String,
        /// The bridge.
        bridge: String,
        /// Whether somebody else made it, so that netd does not make it again.
        adopted: bool,
    },
    /// A network's bridge has another name.
    BridgeRenamed {
        /// The network.
        network: String,
        /// Its recorded name.
        bridge: String,
        /// The name that it has.
        now: String,
    },
    /// A network's bridge is down.
    BridgeDown {
        /// The network.
        network: String,
        /// The bridge.
        bridge: String,
    },
    /// A network's bridge has lost the gateway's address.
    GatewayGone {
        /// The network.
        network: String,
        /// The bridge.
        bridge: String,
        /// The address and its prefix.
        address: IpNet,
    },
    /// The kernel does not forward from a network's bridge.
    ForwardingOff {
        /// The network.
        network: String,
        /// The bridge.
        bridge: String,
        /// `ipv4` or `ipv6`.
        family: &'static str,
    },
    /// The namespace of a container is gone, or another one is at its path.
    NamespaceGone {
        /// The container.
        container: String,
        /// The recorded path.
        path: PathBuf,
    },
    /// A container's veth pair is gone.
    InterfaceGone {
        /// The container.
        container: String,
        /// The container's end.
        interface: String,
        /// The host's end.
        host_interface: String,
    },
    /// The host's end of a container's veth pair has another name.
    InterfaceRenamed {
        /// The container.
        container: String,
        /// Its recorded name.
        host_interface: String,
        /// The name that it has.
        now: String,
    },
    /// The host's end of a container's veth pair is down.
    InterfaceDown {
        /// The container.
        container: String,
        /// The host's end.
        host_interface: String,
    },
    /// The host's end of a container's veth pair is not a port of the network's bridge.
    NotABridgePort {
        /// The container.
        container: String,
        /// The host's end.
        host_interface: String,
        /// The bridge.
        bridge: String,
    },
    /// An interface that the user chose as an uplink does not exist.
    UplinkGone {
        /// Its name.
        uplink: String,
    },
    /// A program is not on its hook.
    NotAttached {
        /// The program.
        program: &'static str,
        /// The interface or cgroup.
        on: String,
    },
    /// A program is on its hook more than once.
    AttachedTwice {
        /// The program.
        program: &'static str,
        /// The interface.
        on: String,
    },
    /// The program of somebody else sees the packets first.
    NotFirst {
        /// netd's program.
        program: &'static str,
        /// The interface.
        on: String,
        /// The other program.
        before: String,
    },
    /// The tables have no row of a container's interface, or a wrong one.
    InterfaceRow {
        /// The container.
        container: String,
        /// Its interface.
        interface: String,
    },
    /// The tables have no row of a publication.
    PublicationRow {
        /// The publication.
        publication: String,
        /// Whom it leads to.
        target: String,
    },
}

impl Difference {
    /// What does not work because of it.
    pub const fn effect(&self) -> &'static str {
        match self {
            Self::ProgramsGone => "nothing is published, and nothing guards the containers",
            Self::BridgeGone { .. } | Self::BridgeDown { .. } => {
                "the containers on the network reach nothing"
            }
            Self::BridgeRenamed { .. } => "commands do not find the bridge; packets pass",
            Self::GatewayGone { .. } => "the containers on the network reach nothing outside",
            Self::ForwardingOff { .. } => "published ports and outgoing connections do not work",
            Self::NamespaceGone { .. } => "the container cannot be reached, and its ports lead nowhere",
            Self::InterfaceGone { .. } | Self::InterfaceDown { .. } => {
                "the container cannot be reached by this interface"
            }
            Self::InterfaceRenamed { .. } => "commands do not find the interface; packets pass",
            Self::NotABridgePort { .. } => "the container reaches nothing by this interface",
            Self::UplinkGone { .. } => "nobody reaches published ports by it",
            Self::NotAttached { .. } => "packets pass there without translation and without netd's checks",
            Self::AttachedTwice { .. } => "packets that netd leaves to the stack are looked at twice",
            Self::NotFirst { .. } => "the other program may take packets that are for netd",
            Self::InterfaceRow { .. } => "the container's packets are dropped or sent to a wrong place",
            Self::PublicationRow { .. } => "the ports are not published",
        }
    }

    /// Whether netd can put it right without the user.
    pub const fn is_repairable(&self) -> bool {
        !matches!(
            self,
            Self::NamespaceGone { .. }
                | Self::UplinkGone { .. }
                | Self::NotFirst { .. }
                | Self::BridgeGone { adopted: true, .. }
        )
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProgramsGone => f.write_str("the BPF programs or tables are gone"),
            Self::BridgeGone { network, bridge, .. } => {
                write!(f, "bridge {bridge} of network {network} is gone")
            }
            Self::BridgeRenamed { network, bridge, now } => {
                write!(f, "bridge {bridge} of network {network} is called {now} now")
            }
            Self::BridgeDown { network, bridge } => {
                write!(f, "bridge {bridge} of network {network} is down")
            }
            Self::GatewayGone { network, bridge, address } => {
                write!(f, "bridge {bridge} of network {network} has lost the address {address}")
            }
            Self::ForwardingOff { network, bridge, family } => {
                write!(f, "{family} forwarding is off on bridge {bridge} of network {network}")
            }
            Self::NamespaceGone { container, path } => {
                write!(f, "the namespace of container {container} is no longer at {}", path.display())
            }
            Self::InterfaceGone { container, interface, host_interface } => {
                write!(f, "interface {interface} of container {container} ({host_interface}) is gone")
            }
            Self::InterfaceRenamed { container, host_interface, now } => {
                write!(f, "{host_interface} of container {container} is called {now} now")
            }
            Self::InterfaceDown { container, host_interface } => {
                write!(f, "{host_interface} of container {container} is down")
            }
            Self::NotABridgePort { container, host_interface, bridge } => {
                write!(f, "{host_interface} of container {container} is not a port of bridge {bridge}")
            }
            Self::UplinkGone { uplink } => write!(f, "there is no interface {uplink}, the chosen uplink"),
            Self::NotAttached { program, on } => write!(f, "{program} is not attached to {on}"),
            Self::AttachedTwice { program, on } => write!(f, "{program} is attached to {on} more than once"),
            Self::NotFirst { program, on, before } => {
                write!(f, "{before} sees the packets of {on} before {program}")
            }
            Self::InterfaceRow { container, interface } => {
                write!(f, "the tables do not have interface {interface} of container {container} as it is")
            }
            Self::PublicationRow { publication, target } => {
                write!(f, "the tables do not have publication {publication} of {target}")
            }
        }
    }
}
