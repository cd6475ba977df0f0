//! The flow table: finding a packet's row, keeping the two rows of a connection alive and in agreement, making new ones,
//! sending on.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use netd_common::abi::{EndpointRow, FlowRow, PublicationRow, cb, pending, publication_flag, tick};
use netd_common::bytes::Be16;
use netd_common::flow::{FlowKey, Handle, Tuple, Zone, protocol};
use netd_common::nat::{self, Connection, Side};
use netd_common::packet::{
    self, ETHERNET_LEN, IP_AT, Ip, Layout, PacketBytes as _, Part, Transport, tcp_flag,
};
use netd_common::track::{self, State};
use netd_common::verdict::{Reason, Verdict};

use crate::cross;
use crate::fragment::{self, Known, Then};
use crate::icmp;
use crate::maps::{self, Flows};
use crate::masquerade;
use crate::route::{self, Route};
use crate::skb::{self, Frame, Skb, Wire};

/// The segment size of a packet whose segments are of different sizes (linux/skbuff.h).
const GSO_BY_FRAGS: u32 = 0xffff;

/// A packet that has been read.
pub(crate) struct Packet<'a, A> {
    /// The packet itself.
    pub(crate) skb: &'a Skb,
    /// Its front.
    pub(crate) frame: Frame,
    /// Its IP header.
    pub(crate) ip: Ip<A>,
    /// Its ports.
    pub(crate) transport: Transport,
}

/// A random word.
#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_get_prandom_u32() }
}

/// Seconds, nearly: see [`tick`] (kernel 5.11; reads a word instead of a clock).
#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    tick::of_nanos(unsafe { bpf_ktime_get_coarse_ns() })
}

/// What becomes of a packet that has no flow.
pub(crate) enum First {
    /// It needs none, see [`Verdict::Pass`].
    Pass,
    /// It has one now.
    Opened,
    /// It has one that both sides want, which was not there when it was looked for.
    Known,
    /// The source port that was tried is taken.
    Taken,
    /// It is a later fragment whose first has not come.
    Queue(Then),
    /// It may be an answer to an IPv6 client of a container without IPv6.
    MayBeNat46,
    /// It goes to a container's own address, which is for [`crate::direct`] to judge.
    Direct,
    /// It is for a published port whose target is no container, see [`crate::forward`].
    Forward,
}

/// The two tables of flows. They are never mixed in one run of a program: the verifier follows every combination of
/// pointers separately.
pub(crate) trait Table<A: Wire> {
    /// Whether connections leave it for the other one when both sides have shown that they want them.
    const UNREPLIED: bool;

    /// The table.
    fn rows() -> &'static Flows<A>;
}

/// Connections that both sides want.
pub(crate) enum Assured {}

impl<A: Wire> Table<A> for Assured {
    const UNREPLIED: bool = false;

    #[inline(always)]
    fn rows() -> &'static Flows<A> {
        A::flows()
    }
}

/// Young and half-open ones.
pub(crate) enum Unreplied {}

impl<A: Wire> Table<A> for Unreplied {
    const UNREPLIED: bool = true;

    #[inline(always)]
    fn rows() -> &'static Flows<A> {
        A::unreplied()
    }
}

/// What a packet is to the flow table.
pub(crate) enum Step {
    /// Of a flow, and sent on or dropped.
    Done(Result<Verdict, Reason>),
    /// An ICMP error, which may be about a flow's packet.
    Message,
    /// The first fragment of a datagram, which others may wait for.
    FragmentFirst,
    /// Of a flow whose other side is of the other family.
    Nat64,
    /// Of no flow in the table.
    Unknown,
}

/// Sends a packet on by its flow in one of the tables.
#[inline(always)]
pub(crate) fn follow<A: Wire, T: Table<A>>(skb: &Skb) -> Step {
    let frame = skb.front();
    let Ok(ip) = A::header(&frame, IP_AT) else { return Step::Unknown };
    if !T::UNREPLIED && icmp::is_error(&frame, &ip) {
        return Step::Message;
    }
    if !T::UNREPLIED && matches!(ip.part, Part::First(_)) && skb.cb(cb::PORTS_NOTED) == 0 {
        return Step::FragmentFirst;
    }
    pass::<A, T>(skb, frame, ip, Follows::Any)
}

