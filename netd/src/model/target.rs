//! What a port is published for.

use std::net::IpAddr;
use std::str::FromStr;

use super::name::Name;
use crate::error::{Error, Result};

/// A container by its name, or whoever has an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetSpec {
    /// A container.
    Container(Name),
    /// A container, or a host beyond this one.
    Address(IpAddr),
}

impl FromStr for TargetSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        if text.contains(':') {
            return Err(Error::malformed(format!(
                "'{text}' is not a container name or an IP address"
            ))
            .expected("the target has no port of its own; its port is part of HOSTPORT:PORT, for example 8080:80"));
        }
        text.parse().map(Self::Container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_or_a_name() {
        for address in ["192.0.2.10", "2001:db8::10"] {
            assert_eq!(address.parse::<TargetSpec>().unwrap(), TargetSpec::Address(address.parse().unwrap()));
        }
        for name in ["web", "192.0.2", "example.org"] {
            assert_eq!(name.parse::<TargetSpec>().unwrap(), TargetSpec::Container(name.parse().unwrap()));
        }
        for bad in ["", "192.0.2.10:80", "[2001:db8::10]:80", "2001:db8::1::2", "../web"] {
            assert!(bad.parse::<TargetSpec>().is_err(), "{bad}");
        }
    }
}
