//! The contract between the BPF programs (netd-ebpf) and the user side (netd): every map, program and row, each stated
//! once.
//!
//! Rows are [`Pod`](bytemuck::Pod): no padding, no invariants; the code that reads a field decides what it means. Keys
//! and rows are made of words, because the BPF side copies byte arrays a byte at a time. Addresses and ports are in
//! network order.

pub mod access;
pub mod cb;
mod drop;
mod endpoint;
mod event;
mod family;
mod fields;
mod fragment;
mod host;
#[cfg(test)]
mod layout;
mod limit;
mod maps;
mod programs;
mod publication;
mod socket;
mod uplink;
mod version;

pub use access::SourceKey;
pub use drop::{DenyCacheRow, DropRow};
pub use endpoint::{AllowedAddressKey, EndpointRow, Subnet, network_flag};
pub use event::DropEvent;
pub use family::FamilyRows;
pub use fields::{Field, Fields};
pub use fragment::{FRAGMENT_TICKS, FragmentKey, FragmentRow, QueuedFragmentKey, QueuedFragmentRow};
pub use host::LocalPorts;
pub use limit::{FillRow, LimitRow, UsageRow, counted, table};
pub use maps::{Kind, MAPS, Map, capacity, name};
pub use programs::{hook, previous, stage, xdp_stage};
pub use publication::{
    BoundPortKey, PortRow, PublicationCounters, PublicationRow, TargetPortKey, port_index, publication_flag,
};
pub use socket::{SocketKey, SocketRow};
pub use uplink::{TrustKey, UplinkRow, local, uplink_flag};
pub use version::{ABI, LayoutRow, VersionRow};

pub use crate::flow::row::{FlowRow, direction, pending};
pub use crate::flow::tick;
