//! Rows of fragmented datagrams, and the fragment queue.

use netd_common::abi::{FragmentKey, FragmentRow, QueuedFragmentKey, QueuedFragmentRow};
use netd_common::verdict::Reason;

use super::inet::Inet;
use super::maps::{BPF_ANY, BPF_NOEXIST};

/// The row of a fragmented datagram.
#[inline(always)]
pub(crate) fn datagram<A: Inet>(key: &FragmentKey<A>) -> Option<&'static mut FragmentRow> {
    let row = A::fragments().get_ptr_mut(key)?;
    // SAFETY: the kernel frees no row under a running program. A row that is reused meanwhile holds the ports of
    // another datagram, whose flow does not have this one's addresses. Several CPUs may write it; each field is one
    // word.
    Some(unsafe { &mut *row })
}

/// Inserts a datagram's row.
#[inline(always)]
pub(crate) fn put_datagram<A: Inet>(key: &FragmentKey<A>, row: &FragmentRow) {
    // If the table is full, the later fragments are never released.
    let _full = A::fragments().insert(key, row, BPF_ANY);
}

/// Inserts a datagram's row if there is none.
#[inline(always)]
pub(crate) fn insert_datagram<A: Inet>(key: &FragmentKey<A>, row: &FragmentRow) {
    // The caller looks up afterwards whether there is one.
    let _exists = A::fragments().insert(key, row, BPF_NOEXIST);
}

/// A fragment in the queue.
#[inline(always)]
pub(crate) fn queued<A: Inet>(key: &QueuedFragmentKey<A>) -> Option<&'static QueuedFragmentRow> {
    // SAFETY: the kernel frees no row under a running program. If the row is reused meanwhile, it holds another
    // fragment, which then arrives twice or damaged, as any packet may.
    unsafe { A::fragment_queue().get(key) }
}

/// Puts a fragment into the queue.
#[inline(always)]
pub(crate) fn put_queued<A: Inet>(key: &QueuedFragmentKey<A>, row: &QueuedFragmentRow) -> Result<(), Reason> {
    A::fragment_queue().insert(key, row, BPF_ANY).map_err(|_errno| Reason::Fragment)
}

/// Removes a fragment from the queue.
#[inline(always)]
pub(crate) fn remove_queued<A: Inet>(key: &QueuedFragmentKey<A>) {
    // It may be absent.
    let _absent = A::fragment_queue().remove(key);
}
