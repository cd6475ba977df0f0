//! Where metrics are served.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The value of a setting that stands for netd's own choice.
pub(super) const AUTO: &str = "auto";
/// What it is called if metrics are not served.
const OFF: &str = "off";

/// Where the follower serves metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricsEndpoint {
    /// At a Unix socket in the instance's folder.
    #[default]
    Auto,
    /// There, and at this address of a loopback interface of the host.
    Tcp(SocketAddr),
    /// Nowhere.
    Off,
}

impl MetricsEndpoint {
    /// The address of the host, if there is to be one.
    pub(crate) const fn tcp(self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Auto | Self::Off => None,
        }
    }

    /// Whether it is the default.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for MetricsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Tcp(address) => address.fmt(f),
            Self::Off => f.write_str(OFF),
        }
    }
}

impl FromStr for MetricsEndpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            AUTO => return Ok(Self::Auto),
            OFF => return Ok(Self::Off),
            _ => {}
        }
        let fault = |why: &str| {
            let message = format!("cannot serve metrics at '{text}': {why}");
            Error::malformed(message).expected("use for example 127.0.0.1:9191 or [::1]:9191, or auto or off")
        };
        let address: SocketAddr = text
            .parse()
            .map_err(|_other: std::net::AddrParseError| fault("it is not an address and a port"))?;
        // Whoever can connect can read them, so other hosts must not.
        if !address.ip().is_loopback() {
            return Err(fault("it is not a loopback address, so other hosts could read them"));
        }
        if address.port() == 0 { Err(fault("port 0 is none")) } else { Ok(Self::Tcp(address)) }
    }
}