/// Which flows a packet may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Any of its own family's.
    Any,
    /// One that crosses families.
    Crossing,
}

/// Sends a packet on by its flow, if it has one in the table.
#[inline(always)]
pub(crate) fn pass<A: Wire, T: Table<A>>(skb: &Skb, frame: Frame, ip: Ip<A>, follows: Follows) -> Step {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let Ok(mut transport) = transport(&frame, &ip, zone) else { return Step::Unknown };
    // What follows is the same for all of them to the verifier, until one has to be told from another.
    transport.layout = Layout::of(frame.opaque(transport.layout as u32));
    // Keys are kept off the stack, which is too small for two of IPv6 beside the packet's headers.
    let Some(Connection { original: key, reply: other, backward: spare, .. }) = scratch() else {
        return Step::Unknown;
    };
    *key = packet::flow_key(&ip, &transport, zone);
    let Some(live) = find::<A, T>(key, other, spare) else { return Step::Unknown };
    match live.settle(&Packet { skb, frame, ip, transport }, key, follows) {
        Ok((onward, due)) => {
            if T::UNREPLIED && due == Due::Promotion {
                live.promote(key, other);
            }
            match onward {
                Onward::Sent(verdict) => Step::Done(Ok(verdict)),
                Onward::Nat64 => Step::Nat64,
                Onward::Hosts => {
                    maps::forget(T::rows(), key);
                    maps::forget(T::rows(), other);
                    Step::Done(Ok(Verdict::Pass))
                }
                Onward::Elsewhere => {
                    maps::forget(T::rows(), key);
                    maps::forget(T::rows(), other);
                    Step::Unknown
                }
            }
        }
        Err(reason) => {
            live.count_drop();
            Step::Done(Err(reason))
        }
    }
}

/// Room to put a connection together.
#[inline(always)]
fn scratch<A: Wire>() -> Option<&'static mut Connection<A>> {
    let scratch = A::scratch().get_ptr_mut(0)?;
    // SAFETY: this CPU's copy, which no other program uses while this one runs, and each program asks for it once.
    Some(unsafe { &mut *scratch })
}

/// A copy of the row under a key, for whoever has something to tell of its connection; it changes nothing.
#[inline(always)]
pub(crate) fn peek<A: Wire>(key: FlowKey<A>) -> Option<(&'static mut FlowRow<A>, &'static EndpointRow)> {
    let Connection { original: place, forward: copy, .. } = scratch()?;
    *place = key;
    let row = match A::flows().get_ptr(&*place) {
        Some(row) => row,
        None => A::unreplied().get_ptr(&*place)?,
    };
    // SAFETY: as in `owned`.
    *copy = unsafe { *row };
    if !copy.publication.is_none() {
        maps::publication(copy.publication)?;
    }
    let endpoint = maps::endpoint(copy.endpoint)?;
    Some((copy, endpoint))
}

/// Reads a packet's transport header; a later fragment's ports are those of its datagram's first.
#[inline(always)]
pub(crate) fn transport<A: Wire>(frame: &Frame, ip: &Ip<A>, zone: Zone) -> Result<Transport, Reason> {
    let Part::Later(id) = ip.part else { return packet::transport(frame, ip) };
    let place = fragment::key(ip, id, zone).ok_or(Reason::Fragment)?;
    match fragment::known(&place.datagram) {
        Known::First(row) => Ok(Transport::bare(row.src_port, row.dst_port)),
        Known::Nothing => Err(Reason::Fragment),
    }
}

