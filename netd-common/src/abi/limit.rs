//! How much room the flow tables have, and who takes it.

use bytemuck::{Pod, Zeroable};

use crate::verdict::Reason;

/// The numbers of the flow tables, in [`LIMITS`](super::name::LIMITS), [`FILL`](super::name::FILL) and [`UsageRow`].
pub mod table {
    /// Established IPv4 connections.
    pub const FLOWS: u32 = 0;
    /// Established IPv6 connections.
    pub const FLOWS6: u32 = 1;
    /// Unreplied, half-open and ended IPv4 connections.
    pub const UNREPLIED: u32 = 2;
    /// The same, IPv6.
    pub const UNREPLIED6: u32 = 3;

    /// How many there are.
    pub const COUNT: usize = 4;
}

/// What a flow table may hold, and how much of it one container may have. Written by the user side.
///
/// A container's quota is a share of what the others leave free (a dynamic threshold, as in the buffers of switches). So
/// one container alone may use most of a table, several share it, and there is room for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct LimitRow {
    /// How many connections it has room for.
    pub room: u32,
    /// The share of one container, in parts of [`Self::WHOLE`].
    pub share: u32,
    /// How many places its ring has.
    pub places: u32,
    /// Zero.
    pub pad: u32,
}

/// A count of connections as it is written. Another CPU may remove a row before its insertion is counted: none is below zero.
#[inline(always)]
#[must_use]
pub const fn counted(count: u64) -> u64 {
    if count > u64::MAX / 2 { 0 } else { count }
}

impl LimitRow {
    /// A share of everything: there is no quota.
    pub const WHOLE: u32 = 1 << Self::SHARE_BITS;
    const SHARE_BITS: u32 = 10;
    /// The part of the room that is kept for the first connections of containers: a 64th.
    const RESERVE_BITS: u32 = 6;

    /// How many connections a container may have in a table with `total` of them, of which it has `own`.
    #[inline(always)]
    pub const fn quota(&self, total: u64, own: u64) -> u64 {
        let others = total.saturating_sub(own);
        ((self.room as u64).saturating_sub(others) * self.share as u64) >> Self::SHARE_BITS
    }

    /// Whether such a container may open another connection.
    ///
    /// # Errors
    ///
    /// [`Reason::TableFull`] if there is no room, [`Reason::Quota`] if there is none for this container. A container without
    /// connections may use all room.
    #[inline(always)]
    pub const fn admit(&self, total: u64, own: u64) -> Result<(), Reason> {
        let room = self.room as u64;
        if total >= room {
            return Err(Reason::TableFull);
        }
        if own == 0 || self.share >= Self::WHOLE {
            return Ok(());
        }
        let is_reserved = total + (room >> Self::RESERVE_BITS) >= room;
        if is_reserved || own >= self.quota(total, own) { Err(Reason::Quota) } else { Ok(()) }
    }
}

/// What a flow table holds. Written by the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FillRow {
    /// Its connections.
    pub connections: u64,
    /// How many places of its ring have been looked at, since it was made.
    pub hand: u64,
}

/// The connections of an endpoint's slot in each flow table, by [`table`] number. A connection counts for the container that
/// opened it; if it came from outside, for its target. Written by the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct UsageRow {
    /// The connections.
    pub connections: [u64; table::COUNT],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(room: u32, percent: u32) -> LimitRow {
        LimitRow { room, share: (percent * LimitRow::WHOLE).div_ceil(100), ..LimitRow::default() }
    }

    /// Opens connections of a container that has `own` until it gets no more; returns how many it has then.
    fn fill(limits: &LimitRow, others: u64, own: u64) -> u64 {
        (own..=limits.room.into()).find(|own| limits.admit(others + own, *own).is_err()).unwrap()
    }

    #[test]
    fn one_container_alone_gets_its_share_of_the_table() {
        for (percent, most) in [(1, 10), (25, 250), (50, 500), (80, 800), (100, 1000)] {
            assert_eq!(fill(&table(1000, percent), 0, 0), most, "{percent}%");
        }
        // A 64th is kept for others.
        assert_eq!(fill(&table(1024, 99), 0, 0), 1024 - 16);
    }

    #[test]
    fn another_container_gets_its_share_of_what_is_left() {
        let limits = table(1000, 80);
        let first = fill(&limits, 0, 0);
        let second = fill(&limits, first, 0);
        assert_eq!((first, second), (800, 160));
        assert_eq!(limits.admit(first + second, first), Err(Reason::Quota));
        // What it has beyond its quota by now is not taken from it; it gets no more.
        assert_eq!(limits.quota(first + second, first), 672);
        assert_eq!(limits.admit(1000, 0), Err(Reason::TableFull));
    }

    #[test]
    fn without_a_quota_the_first_may_have_everything() {
        let limits = table(1000, 100);
        assert_eq!(limits.admit(999, 999), Ok(()));
        assert_eq!(limits.admit(1000, 1000), Err(Reason::TableFull));
        assert!((0..=1000).all(|own| limits.quota(1000, own) >= own), "nobody is over it");
    }

    #[test]
    fn counts_that_are_too_high_for_a_moment_do_no_harm() {
        let limits = table(1000, 80);
        assert_eq!(limits.quota(1010, 5), 0);
        assert_eq!(limits.quota(3, 5), 800);
    }
}
