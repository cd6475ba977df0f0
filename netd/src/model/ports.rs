//! Sets of 16-bit numbers, such as ports: asked and changed a word at a time, so that many publications are compared in the
//! time of one.

use std::ops::RangeInclusive;

const BITS: usize = u64::BITS as usize;

/// A set of 16-bit numbers.
#[derive(Clone, Debug)]
pub(crate) struct Ports(Box<[u64]>);

impl Default for Ports {
    fn default() -> Self {
        Self(vec![0; (1 << 16) / BITS].into())
    }
}

impl Ports {
    /// Puts these in.
    pub(crate) fn insert(&mut self, numbers: RangeInclusive<u16>) {
        for (word, mask) in words(numbers) {
            self.0[word] |= mask;
        }
    }

    /// Whether one of these is in it.
    pub(crate) fn holds_any(&self, numbers: RangeInclusive<u16>) -> bool {
        words(numbers).any(|(word, mask)| self.0[word] & mask != 0)
    }
}

/// The words that hold these numbers, and which of their bits.
fn words(numbers: RangeInclusive<u16>) -> impl Iterator<Item = (usize, u64)> {
    let (first, last) = (usize::from(*numbers.start()), usize::from(*numbers.end()));
    // An empty range has no words, also if it lies within one.
    let end = if first <= last { last / BITS + 1 } else { 0 };
    (first / BITS..end).map(move |word| {
        let from = first.saturating_sub(word * BITS);
        let to = (last - word * BITS).min(BITS - 1);
        (word, (u64::MAX << from) & (u64::MAX >> (BITS - 1 - to)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in(a: u16, b: u16, c: u16, d: u16) {
            let (put, asked) = (a.min(b)..=a.max(b), c.min(d)..=c.max(d));
            let mut set = Ports::default();
            prop_assert!(!set.holds_any(asked.clone()));
            set.insert(put.clone());
            let meet = put.start() <= asked.end() && asked.start() <= put.end();
            prop_assert_eq!(set.holds_any(asked), meet);
            for edge in [*put.start(), *put.end()] {
                prop_assert!(set.holds_any(edge..=edge));
            }
            for beyond in [put.start().checked_sub(1), put.end().checked_add(1)].into_iter().flatten() {
                prop_assert!(!set.holds_any(beyond..=beyond));
            }
        }
    }

    #[test]
    fn no_numbers_are_none() {
        let mut set = Ports::default();
        set.insert(RangeInclusive::new(5, 4));
        assert!(!set.holds_any(0..=u16::MAX));
    }
}
