//! Rows of the flow tables.
//!
//! The kernel frees no row while a program runs, but it may reuse an LRU row for another key. So every row has the
//! handles of its owners, which are compared before the row is used. The window is a few instructions, and the harm is
//! one packet.

use aya_ebpf::maps::LruHashMap;
use netd_common::flow::{FlowKey, FlowRow};
use netd_common::verdict::Reason;

use super::inet::Inet;
use super::maps::{BPF_ANY, BPF_NOEXIST};

/// Flows by their keys.
pub(crate) type Flows<A> = LruHashMap<FlowKey<A>, FlowRow<A>>;

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
pub(crate) fn get<A: Inet>(flows: &'static Flows<A>, key: &FlowKey<A>) -> Option<&'static mut FlowRow<A>> {
    let row = flows.get_ptr_mut(key)?;
    // SAFETY: see the module's notes. Another CPU that has the same row writes the same words: fields are words, and
    // counters are changed atomically.
    Some(unsafe { &mut *row })
}

/// Inserts a row if there is none under its key: the first CPU gets the tuple.
#[inline(always)]
pub(crate) fn insert<A: Inet>(
    flows: &Flows<A>,
    key: &FlowKey<A>,
    row: &FlowRow<A>,
) -> Result<(), NotInserted> {
    flows
        .insert(key, row, BPF_NOEXIST)
        .map_err(|errno| if errno == -EEXIST { NotInserted::Exists } else { NotInserted::Full })
}

/// Inserts or replaces a row.
#[inline(always)]
pub(crate) fn put<A: Inet>(flows: &Flows<A>, key: &FlowKey<A>, row: &FlowRow<A>) -> Result<(), Reason> {
    flows.insert(key, row, BPF_ANY).map_err(|_errno| Reason::TableFull)
}

/// Removes a row.
#[inline(always)]
pub(crate) fn remove<A: Inet>(flows: &Flows<A>, key: &FlowKey<A>) {
    // It may be absent.
    let _absent = flows.remove(key);
}
