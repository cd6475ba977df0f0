//! What netd does for a command: it checks a request, records it, and makes what the record describes.

mod container;
mod host;
mod network;
mod publication;
mod report;
mod xdp;

pub use container::ContainerRequest;
pub use host::{Host, Settings, remove_gone, this_process};
pub use network::NetworkRequest;
pub use publication::{PublishRequest, Replace};

pub use crate::store::Terms;
