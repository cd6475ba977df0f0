//! The version of the contract, which is pinned with the maps.

use bytemuck::{Pod, Zeroable};

/// The number of the contract.
///
/// It must rise whenever programs of the old number and a user side of the new one (or the other way round) would misunderstand
/// each other: another layout or meaning of a row, key, event or control-block word; a map or stage more, less, renumbered or with
/// another capacity; another number of a [`Reason`](crate::verdict::Reason) or [`State`](crate::flow::state::State). The test
/// `abi::layout` compares all of that with what is recorded for this number.
pub const ABI: u32 = 2;

/// Which programs the pinned maps were made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct VersionRow {
    /// The [`ABI`] number of whoever loaded the programs.
    pub abi: u32,
    /// SHA-256 of the object with the programs.
    pub digest: [u8; 32],
}
