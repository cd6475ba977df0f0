//! The identification of a packet in XDP.

use netd_common::flow::FlowKey;

/// A packet that has arrived.
pub(crate) struct Received<A> {
    /// Its flow's key.
    pub(crate) key: FlowKey<A>,
    /// The interface that it came in by.
    pub(crate) ifindex: u32,
    /// Its destination MAC address.
    pub(crate) mac: [u32; 2],
}
