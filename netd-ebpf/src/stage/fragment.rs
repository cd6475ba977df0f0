//! Fragments that arrive before the first one of their datagram, the only one that holds the ports. They are queued
//! until that one arrives; then all of them are received again.

use netd_common::abi::{FRAGMENT_TICKS, FragmentKey, FragmentRow, QueuedFragmentKey, QueuedFragmentRow, cb};
use netd_common::flow::{FlowKey, Zone};
use netd_common::policy::{Route, Then, publication};
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ethernet::IP_AT;
use netd_common::wire::ip::Part;
use netd_common::wire::transport::{self, Transport};

use crate::flow::{datagram, table};
use crate::kernel::inet::Inet;
use crate::kernel::lookups::Kernel;
use crate::kernel::skb::Skb;
use crate::kernel::{atomic, clock, fib, fragments, scratch, tables};

/// How many fragments of a datagram are queued: the largest datagram has 45 of 1,480 bytes.
const MOST: u32 = 64;

/// Queues a copy of a later fragment. `None` if the first one has arrived meanwhile, so that this one can use its flow.
#[inline(always)]
pub(crate) fn queue<A: Inet>(skb: &Skb) -> Option<Result<Verdict, Reason>> {
    let then = if skb.cb(cb::AFTER_QUEUE) == Then::Pass as u32 { Then::Pass } else { Then::End };
    match (store::<A>(skb), then) {
        (Ok(Stored::FirstHasCome), _) => None,
        (_, Then::Pass) => Some(pass::<A>(skb)),
        (Ok(Stored::Queued), Then::End) => Some(Ok(Verdict::Consumed)),
        (Err(reason), Then::End) => Some(Err(reason)),
    }
}

/// The fragment itself goes on to the host's stack, which must not forward it if it comes from a container.
#[inline(always)]
fn pass<A: Inet>(skb: &Skb) -> Result<Verdict, Reason> {
    if skb.cb(cb::ZONE) == Zone::OUTSIDE.ifindex() { Ok(Verdict::Pass) } else { skb.pass_to_host::<A>() }
}

/// The result for a fragment that should be queued.
enum Stored {
    /// It is queued.
    Queued,
    /// It need not be queued.
    FirstHasCome,
}

/// Puts a copy of the packet into the queue.
#[inline(always)]
fn store<A: Inet>(skb: &Skb) -> Result<Stored, Reason> {
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT)?;
    let Part::Later(id) = ip.part else { return Err(Reason::Fragment) };
    let place = datagram::key(&ip, id, Zone::container(skb.cb(cb::ZONE))).ok_or(Reason::Fragment)?;
    let len = skb.len();
    if len as usize > QueuedFragmentRow::ROOM {
        return Err(Reason::Fragment);
    }
    let row = await_first(&place.datagram).ok_or(Reason::Fragment)?;
    let number = atomic::fetch_add(&mut row.queued, 1);
    if number >= u64::from(MOST) {
        return Err(Reason::Fragment);
    }
    let copy = scratch::packet().ok_or(Reason::Fragment)?;
    copy.len = len;
    // Padded to a length that the verifier knows.
    skb.set_len(QueuedFragmentRow::ROOM)?;
    let loaded = skb.load(0, &mut copy.frame);
    skb.set_len(len as usize)?;
    loaded?;
    place.number = number as u32;
    fragments::put_queued(place, copy)?;
    // The first fragment may have arrived before this one was in the queue: then this one would never be released.
    if datagram::first(&place.datagram).is_none() {
        return Ok(Stored::Queued);
    }
    fragments::remove_queued(place);
    Ok(Stored::FirstHasCome)
}

/// The row of a datagram whose first fragment has not arrived. It is made if it is missing, and reset if it belongs to
/// an earlier datagram with the same identification.
#[inline(always)]
fn await_first<A: Inet>(key: &FragmentKey<A>) -> Option<&'static mut FragmentRow> {
    let awaited = FragmentRow::awaited(clock::now());
    match fragments::datagram(key) {
        None => fragments::insert_datagram(key, &awaited),
        Some(row) if awaited.last.wrapping_sub(row.last) > FRAGMENT_TICKS => {
            row.take_ports(&awaited);
            atomic::take(&mut row.queued);
        }
        Some(_) => {}
    }
    fragments::datagram(key)
}

/// Stores the ports of a datagram's first fragment. If others are queued, all of them are received again, the first one
/// first. `None` if none is queued or the datagram is not for netd: then the packet continues.
#[inline(always)]
pub(crate) fn first<A: Inet>(skb: &Skb) -> Option<Result<Verdict, Reason>> {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT).ok()?;
    let Part::First(id) = ip.part else { return None };
    let transport = transport::read(&frame, &ip).ok()?;
    let key = FlowKey::of(&ip, &transport, zone);
    // Fragments for the host's stack are passed on in any order.
    let leaves = tables::endpoint_behind(zone.ifindex()).is_some_and(|sender| {
        let route = fib::lookup(skb.context(), sender.bridge, ip.protocol, &key.tuple());
        !matches!(route, Route::Local)
    });
    let lookups = Kernel(skb.context());
    let is_ours = leaves
        || publication::find(&lookups, ip.protocol, ip.dst, transport.dst_port).is_some()
        || tables::is_in_network(ip.dst)
        || table::peek(key).is_some();
    if !is_ours {
        return None;
    }
    let place = datagram::key(&ip, id, zone)?;
    note_first(&place.datagram, &transport);
    let row = fragments::datagram(&place.datagram)?;
    let queued = atomic::take(&mut row.queued);
    if queued == 0 {
        return None;
    }
    let least = ip.transport_at.get();
    Some(release(skb, place, queued, least).map(|()| Verdict::Consumed))
}

/// Stores the ports of a datagram's first fragment.
#[inline(always)]
fn note_first<A: Inet>(key: &FragmentKey<A>, transport: &Transport) {
    let row = FragmentRow::first(transport.src_port, transport.dst_port, clock::now());
    match fragments::datagram(key) {
        Some(known) => known.take_ports(&row),
        None => fragments::put_datagram(key, &row),
    }
}

/// Makes the kernel receive the packet and `queued` fragments again. The kernel cuts no packet to less than `least`
/// bytes, where this one's transport header starts; a shorter fragment is padded.
#[inline(always)]
fn release<A: Inet>(
    skb: &Skb,
    place: &mut QueuedFragmentKey<A>,
    queued: u64,
    least: usize,
) -> Result<(), Reason> {
    skb.receive_again()?;
    for number in 0..MOST {
        if u64::from(number) >= queued {
            break;
        }
        place.number = number;
        let Some(copy) = fragments::queued(place) else { continue };
        skb.become_copy(copy, least)?;
        fragments::remove_queued(place);
        skb.receive_again()?;
    }
    Ok(())
}
