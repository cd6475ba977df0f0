//! Decisions: which rows a new connection gets, and how a row is made again from its partner's. Pure; whoever calls looks
//! things up before and writes rows after.

use crate::abi::{FlowRow, direction};
use crate::bytes::{Address, Be16};
use crate::checksum::Delta;
use crate::flow::{FlowKey, Handle, Tuple, Zone};

/// The two rows of a connection, each under the key that its packets come in with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection<A: Address> {
    /// Key of the originator's packets.
    pub original: FlowKey<A>,
    /// What becomes of them.
    pub forward: FlowRow<A>,
    /// Key of the answers.
    pub reply: FlowKey<A>,
    /// What becomes of them.
    pub backward: FlowRow<A>,
}

/// Where packets go, and therefore where their answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// The container's zone, or outside.
    pub zone: Zone,
    /// The container whose row says how to get there; for outside the container at the other end.
    pub endpoint: Handle,
}

impl<A: Address> Connection<A> {
    /// A connection whose packets of `original` become `inner` and go to `to`. Every kind of NAT is a choice of these:
    ///
    /// | | `inner` | `to` | `back` |
    /// |---|---|---|---|
    /// | publishing | destination is the container's | the container | the container |
    /// | masquerade | source is the host's | outside | the container |
    /// | hairpin | destination is the target's | the target | the requester |
    /// | IPv6 to IPv4 | both ends are in mapped addresses | the container | as for the others |
    /// | forwarding | destination is the target's, source the host's | outside | the requester, or the target |
    ///
    /// `back` is the endpoint that answers need: that of the originator if it is a container, else as in `to`.
    #[inline(always)]
    pub fn set(
        &mut self,
        original: FlowKey<A>,
        inner: &Tuple<A>,
        to: Side,
        back: Handle,
        publication: Handle,
    ) {
        self.original = original;
        self.reply = FlowKey::new(inner.reversed(), original.protocol(), to.zone);
        fill(&mut self.forward, &self.original, inner, way(to.zone), to.endpoint, publication);
        let outer = original.tuple().reversed();
        let crosses = if original.dst.is_mapped() == inner.dst.is_mapped() { 0 } else { direction::NAT64 };
        self.forward.bits |= crosses;
        let state = way(original.zone()) | direction::REPLY | crosses;
        fill(&mut self.backward, &self.reply, &outer, state, back, publication);
    }
}

/// How packets reach a zone.
#[inline(always)]
const fn way(zone: Zone) -> u32 {
    if zone.ifindex() == Zone::OUTSIDE.ifindex() { direction::OUTWARD } else { direction::INWARD }
}

/// Makes a row that turns packets of `key` into `tuple`, with the checksum changes worked out. In its place, since the BPF
/// side has no stack for a copy.
#[inline(always)]
fn fill<A: Address>(
    row: &mut FlowRow<A>,
    key: &FlowKey<A>,
    tuple: &Tuple<A>,
    state: u32,
    endpoint: Handle,
    publication: Handle,
) {
    *row = FlowRow::default();
    row.src = tuple.src;
    row.dst = tuple.dst;
    row.src_port = tuple.src_port;
    row.dst_port = tuple.dst_port;
    row.addresses = key.src.change(tuple.src).and(key.dst.change(tuple.dst));
    row.ports = Delta::NONE
        .word(key.src_port.word(), tuple.src_port.word())
        .word(key.dst_port.word(), tuple.dst_port.word());
    row.endpoint = endpoint;
    row.publication = publication;
    row.bits = state;
}

/// The key of the other direction. `to` is the zone that the row's packets go to.
#[inline(always)]
pub fn partner_key<A: Address>(key: &FlowKey<A>, row: &FlowRow<A>, to: Zone) -> FlowKey<A> {
    FlowKey::new(row.tuple().reversed(), key.protocol(), to)
}

/// Makes the other direction's row as it was: everything in it follows from this one. `back` is as in
/// [`Connection::set`], seen from the partner.
#[inline(always)]
pub fn restore<A: Address>(
    into: &mut FlowRow<A>,
    key: &FlowKey<A>,
    own: &FlowRow<A>,
    partner: &FlowKey<A>,
    back: Handle,
) {
    let turned = (own.bits & (direction::REPLY | direction::NAT64)) ^ direction::REPLY;
    fill(into, partner, &key.tuple().reversed(), way(key.zone()) | turned, back, own.publication);
}

/// The first port of Linux' `ip_local_port_range`: what is below it the kernel hands out to nobody by itself.
const KERNELS_OWN: u16 = 32768;
/// The first port that is not privileged.
const UNPRIVILEGED: u16 = 1024;

/// A port from `random` that no kernel hands out by itself, and that is not privileged.
#[inline(always)]
pub const fn quiet_port(random: u32) -> Be16 {
    between(UNPRIVILEGED, KERNELS_OWN as u32, random)
}

/// A port from `random`, above the privileged ones (RFC 6056 §3.3.2).
#[inline(always)]
pub const fn ephemeral_port(random: u32) -> Be16 {
    between(UNPRIVILEGED, 1 << 16, random)
}

/// A port from `first` on and below `end`, all alike.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the product's high half is below the range's length")]
const fn between(first: u16, end: u32, random: u32) -> Be16 {
    // A multiplication instead of a division.
    Be16::new(first + ((random as u64 * (end - first as u32) as u64) >> 32) as u16)
}
