//! Following a connection: what its packets change in its rows, and sending them on.

use netd_common::abi::{PublicationRow, cb, pending};
use netd_common::flow::nat::Connection;
use netd_common::flow::{FlowKey, Zone, numbers};
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
    let publication = live.row.publication;
    match live.update(&Packet { skb, frame, ip, transport }, key, follows) {
        Ok((outcome, is_assured)) => {
            if T::IS_UNREPLIED && is_assured {
                live.promote(key, other);
            }
            match outcome {
                Outcome::Sent(verdict) => Step::Done(Ok(verdict)),
                Outcome::Nat64 => Step::Nat64,
                Outcome::Local => {
                    flows::remove(T::rows(), key);
                    flows::remove(T::rows(), other);
                    Step::Done(Ok(Verdict::Pass))
                }
                Outcome::Ended => {
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
    /// Updates the connection: what is due once a tick, and what the packet's flags say. Then sends the packet on. Also
    /// returns whether the connection has become assured: both sides want it, and it has outlived a tick.
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
        // The kernel does not know which ports masquerading uses, and may assign the same one to a local socket.
        let is_masqueraded =
            self.row.is_reply() && self.row.publication.is_none() && key.zone() == Zone::OUTSIDE;
        if is_masqueraded && before != now && host_socket::is_connected(packet.skb.context(), key) {
            return Ok((Outcome::Local, false));
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
            return Ok((Outcome::Ended, false));
        }
        numbers::note(packet.ip.protocol, self.row, self.partner, &packet.transport);
        atomic::add(&mut self.row.pending, pending::packet(packet.skb.len()));
        let is_assured = before != now && self.partner.last != 0 && self.state.is_assured();
        // IPv4-mapped addresses are in the keys of NAT64 flows only.
        if A::IS_V6 && (follows == Follows::Nat64 || self.row.is_nat64()) {
            return Ok((Outcome::Nat64, is_assured));
        }
        Ok((Outcome::Sent(packet.send(self.row, self.endpoint)?), is_assured))
    }

    /// Once a tick and direction: adds the counters to the publication's, and looks up the route again, so that a change of
    /// routes takes effect without a process that watches them.
    #[inline(always)]
    fn refresh(&mut self, skb: &Skb, now: u32) -> Result<(), Reason> {
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

    /// Moves the connection to the table of assured ones. If that has no room, the connection stays.
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
