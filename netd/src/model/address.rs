//! Addresses and prefixes as people write them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{Error, Result};

/// An IP address.
pub fn parse_address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_not_one| {
        Error::malformed(format!("'{text}' is not an IP address"))
            .expected("for example 192.0.2.10 or 2001:db8::10; host names are not resolved")
    })
}

/// A subnet.
pub fn parse_subnet(text: &str) -> Result<IpNet> {
    text.parse().map_err(|_not_one| {
        Error::malformed(format!("'{text}' is not a subnet"))
            .expected("write an address and a prefix length: 10.20.0.0/24")
    })
}

/// An address or a prefix.
pub fn parse_prefix(text: &str) -> Result<IpNet> {
    text.parse().or_else(|_not_one| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_neither| {
        Error::malformed(format!("'{text}' is neither an IP address nor a prefix"))
            .expected("for example 10.20.0.50 or 10.244.1.0/24")
    })
}
