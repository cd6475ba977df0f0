//! Fragmented datagrams: the ports, which only the first fragment holds, and the queue of fragments that arrived before
//! it.

use bytemuck::{Pod, Zeroable};

use crate::flow::key::Zone;
use crate::wire::bytes::{Address, Be16};

/// The longest time between fragments of a datagram, ticks: the reassembly timeout of Linux (`IP_FRAG_TIME`, 30 s).
pub const FRAGMENT_TICKS: u32 = 28;

/// A fragmented datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// The datagram's identification (a native word of wire bytes).
    pub id: u32,
    /// Protocol number in the low 8 bits, zone above, as in a flow's key.
    pub(crate) protocol_and_zone: u32,
}

impl<A: Address> FragmentKey<A> {
    /// The key of the datagram with this identification, coming in from `zone`.
    #[inline(always)]
    pub const fn new(src: A, dst: A, id: u32, protocol: u8, zone: Zone) -> Self {
        Self { src, dst, id, protocol_and_zone: protocol as u32 | (zone.ifindex() << 8) }
    }
}

/// The ports of a datagram, which only its first fragment carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FragmentRow {
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// When the first fragment passed, or else when the first one was queued, [`tick`](super::tick)s. Identifications
    /// are reused, so an old row does not apply to a new datagram.
    pub last: u32,
    /// Whether the first fragment has come: 1 or 0.
    pub(crate) first: u32,
    /// Zero.
    pub(crate) pad: u32,
    /// How many fragments of the datagram have been queued.
    pub queued: u64,
}

impl FragmentRow {
    /// The row of a datagram whose first fragment has come.
    pub const fn first(src_port: Be16, dst_port: Be16, now: u32) -> Self {
        Self { src_port, dst_port, last: now, first: 1, pad: 0, queued: 0 }
    }

    /// The row of a datagram whose first fragment has not come.
    pub const fn awaited(now: u32) -> Self {
        Self { src_port: Be16::new(0), dst_port: Be16::new(0), last: now, first: 0, pad: 0, queued: 0 }
    }

    /// Whether the first fragment has come.
    #[inline(always)]
    pub const fn has_first(&self) -> bool {
        self.first != 0
    }

    /// Copies everything except the number of queued fragments, which other CPUs may change at the same time.
    #[inline(always)]
    pub fn take_ports(&mut self, from: &Self) {
        self.src_port = from.src_port;
        self.dst_port = from.dst_port;
        self.last = from.last;
        self.first = from.first;
    }
}

/// A fragment in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct QueuedFragmentKey<A> {
    /// The datagram.
    pub datagram: FragmentKey<A>,
    /// The fragment's number among the datagram's queued ones, from 0.
    pub number: u32,
    /// Zero.
    pub(crate) pad: u32,
}

impl<A: Address> QueuedFragmentKey<A> {
    /// The key of a datagram's fragment.
    #[inline(always)]
    pub const fn new(datagram: FragmentKey<A>, number: u32) -> Self {
        Self { datagram, number, pad: 0 }
    }
}

/// The queued fragment itself.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct QueuedFragmentRow {
    /// Its length, bytes, Ethernet header included; at most [`Self::ROOM`].
    pub len: u32,
    /// Zero.
    pub(crate) pad: u32,
    /// The frame, followed by zeros.
    pub frame: [u64; Self::ROOM / 8],
}

impl QueuedFragmentRow {
    /// The longest frame that is queued, bytes: an Ethernet frame's.
    pub const ROOM: usize = 1536;
}
