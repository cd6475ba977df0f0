//! Fragments that come before the first of their datagram, the only one that says whose they are: they are held, and let go
//! when that one comes.

use netd_common::abi::{FRAGMENT_TICKS, FragmentKey, FragmentRow, QueuedFragmentKey, QueuedFragmentRow, cb};
use netd_common::flow::Zone;
use netd_common::packet::{self, IP_AT, Ip, Part, Transport};
use netd_common::verdict::{Reason, Verdict};

use crate::flow;
use crate::maps;
use crate::publication;
use crate::route::{self, Route};
use crate::skb::{Skb, Wire};

/// How many fragments of a datagram are held: the largest datagram has 45 of 1,480 bytes.
const MOST: u32 = 64;

/// What is to become of a fragment itself when a copy of it is held.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Then {
    /// It ends here.
    End = 0,
    /// The host gets it as well, since it may be the host's own.
    Pass = 1,
}

/// What is known of a fragmented datagram.
pub(crate) enum Known {
    /// Its first fragment came.
    First(FragmentRow),
    /// It did not, or so long ago that its number may mean another datagram by now.
    Nothing,
}

/// The key of the datagram that a packet is a part of, and room for those of its fragments; kept off the stack.
#[inline(always)]
pub(crate) fn key<A: Wire>(ip: &Ip<A>, id: u32, zone: Zone) -> Option<&'static mut QueuedFragmentKey<A>> {
    let place = A::fragment_key().get_ptr_mut(0)?;
    // SAFETY: this CPU's copy, which no other program uses while this one runs; no program asks again while it holds one.
    let place = unsafe { &mut *place };
    *place = QueuedFragmentKey::new(FragmentKey::new(ip.src, ip.dst, id, ip.protocol, zone), 0);
    Some(place)
}

/// Asks for a datagram.
#[inline(always)]
pub(crate) fn known<A: Wire>(key: &FragmentKey<A>) -> Known {
    match maps::fragment(key) {
        Some(row) if row.has_first() && flow::now().wrapping_sub(row.last) <= FRAGMENT_TICKS => {
            Known::First(row)
        }
        _ => Known::Nothing,
    }
}

/// Notes the ports that a datagram's first fragment holds.
#[inline(always)]
pub(crate) fn note_first<A: Wire>(key: &FragmentKey<A>, transport: &Transport, now: u32) {
    let row = FragmentRow::first(transport.src_port, transport.dst_port, now);
    match maps::fragment_mut(key) {
        // SAFETY: the pointer comes from the table in this run of the program; the counter of what is held is left alone.
        Some(known) => unsafe { (*known).take_ports(&row) },
        None => maps::put_fragment(key, &row),
    }
}

/// Holds a copy of a later fragment. `None` if its first one has come meanwhile and it can follow that one's flow.
#[inline(always)]
pub(crate) fn hold<A: Wire>(skb: &Skb) -> Option<Result<Verdict, Reason>> {
    let then = if skb.cb(cb::AFTER_QUEUE) == Then::Pass as u32 { Then::Pass } else { Then::End };
    let held = store::<A>(skb);
    match (held, then) {
        (Ok(Known::First(_)), _) => None,
        (_, Then::Pass) => Some(Ok(Verdict::Pass)),
        (Ok(Known::Nothing), Then::End) => Some(Ok(Verdict::Consumed)),
        (Err(reason), Then::End) => Some(Err(reason)),
    }
}

