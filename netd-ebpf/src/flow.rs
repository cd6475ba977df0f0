//! Sending a packet on by a row of the flow table: what every established packet goes through.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use netd_common::bytes::{Be16, Ipv4};
use netd_common::flow::FlowKey;
use netd_common::packet::{ETHERNET_LEN, Ipv4Header, Transport};
use netd_common::tables::{EndpointRow, FlowRow, PublicationRow, direction, pending, tick};
use netd_common::verdict::{Reason, Verdict};

use crate::maps;
use crate::route::{self, Route};
use crate::skb::{Frame, Skb};

/// A packet that has been read.
pub(crate) struct Packet<'a> {
    /// The packet itself.
    pub(crate) skb: &'a Skb,
    /// Its front.
    pub(crate) frame: &'a Frame,
    /// Its IPv4 header.
    pub(crate) ip: Ipv4Header,
    /// Its ports.
    pub(crate) transport: Transport,
}

/// A row whose owners are proved to be the present ones.
pub(crate) struct Live {
    row: *mut FlowRow,
    endpoint: &'static EndpointRow,
    publication: *mut PublicationRow,
}

/// The flow of a packet; none if there is no row, or if it is left over from a container or publication that is gone.
#[inline(always)]
pub(crate) fn find(key: &FlowKey) -> Option<Live> {
    let row = maps::flow(key)?;
    // SAFETY: the pointer comes from the flow table in this run of the program, see the note in `maps`.
    let (endpoint, publication) = unsafe { ((*row).endpoint, (*row).publication) };
    Some(Live { row, endpoint: maps::endpoint(endpoint)?, publication: maps::publication(publication)? })
}

/// A port above the privileged ones.
#[inline(always)]
pub(crate) fn random_port() -> Be16 {
    // SAFETY: the helper takes nothing and returns a number.
    let random = unsafe { bpf_get_prandom_u32() };
    // 1024 and up, by a multiplication instead of a division.
    Be16::new((1024 + ((u64::from(random) * (65536 - 1024)) >> 32)) as u16)
}

/// Seconds, nearly: see [`tick`] (kernel 5.11; reads a word instead of a clock).
#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    tick::of_nanos(unsafe { bpf_ktime_get_coarse_ns() })
}

impl Live {
    /// The row as it is now.
    #[inline(always)]
    pub(crate) fn row(&self) -> &FlowRow {
        // SAFETY: the pointer comes from the flow table in this run of the program, see the note in `maps`.
        unsafe { &*self.row }
    }

    /// Whether it turns packets into the same tuple as another row.
    #[inline(always)]
    pub(crate) fn leads_to(&self, other: &FlowRow) -> bool {
        let row = self.row();
        row.src == other.src
            && row.dst == other.dst
            && row.src_port == other.src_port
            && row.dst_port == other.dst_port
    }

    /// Translates a packet and sends it on.
    #[inline(always)]
    pub(crate) fn forward(self, packet: &Packet<'_>) -> Result<Verdict, Reason> {
        let publication = self.publication;
        let outcome = self.send(packet);
        if outcome.is_err() {
            // SAFETY: an aligned word of a publication's row, which is never freed.
            unsafe { maps::add(&raw mut (*maps::counters(publication)).dropped, 1) };
        }
        outcome
    }

    #[inline(always)]
    fn send(self, packet: &Packet<'_>) -> Result<Verdict, Reason> {
        // SAFETY: as in `row`.
        let row = unsafe { &mut *self.row };
        if packet.ip.ttl <= 1 {
            return Err(Reason::TtlExceeded);
        }
        let now = now();
        let inward = row.state & direction::OUTWARD == 0;
        if row.last != now || (!inward && row.oif == 0) {
            self.refresh(packet.skb, row, now)?;
        }
        if row.begins_anew(packet.transport.tcp_flags) {
            row.forget_flags();
            // SAFETY: an aligned word of a publication's row, which is never freed.
            unsafe { maps::add(&raw mut (*maps::counters(self.publication)).flows, 1) };
        }
        let seen = row.state | (u32::from(packet.transport.tcp_flags) << 8);
        if seen != row.state {
            row.state = seen;
        }
        // SAFETY: an aligned word of a map's value, which the kernel side changes by atomic operations only.
        unsafe { maps::add(&raw mut row.pending, pending::packet(packet.skb.len())) };
        let (oif, next_hop) = (row.oif, row.next_hop);
        if inward {
            if !packet.skb.is_gso() && packet.skb.len() > self.endpoint.mtu + ETHERNET_LEN as u32 {
                return Err(Reason::TooBig);
            }
            Skb::write_ethernet(packet.frame, &self.endpoint.ethernet)?;
        }
        packet.skb.translate(packet.frame, &packet.ip, &packet.transport, row)?;
        if inward {
            Ok(Skb::redirect_to_peer(self.endpoint.ifindex))
        } else {
            Ok(Skb::redirect_to_neighbour(oif, next_hop))
        }
    }

    /// Once a tick and direction: hands the counters on and looks the route up anew, so that a change of routes takes
    /// hold without anybody having to tell.
    #[inline(always)]
    fn refresh(&self, skb: &Skb, row: &mut FlowRow, now: u32) -> Result<(), Reason> {
        row.last = now;
        // SAFETY: as in `send`.
        let word = unsafe { maps::take(&raw mut row.pending) };
        let (packets, bytes) = (pending::packets(word), pending::bytes(word));
        row.packets += packets;
        row.bytes += bytes;
        let outward = row.state & direction::OUTWARD != 0;
        count(self.publication, outward, packets, bytes);
        if outward {
            match route::lookup(skb, self.endpoint.bridge, row.src, row.dst) {
                Route::Via(oif, next_hop) => {
                    row.oif = oif;
                    row.next_hop = next_hop;
                }
                Route::Local | Route::None => {
                    row.oif = 0;
                    row.next_hop = Ipv4::UNSPECIFIED;
                    return Err(Reason::NoRoute);
                }
            }
        }
        Ok(())
    }
}

#[inline(always)]
fn count(publication: *mut PublicationRow, outward: bool, packets: u64, bytes: u64) {
    let counters = maps::counters(publication);
    // SAFETY: aligned words of a publication's row, which is never freed.
    unsafe {
        if outward {
            maps::add(&raw mut (*counters).packets_out, packets);
            maps::add(&raw mut (*counters).bytes_out, bytes);
        } else {
            maps::add(&raw mut (*counters).packets_in, packets);
            maps::add(&raw mut (*counters).bytes_in, bytes);
        }
    }
}
