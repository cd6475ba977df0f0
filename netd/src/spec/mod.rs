//! Requests that are already right: the types are the validation, so nothing behind the door checks again.

mod access;
mod name;
mod port;
mod subnet;
mod target;

pub use access::{Access, Source};
pub use name::{IfName, Mac, Name};
pub use port::{HostPorts, PortRange, PortSpec, Protocol, UnpublishSpec};
pub use subnet::{gateway_of, hosts, is_host, parse_subnet};
pub use target::Target;
