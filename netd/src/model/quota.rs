//! Which share of a flow table one container may have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The share of each flow table that one container may have, percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quota(u8);

impl Default for Quota {
    fn default() -> Self {
        Self(50)
    }
}

impl Quota {
    /// Percent, from 1 to 100.
    pub const fn percent(self) -> u8 {
        self.0
    }

    /// How many connections that are in a table with room for `room`.
    #[expect(clippy::cast_possible_truncation, reason = "a share is no more than the whole")]
    pub(crate) fn of(self, room: u32) -> u32 {
        ((u64::from(room) * u64::from(self.0) / 100) as u32).max(1)
    }

    /// Whether it is the default.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl FromStr for Quota {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix('%').unwrap_or(text).parse();
        number.ok().filter(|percent| (1..=100).contains(percent)).map(Self).ok_or_else(|| {
            Error::malformed(format!("'{text}' is not a share")).expected("use 1% to 100%, for example 25%")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_and_never_nothing() {
        for (text, of_thousand) in [("25%", 250), ("100", 1000), ("1%", 10)] {
            assert_eq!(text.parse::<Quota>().unwrap().of(1000), of_thousand);
        }
        assert_eq!("1%".parse::<Quota>().unwrap().of(10), 1);
        for text in ["0", "101%", "-1", "half", ""] {
            assert!(text.parse::<Quota>().is_err(), "{text}");
        }
    }
}
