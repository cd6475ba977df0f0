//! Settings of an instance.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use netd_common::abi::capacity;
use serde::{Deserialize, Serialize};

use super::endpoint::{AUTO, MetricsEndpoint};
use super::name::IfName;
use super::xdp::XdpMode;
use crate::error::{Error, Result};

/// What the user has set. What is not set netd chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preferences {
    /// The uplinks; all interfaces that hold routes if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<IfName>,
    /// Which uplinks have the XDP program.
    #[serde(default)]
    pub xdp: XdpMode,
    /// How many IPv4 connections the flow tables are made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Whether commands start no follower.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_serve: bool,
    /// Where the follower serves metrics.
    #[serde(default, skip_serializing_if = "MetricsEndpoint::is_default")]
    pub metrics: MetricsEndpoint,
}

impl Preferences {
    /// The connections that tables are made for.
    pub(crate) fn connections(&self) -> u32 {
        self.max_connections.unwrap_or(capacity::CONNECTIONS)
    }

    /// Changes one.
    pub(crate) fn change(&mut self, change: Setting) {
        match change {
            Setting::Uplinks(uplinks) => self.uplinks = uplinks,
            Setting::Xdp(mode) => self.xdp = mode,
            Setting::MaxConnections(most) => self.max_connections = most,
            Setting::Serve(serves) => self.no_serve = !serves,
            Setting::Metrics(endpoint) => self.metrics = endpoint,
        }
    }

    /// All settings.
    pub(crate) fn all(&self) -> [Setting; 5] {
        [
            Setting::Uplinks(self.uplinks.clone()),
            Setting::Xdp(self.xdp),
            Setting::MaxConnections(self.max_connections),
            Setting::Serve(!self.no_serve),
            Setting::Metrics(self.metrics),
        ]
    }
}

/// The name of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingName {
    /// Which interfaces lead outside.
    Uplinks,
    /// Which uplinks have the XDP program.
    Xdp,
    /// How many connections the tables are made for.
    MaxConnections,
    /// Whether commands start the follower.
    Serve,
    /// Where the follower serves metrics.
    Metrics,
}

impl SettingName {
    const ALL: [Self; 5] = [Self::Uplinks, Self::Xdp, Self::MaxConnections, Self::Serve, Self::Metrics];

    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uplinks => "uplinks",
            Self::Xdp => "xdp",
            Self::MaxConnections => "max-connections",
            Self::Serve => "serve",
            Self::Metrics => "metrics",
        }
    }
}

impl FromStr for SettingName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::malformed(format!("there is no setting '{text}'"))
                .expected(format!("the settings are {names}"))
        })
    }
}

/// A setting with its value: `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The uplinks; all interfaces that hold routes if empty.
    Uplinks(Vec<IfName>),
    /// Which uplinks have the XDP program.
    Xdp(XdpMode),
    /// How many IPv4 connections the flow tables are made for, fixed at first use; the default if none.
    MaxConnections(Option<u32>),
    /// Whether commands start the follower.
    Serve(bool),
    /// Where the follower serves metrics.
    Metrics(MetricsEndpoint),
}

impl Setting {
    /// What [`Self::MaxConnections`] may be.
    pub const CONNECTIONS: RangeInclusive<u32> = capacity::FEWEST_CONNECTIONS..=capacity::MOST_CONNECTIONS;

    /// Its name.
    pub const fn name(&self) -> SettingName {
        match self {
            Self::Uplinks(_) => SettingName::Uplinks,
            Self::Xdp(_) => SettingName::Xdp,
            Self::MaxConnections(_) => SettingName::MaxConnections,
            Self::Serve(_) => SettingName::Serve,
            Self::Metrics(_) => SettingName::Metrics,
        }
    }

