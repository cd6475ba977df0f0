//! The clock of the datapath: the kernel's monotonic clock in units of 2³⁰ ns, so that a shift is enough to read it.

/// The tick of a monotonic time in nanoseconds. It wraps after 146 years.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the clock wraps after 146 years")]
pub const fn of_nanos(nanos: u64) -> u32 {
    (nanos >> 30) as u32
}

/// Whether both ticks are in the same group of eight. Rows that need no route lookup are updated once in such a group.
#[inline(always)]
pub const fn in_same_eight(a: u32, b: u32) -> bool {
    a >> 3 == b >> 3
}

/// This many seconds in ticks; at least one.
pub const fn of_seconds(seconds: u32) -> u32 {
    let ticks = of_nanos(seconds as u64 * 1_000_000_000);
    if ticks == 0 { 1 } else { ticks }
}

/// This many ticks in milliseconds.
pub const fn to_millis(ticks: u32) -> u64 {
    ((ticks as u64) << 30) / 1_000_000
}
