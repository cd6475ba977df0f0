//! The BPF file system, which holds the pins. netd mounts it if it is missing, and unmounts it again if netd mounted
//! it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Doing as _, Error, Lack, Result};
use crate::private;

const BPFFS: &str = "/sys/fs/bpf";
/// The source of the mount. The kernel accepts any text here; this one shows later that netd mounted it.
const SOURCE: &str = "netd";

/// The lock of all instances, there only while somebody holds it.
const LOCK: &str = "/run/netd.lock";

/// Held while pins are made or removed: one instance must not unmount what another has just mounted.
#[derive(Debug)]
pub(super) struct Lock(Option<File>);

impl Drop for Lock {
    fn drop(&mut self) {
        if self.0.is_some() {
            // Whoever waits for it makes the file again.
            let _absent = fs::remove_file(LOCK);
        }
    }
}

/// Takes the lock. Without room for it, removal goes on all the same.
pub(super) fn lock() -> Result<Lock> {
    match private::lock(Path::new(LOCK)) {
        Ok(file) => Ok(Lock(Some(file))),
        Err(error @ Error::State(_)) => Err(error),
        Err(error) => {
            tracing::warn!("{}; going on without it", error.chain());
            Ok(Lock(None))
        }
    }
}

/// The folder that holds every instance's pins; mounts the BPF file system if it is missing. Anybody may make folders in one that
/// was mounted without a mode.
pub(super) fn ensure() -> Result<PathBuf> {
    if !is_mounted(None)? {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(SOURCE), BPFFS, Some("bpf"), flags, Some("mode=700")).map_err(|errno| {
            Error::system(format!("mount the BPF file system on {BPFFS}"), errno).lacks(Lack::BpfFs)
        })?;
    }
    let root = root();
    private::create_folder(&root)?;
    Ok(root)
}

/// Whether the BPF file system is there.
pub(crate) fn has_bpf_fs() -> Result<bool> {
    is_mounted(None)
}

/// The folder that holds every instance's pins, mounted or not.
pub(super) fn root() -> PathBuf {
    Path::new(BPFFS).join("netd")
}

/// Removes the common folder if no instance has pins, and unmounts the file system if netd mounted it and nobody uses
/// it.
pub(super) fn leave() -> Result<()> {
    // Fails if another instance has pins; then the folder stays.
    let _in_use = fs::remove_dir(root());
    if !is_mounted(Some(SOURCE))? || is_used()? {
        return Ok(());
    }
    match umount2(BPFFS, MntFlags::empty()) {
        Ok(()) | Err(Errno::EBUSY | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(Error::system(format!("unmount {BPFFS}"), errno)),
    }
}

/// Whether any pins exist, netd's or others. The kernel's own two files do not count (kernel/bpf/preload).
fn is_used() -> Result<bool> {
    let entries = fs::read_dir(BPFFS).doing(|| format!("read {BPFFS}"))?;
    Ok(entries.flatten().any(|entry| entry.file_name() != "maps.debug" && entry.file_name() != "progs.debug"))
}

/// Whether a BPF file system is mounted at its usual path, with this `source` if it is given.
fn is_mounted(source: Option<&str>) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mounts").doing(|| "read /proc/self/mounts".into())?;
    Ok(mounts.lines().any(|line| {
        let mut fields = line.split(' ');
        let from = fields.next();
        fields.next() == Some(BPFFS)
            && fields.next() == Some("bpf")
            && source.is_none_or(|source| from == Some(source))
    }))
}
