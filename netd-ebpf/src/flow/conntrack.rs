//! Connection tracking: packets update the rows of their connection and are forwarded.

use netd_common::abi::{PublicationRow, UplinkRow, cb, pending, publication_flag};
use netd_common::flow::nat::Connection;
use netd_common::flow::{FlowKey, FlowRow, State, Zone, state};
use netd_common::policy::{Route, host};
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ethernet::{IP_AT, PacketBytes as _};
use netd_common::wire::ip::{Ip, NAT64_GROWTH, Part, protocol};
use netd_common::wire::transport::{Layout, tcp_flag};

use crate::flow::datagram;
use crate::flow::packet::{Packet, mtu};
use crate::flow::table::{Live, Table, find};
use crate::kernel::frame::{self, Frame};
use crate::kernel::inet::Inet;
use crate::kernel::lookups::Kernel;
use crate::kernel::skb::Skb;
use crate::kernel::{atomic, clock, fib, flows, scratch, tables};

/// The result of a lookup in a flow table.
pub(crate) enum Step {
    /// It belongs to a flow, and was sent on or dropped.
    Done(Result<Verdict, Reason>),
    /// It is an ICMP error, which may be about a flow's packet.
    IcmpError,
    /// It is the first fragment of a datagram; other fragments may be queued for it.
    FragmentFirst,
    /// It belongs to a flow whose other side has the other address family.
    Nat64,
    /// It belongs to no flow in the table.
    Unknown,
}

/// Forwards a packet by its flow in one of the tables.
#[inline(always)]
pub(crate) fn follow<A: Inet, T: Table<A>>(skb: &Skb) -> Step {
    let frame = skb.front();
    let Ok(ip) = A::header(&frame, IP_AT) else { return Step::Unknown };
    if !T::IS_UNREPLIED && ip.is_icmp_error(&frame) {
        return Step::IcmpError;
    }
    if !T::IS_UNREPLIED && matches!(ip.part, Part::First(_)) && skb.cb(cb::PORTS_NOTED) == 0 {
        return Step::FragmentFirst;
    }
    pass::<A, T>(skb, frame, ip, Follows::Any)
}

/// The flows that a packet may belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// All flows of its own family.
    Any,
    /// NAT64 flows only.
    Nat64,
}

/// Forwards a packet by its flow, if it has one in the table.
#[inline(always)]
pub(crate) fn pass<A: Inet, T: Table<A>>(skb: &Skb, frame: Frame, ip: Ip<A>, follows: Follows) -> Step {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let Ok(mut transport) = datagram::transport(&frame, &ip, zone) else { return Step::Unknown };
    // Opaque, so that the verifier checks the following code once for all protocols.
    transport.layout = Layout::of(frame.opaque(transport.layout as u32));
    // The keys are not on the stack, which has no room for two IPv6 keys beside the packet's headers.
    let Some(Connection { original: key, reply: other, backward: spare, .. }) = scratch::connection() else {
        return Step::Unknown;
    };
    *key = FlowKey::of(&ip, &transport, zone);
    let Some(mut live) = find::<A, T>(key, other, spare) else { return Step::Unknown };
    if zone == Zone::OUTSIDE && live.row.is_of_other_input(skb.ifindex()) {
        return Step::Unknown;
    }
    let publication = live.row.publication;
    match live.update(&Packet { skb, frame, ip, transport }, key, follows) {
        Ok((outcome, is_assured)) => {
            if T::IS_UNREPLIED && is_assured {
                live.promote(key, other);
            }
            match outcome {
                Outcome::Sent(verdict) => Step::Done(Ok(verdict)),
                Outcome::Nat64 => Step::Nat64,
                Outcome::Over => {
                    flows::remove(T::rows(), key);
                    flows::remove(T::rows(), other);
                    Step::Unknown
                }
            }
        }
        Err(reason) => {
            tables::count_dropped(publication, 1);
            Step::Done(Err(reason))
        }
    }
}

/// The result for a packet that has a flow.
enum Outcome {
    /// It was forwarded.
    Sent(Verdict),
    /// It must be translated to the other family.
    Nat64,
    /// It belongs to another connection, and this one is over.
    Over,
}

