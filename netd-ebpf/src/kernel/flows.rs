//! The flow tables: rows by key, a ring of their connections, and how many each container has.
//!
//! The kernel frees no row while a program runs, but it may reuse a row for another key. So every row has the handles of
//! its owners, which are compared before the row is used. The window is a few instructions, and the harm is one packet.

use netd_common::abi::{FillRow, LimitRow, counted, table};
use netd_common::flow::{FlowKey, FlowRow, Handle};
use netd_common::verdict::Reason;

use super::inet::Inet;
use super::maps::{self, BPF_NOEXIST, Ring, Rows};
use super::{atomic, tables};

/// A flow table.
#[derive(Clone, Copy)]
pub(crate) struct Flows<A: Inet> {
    rows: &'static Rows<A>,
    ring: &'static Ring<A>,
    number: u32,
}

/// Connections that both sides want.
#[inline(always)]
pub(crate) fn established<A: Inet>() -> Flows<A> {
    let number = if A::IS_V6 { table::FLOWS6 } else { table::FLOWS };
    Flows { rows: A::flows(), ring: A::flows_ring(), number }
}

/// All others.
#[inline(always)]
pub(crate) fn unreplied<A: Inet>() -> Flows<A> {
    let number = if A::IS_V6 { table::UNREPLIED6 } else { table::UNREPLIED };
    Flows { rows: A::unreplied(), ring: A::unreplied_ring(), number }
}

/// The row already exists (linux/errno-base.h).
const EEXIST: i32 = 17;

/// Why a row was not inserted.
pub(crate) enum NotInserted {
    /// There is one under this key.
    Exists,
    /// The table has no room.
    Full,
}

/// The row of a key.
#[inline(always)]
pub(crate) fn get<A: Inet>(flows: Flows<A>, key: &FlowKey<A>) -> Option<&'static mut FlowRow<A>> {
    let row = flows.rows.get_ptr_mut(key)?;
    // SAFETY: see the module's notes. Another CPU that has the same row writes the same words: fields are words, and
    // counters are changed atomically.
    Some(unsafe { &mut *row })
}

/// Inserts a row if there is none under its key: the first CPU gets the tuple.
#[inline(always)]
pub(crate) fn insert<A: Inet>(
    flows: Flows<A>,
    key: &FlowKey<A>,
    row: &FlowRow<A>,
) -> Result<(), NotInserted> {
    match flows.rows.insert(key, row, BPF_NOEXIST) {
        Ok(()) => {
            count(flows, row.is_reply(), row.endpoint, 1);
            Ok(())
        }
        Err(errno) if errno == -EEXIST => Err(NotInserted::Exists),
        Err(_) => Err(NotInserted::Full),
    }
}

/// Removes a row, after what it has counted was added to its publication's counters. Absent is fine.
#[inline(always)]
pub(crate) fn remove<A: Inet>(flows: Flows<A>, key: &FlowKey<A>) {
    let Some(row) = get(flows, key) else { return };
    tables::count_packets(row.publication, row.is_reply(), atomic::take(&mut row.pending));
    take_back(flows, key);
}

/// Removes a row that has counted nothing. Absent is fine.
#[inline(always)]
pub(crate) fn take_back<A: Inet>(flows: Flows<A>, key: &FlowKey<A>) {
    let Some(row) = get(flows, key) else { return };
    let (is_reply, endpoint) = (row.is_reply(), row.endpoint);
    // Of several CPUs that remove it one succeeds.
    if flows.rows.remove(key).is_ok() {
        count(flows, is_reply, endpoint, u64::MAX);
    }
}

/// Counts a connection by its reply's row, whose endpoint is whom the connection counts for: nobody if it has gone, since
/// its slot may have another owner by now. `change` is 1 or -1.
#[inline(always)]
fn count<A: Inet>(flows: Flows<A>, is_reply: bool, endpoint: Handle, change: u64) {
    if !is_reply {
        return;
    }
    if let Some(fill) = fill(flows) {
        atomic::add(&mut fill.connections, change);
    }
    if let Some(usage) = usage(flows, endpoint) {
        atomic::add(usage, change);
    }
}

#[inline(always)]
fn fill<A: Inet>(flows: Flows<A>) -> Option<&'static mut FillRow> {
    let row = maps::FILL.get_ptr_mut(flows.number)?;
    // SAFETY: array rows are never freed, and programs change these by atomic operations only.
    Some(unsafe { &mut *row })
}

/// How many connections a live endpoint has in a table.
#[inline(always)]
fn usage<A: Inet>(flows: Flows<A>, endpoint: Handle) -> Option<&'static mut u64> {
    tables::endpoint(endpoint)?;
    let row = maps::USAGE.get_ptr_mut(u32::from(endpoint.slot()))?;
    // SAFETY: as for `fill`.
    let row = unsafe { &mut *row };
    row.connections.get_mut(flows.number as usize)
}

#[inline(always)]
fn limits<A: Inet>(flows: Flows<A>) -> Option<&'static LimitRow> {
    maps::LIMITS.get(flows.number)
}

/// Whether an endpoint has more connections in a table than its quota.
#[inline(always)]
pub(crate) fn is_over_quota<A: Inet>(flows: Flows<A>, endpoint: Handle) -> bool {
    match (limits(flows), fill(flows), usage(flows, endpoint)) {
        (Some(limits), Some(fill), Some(usage)) => {
            let own = counted(*usage);
            own > limits.quota(counted(fill.connections), own)
        }
        _ => false,
    }
}

/// Whether a table has room for one more connection of an endpoint.
#[inline(always)]
pub(crate) fn has_room<A: Inet>(flows: Flows<A>, endpoint: Handle) -> Result<(), Reason> {
    let (Some(limits), Some(fill)) = (limits(flows), fill(flows)) else { return Err(Reason::TableFull) };
    let own = usage(flows, endpoint).map_or(0, |usage| counted(*usage));
    limits.admit(counted(fill.connections), own)
}

/// A place in a table's ring.
pub(crate) struct Place<A: 'static> {
    /// The originator's key of the connection that has it or had it.
    pub(crate) key: &'static mut FlowKey<A>,
    /// Its number.
    pub(crate) number: u32,
}

/// The next place of a table's ring. Each caller gets another one, until the ring has been gone round.
#[inline(always)]
pub(crate) fn next_place<A: Inet>(flows: Flows<A>) -> Option<Place<A>> {
    let places = limits(flows)?.places;
    if places == 0 {
        return None;
    }
    let hand = atomic::fetch_add(&mut fill(flows)?.hand, 1);
    let number = (hand % u64::from(places)) as u32;
    let key = flows.ring.get_ptr_mut(number)?;
    // SAFETY: array rows are never freed. Two CPUs write the same place only if the hand goes round between their writes; a
    // key that is mixed of two leads to no row, and its place is free.
    let key = unsafe { &mut *key };
    Some(Place { key, number })
}
