//! Values on the stack that a helper reads.

/// A value with `BEFORE` words in front of it, both aligned to 8 bytes: the verifier accepts no double word that spans
/// two slots of the stack.
#[repr(C, align(8))]
pub(crate) struct Aligned<T, const BEFORE: usize = 0> {
    before: [u32; BEFORE],
    /// The value.
    pub(crate) value: T,
}

impl<T, const BEFORE: usize> Aligned<T, BEFORE> {
    /// A value in its place.
    #[inline(always)]
    pub(crate) fn new(value: T) -> Self {
        Self { before: [0; BEFORE], value }
    }
}
