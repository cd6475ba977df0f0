//! Connection tracking: packets update the rows of their connection and are forwarded.

use netd_common::abi::{EndpointRow, UplinkRow, cb, pending};
use netd_common::flow::nat::Connection;
use netd_common::flow::{FlowKey, FlowRow, Zone, numbers};
use netd_common::policy::{Route, host, snat_address};
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ethernet::{IP_AT, PacketBytes as _};
use netd_common::wire::ip::{Ip, NAT64_GROWTH, Part, protocol};
use netd_common::wire::transport::{Layout, tcp_flag};

use crate::flow::datagram;
use crate::flow::packet::{Packet, mtu};
use crate::flow::table::{Found, Live, Table, add_up, find, forget};
use crate::kernel::frame::{self, Frame};
use crate::kernel::inet::Inet;
use crate::kernel::lookups::Kernel;
use crate::kernel::skb::Skb;
use crate::kernel::{atomic, clock, fib, scratch, tables};

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
    /// As one of the two above, and its flow belongs to the other table from now on.
    Move {
        /// Whether the packet is still to be sent on, in the other family.
        is_nat64: bool,
    },
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
pub(crate) fn pass<A: Inet, T: Table<A>>(skb: &Skb, frame: Frame, mut ip: Ip<A>, follows: Follows) -> Step {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let Ok(mut transport) = datagram::transport(&frame, &ip, zone) else { return Step::Unknown };
    // Opaque, and in one word, so that the verifier checks the following code once for all protocols.
    let word = u32::from_le_bytes([transport.layout as u8, ip.protocol, transport.tcp_flags, 0]);
    let [layout, protocol, tcp_flags, _] = frame.opaque(word).to_le_bytes();
    transport.layout = Layout::of(layout.into());
    (ip.protocol, transport.tcp_flags) = (protocol, tcp_flags);
    // The keys are not on the stack, which has no room for two IPv6 keys beside the packet's headers.
    let Some(Connection { original: key, reply: other, backward: spare, .. }) = scratch::connection() else {
        return Step::Unknown;
    };
    *key = FlowKey::of(&ip, &transport, zone);
    match find::<A, T>(key, other, spare) {
        Found::Live(live) if zone == Zone::OUTSIDE && live.row.is_of_other_input(skb.ifindex()) => {
            return Step::Unknown;
        }
        Found::Live(mut live) => {
            let (publication, before) = (live.row.publication, live.row.last);
            match live.update(&Packet { skb, frame, ip, transport }, key, follows) {
                Ok(Outcome::Over) => {}
                Ok(outcome) if live.belongs_elsewhere::<T>(key, before) => {
                    return Step::Move { is_nat64: matches!(outcome, Outcome::Nat64) };
                }
                Ok(Outcome::Nat64) => return Step::Nat64,
                Ok(Outcome::Sent(verdict)) => return Step::Done(Ok(verdict)),
                Err(reason) => {
                    tables::count_dropped(publication, 1);
                    return Step::Done(Err(reason));
                }
            }
        }
        Found::Over => {}
        Found::Nothing => return Step::Unknown,
    }
    forget(T::rows(), key, other);
    Step::Unknown
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
    /// Updates the connection: the refresh in each tick, and the packet's flags. Then forwards the packet.
    #[inline(always)]
    fn update(
        &mut self,
        packet: &Packet<'_, A>,
        key: &FlowKey<A>,
        follows: Follows,
    ) -> Result<Outcome, Reason> {
        let (before, now) = (self.row.last, clock::now());
        if packet.ip.ttl <= 1 {
            return Err(Reason::TtlExceeded);
        }
        let begins_anew = !self.row.is_reply() && self.state.may_begin_anew(packet.transport.tcp_flags);
        if begins_anew || self.gives_way(packet, key) {
            return Ok(Outcome::Over);
        }
        if (before != now || (self.row.is_outward() && self.row.oif == 0))
            && !self.refresh(packet.skb, key, now)?
        {
            return Ok(Outcome::Over);
        }
        let mut mtu = mtu(self.row, self.endpoint);
        if self.row.is_nat64() && self.row.is_reply() && mtu > NAT64_GROWTH {
            mtu -= NAT64_GROWTH;
        }
        if packet.is_too_big(mtu) {
            packet.skb.set_cb(cb::MTU, mtu);
            return Err(Reason::TooBig);
        }
        numbers::note(packet.ip.protocol, self.row, self.partner, &packet.transport);
        atomic::add(&mut self.row.pending, pending::packet(packet.skb.len()));
        // The last packets of a connection count at once, as do the first ones of a tick.
        if before != now || packet.transport.tcp_flags & (tcp_flag::FIN | tcp_flag::RST) != 0 {
            add_up(self.row);
        }
        // Only keys of NAT64 flows contain IPv4-mapped addresses.
        if A::IS_V6 && (follows == Follows::Nat64 || self.row.is_nat64()) {
            return Ok(Outcome::Nat64);
        }
        Ok(Outcome::Sent(packet.send(self.row, self.endpoint)?))
    }

    /// Whether the packet belongs to a connection of the host itself that has come to the same ports since. A connection
    /// keeps them until it ends, with two exceptions: the beginning of another one after its end, and a late answer to a
    /// socket that has gone, which looks like a client of a published port and gets no answer there.
    #[inline(always)]
    fn gives_way(&self, packet: &Packet<'_, A>, key: &FlowKey<A>) -> bool {
        let begins = packet.transport.tcp_flags & tcp_flag::SYN != 0;
        let is_new = packet.skb.cb(cb::OPENED) != 0;
        let may_give_way = if self.state.has_ended() {
            begins && !is_new
        } else {
            self.partner.last == 0
                && !is_new
                && host::may_have_asked(self.row, key.dst_port, tables::local_ports())
        };
        may_give_way && host::claim(&Kernel(packet.skb.context()), key, packet.transport.opens()).is_some()
    }

    /// Whether the connection belongs to the other table by now: it has become established, or has ended. `before` is when
    /// the last packet of this direction passed. Datagrams that are answered make a connection if they go on for a tick.
    #[inline(always)]
    fn belongs_elsewhere<T: Table<A>>(&self, key: &FlowKey<A>, before: u32) -> bool {
        let number = key.protocol();
        let state = self.row.state(number, Some(self.partner));
        if !T::IS_UNREPLIED {
            return state.has_ended();
        }
        let has_handshake = matches!(number, protocol::TCP | protocol::SCTP);
        state.is_assured() && self.partner.last != 0 && (has_handshake || before != self.row.last)
    }

    /// Refreshes a row, once for each tick and direction: looks up the route again. So a change of routes takes effect without a
    /// process that watches them. Returns whether the connection goes on: its
    /// source address may have left the host, or be that of another uplink than it leaves by now.
    #[inline(always)]
    fn refresh(&mut self, skb: &Skb, key: &FlowKey<A>, now: u32) -> Result<bool, Reason> {
        let row = &mut *self.row;
        row.last = now;
        if !row.is_outward() {
            return Ok(true);
        }
        let route = if tables::is_in_network(row.dst) {
            // The network was made after the connection.
            Route::Refused(Reason::NoRoute)
        } else if tables::is_ipsec_peer(row.dst) {
            Route::Refused(Reason::Ipsec)
        } else if row.dst.is_link_local() {
            // A client on the link that its packets came in by; the lookup refuses such addresses.
            Route::Via(self.partner.input(), row.dst)
        } else {
            fib::lookup(skb.context(), self.endpoint.bridge, key.protocol(), &row.routed(key))
        };
        match route {
            Route::Via(oif, next_hop) => {
                let uplink = tables::uplink(oif);
                let keeps = u32::from(keeps_source(row, self.endpoint, key, oif, uplink));
                // Opaque, so that the verifier checks the following code once.
                if frame::opaque(keeps, now) == 0 {
                    return Ok(false);
                }
                row.oif = oif;
                row.next_hop = next_hop;
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
                if self.partner.input() != input {
                    self.partner.bind(input);
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
                Ok(true)
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
}

/// Whether a connection that leaves by the uplink `oif` keeps the source address that it was given. On its uplink, as long as the
/// host has that address; on another one, if that one would give it the same. The kernel's masquerade ends it in the same cases
/// (`nf_nat_oif_changed`, `masq_inet_event`).
#[inline(always)]
fn keeps_source<A: Inet>(
    row: &FlowRow<A>,
    endpoint: &EndpointRow,
    key: &FlowKey<A>,
    oif: u32,
    uplink: Option<&UplinkRow>,
) -> bool {
    if row.is_reply() || row.src == key.src {
        return true;
    }
    if row.oif == oif {
        return tables::is_local(row.src);
    }
    let given = uplink.and_then(|uplink| snat_address::<A>(endpoint, uplink).ok());
    given.is_none_or(|given| given == row.src)
}
