//! Failures about containers, their namespaces and their interfaces.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::kind::Kind;

/// A failure about a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// No container has this name.
    #[error("there is no container {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// No output is kept of a container with this name.
    #[error("there is no output of {name}")]
    NoOutput {
        /// The name.
        name: String,
        /// Of which runs there is output.
        others: Vec<String>,
    },
    /// A container has this name.
    #[error("container {name} already exists")]
    Exists {
        /// The name.
        name: String,
    },
    /// It belongs to a run, which removes it.
    #[error("container {name} belongs to a run")]
    Run {
        /// The name.
        name: String,
    },
    /// Something about it is decided when it is made.
    #[error("{what} of container {name} cannot change from {from} to {to}")]
    Fixed {
        /// The container.
        name: String,
        /// What should change.
        what: String,
        /// What it is.
        from: String,
        /// What it should be.
        to: String,
    },
    /// A container has this owner key.
    #[error("owner key '{key}' belongs to container {container}")]
    KeyTaken {
        /// The key.
        key: String,
        /// The container that has it.
        container: String,
    },
    /// The process whose namespace is asked for does not exist.
    #[error("there is no process {pid}")]
    NoProcess {
        /// Its number.
        pid: i32,
    },
    /// Nothing is at the path of a namespace.
    #[error("there is no network namespace {}", path.display())]
    NoNamespace {
        /// The path.
        path: PathBuf,
    },
    /// What is at the path is no network namespace.
    #[error("{} is not a network namespace", path.display())]
    NotANamespace {
        /// The path.
        path: PathBuf,
    },
    /// The path of a namespace that should be made is in use.
    #[error("network namespace {} already exists", path.display())]
    NamespaceExists {
        /// The path.
        path: PathBuf,
    },
    /// The namespace at the path is not the one that was recorded.
    #[error("the namespace of container {container} is not at {} any more", path.display())]
    NamespaceReplaced {
        /// The path.
        path: PathBuf,
        /// The container.
        container: String,
    },
    /// The container's interface went with its namespace, or somebody removed it.
    #[error("container {container} has lost its interface {interface}")]
    LostInterface {
        /// The container.
        container: String,
        /// The host's end.
        interface: String,
    },
    /// The namespace is the host's own.
    #[error("{} is the host's own namespace", path.display())]
    HostNamespace {
        /// The path.
        path: PathBuf,
    },
    /// Another container has the namespace.
    #[error("{} is already attached as container {container}", path.display())]
    NamespaceTaken {
        /// The path.
        path: PathBuf,
        /// The container that has it.
        container: String,
    },
    /// A container on the host's network has no namespace of its own.
    #[error("a container on network host has no namespace of its own")]
    HostWithNamespace,
    /// Networks host and none have no published ports.
    #[error("ports cannot be published on network {network}")]
    NoPorts {
        /// The network.
        network: String,
    },
    /// Networks host and none have no interface.
    #[error("network {network} has no interface that could have an address")]
    NoInterface {
        /// The network.
        network: String,
    },
    /// Networks host and none cannot be combined with others.
    #[error("network {network} cannot be combined with other networks")]
    NotCombinable {
        /// The network.
        network: String,
    },
    /// Two interfaces of a container with one name.
    #[error("container {container} already has an interface {interface}")]
    InterfaceTwice {
        /// The container.
        container: String,
        /// The interface.
        interface: String,
    },
    /// Two interfaces of a container on one network.
    #[error("container {container} is already on network {network}")]
    NetworkTwice {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// The container is not on the network.
    #[error("container {container} is not on network {network}")]
    NotConnected {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// The interface that is asked for is published to.
    #[error("interface {interface} of container {container} is needed by {publication}")]
    InterfaceInUse {
        /// The container.
        container: String,
        /// The interface.
        interface: String,
        /// The publication, as it is written for `-p`.
        publication: String,
    },
    /// The namespace has an interface of this name already.
    #[error("{} already has an interface {interface}", path.display())]
    InterfaceExists {
        /// The namespace.
        path: PathBuf,
        /// The interface.
        interface: String,
    },
    /// An interface in the namespace is gone.
    #[error("interface {interface} is not in {}", path.display())]
    InterfaceGone {
        /// The namespace.
        path: PathBuf,
        /// The interface.
        interface: String,
    },
    /// An interface that should be adopted is no veth with a known MAC address.
    #[error("interface {interface} cannot be adopted: it is not a veth with a MAC address")]
    NotAdoptable {
        /// The interface.
        interface: String,
    },
    /// A container's interface has no other end on this host.
    #[error("interface {interface} in {} is not a veth whose other end is on this host", path.display())]
    NoHostEnd {
        /// The namespace.
        path: PathBuf,
        /// The interface in it.
        interface: String,
    },
    /// The host's end of a container's interface is no port of a bridge.
    #[error(
        "the host's end {host} of interface {interface} in {} is not a port of a bridge", path.display()
    )]
    NoBridgePort {
        /// The namespace.
        path: PathBuf,
        /// The interface in it.
        interface: String,
        /// The host's end.
        host: String,
    },
    /// An interface that should be adopted belongs to another container.
    #[error("interface {interface} belongs to container {container}")]
    InterfaceTaken {
        /// The interface.
        interface: String,
        /// The container that has it.
        container: String,
    },
    /// Every address of the subnet is taken.
    #[error("every address of {subnet} is in use")]
    SubnetFull {
        /// The subnet.
        subnet: IpNet,
    },
    /// The address is the subnet's gateway.
    #[error("{address} is the gateway of {subnet}")]
    AddressIsGateway {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// Another container has the address.
    #[error("{address} is the address of container {container}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The container that has it.
        container: String,
    },
    /// The address is no host address of the subnet.
    #[error("{address} is not a usable address in {subnet}")]
    BadAddress {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// An address without a subnet of its family.
    #[error("network {network} has no further subnet for address {address}")]
    ExtraAddress {
        /// The address.
        address: IpAddr,
        /// The network.
        network: String,
    },
    /// A gateway that the interface cannot reach.
    #[error("gateway {gateway} is in no subnet of network {network}")]
    BadGateway {
        /// The gateway.
        gateway: IpAddr,
        /// The network.
        network: String,
    },
}

impl ContainerError {
    /// The failure's kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. }
            | Self::NoOutput { .. }
            | Self::NoProcess { .. }
            | Self::NoNamespace { .. }
            | Self::InterfaceGone { .. }
            | Self::LostInterface { .. }
            | Self::NotConnected { .. } => Kind::NotFound,
            Self::Exists { .. }
            | Self::KeyTaken { .. }
            | Self::Run { .. }
            | Self::Fixed { .. }
            | Self::NamespaceExists { .. }
            | Self::NamespaceReplaced { .. }
            | Self::NamespaceTaken { .. }
            | Self::InterfaceTwice { .. }
            | Self::NetworkTwice { .. }
            | Self::InterfaceInUse { .. }
            | Self::InterfaceExists { .. }
            | Self::InterfaceTaken { .. }
            | Self::SubnetFull { .. }
            | Self::AddressIsGateway { .. }
            | Self::AddressTaken { .. } => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }
}
