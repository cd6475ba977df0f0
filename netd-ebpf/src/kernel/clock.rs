//! Time and random numbers.

use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns,
};
use netd_common::flow::tick;

use super::maps::HOLD_UNTIL;

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

/// Whether packets without a flow are still held.
#[inline(always)]
pub(crate) fn is_held() -> bool {
    // SAFETY: the helper takes nothing and returns a number.
    HOLD_UNTIL.get(0).is_some_and(|until| unsafe { bpf_ktime_get_ns() } < *until)
}

/// A random word.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_get_prandom_u32() }
}
