//! Access lists: which sources may use a publication.

use bytemuck::{Pod, Zeroable};

use crate::flow::handle::Handle;
use crate::wire::bytes::{Address as _, Ipv6};

/// The value of a source that may not use the publication.
pub const DENY: u32 = 0;
/// The value of a source that may use it.
pub const ALLOW: u32 = 1;

/// A source of a publication, as the data of an LPM trie: the longest prefix wins. The row whose prefix is only the
/// publication applies to all other sources. For a publication without rows, the rows of [`Handle::NONE`] apply;
/// without those, every source may use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SourceKey {
    /// The publication's handle; [`Handle::NONE`] for all publications that have no rows of their own.
    pub publication: Handle,
    /// The source address, or the first one of a network; IPv4 in its mapped form.
    pub source: Ipv6,
}

impl SourceKey {
    /// Bits before the source address.
    pub const PUBLICATION_BITS: u32 = 32;
    /// Bits of the whole key, for one address.
    pub const BITS: u32 = Self::PUBLICATION_BITS + Ipv6::BITS;
    /// Bits of the source address before an IPv4 one.
    pub const MAPPED_BITS: u32 = 96;
}
