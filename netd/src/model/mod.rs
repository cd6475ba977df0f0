//! What netd believes and is asked: requests, records, answers. No I/O.

mod access;
mod container;
mod count;
mod digest;
mod gateway;
mod host;
mod lifecycle;
mod name;
mod network;
mod port;
mod ports;
mod publication;
pub mod report;
mod state;
mod subnet;
mod target;
mod timeout;
mod xdp;

pub use access::{Access, Source};
pub use container::{
    Container, ContainerRequest, Interface, InterfaceRequest, NetworkMode, Process, Sandbox,
};
pub use count::Count;
pub use digest::digest;
pub use gateway::{GatewayMode, GatewayModes, ModeSpec};
pub use host::{Address, Link, Route};
pub use lifecycle::Lifecycle;
pub use name::{IfName, Mac, Name, OwnerKey};
pub use network::{BRIDGE, HOST, NONE, Network, NetworkRequest, Subnet, is_predefined};
pub use port::{HostPorts, PortRange, PortSpec, Protocol, UnpublishSpec};
pub(crate) use ports::Ports;
pub use publication::{Policy, Publication, PublishRequest, Remote, Replace, Target, TargetSet, meet};
pub use state::{Place, State};
pub use subnet::{check_subnet, gateway_of, hosts, is_host};
pub use target::TargetSpec;
pub use timeout::{TimeoutSpec, Timeouts};
pub use xdp::XdpMode;
