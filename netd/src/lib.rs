//! netd: publishes container ports with eBPF instead of iptables.
//!
//! This is the engine. A front end opens a [`Session`] to look at an instance, or a [`Transaction`] to change it; both are told
//! by [`Settings`] which network namespace is the host. Requests, answers and errors are types. The library prints nothing, reads
//! no environment variable and never exits; it tells about its work by `tracing` events.
//!
//! ```text
//! request ── plan (pure: records × snapshot of the host) ── apply ── answer
//!              │            │                                 │
//!            model       observe                 link, netns, dataplane, store
//! ```

mod apply;
mod check;
mod dataplane;
mod desired;
mod error;
mod link;
mod metrics;
mod model;
mod netns;
mod observe;
mod plan;
mod private;
mod runs;
mod serve;
mod session;
mod settings;
mod store;

pub use apply::{Effort, Transaction, remove_gone};
pub use dataplane::{TcHook, cgroup_root, own_version};
pub use desired::{SavedState, schema};
pub use error::{
    ContainerError, Doing, Error, Holder, HostError, Kind, Lack, NetworkError, Position, PublicationError,
    Result, StateError, SubnetFault,
};
pub use metrics::openmetrics;
pub use model::report;
pub use model::{
    Access, ContainerRequest, Count, Desired, DesiredFile, GatewayMode, GatewayModes, HostPorts, IfName,
    InterfaceRequest, Mac, MetricsEndpoint, ModeSpec, Name, NetworkMode, NetworkRequest, OutputLine,
    OwnerKey, OwnerRequest, Policy, PortRange, PortSpec, Process, ProgramsVersion, Protocol, Publication,
    PublishRequest, Quota, Replace, Setting, SettingName, Source, Stream, TargetSpec, TimeoutSpec, Timeouts,
    UnpublishSpec, XdpMode, duration, parse_address, parse_prefix, parse_subnet,
};
pub use netns::Netns;
pub use observe::this_process;
pub use runs::{Capture, Output, Runs};
pub use serve::{End, Follower, Pass};
pub use session::{DropLog, Session};
pub use settings::Settings;
pub use store::FollowerNote;

/// What the project's own tests and fuzzers look at behind the door. No part of the library's promise.
#[doc(hidden)]
pub mod internals {
    pub use crate::dataplane::load;
    pub use crate::model::{State, check_subnet, gateway_of, hosts, is_host};
    pub use crate::store::{parse as parse_state, write as write_state};
}
