//! Time and random numbers.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns};
use netd_common::flow::tick;

/// The current [`tick`] (kernel 5.11). The helper reads a word that the kernel updates, which costs less than reading a
/// clock.
#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    tick::of_nanos(unsafe { bpf_ktime_get_coarse_ns() })
}

/// The clock of the deny cache: it advances every 0.1 to 1.3 seconds, depending on the kernel's HZ (kernel 5.6). The
/// helper is inlined as one load; [`now`] is a call.
#[inline(always)]
pub(crate) fn coarse() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    (unsafe { bpf_jiffies64() } >> 7) as u32
}

/// A random word.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_get_prandom_u32() }
}
