//! How much room the flow tables have, and who takes it.

use bytemuck::{Pod, Zeroable};

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

/// What a flow table may hold. Written by the user side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct LimitRow {
    /// How many connections it has room for.
    pub room: u32,
    /// How many of them one container may have.
    pub quota: u32,
    /// How many places its ring has.
    pub places: u32,
    /// Zero.
    pub pad: u32,
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
