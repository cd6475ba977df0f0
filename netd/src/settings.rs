//! What a session and a transaction are told, and whether the machine can run netd.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use netd_common::abi::capacity;
use nix::unistd::Uid;

use crate::dataplane::TcHook;
use crate::error::{HostError, Result};
use crate::model::{IfName, XdpMode};
use crate::netns::Netns;
use crate::observe::kernel_release;

/// The oldest kernel that netd works on.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// Which instance is meant, and how it is to be set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The host: the network namespace that netd serves.
    pub host: Netns,
    /// The state folder.
    pub state_dir: PathBuf,
    /// The uplinks that the user chose; all interfaces that hold routes if empty.
    pub uplinks: Vec<IfName>,
    /// How many connections the flow tables are made for, which is fixed at first use; the default if none.
    pub max_connections: Option<u32>,
    /// Which uplinks get the XDP program; as before if none.
    pub xdp: Option<XdpMode>,
    /// How TC programs are attached.
    pub tc: TcHook,
}

impl Settings {
    /// What [`Self::max_connections`] may be.
    pub const CONNECTIONS: RangeInclusive<u32> = capacity::FEWEST_CONNECTIONS..=capacity::MOST_CONNECTIONS;
}

/// Fails if the machine cannot run netd; asked before anything is touched.
pub(crate) fn check_machine() -> Result<()> {
    if !Uid::effective().is_root() {
        return Err(HostError::NotRoot.into());
    }
    let release = kernel_release()?;
    if version(&release) < OLDEST_KERNEL {
        return Err(HostError::OldKernel { release, oldest: OLDEST_KERNEL }.into());
    }
    Ok(())
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_two_numbers() {
        for (release, expected) in
            [("6.12.3-arch1", (6, 12)), ("5.15.0-97-generic", (5, 15)), ("6.1", (6, 1)), ("?", (0, 0))]
        {
            assert_eq!(version(release), expected);
        }
    }
}
