//! A slot of an array map with its generation, which tells a live row from a stale one.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use bytemuck::{Pod, Zeroable};

/// A slot of an array map with the generation of its owner.
///
/// Rows that refer to a slot contain its handle. When the slot's owner is removed, the slot's own handle changes. So
/// all rows with the old one are stale at once, without a walk over the table. Zero is no handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Handle(u32);

impl Handle {
    /// No handle.
    pub const NONE: Self = Self(0);

    /// The handle of a slot in this generation. Generation 0 becomes 1, so that no handle is zero.
    pub const fn new(slot: u16, generation: u16) -> Self {
        let generation = if generation == 0 { 1 } else { generation };
        Self(slot as u32 | ((generation as u32) << 16))
    }

    /// The handle that the slot's next owner gets.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.slot(), self.generation().wrapping_add(1))
    }

    /// Index into the array map.
    pub const fn slot(self) -> u16 {
        self.0 as u16
    }

    /// The generation of the slot's owner.
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether it is [`Self::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gets_another_handle_that_is_never_none() {
        let last = Handle::new(7, u16::MAX);
        assert_eq!(last.next().slot(), 7);
        assert_ne!(last.next(), last);
        assert!(!last.next().is_none());
        assert!(Handle::NONE.is_none());
    }
}
