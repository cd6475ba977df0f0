//! A slot of an array map together with its generation: what tells a live row from a stale one.

#![expect(clippy::cast_possible_truncation, reason = "parts of words are taken on purpose")]

use bytemuck::{Pod, Zeroable};

/// A slot of an array map together with the generation of its present owner.
///
/// Rows that point to an array slot carry its handle. When the slot's owner goes, the slot's own copy changes, and every
/// row that still carries the old handle is dead at once, however many there are. Zero is nobody's handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Handle(u32);

impl Handle {
    /// Nobody's.
    pub const NONE: Self = Self(0);

    /// The slot's handle in its given generation; generation 0 is made 1, since a handle is never zero.
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

    /// Which owner of the slot this is.
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether it is nobody's.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_changes_hands_and_is_never_nobodys() {
        let last = Handle::new(7, u16::MAX);
        assert_eq!(last.next().slot(), 7);
        assert_ne!(last.next(), last);
        assert!(!last.next().is_none());
        assert!(Handle::NONE.is_none());
    }
}