impl<A: Inet> Live<A> {
    /// Updates the connection: the refresh in each tick, and the packet's flags. Then forwards the packet. Also returns
    /// whether the connection has become assured: both sides have confirmed it, and a tick has passed.
    #[inline(always)]
    fn update(
        &mut self,
        packet: &Packet<'_, A>,
        key: &FlowKey<A>,
        follows: Follows,
    ) -> Result<(Outcome, bool), Reason> {
        let (before, now) = (self.row.last, clock::now());
        if packet.ip.ttl <= 1 {
            return Err(Reason::TtlExceeded);
        }
        if self.gives_way(packet, key) {
            return Ok((Outcome::Over, false));
        }
        if before != now || (self.row.is_outward() && self.row.oif == 0) {
            self.refresh(packet.skb, key, now)?;
        }
        let mut mtu = mtu(self.row, self.endpoint);
        if self.row.is_nat64() && self.row.is_reply() && mtu > NAT64_GROWTH {
            mtu -= NAT64_GROWTH;
        }
        if packet.is_too_big(mtu) {
            packet.skb.set_cb(cb::MTU, mtu);
            return Err(Reason::TooBig);
        }
        if !self.add_flags(packet) {
            return Ok((Outcome::Over, false));
        }
        atomic::add(&mut self.row.pending, pending::packet(packet.skb.len()));
        let is_assured = before != now && self.partner.last != 0 && self.state.is_assured();
        // Only keys of NAT64 flows contain IPv4-mapped addresses.
        if A::IS_V6 && (follows == Follows::Nat64 || self.row.is_nat64()) {
            return Ok((Outcome::Nat64, is_assured));
        }
        Ok((Outcome::Sent(packet.send(self.row, self.endpoint)?), is_assured))
    }

    /// Whether the packet belongs to a connection of the host itself that has come to the same ports since. A connection
    /// keeps them until it ends, with two exceptions: the beginning of another one after its end, and a late answer to a
    /// socket that has gone, which looks like a client of a published port and gets no answer there.
    #[inline(always)]
    fn gives_way(&self, packet: &Packet<'_, A>, key: &FlowKey<A>) -> bool {
        let begins = packet.transport.tcp_flags & tcp_flag::SYN != 0;
        let is_new = packet.skb.cb(cb::OPENED) != 0;
        let may_give_way = if matches!(self.state, State::TimeWait | State::Closed) {
            begins && !is_new
        } else {
            self.partner.last == 0
                && !is_new
                && host::may_have_asked(self.row, key.dst_port, tables::local_ports())
        };
        may_give_way && host::claim(&Kernel(packet.skb.context()), key, packet.transport.opens()).is_some()
    }

    /// Stores the packet's TCP flags. Returns whether the packet belongs to the connection.
    #[inline(always)]
    fn add_flags(&mut self, packet: &Packet<'_, A>) -> bool {
        let transport = &packet.transport;
        let mut flags = transport.tcp_flags;
        if flags & tcp_flag::RST != 0 && !is_credible_end(packet, self.row, self.partner) {
            // The receiver gets it and checks it itself; the row does not change.
            flags &= !tcp_flag::RST;
        }
        if !self.row.is_reply() && self.state.may_begin_anew(flags) {
            self.row.forget_flags();
            self.partner.forget_flags();
            if let Some(publication) = tables::publication(self.row.publication) {
                if publication.flags & publication_flag::DRAINING != 0 {
                    return false;
                }
                atomic::add(&mut publication.counters.flows, 1);
            }
        }
        self.row.add_flags(flags);
        if flags & tcp_flag::ACK != 0 {
            self.row.acknowledged = transport.acknowledgement;
        }
        true
    }

