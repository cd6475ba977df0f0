//! The drop counters, the reports of dropped packets, and the rate limit of ICMP errors.

use aya_ebpf::maps::PerCpuArray;
use netd_common::abi::{DropEvent, DropRow};

use super::{clock, maps};

/// This CPU's counters of a reason, by its number.
#[inline(always)]
fn row(reason: u32) -> Option<&'static mut DropRow> {
    of_this_cpu(&maps::DROPS, reason)
}

/// A row of this CPU.
#[inline(always)]
fn of_this_cpu<T>(rows: &'static PerCpuArray<T>, number: u32) -> Option<&'static mut T> {
    let row = rows.get_ptr_mut(number)?;
    // SAFETY: this CPU's copy, which no other CPU writes. No other program that uses it interrupts this one, since both
    // run with bottom halves disabled, and no program keeps a reference while it asks for the next.
    Some(unsafe { &mut *row })
}

/// Counts a dropped packet. Returns whether it is the first of its reason and CPU in this tick; only that one is
/// reported.
#[inline(always)]
pub(crate) fn count(reason: u32, len: u32, now: u32) -> bool {
    let Some(row) = row(reason) else { return false };
    row.packets += 1;
    row.bytes += u64::from(len);
    let is_first = row.reported != now;
    row.reported = now;
    is_first
}

/// Reports a dropped packet to the user side.
#[inline(always)]
pub(crate) fn report(event: &DropEvent) {
    // If the ring is full, nobody reads it.
    let _full = maps::EVENTS.output::<DropEvent>(event, 0);
}

/// Counts packets that XDP has dropped for a reason.
#[inline(always)]
pub(crate) fn count_early(reason: u32, packets: u32, bytes: u64) {
    if let Some(row) = row(reason) {
        row.packets += u64::from(packets);
        row.bytes += bytes;
    }
}

/// Whether XDP may drop a packet after its decision. The first one of each reason, CPU and time `now` (see
/// [`clock::coarse`]) is left to TC, which decides again, counts it and reports it.
#[inline(always)]
pub(crate) fn may_drop_early(reason: u32, now: u32) -> bool {
    let Some(row) = row(reason) else { return false };
    let is_first = row.left != now;
    row.left = now;
    !is_first
}

/// The most ICMP errors that a CPU sends in a tick, so that a flood does not cause another one (RFC 1812 §4.3.2.8, RFC
/// 4443 §2.4 (f)).
const ANSWERS_PER_TICK: u32 = 100;

/// Whether one more ICMP error may be sent in this tick; counts it.
#[inline(always)]
pub(crate) fn may_answer() -> bool {
    let Some(row) = of_this_cpu(&maps::ANSWERS, 0) else { return false };
    let now = clock::now();
    if row.tick != now {
        row.tick = now;
        row.count = 0;
    }
    row.count += 1;
    row.count <= ANSWERS_PER_TICK
}