impl<A: Wire> Packet<'_, A> {
    /// Whether a link with this MTU (bytes; 0 if not known) does not take it. Of a packet that the kernel cuts into
    /// segments, one segment counts.
    #[inline(always)]
    pub(crate) fn is_too_big(&self, mtu: u32) -> bool {
        let segment = self.skb.gso_size();
        let size = if segment == 0 {
            self.skb.len() - ETHERNET_LEN as u32
        } else if segment == GSO_BY_FRAGS {
            // SCTP's, cut to the way's MTU by who made them.
            0
        } else {
            let tcp = self.ip.protocol == protocol::TCP;
            let transport_len = if tcp { u32::from(self.transport.tcp_len) } else { 8 };
            segment + transport_len + self.ip.transport_at.get() as u32 - ETHERNET_LEN as u32
        };
        mtu != 0 && size > mtu
    }
}

/// MTU of a row's way, bytes; 0 if not known.
#[inline(always)]
pub(crate) fn mtu<A: Wire>(row: &FlowRow<A>, endpoint: &EndpointRow) -> u32 {
    if row.is_outward() { row.mtu() } else { endpoint.mtu }
}

/// The zone that a row's packets go to.
#[inline(always)]
pub(crate) fn zone_of<A: Wire>(row: &FlowRow<A>, endpoint: &EndpointRow) -> Zone {
    if row.is_outward() { Zone::OUTSIDE } else { Zone::container(endpoint.ifindex) }
}

/// A row whose owners are proved to be the present ones.
struct Owned<A: Wire> {
    row: *mut FlowRow<A>,
    endpoint: &'static EndpointRow,
}

/// The row under a key; none if there is none, or if it is left over from a container or publication that is gone. Such a one
/// is taken away, for it would hide what the other table gets under this key.
#[inline(always)]
fn owned<A: Wire, T: Table<A>>(key: &FlowKey<A>) -> Option<Owned<A>> {
    let row = T::rows().get_ptr_mut(key)?;
    // SAFETY: the pointer comes from the flow table in this run of the program, see the note in `maps`.
    let (endpoint, publication) = unsafe { ((*row).endpoint, (*row).publication) };
    let is_left_over = !publication.is_none() && maps::publication(publication).is_none();
    match maps::endpoint(endpoint) {
        Some(endpoint) if !is_left_over => Some(Owned { row, endpoint }),
        _ => {
            maps::forget(T::rows(), key);
            None
        }
    }
}

/// Whether a connection has been idle for too long.
#[inline(always)]
fn is_over(state: State, idle: u32) -> bool {
    maps::timeout(state).is_some_and(|timeout| idle > timeout)
}

/// A connection that a packet belongs to.
struct Live<A: Wire> {
    /// The row of the packet's direction.
    row: *mut FlowRow<A>,
    /// The other direction's.
    partner: *mut FlowRow<A>,
    /// The row's container.
    endpoint: &'static EndpointRow,
    state: State,
}

/// The connection of a packet with this key; none if there is none that is not over. A direction that is missing is made
/// anew from the one that is there, with `spare` for room. `other` becomes that one's key.
#[inline(always)]
fn find<A: Wire, T: Table<A>>(
    key: &FlowKey<A>,
    other: &mut FlowKey<A>,
    spare: &mut FlowRow<A>,
) -> Option<Live<A>> {
    let Owned { row, endpoint } = owned::<A, T>(key)?;
    // SAFETY: as in `owned`.
    let own = unsafe { &*row };
    *other = nat::partner_key(key, own, zone_of(own, endpoint));
    let partner = match T::rows().get_ptr_mut(&*other) {
        Some(partner) => partner,
        None => restore::<A, T>(key, own, other, spare)?,
    };
    // SAFETY: as in `owned`.
    let there = unsafe { &*partner };
    if there.tuple() != key.tuple().reversed() {
        // Another connection's, which came when the partner was missing.
        maps::forget(T::rows(), key);
        return None;
    }
    let (state, idle) = own.state_and_idle(key.protocol(), Some(there), now());
    let state = State::numbered(skb::opaque(state as u32, own.last));
    if is_over(state, idle) {
        maps::forget(T::rows(), key);
        maps::forget(T::rows(), other);
        return None;
    }
    Some(Live { row, partner, endpoint, state })
}

