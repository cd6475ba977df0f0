//! The two rows of a connection: how they are made from the NAT that it gets, and each one from the other.

use crate::wire::bytes::{Address, Be16};
use crate::wire::checksum::Delta;

use super::handle::Handle;
use super::key::{FlowKey, Tuple, Zone};
use super::row::{FlowRow, direction};

/// Where packets go, and where their replies therefore come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Side {
    /// The container's zone, or outside.
    pub zone: Zone,
    /// The container that packets go to; for outside, the endpoint at the other end.
    pub endpoint: Handle,
}

impl Side {
    /// The outside end of an endpoint's connection.
    #[inline(always)]
    pub const fn outside(endpoint: Handle) -> Self {
        Self { zone: Zone::OUTSIDE, endpoint }
    }
}

/// The NAT of a new connection. The kinds differ in these fields:
///
/// | | `translated` | `to` | `back` |
/// |---|---|---|---|
/// | published port | destination is the container's | the container | the container |
/// | masquerade | source is the host's | outside | the container |
/// | hairpin | destination is the target's | the target | the sender |
/// | direct routing | the same | the container | the container, or the sender |
/// | NAT64 | both ends are IPv4-mapped addresses | the container | as for the others |
/// | forwarding | destination is the target's, source the host's or the client's | outside | the sender, or the target |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Nat<A> {
    /// The key of its first packet.
    pub original: FlowKey<A>,
    /// The tuple after translation. Its source port is tried first, see [`crate::policy::source_port`].
    pub translated: Tuple<A>,
    /// Where it goes.
    pub to: Side,
    /// The endpoint of the replies: the originator if it is a container, else as in `to`.
    pub back: Handle,
    /// The publication that it belongs to; none for a connection that a container makes to outside.
    pub publication: Handle,
    /// The interface that packets from outside must come in by; zero if any will do.
    pub input: u32,
    /// Whether the connection is rebuilt because its rows were lost: then its ports cannot be chosen, and it is not
    /// counted as a new one.
    pub is_rebuilt: bool,
}

impl<A: Address> Nat<A> {
    /// The NAT of a new connection that belongs to no publication.
    #[inline(always)]
    pub const fn new(original: FlowKey<A>, translated: Tuple<A>, to: Side, back: Handle) -> Self {
        Self { original, translated, to, back, publication: Handle::NONE, input: 0, is_rebuilt: false }
    }

    /// Whether the source address is translated.
    #[inline(always)]
    pub fn translates_source(&self) -> bool {
        self.translated.src != self.original.src
    }
}

/// The two rows of a connection, each with the key of its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection<A: Address> {
    /// Key of the originator's packets.
    pub original: FlowKey<A>,
    /// The originator's row.
    pub forward: FlowRow<A>,
    /// Key of the replies.
    pub reply: FlowKey<A>,
    /// The replier's row.
    pub backward: FlowRow<A>,
}

impl<A: Address> Connection<A> {
    /// Makes both rows from a NAT and the chosen source port. In place, since the BPF stack has no room for a copy.
    #[inline(always)]
    pub fn set(&mut self, nat: &Nat<A>, src_port: Be16) {
        let (original, to) = (nat.original, nat.to);
        let translated = Tuple { src_port, ..nat.translated };
        self.original = original;
        self.reply = FlowKey::new(translated.reversed(), original.protocol(), to.zone);
        fill(&mut self.forward, &self.original, &translated, to, nat.publication);
        self.forward.bind(nat.input);
        let answered = original.tuple().reversed();
        let is_nat64 = original.dst.is_mapped() != translated.dst.is_mapped();
        let nat64 = if is_nat64 { direction::NAT64 } else { 0 };
        self.forward.bits |= nat64;
        let back = Side { zone: original.zone(), endpoint: nat.back };
        fill(&mut self.backward, &self.reply, &answered, back, nat.publication);
        self.backward.bits |= direction::REPLY | nat64;
    }
}

/// Makes a row that translates packets of `key` to `tuple` and sends them `to` there, with the checksum changes computed.
#[inline(always)]
fn fill<A: Address>(row: &mut FlowRow<A>, key: &FlowKey<A>, tuple: &Tuple<A>, to: Side, publication: Handle) {
    *row = FlowRow::default();
    row.src = tuple.src;
    row.dst = tuple.dst;
    row.src_port = tuple.src_port;
    row.dst_port = tuple.dst_port;
    row.addresses = key.src.change(tuple.src).and(key.dst.change(tuple.dst));
    row.ports = Delta::NONE
        .word(key.src_port.word(), tuple.src_port.word())
        .word(key.dst_port.word(), tuple.dst_port.word());
    row.endpoint = to.endpoint;
    row.publication = publication;
    row.bits = if to.zone == Zone::OUTSIDE { direction::OUTWARD } else { direction::INWARD };
    row.oif = to.zone.ifindex();
}

/// The key of the other direction.
#[inline(always)]
pub fn partner_key<A: Address>(key: &FlowKey<A>, row: &FlowRow<A>) -> FlowKey<A> {
    FlowKey::new(row.tuple().reversed(), key.protocol(), row.zone())
}

/// Restores the other direction's row, which can be computed from this one. `back` is as in [`Nat::back`], seen from
/// the partner.
#[inline(always)]
pub fn restore<A: Address>(
    into: &mut FlowRow<A>,
    key: &FlowKey<A>,
    own: &FlowRow<A>,
    partner: &FlowKey<A>,
    back: Handle,
) {
    let back = Side { zone: key.zone(), endpoint: back };
    fill(into, partner, &key.tuple().reversed(), back, own.publication);
    into.bits |= (own.bits & (direction::REPLY | direction::NAT64)) ^ direction::REPLY;
}
