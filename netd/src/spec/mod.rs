//! Requests that are already right: the types are the validation, so nothing behind the door checks again.

mod access;
mod gateway;
mod name;
mod port;
mod subnet;
mod target;
mod timeout;
mod xdp;

pub use access::{Access, Source};
pub use gateway::{GatewayMode, GatewayModes, ModeSpec};
pub use name::{IfName, Mac, Name};
pub use port::{HostPorts, PortRange, PortSpec, Protocol, UnpublishSpec};
pub use subnet::{gateway_of, hosts, is_host, parse_subnet};
pub use target::Target;
pub use timeout::{TimeoutSpec, Timeouts};
pub use xdp::XdpMode;
