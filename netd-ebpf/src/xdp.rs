//! What an uplink's packets go through before the stack has made an skb of them, if the user wants that: connections that are
//! forwarded go on here, and what is refused ends here. Everything else comes to [`crate::fast`] and the stages behind it as it
//! came in.
//!
//! Only in a tick in which the programs behind have seen to a row do its packets pass by them. So whatever is due once a tick,
//! the neighbour's being asked for included, is due and done as ever.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use netd_common::abi::{DenyCacheRow, EndpointRow, FlowRow, mac_words, pending, uplink_flag};
use netd_common::checksum::Delta;
use netd_common::flow::{FlowKey, Zone, protocol};
use netd_common::packet::{self, ETHERNET_LEN, Ip, PacketBytes as _, Transport, ipv4_at, ipv6_at, tcp_flag};

use crate::flow;
use crate::maps;
use crate::route::{self, Context, Route};
use crate::shed;
use crate::skb::{self, Frame, Wire};

/// What becomes of a packet here.
pub(crate) enum Fate {
    /// The programs behind see it.
    Pass,
    /// It is dropped, and counted.
    EarlyDrop,
    /// It was rewritten and leaves by another uplink.
    Sent,
}

/// A packet in XDP.
pub(crate) struct Buff {
    raw: *mut xdp_md,
}

impl Buff {
    /// The context of an XDP program.
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self { raw: ctx.ctx }
    }

    /// The kernel's pointer, for helpers.
    #[inline(always)]
    pub(crate) fn context_ptr(&self) -> Context {
        self.raw.cast()
    }

    /// Its bytes.
    #[inline(always)]
    pub(crate) fn frame(&self) -> Frame {
        // SAFETY: the kernel hands each program a valid context that lives as long as the program runs, and the verifier
        // turns every field access into the one that the real buffer needs.
        let raw = unsafe { &*self.raw };
        Frame::new(raw.rx_queue_index, raw.data as usize, raw.data_end as usize)
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as in `frame`.
        unsafe { (*self.raw).ingress_ifindex }
    }
}

/// What is to be known of a packet to recognise it.
pub(crate) struct Seen<A> {
    /// Its flow's key.
    pub(crate) key: FlowKey<A>,
    /// The interface that it came in by.
    pub(crate) ifindex: u32,
    /// The link address that it is for.
    pub(crate) mac: [u32; 2],
}

/// Link addresses that a CPU remembers, each family.
pub(crate) const NEIGHBOURS_KEPT: u32 = 1 << 8;

/// How a next hop is reached.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Way<A> {
    /// The tick in which it was asked for.
    last: u32,
    /// The interface that packets come in by, and its own link address.
    ifindex: u32,
    mac: [u32; 2],
    /// The interface that they leave by.
    oif: u32,
    next_hop: A,
    /// The first 12 bytes of their frames then.
    ethernet: [u32; 3],
}

/// Sends a packet on by its flow, or drops it, or leaves it as it is.
#[inline(always)]
pub(crate) fn pass<A: Wire>(buff: &Buff, frame: &Frame) -> Fate {
    let known = A::glance(frame).and_then(|glance| shed::known(&glance, buff.ifindex()));
    let known = match known {
        Some(refusal) if !maps::may_be_seen_peer(refusal.peer) => return shed(refusal, frame),
        known => known,
    };
    let Some(ip) = A::plain(frame) else { return Fate::Pass };
    let transport = match ip.protocol {
        protocol::TCP => packet::tcp(frame, ip.transport_at),
        protocol::UDP => packet::udp(frame, ip.transport_at),
        protocol::SCTP => packet::sctp(frame, ip.transport_at),
        _ => return Fate::Pass,
    };
    let (Ok(transport), Some(mac)) = (transport, frame.read::<6>(0)) else { return Fate::Pass };
    // Whoever sent what is too old is told so.
    if ip.ttl <= 1 {
        return Fate::Pass;
    }
    let seen = Seen {
        key: packet::flow_key(&ip, &transport, Zone::OUTSIDE),
        ifindex: buff.ifindex(),
        mac: mac_words(mac),
    };
    let row = match A::flows().get_ptr_mut(&seen.key) {
        Some(row) => Some(row),
        None => A::unreplied().get_ptr_mut(&seen.key),
    };
    if let Some(row) = row {
        // SAFETY: the pointer comes from the flow table in this run of the program, see the note in `maps`.
        let row = unsafe { &mut *row };
        return forward(buff, frame, &ip, &transport, &seen, row).map_or(Fate::Pass, |()| Fate::Sent);
    }
    if let Some(refusal) = known {
        return shed(refusal, frame);
    }
    match shed::judge(buff, &ip, &seen) {
        Some(refusal) if shed::ends(refusal) => shed(refusal, frame),
        _ => Fate::Pass,
    }
}

/// Drops what is refused.
#[inline(always)]
fn shed<A: Wire>(refusal: &mut DenyCacheRow<A>, frame: &Frame) -> Fate {
    shed::count(refusal, frame.len());
    Fate::EarlyDrop
}

