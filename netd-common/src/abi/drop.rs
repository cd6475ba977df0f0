//! Dropped packets: the counters, and the deny cache of the XDP program.

use bytemuck::{Pod, Zeroable};

use crate::flow::handle::Handle;
use crate::wire::bytes::Address;

/// Packets and bytes that one CPU has dropped for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DropRow {
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
    /// The [`tick`](super::tick) of the last report.
    pub reported: u32,
    /// When the XDP program last left a packet to the TC programs, which report it; the clock of
    /// [`DenyCacheRow::stamp`].
    pub left: u32,
}

/// A decision of one CPU's XDP program to drop a packet. The next packet of the same sender is dropped without asking
/// the policy again. The decision applies to every source port. A source that has had a connection is always looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DenyCacheRow<A: Address> {
    /// The time of the decision in the low half, and in the high half the [`EPOCH`](super::name::EPOCH) of the
    /// decision.
    pub stamp: u64,
    /// The destination MAC address, see [`mac_words`](crate::wire::ethernet::mac_words).
    pub mac: [u32; 2],
    /// Index of the interface that the packet came in by.
    pub ifindex: u32,
    /// Destination port and protocol, see [`Class`](crate::wire::ip::Class).
    pub port_and_protocol: u32,
    /// The number of the [`Reason`](crate::verdict::Reason).
    pub reason: u32,
    /// The bit of the seen-peers filter that stands for the source.
    pub peer: u32,
    /// Pending packets: not yet added to the counters of the reason and the publication.
    pub pending: u32,
    /// The publication that counts these packets as well; none if they are for no publication.
    pub publication: Handle,
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// The bytes of the pending packets.
    pub bytes: u64,
}