/// Makes a partner anew.
#[inline(always)]
fn restore<A: Wire, T: Table<A>>(
    key: &FlowKey<A>,
    row: &FlowRow<A>,
    other: &FlowKey<A>,
    spare: &mut FlowRow<A>,
) -> Option<*mut FlowRow<A>> {
    let back = match maps::endpoint_behind(key.zone().ifindex()) {
        Some(sender) => sender.handle,
        None => row.endpoint,
    };
    nat::restore(spare, key, row, other, back);
    // What this direction has shown stands for both, so that it has not the looks of one that was never answered.
    spare.add_flags(row.seen().flags);
    spare.last = row.last.saturating_sub(1);
    match maps::claim(T::rows(), other, spare) {
        // Another CPU may have been faster; whether what it made is the partner is seen by its tuple.
        Ok(()) | Err(maps::Refused::Exists) => T::rows().get_ptr_mut(other),
        Err(maps::Refused::Full) => None,
    }
}

/// What a new connection is to be, but for its inner source port. It is kept off the stack, see [`plan`].
pub(crate) struct Plan<A> {
    /// Its first packet's key.
    pub(crate) original: FlowKey<A>,
    /// What that becomes; the source port is a wish.
    pub(crate) inner: Tuple<A>,
    /// Where it goes.
    pub(crate) to: Side,
    /// See [`Connection::set`].
    pub(crate) back: Handle,
    /// The publication that lets it in; none if it goes out.
    pub(crate) publication: Handle,
    /// Whether its source becomes the network's gateway, from which the host speaks to containers as well: another port than
    /// its own is then one that the kernel does not hand out.
    pub(crate) by_gateway: bool,
}

/// Room for a plan.
#[inline(always)]
pub(crate) fn plan<A: Wire>() -> Result<&'static mut Plan<A>, Reason> {
    let place = A::plan().get_ptr_mut(0).ok_or(Reason::RewriteFailed)?;
    // SAFETY: this CPU's copy, which no other program uses while this one runs, and each program asks for it once; a plan
    // of zeros is one.
    Ok(unsafe { &mut *place })
}

/// How many source ports are tried for a connection whose own is taken.
pub(crate) const TRIES: u32 = 16;

/// The source port that this run of a program tries for a connection: its own in the first, in those that follow a random
/// one. Whether it is anybody else's is for the caller to ask, who says [`First::Taken`] to have another tried.
#[inline(always)]
pub(crate) fn choose<A: Wire>(skb: &Skb, plan: &Plan<A>) -> Result<Be16, Reason> {
    let tries = skb.cb(cb::TRIES);
    if tries != 0 && (tries >= TRIES || !packet::has_port::<A>(plan.original.protocol())) {
        return Err(Reason::Collision);
    }
    // An IPv6 client's port means nothing to who sees the gateway in its place.
    let crosses = A::IS_V6 && plan.inner.dst.is_mapped();
    Ok(if tries == 0 && !crosses {
        plan.inner.src_port
    } else if plan.by_gateway {
        nat::quiet_port(random())
    } else {
        nat::ephemeral_port(random())
    })
}

/// Makes the two rows of a connection with this source port.
#[inline(always)]
pub(crate) fn open<A: Wire>(plan: &Plan<A>, port: Be16) -> Result<First, Reason> {
    let connection = scratch().ok_or(Reason::RewriteFailed)?;
    let inner = Tuple { src_port: port, ..plan.inner };
    connection.set(plan.original, &inner, plan.to, plan.back, plan.publication);
    enter(connection)
}

