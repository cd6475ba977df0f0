//! The version of the contract, which is pinned with the maps.

use bytemuck::{Pod, Zeroable};

/// The number of the contract.
///
/// It must be raised with every change that makes old programs and a new user side (or the reverse) incompatible:
/// another layout or meaning of a row, key, event or control-block word; a map or stage that is added, removed,
/// renumbered or resized; another number of a [`Reason`](crate::verdict::Reason) or
/// [`State`](crate::flow::state::State). The test `abi::layout` compares all of that with the record for this number.
pub const ABI: u32 = if cfg!(feature = "other-layout") { 1_000_006 } else { 6 };

/// The version of the programs that the pinned maps belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct VersionRow {
    /// The [`ABI`] number of the netd that loaded the programs.
    pub abi: u32,
    /// SHA-256 of the object with the programs.
    pub digest: [u8; 32],
    /// That netd's version as text; zeros fill it up.
    pub version: [u8; 28],
}

/// The description of the maps' rows, see [`LAYOUT`](super::name::LAYOUT): text in words.
pub type LayoutRow = [u64; 1 << 12];
