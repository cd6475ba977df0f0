//! Network sysctls below /proc/sys/net, which shows those of the thread's namespace.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Result};
use crate::netns::Netns;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// net.ipv4
    V4,
    /// net.ipv6
    V6,
}

impl Family {
    /// The folder of its sysctls.
    fn folder(self) -> PathBuf {
        Path::new("/proc/sys/net").join(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}

/// A sysctl of one interface, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    path: PathBuf,
}

impl Sysctl {
    /// `net.ipv4.conf.INTERFACE.NAME`, or the same of IPv6.
    pub(crate) fn interface(family: Family, interface: &str, name: &str) -> Self {
        Self { path: family.folder().join("conf").join(interface).join(name) }
    }

    /// `net.ipv4.NAME`, or the same of IPv6.
    pub(crate) fn global(family: Family, name: &str) -> Self {
        Self { path: family.folder().join(name) }
    }

    /// Whether it exists and has this value, in `netns`.
    pub(crate) fn is(&self, netns: &Netns, value: &str) -> Result<bool> {
        Ok(netns.run(|| self.exists())? && self.get(netns)? == value)
    }

    /// Turns IPv6 of an interface on or off, in `netns`. On means: the addresses that netd adds and the link-local one
    /// are usable at once, and router advertisements are ignored.
    pub(crate) fn set_ipv6(interface: &str, netns: &Netns, on: bool) -> Result<()> {
        let disable = Self::interface(Family::V6, interface, "disable_ipv6");
        if !on && !netns.run(|| disable.exists())? {
            return Ok(());
        }
        if on {
            Self::interface(Family::V6, interface, "accept_ra").set(netns, "0")?;
            Self::interface(Family::V6, interface, "accept_dad").set(netns, "0")?;
            // The link-local address is derived from the MAC address, so that the source guard knows it.
            Self::interface(Family::V6, interface, "addr_gen_mode").set(netns, "0")?;
        }
        disable.set(netns, if on { "0" } else { "1" })
    }

    /// Whether this kernel has it; a host without IPv6 has no IPv6 sysctls.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Its value, in `netns`.
    pub(crate) fn get(&self, netns: &Netns) -> Result<String> {
        let text = netns
            .run(|| fs::read_to_string(&self.path))?
            .doing(|| format!("read {}", self.path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Sets it, in `netns`.
    pub(crate) fn set(&self, netns: &Netns, value: &str) -> Result<()> {
        netns
            .run(|| fs::write(&self.path, value))?
            .doing(|| format!("set {} to {value}", self.path.display()))
    }
}