/// Enters a connection's rows, unless its answers could not be told from those of another one.
#[inline(always)]
fn enter<A: Wire>(connection: &mut Connection<A>) -> Result<First, Reason> {
    for key in [&connection.original, &connection.reply] {
        maps::add_seen_peer(if key.zone() == Zone::OUTSIDE { key.src } else { key.dst });
    }
    match holder::<A, Assured>(connection) {
        Holder::Nobody => {}
        Holder::Another => return Ok(First::Taken),
        // It has been moved since the packet was looked for there.
        Holder::Itself => return Ok(First::Known),
    }
    if holder::<A, Unreplied>(connection) == Holder::Another {
        return Ok(First::Taken);
    }
    // As if it had been seen before this tick: so its first packet does what is due once a tick.
    connection.forward.last = now().saturating_sub(1);
    match maps::claim(A::unreplied(), &connection.reply, &connection.backward) {
        Ok(()) => {}
        Err(maps::Refused::Exists) if leads_back::<A, Unreplied>(connection) => {
            // Another CPU has made the same connection of a copy of the packet.
        }
        Err(maps::Refused::Exists) => return Ok(First::Taken),
        Err(maps::Refused::Full) => return Err(Reason::TableFull),
    }
    match maps::claim(A::unreplied(), &connection.original, &connection.forward) {
        Ok(()) => return Ok(First::Opened),
        Err(maps::Refused::Exists) => {
            if let Some(Owned { row, .. }) = owned::<A, Unreplied>(&connection.original) {
                // Another CPU has made a connection of a copy of the packet: that one it is, whichever port it has.
                // SAFETY: as in `owned`.
                if unsafe { (*row).tuple() } != connection.forward.tuple() {
                    maps::forget(A::unreplied(), &connection.reply);
                }
                return Ok(First::Opened);
            }
            // Left over from a container or publication that is gone.
            if maps::put(A::unreplied(), &connection.original, &connection.forward).is_ok() {
                return Ok(First::Opened);
            }
        }
        Err(maps::Refused::Full) => {}
    }
    maps::forget(A::unreplied(), &connection.reply);
    Err(Reason::TableFull)
}

/// Whether the row under the reply's key is this very connection's.
#[inline(always)]
fn leads_back<A: Wire, T: Table<A>>(connection: &Connection<A>) -> bool {
    // SAFETY: as in `owned`.
    T::rows()
        .get_ptr(&connection.reply)
        .is_some_and(|row| unsafe { (*row).tuple() } == connection.backward.tuple())
}

/// Whose the reply's key of a connection to be is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Nobody's.
    Nobody,
    /// That of this very connection: another CPU is making it of a copy of the packet, or has moved it.
    Itself,
    /// That of another connection which goes on.
    Another,
}

/// Asks whose the reply's key is. A row of a connection that is over or closed, or of which only this one is left, is taken
/// away.
#[inline(always)]
fn holder<A: Wire, T: Table<A>>(connection: &mut Connection<A>) -> Holder {
    let key = &connection.reply;
    if T::rows().get_ptr(key).is_none() {
        return Holder::Nobody;
    }
    if let Some(Owned { row, endpoint }) = owned::<A, T>(key) {
        // SAFETY: as in `owned`.
        let row = unsafe { &*row };
        let other = nat::partner_key(key, row, zone_of(row, endpoint));
        // SAFETY: as in `owned`.
        let partner = T::rows().get_ptr(&other).map(|partner| unsafe { &*partner });
        let own = row.tuple() == connection.backward.tuple();
        let holder = if own { Holder::Itself } else { Holder::Another };
        // Without a partner, and with nothing seen, it is one that another CPU is making.
        if row.last == 0 && partner.is_none() {
            return holder;
        }
        let (state, idle) = row.state_and_idle(key.protocol(), partner, now());
        let closed = matches!(state, State::TimeWait | State::Closed) && idle > 1;
        if !closed && !is_over(state, idle) && (partner.is_some() || !own) {
            return holder;
        }
    }
    maps::forget(T::rows(), key);
    Holder::Nobody
}

/// What has become of a packet that has a flow.
enum Onward {
    /// It is the host's: a socket of its own has come to the port since.
    Hosts,
    /// It was sent on.
    Sent(Verdict),
    /// It is to be sent on in the other family.
    Nat64,
    /// It begins a connection that another publication has by now; this one is over.
    Elsewhere,
}

/// What is still to be done when a packet has been sent on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Nothing.
    Nothing,
    /// Its connection moves to the table of those that both sides want.
    Promotion,
}

