//! Whether uplinks have the XDP stage.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which uplinks have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// None.
    #[default]
    Off,
    /// Network cards whose driver runs XDP programs and that have none yet.
    Auto,
    /// Every one, or the request fails.
    Native,
}

impl XdpMode {
    /// The words for the modes.
    pub const NAMES: [&str; 3] = ["off", "auto", "native"];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Native => "native",
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for XdpMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Off, Self::Auto, Self::Native].into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
            Error::malformed(format!("'{text}' is not an XDP mode"))
                .expected(format!("use one of {}", Self::NAMES.join(", ")))
        })
    }
}