    /// Its value, as it is typed.
    pub fn value(&self) -> String {
        match self {
            Self::Uplinks(uplinks) if uplinks.is_empty() => AUTO.to_owned(),
            Self::Uplinks(uplinks) => uplinks.iter().map(IfName::as_str).collect::<Vec<_>>().join(","),
            Self::Xdp(mode) => mode.name().to_owned(),
            Self::MaxConnections(most) => most.map_or_else(|| AUTO.to_owned(), |most| most.to_string()),
            Self::Serve(serves) => if *serves { "on" } else { "off" }.to_owned(),
            Self::Metrics(endpoint) => endpoint.to_string(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name().name(), self.value())
    }
}

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Error::malformed(format!("'{text}' has no value")).expected("for example uplinks=eth0,eth1")
        })?;
        match name.parse()? {
            SettingName::Uplinks if value == AUTO => Ok(Self::Uplinks(Vec::new())),
            SettingName::Uplinks => {
                let mut uplinks = Vec::new();
                for name in value.split(',') {
                    let name = name.parse()?;
                    if !uplinks.contains(&name) {
                        uplinks.push(name);
                    }
                }
                Ok(Self::Uplinks(uplinks))
            }
            SettingName::Xdp => value.parse().map(Self::Xdp).map_err(|_unknown: Error| {
                Error::malformed(format!("'{text}': '{value}' is not an XDP mode"))
                    .expected(format!("use one of {}", XdpMode::NAMES.join(", ")))
            }),
            SettingName::MaxConnections if value == AUTO => Ok(Self::MaxConnections(None)),
            SettingName::MaxConnections => {
                let number = value.parse().ok().filter(|number| Self::CONNECTIONS.contains(number));
                let (least, most) = (Self::CONNECTIONS.start(), Self::CONNECTIONS.end());
                number.map(|number| Self::MaxConnections(Some(number))).ok_or_else(|| {
                    Error::malformed(format!("'{text}': '{value}' is not a number of connections"))
                        .expected(format!("use {least} to {most}, or auto"))
                })
            }
            SettingName::Serve => match value {
                "on" => Ok(Self::Serve(true)),
                "off" => Ok(Self::Serve(false)),
                _ => Err(Error::malformed(format!("'{text}': '{value}' is neither on nor off"))
                    .expected("use on or off")),
            },
            SettingName::Metrics => value.parse().map(Self::Metrics),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_typed_as_it_is_shown() {
        for text in [
            "uplinks=auto",
            "uplinks=eth0",
            "uplinks=eth0,bond0.100",
            "xdp=off",
            "xdp=auto",
            "xdp=native",
            "max-connections=auto",
            "max-connections=1000",
            "serve=on",
            "serve=off",
            "metrics=auto",
            "metrics=off",
            "metrics=127.0.0.1:9191",
            "metrics=[::1]:9191",
        ] {
            let setting: Setting = text.parse().unwrap();
            assert_eq!(setting.to_string(), text);
            let mut all = Preferences::default();
            all.change(setting.clone());
            assert!(all.all().contains(&setting), "{text}");
        }
        assert_eq!("uplinks=a,a".parse::<Setting>().unwrap().value(), "a");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_an_example() {
        for text in [
            "",
            "uplinks",
            "uplinks=",
            "uplinks=a,,b",
            "uplinks=a/b",
            "xdp=on",
            "xdp=",
            "max-connections=7",
            "max-connections=many",
            "max-connections=99999999999",
            "serve=yes",
            "metrics=",
            "metrics=on",
            "metrics=9191",
            "metrics=localhost:9191",
            "metrics=127.0.0.1",
            "metrics=127.0.0.1:0",
            "metrics=0.0.0.0:9191",
            "metrics=[::]:9191",
            "metrics=192.0.2.1:9191",
            "metrics=[::ffff:127.0.0.1]:9191",
            "colour=red",
            "=1",
        ] {
            let error = text.parse::<Setting>().expect_err(text);
            assert!(matches!(error, Error::Malformed { .. }), "{text}");
        }
    }
}
