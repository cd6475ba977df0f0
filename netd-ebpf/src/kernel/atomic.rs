//! Atomic operations on words that several CPUs change. Rust's own atomics have none of these on this target.
//!
//! The words are in map values, whose memory outlives a program's run. All programs change them only by these
//! functions.

use core::arch::asm;

/// Adds to a word (`lock xadd`).
#[inline(always)]
pub(crate) fn add(word: &mut u64, amount: u64) {
    let word: *mut u64 = word;
    // SAFETY: the pointer comes from a reference, so it is valid and aligned; one instruction reads and writes the
    // word.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) amount, options(nostack)) }
}

/// Adds to a word and returns its value before (`atomic_fetch_add`, kernel 5.12).
#[inline(always)]
pub(crate) fn fetch_add(word: &mut u64, amount: u64) -> u64 {
    let (word, mut value): (*mut u64, u64) = (word, amount);
    // SAFETY: as in `add`.
    unsafe {
        asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) word, inout(reg) value, options(nostack));
    }
    value
}

/// Sets a word to zero and returns its value before (`xchg`, kernel 5.12).
#[inline(always)]
pub(crate) fn take(word: &mut u64) -> u64 {
    let (word, mut value): (*mut u64, u64) = (word, 0);
    // SAFETY: as in `add`.
    unsafe { asm!("{1} = xchg_64({0} + 0, {1})", in(reg) word, inout(reg) value, options(nostack)) }
    value
}

/// Sets bits of a word (`lock or`, kernel 5.12).
#[inline(always)]
pub(crate) fn or(word: &mut u64, bits: u64) {
    let word: *mut u64 = word;
    // SAFETY: as in `add`.
    unsafe { asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) word, in(reg) bits, options(nostack)) }
}
