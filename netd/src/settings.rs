//! What a session and a transaction are told, and whether the machine can run netd.

use std::path::PathBuf;

use nix::unistd::Uid;

use crate::dataplane::{TcHook, has_bpf_fs};
use crate::error::{HostError, Result};
use crate::netns::Netns;
use crate::observe::kernel_release;

/// The oldest kernel that netd works on.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// Which instance is meant, and what netd can do here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The host: the network namespace that netd serves.
    pub host: Netns,
    /// The state folder.
    pub state_dir: PathBuf,
    /// The folder of what detached runs write. Each instance has a folder of its own in it.
    pub log_dir: PathBuf,
    /// How TC programs are attached.
    pub tc: TcHook,
    /// Whether mounts that this process makes end with it, since it has a mount namespace of its own. netd then needs a BPF file
    /// system that is there already.
    pub private_mounts: bool,
}

/// Fails if netd cannot run here; asked before anything is touched.
pub(crate) fn check_machine(settings: &Settings) -> Result<()> {
    if !Uid::effective().is_root() {
        return Err(HostError::NotRoot.into());
    }
    let release = kernel_release()?;
    if version(&release) < OLDEST_KERNEL {
        return Err(HostError::OldKernel { release, oldest: OLDEST_KERNEL }.into());
    }
    if settings.private_mounts && !has_bpf_fs()? {
        return Err(HostError::PrivateMounts.into());
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