impl<A: Wire> Live<A> {
    /// Does what is due once a tick, and what the packet's flags ask for; then sends it on.
    #[inline(always)]
    fn settle(
        &self,
        packet: &Packet<'_, A>,
        key: &FlowKey<A>,
        follows: Follows,
    ) -> Result<(Onward, Due), Reason> {
        // SAFETY: the pointers come from the flow table in this run of the program, see the note in `maps`; the rows are
        // distinct, since they lead to different tuples.
        let (row, partner) = unsafe { (&mut *self.row, &mut *self.partner) };
        let (before, now) = (row.last, now());
        if packet.ip.ttl <= 1 {
            return Err(Reason::TtlExceeded);
        }
        // The kernel does not know which ports masquerade has, and may give the same one to a socket of the host's.
        let masqueraded = row.is_reply() && row.publication.is_none() && key.zone() == Zone::OUTSIDE;
        if masqueraded && before != now && masquerade::is_hosts(packet.skb, key) {
            return Ok((Onward::Hosts, Due::Nothing));
        }
        if before != now || (row.is_outward() && row.oif == 0) {
            self.refresh(packet.skb, row, now)?;
        }
        let mut mtu = mtu(row, self.endpoint);
        if row.is_nat64() && row.is_reply() && mtu > cross::GROWTH {
            mtu -= cross::GROWTH;
        }
        if packet.is_too_big(mtu) {
            packet.skb.set_cb(cb::MTU, mtu);
            return Err(Reason::TooBig);
        }
        if !self.see(packet, row, partner) {
            return Ok((Onward::Elsewhere, Due::Nothing));
        }
        // SAFETY: an aligned word of a map's value, which the kernel side changes by atomic operations only.
        unsafe { maps::add(&raw mut row.pending, pending::packet(packet.skb.len())) };
        // Both sides want it, and it has outlived a tick.
        let assured = before != now && partner.last != 0 && self.state.is_assured();
        let due = if assured { Due::Promotion } else { Due::Nothing };
        // Only those that cross have mapped addresses for keys.
        if A::IS_V6 && (follows == Follows::Crossing || row.is_nat64()) {
            return Ok((Onward::Nat64, due));
        }
        Ok((Onward::Sent(send(packet, row, self.endpoint)?), due))
    }

    /// Counts a drop for the publication.
    #[inline(always)]
    fn count_drop(&self) {
        // SAFETY: as in `owned`.
        if let Some(publication) = maps::publication(unsafe { (*self.row).publication }) {
            maps::count_publication_drop(publication);
        }
    }

    /// Notes what the packet's flags say; tells whether the packet is the connection's.
    #[inline(always)]
    fn see(&self, packet: &Packet<'_, A>, row: &mut FlowRow<A>, partner: &mut FlowRow<A>) -> bool {
        let transport = &packet.transport;
        let mut flags = transport.tcp_flags;
        if flags & tcp_flag::RST != 0 && !is_credible_end(packet, row, partner) {
            // It goes on its way, for the receiver to judge, and changes nothing here.
            flags &= !tcp_flag::RST;
        }
        if !row.is_reply() && self.state.may_begin_anew(flags) {
            row.forget_flags();
            partner.forget_flags();
            if let Some(publication) = maps::publication(row.publication) {
                // SAFETY: as below.
                if unsafe { (*publication).flags } & publication_flag::DRAINING != 0 {
                    return false;
                }
                // SAFETY: an aligned word of a publication's row, which is never freed.
                unsafe { maps::add(&raw mut (*maps::counters(publication)).flows, 1) };
            }
        }
        row.add_flags(flags);
        if flags & tcp_flag::ACK != 0 {
            row.acknowledged = transport.acknowledgement;
        }
        true
    }

