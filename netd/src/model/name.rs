//! Names and hardware addresses.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The name of a container or a network: 1 to 255 letters, digits, `_`, `.` and `-`, a letter or digit first. It is
/// also the name of a file (/run/netns/NAME), which is at most 255 bytes (`NAME_MAX`). Cheap to clone, because many records
/// carry it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts_well || text.len() > 255 || !text.chars().all(fits) {
            return Err(Error::malformed(format!("'{text}' is not a valid name")).expected(
                "a name has 1 to 255 letters, digits, '_', '.' and '-', and starts with a letter or digit",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// The key that a front end knows a container by, such as a runtime's container ID: a text of 1 to 255 bytes without
/// control characters. netd compares it and shows it, nothing more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OwnerKey(String);

impl OwnerKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OwnerKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > 255 || text.contains(char::is_control) {
            return Err(Error::malformed(format!("'{}' is not a valid owner key", text.escape_debug()))
                .expected("an owner key has 1 to 255 bytes and no control characters"));
        }
        Ok(Self(text.into()))
    }
}

/// The name of an interface: 1 to 15 bytes without spaces, '/' and ':' (`dev_valid_name` of the kernel).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The kernel takes `%d` for a place where to put a number, and has switches for interfaces "all" and "default".
        let bad = |c: char| ['/', ':', '%'].contains(&c) || c.is_whitespace() || c.is_control();
        let reserved = [".", "..", "all", "default"];
        if text.is_empty() || text.len() > 15 || reserved.contains(&text) || text.contains(bad) {
            return Err(Error::malformed(format!("'{text}' is not a valid interface name")).expected(
                "an interface name has 1 to 15 characters, without spaces, '/', ':' and '%', and is not 'all' or 'default'",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// A unicast Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// From its bytes, if they are one station's: the group bit clear (IEEE 802), not all zero.
    pub fn new(bytes: [u8; 6]) -> Option<Self> {
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }

    /// From four bytes that tell it from others: 02:42 in front, which marks it as administered locally.
    pub const fn local([a, b, c, d]: [u8; 4]) -> Self {
        Self([0x02, 0x42, a, b, c, d])
    }

    /// The bytes.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes: Option<Vec<u8>> = text
            .split([':', '-'])
            .map(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok()).flatten())
            .collect();
        bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()).and_then(Self::new).ok_or_else(|| {
            Error::malformed(format!("'{text}' is not a unicast MAC address"))
                .expected("for example 02:42:ac:11:00:02")
        })
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// A checked text that shows itself and is stored as it is.
macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                (*name.0).to_owned()
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }
    };
}

text!(Name);
text!(IfName);
text!(OwnerKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_files_and_people_can_bear() {
        for good in ["web", "a", "0", "my_app-1.2", &"x".repeat(255)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-web", ".", "..", "a/b", "a b", "ü", "a\n", &"x".repeat(256)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_owner_key_is_any_short_text() {
        for good in ["a", "../b c", &"f".repeat(64), &"x".repeat(255)] {
            assert_eq!(good.parse::<OwnerKey>().unwrap().as_str(), good);
        }
        for bad in ["", "a\n", &"x".repeat(256)] {
            assert!(bad.parse::<OwnerKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        assert!("eth0".parse::<IfName>().is_ok());
        assert!("eth0.100".parse::<IfName>().is_ok());
        for bad in ["", ".", "..", "a/b", "a:1", "a b", "sixteen-letters-"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mac_address_is_one_stations() {
        let mac: Mac = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(mac, Mac::local([172, 17, 0, 2]));
        for bad in [
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "02:42:ac:11:00",
            "2:42:ac:11:0:2",
            "zz:42:ac:11:00:02",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