    /// Refreshes a row, once for each tick and direction: adds its counters to the publication's and looks up the route
    /// again. So a change of routes takes effect without a process that watches them.
    #[inline(always)]
    fn refresh(&mut self, skb: &Skb, key: &FlowKey<A>, now: u32) -> Result<(), Reason> {
        let row = &mut *self.row;
        row.last = now;
        let word = atomic::take(&mut row.pending);
        let (packets, bytes) = (pending::packets(word), pending::bytes(word));
        row.add_totals(packets, bytes);
        if let Some(publication) = tables::publication(row.publication) {
            count(publication, row.is_reply(), packets, bytes);
        }
        if !row.is_outward() {
            return Ok(());
        }
        let route = if tables::is_in_network(row.dst) {
            // The network was made after the connection.
            Route::Refused(Reason::NoRoute)
        } else if tables::is_ipsec_peer(row.dst) {
            Route::Refused(Reason::Ipsec)
        } else if row.dst.is_link_local() {
            // A client on the link that its packets came in by; the lookup refuses such addresses.
            Route::Via(self.partner.oif, row.dst)
        } else {
            fib::lookup(skb.context(), self.endpoint.bridge, key.protocol(), &row.routed(key))
        };
        match route {
            Route::Via(oif, next_hop) => {
                row.oif = oif;
                row.next_hop = next_hop;
                let uplink = tables::uplink(oif);
                let is_strict = uplink.is_some_and(UplinkRow::has_strict_reverse_path::<A>);
                // What comes in must come by the way that leads there. A publication's own interface stays the only one.
                let bound = tables::publication(row.publication).map_or(0, |row| row.interface);
                let input = if bound != 0 {
                    bound
                } else if is_strict || row.dst.is_link_local() {
                    oif
                } else {
                    0
                };
                let input = frame::opaque(input, now);
                if !self.partner.is_outward() && self.partner.oif != input {
                    self.partner.oif = input;
                }
                let mut mtu = uplink.map_or(0, |uplink| uplink.mtu);
                // The lookup tells a route's own MTU only if it is locked (`ip_mtu_from_fib_result`).
                if let Some(own) = tables::route_mtu(row.dst)
                    && own < mtu
                {
                    mtu = own;
                }
                let mtu = frame::opaque(mtu, now);
                // A smaller MTU of the path to an IPv6 client is kept, see `table::lower_mtu`.
                if !(A::IS_V6 && row.is_nat64() && row.mtu() != 0 && row.mtu() < mtu) {
                    row.set_mtu(mtu);
                }
                Ok(())
            }
            Route::Local => {
                row.oif = 0;
                Err(Reason::NoRoute)
            }
            Route::Refused(reason) => {
                row.oif = 0;
                Err(reason)
            }
        }
    }

    /// Moves the connection to the table of assured ones. If that table is full, the connection stays where it is.
    #[inline(always)]
    fn promote(&self, key: &FlowKey<A>, other: &FlowKey<A>) {
        if flows::put(A::flows(), other, self.partner).is_ok()
            && flows::put(A::flows(), key, self.row).is_ok()
        {
            flows::remove(A::unreplied(), key);
            flows::remove(A::unreplied(), other);
        }
    }
}

/// Whether a TCP reset or an SCTP abort is credible.
#[inline(always)]
fn is_credible_end<A: Inet>(packet: &Packet<'_, A>, row: &FlowRow<A>, partner: &FlowRow<A>) -> bool {
    let transport = &packet.transport;
    if packet.ip.protocol == protocol::SCTP {
        return state::is_credible_abort(transport.acknowledgement, row.acknowledged, partner.acknowledged);
    }
    let answered = partner.seen().flags & tcp_flag::ACK != 0;
    // A row that was lost and restored has no acknowledgement number.
    let expected = if answered && partner.acknowledged != 0 { Some(partner.acknowledged) } else { None };
    state::is_credible_reset(transport.sequence, expected)
}

#[inline(always)]
fn count(publication: &mut PublicationRow, is_from_container: bool, packets: u64, bytes: u64) {
    let counters = &mut publication.counters;
    if is_from_container {
        atomic::add(&mut counters.packets_out, packets);
        atomic::add(&mut counters.bytes_out, bytes);
    } else {
        atomic::add(&mut counters.packets_in, packets);
        atomic::add(&mut counters.bytes_in, bytes);
    }
}
