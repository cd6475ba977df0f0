//! Flows: one row for each direction of a connection.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use crate::wire::bytes::{Address, Be16};
use crate::wire::checksum::Delta;

use super::handle::Handle;
use super::key::{FlowKey, Tuple, Zone};
use super::state::{Seen, State};
use super::tick;

/// One direction of a connection: everything that is needed to forward its packets (64 or 104 bytes).
///
/// Each direction writes only its own row, so the two CPUs never write to the same cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowRow<A: Address> {
    /// Source address after translation.
    pub src: A,
    /// Destination address after translation.
    pub dst: A,
    /// Source port after translation.
    pub src_port: Be16,
    /// Destination port after translation.
    pub dst_port: Be16,
    /// The change of a checksum by the new addresses.
    pub addresses: Delta,
    /// The change of a checksum by the new ports.
    pub ports: Delta,
    /// The endpoint that the packets go to; for packets to outside, the one that they come from.
    #[cfg(not(feature = "other-layout"))]
    pub endpoint: Handle,
    /// The publication of the connection; none for a connection that a container opened to outside.
    pub publication: Handle,
    /// In another place.
    #[cfg(feature = "other-layout")]
    pub endpoint: Handle,
    /// [`direction`] in the low bits, a part of the connection's place from bit 3 (see [`Self::is_at`]), the TCP flags
    /// seen in this direction from bit 8, the path's MTU from bit 16 (see [`Self::mtu`]).
    pub bits: u32,
    /// When a packet last passed, [`tick`]s; zero if none has. In a later tick the row is updated (route, counters),
    /// unless [`Self::may_skip_refresh`].
    pub last: u32,
    /// The interface to leave by: for packets to outside an uplink, 0 if not known yet; for packets to a container its
    /// host-side veth.
    pub oif: u32,
    /// TCP: the acknowledgement number of the last packet in this direction, which is the next sequence number of the
    /// other side. Before there is one, a number of the handshake, see [`numbers`](super::numbers). SCTP: the verification
    /// tag of the packets. Zero if it is not known.
    pub acknowledged: u32,
    /// The next hop on that interface. A row that leads to a container needs none and has its [`Self::input`] here.
    pub next_hop: A,
    /// The low part of the packets before `last`, see [`Self::totals`].
    pub(crate) packets_low: u32,
    /// Zero.
    pub(crate) pad: A::Pad,
    /// Packets and bytes since the last update, see [`pending`].
    pub pending: u64,
    /// The bytes before `last`, and above them the high part of the packets.
    pub(crate) bytes_and_packets: u64,
}

/// What a row holds of the number of a place: five bits, in which places at regular distances differ as well.
const PLACE_TAG: u32 = 0x1f;

#[inline(always)]
const fn place_tag(place: u32) -> u32 {
    place.wrapping_mul(0x9e37_79b9) >> 27
}

/// Bits of a row's total bytes, 64 PiB; above them 8 bits of its packets, 40 altogether.
const TOTAL_BYTES: u32 = 56;

impl<A: Address> FlowRow<A> {
    /// Both ports after translation, as at the start of a transport header.
    #[inline(always)]
    pub const fn port_words(&self) -> u32 {
        let [a, b] = self.src_port.to_wire();
        let [c, d] = self.dst_port.to_wire();
        u32::from_ne_bytes([a, b, c, d])
    }

    /// The addresses and ports after translation.
    #[inline(always)]
    pub const fn tuple(&self) -> Tuple<A> {
        Tuple { src: self.src, dst: self.dst, src_port: self.src_port, dst_port: self.dst_port }
    }

    /// What the routing policy is asked about the row's packets to outside, which come in under `key`. A connection that begins
    /// is routed as the kernel forwards it: with the translated destination and the sender's own source (`ip rule from SUBNET`).
    /// An answer is routed by the address that it is given, so that `ip rule from ADDRESS` on a host with several uplinks sends it
    /// out by the right one.
    #[inline(always)]
    pub const fn routed(&self, key: &FlowKey<A>) -> Tuple<A> {
        if self.is_reply() {
            return self.tuple();
        }
        Tuple { src: key.src, src_port: key.src_port, ..self.tuple() }
    }

    /// Whether its packets go to outside.
    #[inline(always)]
    pub const fn is_outward(&self) -> bool {
        self.bits & direction::OUTWARD != 0
    }

    /// The zone that its packets go to.
    #[inline(always)]
    pub const fn zone(&self) -> Zone {
        if self.is_outward() { Zone::OUTSIDE } else { Zone::container(self.oif) }
    }

    /// The interface that packets from outside to a container must come in by; 0 if any will do.
    #[inline(always)]
    pub fn input(&self) -> u32 {
        if self.is_outward() { 0 } else { self.next_hop.first_word() }
    }

    /// Sets [`Self::input`] of a row that leads to a container; others have none.
    #[inline(always)]
    pub fn bind(&mut self, input: u32) {
        if !self.is_outward() {
            self.next_hop = A::with_first_word(input);
        }
    }

    /// Whether its packets must come in by another interface than this one. Of rows of packets from outside only.
    #[inline(always)]
    pub fn is_of_other_input(&self, ifindex: u32) -> bool {
        let input = self.input();
        input != 0 && input != ifindex
    }

