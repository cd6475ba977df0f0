//! What lies between a network's containers and the outside: Docker's gateway modes.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, NetworkError, Result};

/// What a network's gateway does in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Ports are published on the host, and nobody outside speaks to a container's own address.
    #[default]
    Nat,
    /// The same, but whoever routes to the subnet reaches every port of a container.
    NatUnprotected,
    /// No translation: whoever routes to the subnet reaches published ports by the container's own address.
    Routed,
    /// The host has no address on the network.
    Isolated,
}

impl GatewayMode {
    const ALL: [Self; 4] = [Self::Nat, Self::NatUnprotected, Self::Routed, Self::Isolated];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::NatUnprotected => "nat-unprotected",
            Self::Routed => "routed",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for GatewayMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A mode for both families, or for one: `MODE`, `ipv4=MODE` or `ipv6=MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeSpec {
    /// For both.
    Both(GatewayMode),
    /// For IPv4.
    Ipv4(GatewayMode),
    /// For IPv6.
    Ipv6(GatewayMode),
}

impl FromStr for ModeSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (family, word) = text.split_once('=').map_or((None, text), |(family, mode)| (Some(family), mode));
        let mode = GatewayMode::ALL.into_iter().find(|mode| mode.name() == word);
        match (family, mode) {
            (None, Some(mode)) => Ok(Self::Both(mode)),
            (Some("ipv4"), Some(mode)) => Ok(Self::Ipv4(mode)),
            (Some("ipv6"), Some(mode)) => Ok(Self::Ipv6(mode)),
            _ => Err(Error::malformed(format!("'{text}' is not a gateway mode")).expected(
                "use nat, nat-unprotected, routed or isolated; for one IP version ipv4=MODE or ipv6=MODE",
            )),
        }
    }
}

/// The modes of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewayModes {
    four: Option<GatewayMode>,
    six: Option<GatewayMode>,
    names_ipv6: bool,
}

impl GatewayModes {
    /// From what was typed: a family is told once.
    pub fn new(specs: &[ModeSpec]) -> Result<Self> {
        let mut modes = Self::default();
        for spec in specs {
            let (four, six) = match *spec {
                ModeSpec::Both(mode) => (Some(mode), Some(mode)),
                ModeSpec::Ipv4(mode) => (Some(mode), None),
                ModeSpec::Ipv6(mode) => (None, Some(mode)),
            };
            if modes.four.is_some() && four.is_some() || modes.six.is_some() && six.is_some() {
                return Err(NetworkError::ModeTwice.into());
            }
            modes.four = modes.four.or(four);
            modes.six = modes.six.or(six);
            modes.names_ipv6 |= matches!(spec, ModeSpec::Ipv6(_));
        }
        Ok(modes)
    }

    /// The mode in the family of an address.
    pub fn of(&self, address: IpAddr) -> GatewayMode {
        if address.is_ipv4() { self.four } else { self.six }.unwrap_or_default()
    }

    /// Whether one was asked for IPv6 alone.
    pub const fn names_ipv6(&self) -> bool {
        self.names_ipv6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(words: &[&str]) -> Result<(GatewayMode, GatewayMode)> {
        let specs: Vec<ModeSpec> = words.iter().map(|word| word.parse()).collect::<Result<_>>()?;
        let modes = GatewayModes::new(&specs)?;
        Ok((modes.of(IpAddr::from([0; 4])), modes.of(IpAddr::from([0; 16]))))
    }

    #[test]
    fn a_family_has_the_mode_that_is_said_of_it_or_nat() {
        use GatewayMode::{Isolated, Nat, NatUnprotected, Routed};
        for (words, expected) in [
            (&[][..], (Nat, Nat)),
            (&["routed"], (Routed, Routed)),
            (&["ipv6=routed"], (Nat, Routed)),
            (&["ipv4=nat-unprotected", "ipv6=isolated"], (NatUnprotected, Isolated)),
        ] {
            assert_eq!(modes(words).unwrap(), expected, "{words:?}");
        }
        let bad: [&[&str]; 8] = [
            &[""],
            &["bridge"],
            &["ROUTED"],
            &["ipv5=nat"],
            &["ipv4="],
            &["nat", "routed"],
            &["nat", "ipv4=routed"],
            &["ipv6=nat", "ipv6=nat"],
        ];
        for words in bad {
            assert!(modes(words).is_err(), "{words:?}");
        }
    }
}
