//! Following a connection: what its packets change in its rows, and sending them on.

use netd_common::abi::{PublicationRow, cb, pending};
use netd_common::flow::nat::Connection;
use netd_common::flow::{FlowKey, FlowRow, Zone, numbers};
use netd_common::policy::Route;
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ethernet::{IP_AT, PacketBytes as _};
use netd_common::wire::ip::{Ip, NAT64_GROWTH, Part, protocol};
use netd_common::wire::transport::Layout;

use crate::flow::datagram;
use crate::flow::packet::{Packet, mtu};
use crate::flow::table::{Live, Table, find};
use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::skb::Skb;
use crate::kernel::{atomic, clock, fib, flows, host_socket, scratch, tables};

/// What a flow table says about a packet.
pub(crate) enum Step {
    /// It belongs to a flow, and was sent on or dropped.
    Done(Result<Verdict, Reason>),
    /// It is an ICMP error, which may be about a flow's packet.
    IcmpError,
    /// It is the first fragment of a datagram, which others may wait for.
    FragmentFirst,
    /// It belongs to a flow whose other side is of the other family.
    Nat64,
    /// As one of the two above, and its flow belongs to the other table from now on.
    Move {
        /// Whether the packet is still to be sent on, in the other family.
        is_nat64: bool,
    },
    /// It belongs to no flow in the table.
    Unknown,
}

/// Sends a packet on by its flow in one of the tables.
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

/// Which flows a packet may belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Any of its own family.
    Any,
    /// NAT64 flows only.
    Nat64,
}

/// Sends a packet on by its flow, if it has one in the table.
#[inline(always)]
pub(crate) fn pass<A: Inet, T: Table<A>>(skb: &Skb, frame: Frame, ip: Ip<A>, follows: Follows) -> Step {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let Ok(mut transport) = datagram::transport(&frame, &ip, zone) else { return Step::Unknown };
    // Opaque, so that the verifier checks what follows once for all protocols.
    transport.layout = Layout::of(frame.opaque(transport.layout as u32));
    // The keys are kept off the stack, which has no room for two of IPv6 beside the packet's headers.
    let Some(Connection { original: key, reply: other, backward: spare, .. }) = scratch::connection() else {
        return Step::Unknown;
    };
    *key = FlowKey::of(&ip, &transport, zone);
    let Some(mut live) = find::<A, T>(key, other, spare) else { return Step::Unknown };
    let (publication, before) = (live.row.publication, live.row.last);
    match live.update(&Packet { skb, frame, ip, transport }, key, follows) {
        Ok(Outcome::Local) => {
            flows::remove(T::rows(), key);
            flows::remove(T::rows(), other);
            Step::Done(Ok(Verdict::Pass))
        }
        Ok(Outcome::Ended) => {
            live.end();
            flows::remove(T::rows(), key);
            flows::remove(T::rows(), other);
            Step::Unknown
        }
        Ok(outcome) if live.belongs_elsewhere::<T>(key, before) => {
            Step::Move { is_nat64: matches!(outcome, Outcome::Nat64) }
        }
        Ok(Outcome::Nat64) => Step::Nat64,
        Ok(Outcome::Sent(verdict)) => Step::Done(Ok(verdict)),
        Err(reason) => {
            tables::count_dropped(publication, 1);
            Step::Done(Err(reason))
        }
    }
}

/// What has become of a packet that has a flow.
enum Outcome {
    /// It is the host's: a local socket has come to use the port since.
    Local,
    /// It was sent on.
    Sent(Verdict),
    /// It is to be sent on in the other family.
    Nat64,
    /// It begins another connection on the tuple; this one has ended.
    Ended,
}

impl<A: Inet> Live<A> {
    /// Updates the connection: what is due once a tick, and what the packet's flags say. Then sends the packet on.
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
        // The kernel does not know which ports masquerading uses, and may assign the same one to a local socket.
        let is_masqueraded =
            self.row.is_reply() && self.row.publication.is_none() && key.zone() == Zone::OUTSIDE;
        if is_masqueraded && before != now && host_socket::is_connected(packet.skb.context(), key) {
            return Ok(Outcome::Local);
        }
        if before != now || (self.row.is_outward() && self.row.oif == 0) {
            self.refresh(packet.skb, now)?;
        }
        let mut mtu = mtu(self.row, self.endpoint);
        if self.row.is_nat64() && self.row.is_reply() && mtu > NAT64_GROWTH {
            mtu -= NAT64_GROWTH;
        }
        if packet.is_too_big(mtu) {
            packet.skb.set_cb(cb::MTU, mtu);
            return Err(Reason::TooBig);
        }
        if !self.row.is_reply() && self.state.may_begin_anew(packet.transport.tcp_flags) {
            return Ok(Outcome::Ended);
        }
        numbers::note(packet.ip.protocol, self.row, self.partner, &packet.transport);
        atomic::add(&mut self.row.pending, pending::packet(packet.skb.len()));
        // IPv4-mapped addresses are in the keys of NAT64 flows only.
        if A::IS_V6 && (follows == Follows::Nat64 || self.row.is_nat64()) {
            return Ok(Outcome::Nat64);
        }
        Ok(Outcome::Sent(packet.send(self.row, self.endpoint)?))
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

    /// Adds what the connection has counted to its publication.
    #[inline(always)]
    fn end(&mut self) {
        add_up(self.row);
        add_up(self.partner);
    }

    /// Once a tick and direction: adds the counters to the publication's, and looks up the route again, so that a change of
    /// routes takes effect without a process that watches them.
    #[inline(always)]
    fn refresh(&mut self, skb: &Skb, now: u32) -> Result<(), Reason> {
        let row = &mut *self.row;
        row.last = now;
        add_up(row);
        if !row.is_outward() {
            return Ok(());
        }
        let route = if tables::is_in_network(row.dst) {
            // A network that was made after the connection.
            Route::None
        } else {
            fib::lookup(skb.context(), self.endpoint.bridge, row.src, row.dst)
        };
        match route {
            Route::Via(oif, next_hop) => {
                row.oif = oif;
                row.next_hop = next_hop;
                let mtu = tables::uplink(oif).map_or(0, |uplink| uplink.mtu);
                // A smaller MTU of the path to an IPv6 client is kept, see `table::lower_mtu`.
                if !(row.is_nat64() && row.mtu() != 0 && row.mtu() < mtu) {
                    row.set_mtu(mtu);
                }
                Ok(())
            }
            Route::Local | Route::None => {
                row.oif = 0;
                Err(Reason::NoRoute)
            }
        }
    }
}

/// Adds what a row has counted since the last time to its totals and its publication's.
#[inline(always)]
fn add_up<A: Inet>(row: &mut FlowRow<A>) {
    let word = atomic::take(&mut row.pending);
    let (packets, bytes) = (pending::packets(word), pending::bytes(word));
    row.add_totals(packets, bytes);
    if let Some(publication) = tables::publication(row.publication) {
        count(publication, row.is_reply(), packets, bytes);
    }
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
