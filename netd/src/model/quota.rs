//! How much of a flow table one container may have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use netd_common::abi::LimitRow;

use crate::error::{Error, Result};

/// The share of one container in what the others leave of each flow table, percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quota(u8);

impl Default for Quota {
    fn default() -> Self {
        Self(80)
    }
}

impl Quota {
    /// Percent, from 1 to 100.
    pub const fn percent(self) -> u8 {
        self.0
    }

    /// In parts of [`LimitRow::WHOLE`], rounded up.
    pub(crate) fn parts(self) -> u32 {
        (u32::from(self.0) * LimitRow::WHOLE).div_ceil(100)
    }

    /// Whether it is the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
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
            Error::malformed(format!("'{text}' is not a quota")).expected("use 1% to 100%, for example 25%")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_percentage_and_never_nothing() {
        for (text, parts) in [("25%", 256), ("100", LimitRow::WHOLE), ("1%", 11), ("80", 820)] {
            assert_eq!(text.parse::<Quota>().unwrap().parts(), parts);
        }
        for text in ["0", "101%", "-1", "half", ""] {
            assert!(text.parse::<Quota>().is_err(), "{text}");
        }
    }
}
