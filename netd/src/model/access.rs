//! Who may use a published port.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, PublicationError, Result};

/// Some of the addresses that packets come from: a CIDR without host bits, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(pub IpNet);

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_not_one| {
                Error::malformed(format!("'{text}' is not an address or a CIDR prefix"))
                    .expected("for example 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")
            })?,
        };
        if net.trunc() != net {
            return Err(Error::malformed(format!("'{text}' has host bits set"))
                .expected(format!("did you mean {}?", net.trunc())));
        }
        Ok(Self(net))
    }
}

/// Who is allowed and who is denied; of several that hold an address the one with the longest prefix counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Those that may. If there are any, all others may not.
    #[serde(default)]
    pub allow: Vec<Source>,
    /// Those that may not.
    #[serde(default)]
    pub deny: Vec<Source>,
}

impl Access {
    /// Lists that do not contradict themselves.
    pub fn new(allow: Vec<Source>, deny: Vec<Source>) -> Result<Self> {
        match allow.iter().find(|source| deny.contains(source)) {
            Some(Source(both)) => Err(PublicationError::AllowedAndDenied { source_net: *both }.into()),
            None => Ok(Self { allow, deny }),
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Every list entry with whether it allows.
    pub fn rules(&self) -> impl Iterator<Item = (IpNet, bool)> {
        let allow = self.allow.iter().map(|Source(net)| (*net, true));
        allow.chain(self.deny.iter().map(|Source(net)| (*net, false)))
    }

    /// What holds for whoever is in no list; none if there are no lists.
    pub fn others(&self) -> Option<bool> {
        (!self.is_empty()).then_some(self.allow.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_a_network() {
        for (text, said) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Source>().unwrap().0.to_string(), said);
        }
        for bad in ["", "192.0.2.1/24", "192.0.2.0/33", "example.org", "192.0.2.0/"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }

    #[test]
    fn whoever_is_in_no_list_may_unless_somebody_is_allowed() {
        let source = |text: &str| text.parse::<Source>().unwrap();
        let access = |allow: &[&str], deny: &[&str]| {
            Access::new(allow.iter().map(|s| source(s)).collect(), deny.iter().map(|s| source(s)).collect())
        };
        assert_eq!(access(&[], &[]).unwrap().others(), None);
        assert_eq!(access(&["10.0.0.0/8"], &["10.1.0.0/16"]).unwrap().others(), Some(false));
        assert_eq!(access(&[], &["10.1.0.0/16"]).unwrap().others(), Some(true));
        assert!(access(&["10.0.0.0/8"], &["10.0.0.0/8"]).is_err());
    }
}