    /// Once a tick and direction: hands the counters on and looks the route up anew, so that a change of routes takes hold
    /// without anybody having to tell.
    #[inline(always)]
    fn refresh(&self, skb: &Skb, row: &mut FlowRow<A>, now: u32) -> Result<(), Reason> {
        row.last = now;
        // SAFETY: as for `pending` everywhere.
        let word = unsafe { maps::take(&raw mut row.pending) };
        let (packets, bytes) = (pending::packets(word), pending::bytes(word));
        row.add_totals(packets, bytes);
        if let Some(publication) = maps::publication(row.publication) {
            count(publication, row.is_reply(), packets, bytes);
        }
        if !row.is_outward() {
            return Ok(());
        }
        let way = if maps::network_of(row.dst).is_some() {
            // A network that came after the connection.
            Route::None
        } else {
            route::lookup(skb, self.endpoint.bridge, row.src, row.dst)
        };
        match way {
            Route::Via(oif, next_hop) => {
                row.oif = oif;
                row.next_hop = next_hop;
                let mtu = maps::uplink(oif).map_or(0, |uplink| uplink.mtu);
                // What was told of the way to an IPv6 client holds on, see `lower_mtu`.
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

    /// Moves a connection to the table of those that both sides want. Where it has no room the connection stays.
    #[inline(always)]
    fn promote(&self, key: &FlowKey<A>, other: &FlowKey<A>) {
        // SAFETY: as in `settle`.
        let (row, partner) = unsafe { (&*self.row, &*self.partner) };
        if maps::put(A::flows(), other, partner).is_ok() && maps::put(A::flows(), key, row).is_ok() {
            maps::forget(A::unreplied(), key);
            maps::forget(A::unreplied(), other);
        }
    }
}

/// Remembers for the other direction of a connection what its way carries (bytes). `own` is a copy of the row under `key`.
#[inline(always)]
pub(crate) fn lower_mtu<A: Wire>(key: &FlowKey<A>, own: &FlowRow<A>, endpoint: &EndpointRow, mtu: u32) {
    let other = nat::partner_key(key, own, zone_of(own, endpoint));
    let partner = match A::flows().get_ptr_mut(&other) {
        Some(partner) => Some(partner),
        None => A::unreplied().get_ptr_mut(&other),
    };
    if let Some(partner) = partner {
        // SAFETY: as in `owned`.
        let partner = unsafe { &mut *partner };
        if partner.is_outward() && (partner.mtu() == 0 || mtu < partner.mtu()) {
            partner.set_mtu(mtu);
        }
    }
}

/// Whether a reset or an abort is to be believed.
#[inline(always)]
fn is_credible_end<A: Wire>(packet: &Packet<'_, A>, row: &FlowRow<A>, partner: &FlowRow<A>) -> bool {
    let transport = &packet.transport;
    if packet.ip.protocol == protocol::SCTP {
        return track::is_credible_abort(transport.acknowledgement, row.acknowledged, partner.acknowledged);
    }
    let answered = partner.seen().flags & tcp_flag::ACK != 0;
    // Nor has one acknowledged anything whose row was lost and made anew.
    let expected = if answered && partner.acknowledged != 0 { Some(partner.acknowledged) } else { None };
    track::is_credible_reset(transport.sequence, expected)
}

/// Rewrites a packet as its row says and sends it on.
#[inline(always)]
pub(crate) fn send<A: Wire>(
    packet: &Packet<'_, A>,
    row: &FlowRow<A>,
    endpoint: &EndpointRow,
) -> Result<Verdict, Reason> {
    let (outward, oif, next_hop) = (row.is_outward(), row.oif, row.next_hop);
    if !outward {
        Skb::write_ethernet(&packet.frame, &endpoint.ethernet)?;
    }
    packet.skb.translate(&packet.frame, &packet.ip, &packet.transport, row)?;
    Ok(if outward {
        Skb::redirect_to_neighbour(oif, next_hop)
    } else {
        packet.skb.redirect_to_peer(endpoint.ifindex)
    })
}

#[inline(always)]
fn count(publication: *mut PublicationRow, from_container: bool, packets: u64, bytes: u64) {
    let counters = maps::counters(publication);
    // SAFETY: aligned words of a publication's row, which is never freed.
    unsafe {
        if from_container {
            maps::add(&raw mut (*counters).packets_out, packets);
            maps::add(&raw mut (*counters).bytes_out, bytes);
        } else {
            maps::add(&raw mut (*counters).packets_in, packets);
            maps::add(&raw mut (*counters).bytes_in, bytes);
        }
    }
}
