//! The deny cache of this CPU's XDP program.

use netd_common::abi::{DenyCacheRow, capacity};

use super::inet::Inet;
use super::maps;

/// This CPU's row for a hash.
#[inline(always)]
pub(crate) fn row<A: Inet>(hash: u64) -> Option<&'static mut DenyCacheRow<A>> {
    let number = hash >> (64 - capacity::DENY_CACHE.trailing_zeros());
    let row = A::deny_cache().get_ptr_mut(number as u32)?;
    // SAFETY: this CPU's copy, which no other program writes; the reference to one row is dropped before the next is
    // made.
    Some(unsafe { &mut *row })
}

/// The epoch: how often the user side has changed tables that the policy reads.
#[inline(always)]
pub(crate) fn epoch() -> u32 {
    maps::EPOCH.get(0).copied().unwrap_or(0)
}
