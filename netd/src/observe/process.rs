//! Processes, namespaces and the kernel of the machine.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::error::{Doing as _, Error, Result};
use crate::model::Process;
use crate::netns::Netns;

/// The kernel's release, as `uname -r` prints it.
pub(crate) fn kernel_release() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .doing(|| "read /proc/sys/kernel/osrelease".into())?;
    Ok(release.trim().to_owned())
}

/// When a process started, if it exists and is no zombie.
fn start_of(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    (stat.state != 'Z').then_some(stat.starttime)
}

/// This process.
pub fn this_process() -> Result<Process> {
    let pid = nix::unistd::getpid().as_raw();
    let start = start_of(pid)
        .ok_or_else(|| Error::system("read /proc/self/stat", "the process does not show itself"))?;
    Ok(Process { pid, start })
}

/// Whether a process is still the recorded one.
pub(crate) fn is_alive(process: Process) -> bool {
    start_of(process.pid) == Some(process.start)
}

/// The cookies of the namespaces that a process is in or that are mounted somewhere.
pub(crate) fn present_cookies() -> Result<HashSet<u64>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir("/proc").doing(|| "read /proc".into())?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.parse::<i32>().is_ok()) {
            paths.push(entry.path().join("ns/net"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").doing(|| "read /proc/self/mounts".into())?;
    paths.extend(
        mounts
            .lines()
            .filter(|line| line.starts_with("nsfs "))
            .filter_map(|line| line.split(' ').nth(1).map(PathBuf::from)),
    );
    let mut seen = HashSet::new();
    let mut cookies = HashSet::new();
    for path in paths {
        let Ok(inode) = fs::metadata(&path).map(|metadata| metadata.ino()) else { continue };
        if !seen.insert(inode) {
            continue;
        }
        // It may be a namespace of another kind, or the process may have ended.
        let Ok(netns) = Netns::open(&path) else { continue };
        cookies.insert(netns.cookie()?);
    }
    Ok(cookies)
}
