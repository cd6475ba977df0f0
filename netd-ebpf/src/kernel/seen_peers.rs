//! The Bloom filter of addresses that have had a connection, or that a socket of the host has connected to: one bit
//! each, set before the connection is made and never cleared.
//!
//! If an address's bit is not set, no table has a row for it, so no lookup is needed. If it is set, a row may or may
//! not exist, since several addresses share a bit.

use netd_common::abi::capacity;

use super::inet::Inet;
use super::{atomic, maps};

/// Large odd numbers whose products mix bits well: those of SplitMix64.
pub(crate) const MIX: u64 = 0x94d0_49bb_1331_11eb;
const MIX_HIGH: u64 = 0xbf58_476d_1ce4_e5b9;

/// A hash of an address. The upper bits depend on all of it.
#[inline(always)]
pub(crate) fn hash<A: Inet>(address: A) -> u64 {
    let [a, b, c, d] = address.to_ipv6().words();
    let (high, low) = (u64::from(a) | (u64::from(b) << 32), u64::from(c) | (u64::from(d) << 32));
    let mixed = high.wrapping_mul(MIX_HIGH) ^ low;
    (mixed ^ (mixed >> 32)).wrapping_mul(MIX)
}

/// The number of an address's bit.
#[inline(always)]
pub(crate) fn bit<A: Inet>(address: A) -> u32 {
    (hash(address) >> (64 - capacity::SEEN_PEERS_BITS)) as u32
}

/// Sets an address's bit.
#[inline(always)]
pub(crate) fn add<A: Inet>(address: A) {
    let number = bit(address);
    let Some(word) = maps::SEEN_PEERS.get_ptr_mut(number >> 6) else { return };
    // SAFETY: an array's row is never freed, and programs change it by an atomic operation only.
    let word = unsafe { &mut *word };
    let mask = 1_u64 << (number & 63);
    if *word & mask == 0 {
        atomic::or(word, mask);
    }
}

/// Whether the bit of this number is set.
#[inline(always)]
pub(crate) fn contains(number: u32) -> bool {
    maps::SEEN_PEERS.get(number >> 6).is_none_or(|word| word & (1 << (number & 63)) != 0)
}
