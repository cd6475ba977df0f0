//! The programs' reports to the user side, through the ring buffer [`EVENTS`](super::name::EVENTS).

use bytemuck::{Pod, Zeroable};

use crate::wire::bytes::{Be16, Ipv6};

/// A dropped packet, in the form in which it was dropped. At most one is reported for each reason, CPU and
/// [`tick`](super::tick).
///
/// Aligned to 8 bytes, because the verifier refuses a double word that spans two double words of the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct DropEvent {
    /// Source address, IPv4 in its mapped form; unspecified if it could not be read.
    pub src: Ipv6,
    /// Destination address, likewise.
    pub dst: Ipv6,
    /// Source port; zero if there is none.
    pub src_port: Be16,
    /// Destination port; zero if there is none.
    pub dst_port: Be16,
    /// The number of the [`Reason`](crate::verdict::Reason).
    pub reason: u32,
    /// Protocol number.
    pub protocol: u32,
    /// Length of the frame, bytes.
    pub len: u32,
    /// Index of the interface that it came in by.
    pub ifindex: u32,
    /// Zero.
    pub(crate) pad: u32,
}

impl DropEvent {
    /// The event of a packet whose headers have not been read.
    #[inline(always)]
    pub fn new(reason: u32, len: u32, ifindex: u32) -> Self {
        Self { reason, len, ifindex, ..Self::default() }
    }
}