    /// Whether a packet in a later tick than `last` updates only the tick of the row. Rows that lead into a container
    /// need no route lookup, so they are updated only every eighth tick. This excludes rows whose pending packets might
    /// overflow the counter in one more tick.
    #[inline(always)]
    pub const fn may_skip_refresh(&self, now: u32) -> bool {
        !self.is_outward()
            && tick::in_same_eight(self.last, now)
            && pending::packets(self.pending) < pending::MANY
    }

    /// Whether its packets are the replies.
    #[inline(always)]
    pub const fn is_reply(&self) -> bool {
        self.bits & direction::REPLY != 0
    }

    /// Whether its packets are translated between IPv6 and IPv4.
    #[inline(always)]
    pub const fn is_nat64(&self) -> bool {
        self.bits & direction::NAT64 != 0
    }

    /// What has been seen in this direction.
    #[inline(always)]
    pub const fn seen(&self) -> Seen {
        Seen { any: self.last != 0, flags: (self.bits >> 8) as u8 }
    }

    /// The conntrack state of the connection. `partner` is the row of the other direction, if there is one.
    #[inline(always)]
    pub const fn state(&self, protocol: u8, partner: Option<&Self>) -> State {
        let there = match partner {
            Some(partner) => partner.seen(),
            None => Seen { any: false, flags: 0 },
        };
        let (originator, replier) = if self.is_reply() { (there, self.seen()) } else { (self.seen(), there) };
        State::of(protocol, originator, replier)
    }

    /// Ticks since the last packet of either direction.
    #[inline(always)]
    pub const fn idle(&self, partner: Option<&Self>, now: u32) -> u32 {
        let last = match partner {
            Some(partner) if partner.last > self.last => partner.last,
            _ => self.last,
        };
        now.saturating_sub(last)
    }

    /// Whether the connection has the place with this number in its table's ring, for all that the row tells: it holds a part of
    /// the number, in the originator's row. Another place was an earlier connection's on the same tuple.
    #[inline(always)]
    pub const fn is_at(&self, place: u32) -> bool {
        (self.bits >> 3) & PLACE_TAG == place_tag(place)
    }

    /// Stores the number of the connection's place.
    #[inline(always)]
    pub fn set_place(&mut self, place: u32) {
        self.bits = (self.bits & !(PLACE_TAG << 3)) | (place_tag(place) << 3);
    }

    /// Adds TCP flags to those seen.
    #[inline(always)]
    pub fn add_flags(&mut self, flags: u8) {
        self.bits |= u32::from(flags) << 8;
    }

    /// MTU of the path to outside, bytes; 0 if not known yet. More than 65,535 is stored as 65,535, the longest IPv4
    /// packet.
    #[inline(always)]
    pub const fn mtu(&self) -> u32 {
        self.bits >> 16
    }

    /// Stores the MTU of the path to outside, bytes.
    #[inline(always)]
    pub fn set_mtu(&mut self, mtu: u32) {
        let mtu = if mtu > 0xffff { 0xffff } else { mtu };
        self.bits = (self.bits & 0xffff) | (mtu << 16);
    }

    /// Packets and bytes before `last`.
    pub const fn totals(&self) -> (u64, u64) {
        let packets = (self.bytes_and_packets >> TOTAL_BYTES << 32) | self.packets_low as u64;
        (packets, self.bytes_and_packets & ((1 << TOTAL_BYTES) - 1))
    }

    /// Adds to [`Self::totals`].
    #[inline(always)]
    pub fn add_totals(&mut self, packets: u64, bytes: u64) {
        let sum = u64::from(self.packets_low) + packets;
        self.packets_low = sum as u32;
        self.bytes_and_packets = self.bytes_and_packets.wrapping_add(bytes + (sum >> 32 << TOTAL_BYTES));
    }
}

/// The direction of a row's packets.
pub mod direction {
    /// To a container.
    pub const INWARD: u32 = 0;
    /// To outside.
    pub const OUTWARD: u32 = 1;
    /// The packets are the replies.
    pub const REPLY: u32 = 2;
    /// One side is IPv6 and the other IPv4, in mapped addresses.
    pub const NAT64: u32 = 4;
}

/// Packets and bytes in one word, so that counting a packet is one atomic addition. It is cleared every tick, or every
/// eighth one; 2²⁴ packets and 2⁴⁰ bytes are more than pass in that time.
pub mod pending {
    const BYTES: u32 = 40;

    /// A quarter of the packets that fit a word. A row with fewer may skip one more refresh.
    pub const MANY: u64 = 1 << (64 - BYTES - 2);

    /// One packet of `len` bytes.
    #[inline(always)]
    pub const fn packet(len: u32) -> u64 {
        (1 << BYTES) | len as u64
    }

    /// The packets in a word.
    #[inline(always)]
    pub const fn packets(word: u64) -> u64 {
        word >> BYTES
    }

    /// The bytes in a word.
    #[inline(always)]
    pub const fn bytes(word: u64) -> u64 {
        word & ((1 << BYTES) - 1)
    }
}

// `capacity` assumes this size.
const _: () = assert!(cfg!(feature = "other-layout") || size_of::<FlowRow<crate::wire::bytes::Ipv4>>() == 64);