/// Puts a copy of the packet to those that wait.
#[inline(always)]
fn store<A: Wire>(skb: &Skb) -> Result<Known, Reason> {
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT)?;
    let Part::Later(id) = ip.part else { return Err(Reason::Fragment) };
    let place = key(&ip, id, Zone::container(skb.cb(cb::ZONE))).ok_or(Reason::Fragment)?;
    let len = skb.len();
    if len as usize > QueuedFragmentRow::ROOM {
        return Err(Reason::Fragment);
    }
    let row = await_first(&place.datagram).ok_or(Reason::Fragment)?;
    // SAFETY: an aligned word of a map's value, which the kernel side changes by atomic operations only.
    let number = unsafe { maps::fetch_add(&raw mut (*row).queued, 1) };
    if number >= u64::from(MOST) {
        return Err(Reason::Fragment);
    }
    let copy = maps::fragment_copy().ok_or(Reason::Fragment)?;
    // SAFETY: this CPU's copy, which no other program uses while this one runs.
    let copy = unsafe { &mut *copy };
    copy.len = len;
    // Filled up to a length that the verifier knows.
    skb.set_len(QueuedFragmentRow::ROOM)?;
    let loaded = skb.load(0, &mut copy.frame);
    skb.set_len(len as usize)?;
    loaded?;
    place.number = number as u32;
    maps::put_queued(place, copy)?;
    // Whoever noted the first fragment before this one was there to be let go leaves it to its own run.
    let known = known(&place.datagram);
    if matches!(known, Known::First(_)) {
        maps::forget_queued(place);
    }
    Ok(known)
}

/// The row of a datagram whose first fragment has not come; made if there is none, made anew if it is left over from
/// another datagram with the same number.
#[inline(always)]
fn await_first<A: Wire>(key: &FragmentKey<A>) -> Option<*mut FragmentRow> {
    let awaited = FragmentRow::awaited(flow::now());
    match maps::fragment_mut(key) {
        None => maps::claim_fragment(key, &awaited),
        // SAFETY: the pointer comes from the table in this run of the program, and `held` is changed by atomic operations.
        Some(row) => unsafe {
            if awaited.last.wrapping_sub((*row).last) > FRAGMENT_TICKS {
                (*row).take_ports(&awaited);
                maps::take(&raw mut (*row).queued);
            }
        },
    }
    maps::fragment_mut(key)
}

/// Notes the ports of a datagram's first fragment, and lets everything go that waits for it: all of them come in anew, it before
/// the others. `None` if nothing waits, or if the datagram is none of netd's: the packet goes on.
#[inline(always)]
pub(crate) fn first<A: Wire>(skb: &Skb) -> Option<Result<Verdict, Reason>> {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT).ok()?;
    let Part::First(id) = ip.part else { return None };
    let transport = packet::transport(&frame, &ip).ok()?;
    // The host's own gets its fragments as they come.
    let leaves = maps::endpoint_behind(zone.ifindex())
        .is_some_and(|sender| !matches!(route::lookup(skb, sender.bridge, ip.src, ip.dst), Route::Local));
    let is_ours = leaves
        || publication::find(ip.protocol, ip.dst, transport.dst_port).is_some()
        || maps::network_of(ip.dst).is_some()
        || flow::peek(packet::flow_key(&ip, &transport, zone)).is_some();
    if !is_ours {
        return None;
    }
    let place = key(&ip, id, zone)?;
    note_first(&place.datagram, &transport, flow::now());
    let row = maps::fragment_mut(&place.datagram)?;
    // SAFETY: an aligned word of a map's value, which the kernel side changes by atomic operations only.
    let held = unsafe { maps::take(&raw mut (*row).queued) };
    if held == 0 {
        return None;
    }
    let least = ip.transport_at.get();
    Some(release(skb, place, held, least).map(|()| Verdict::Consumed))
}

/// Lets the packet and `held` of those that wait for it come in anew. No packet can be cut to less than `least` bytes, where
/// this one's transport header starts; behind a shorter one's own end there is then some padding.
#[inline(always)]
fn release<A: Wire>(
    skb: &Skb,
    place: &mut QueuedFragmentKey<A>,
    held: u64,
    least: usize,
) -> Result<(), Reason> {
    skb.repeat()?;
    for number in 0..MOST {
        if u64::from(number) >= held {
            break;
        }
        place.number = number;
        let Some(copy) = maps::queued(place) else { continue };
        skb.become_copy(copy, least)?;
        maps::forget_queued(place);
        skb.repeat()?;
    }
    Ok(())
}