/// Sends a packet of an established connection on that leads from outside to outside; `None` if there is anything to decide,
/// as in [`crate::fast`].
#[inline(always)]
fn forward<A: Wire>(
    buff: &Buff,
    frame: &Frame,
    ip: &Ip<A>,
    transport: &Transport,
    seen: &Seen<A>,
    row: &mut FlowRow<A>,
) -> Option<()> {
    const DECIDES: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;
    let now = flow::now();
    if row.last != now || !row.is_outward() || row.is_nat64() {
        return None;
    }
    let is_tcp = ip.protocol == protocol::TCP;
    if !is_tcp && ip.protocol != protocol::UDP || transport.tcp_flags & DECIDES != 0 {
        return None;
    }
    if is_tcp && row.seen().flags & tcp_flag::ACK == 0 {
        return None;
    }
    let endpoint = maps::endpoint(row.endpoint)?;
    if !row.publication.is_none() {
        maps::publication(row.publication)?;
    }
    let mtu = row.mtu();
    if mtu != 0 && frame.len() - ETHERNET_LEN as u32 > mtu {
        return None;
    }
    let ethernet = way(buff, seen, row, endpoint, now)?;
    rewrite(frame, ip, row, &ethernet)?;
    if is_tcp {
        row.acknowledged = transport.acknowledgement;
    }
    // SAFETY: an aligned word of a map's value, which the kernel side changes by atomic operations only.
    unsafe { maps::add(&raw mut row.pending, pending::packet(frame.len())) };
    // SAFETY: the helper only notes where the packet shall go; without flags it refuses nothing.
    unsafe { bpf_redirect(row.oif, 0) };
    Some(())
}

/// The first 12 bytes of a frame that a row sends on. They are asked for once a tick, and only for an uplink that takes
/// frames, of packets that are for this host.
#[inline(always)]
fn way<A: Wire>(
    buff: &Buff,
    seen: &Seen<A>,
    row: &FlowRow<A>,
    endpoint: &EndpointRow,
    now: u32,
) -> Option<[u32; 3]> {
    let number = (maps::scatter(row.next_hop) >> 32) as u32 ^ row.oif;
    let place = A::neighbours().get_ptr_mut(number & (NEIGHBOURS_KEPT - 1))?;
    // SAFETY: this CPU's copy, which nobody else writes.
    let way = unsafe { &mut *place };
    let is_it = way.last == now
        && way.next_hop == row.next_hop
        && way.oif == row.oif
        && way.ifindex == seen.ifindex
        && way.mac == seen.mac;
    if is_it {
        return Some(way.ethernet);
    }
    if maps::uplink(seen.ifindex)?.mac != seen.mac {
        return None;
    }
    if maps::uplink(row.oif)?.flags & uplink_flag::TAKES_FRAMES == 0 {
        return None;
    }
    let (Route::Via(oif, next_hop), Some(ethernet)) =
        route::ask(buff.context_ptr(), endpoint.bridge, row.src, row.dst)
    else {
        return None;
    };
    if oif != row.oif || next_hop != row.next_hop || next_hop == A::UNSPECIFIED {
        return None;
    }
    *way = Way { last: now, ifindex: seen.ifindex, mac: seen.mac, oif, next_hop, ethernet };
    Some(ethernet)
}

/// Rewrites a packet as its row says. The checksums are the sender's, complete as the wire brings them.
#[inline(always)]
fn rewrite<A: Wire>(frame: &Frame, ip: &Ip<A>, row: &FlowRow<A>, ethernet: &[u32; 3]) -> Option<()> {
    let at = frame.place(ip.transport_at);
    let is_tcp = ip.protocol == protocol::TCP;
    let checksum_at = at + if is_tcp { 16 } else { 6 };
    let checksum = u16::from_ne_bytes(frame.read(checksum_at)?);
    // Of a datagram zero stands for none.
    if is_tcp || checksum != 0 {
        let changed = row.addresses.and(row.ports).apply(checksum);
        let changed = if !is_tcp && changed == 0 { u16::MAX } else { changed };
        frame.write(checksum_at, changed).ok()?;
    }
    frame.write(at, skb::ports_of(row)).ok()?;
    if A::IS_V6 {
        frame.write(ETHERNET_LEN + ipv6_at::LENGTH_WORD + 3, ip.ttl - 1).ok()?;
    } else {
        let change = row.addresses.and(Delta::TTL_DECREMENTED);
        frame.write(ETHERNET_LEN + ipv4_at::TTL, ip.ttl - 1).ok()?;
        frame.write(ETHERNET_LEN + ipv4_at::CHECKSUM, change.apply(ip.checksum)).ok()?;
    }
    A::write_addresses(frame, ETHERNET_LEN, row.src, row.dst).ok()?;
    skb::Skb::write_ethernet(frame, ethernet).ok()
}
