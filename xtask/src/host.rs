//! The requirements of a machine: root and a new enough kernel.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::shell::output_of;

const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// Fails on a machine that cannot load the programs or make namespaces, and says what to do.
pub(crate) fn check() -> Result<()> {
    if output_of(std::process::Command::new("id").arg("-u")).is_none_or(|id| id.trim() != "0") {
        bail!("this needs root: it loads BPF programs and makes network namespaces; run it with sudo");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if kernel < OLDEST_KERNEL {
        bail!(
            "kernel {} is too old: netd needs {}.{} or newer",
            release.trim(),
            OLDEST_KERNEL.0,
            OLDEST_KERNEL.1
        );
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        bail!(
            "the kernel has no BTF (/sys/kernel/btf/vmlinux): use one built with CONFIG_DEBUG_INFO_BTF, as Debian's are"
        );
    }
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if !mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2")) {
        bail!(
            "no cgroup v2 is mounted: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
        );
    }
    Ok(())
}
