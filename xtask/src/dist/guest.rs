//! A clean Debian with systemd as its first process, in namespaces of this machine: mounts, processes, network, cgroups. What is
//! installed there is in memory and gone at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::setup;
use crate::shell::{run, say};

const RELEASE: &str = "bookworm";
/// What a server of Debian has, and the programs of the check.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,iperf3,procps,socat";
/// How long anything is waited for. The machine may be busy.
const PATIENCE: Duration = Duration::from_mins(2);

/// Makes the file system and starts systemd. Nothing of the machine can be changed from there: kernel settings that have no
/// namespace are read-only, and so is the folder below the overlay.
const BOOT: &str = r"set -e
lower=$1 place=$2
mount -t tmpfs netd-dist $place
cd $place
mkdir upper work root
mount -t overlay overlay -o lowerdir=$lower,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do : > dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 run run
for unit in systemd-sysctl systemd-udevd; do ln -s /dev/null etc/systemd/system/$unit.service; done
hostname netd-dist
pivot_root . mnt
cd /
umount -l /mnt
exec env -i container=netd PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=null --show-status=0
";

/// The running system. Ended when dropped, with all of its processes.
pub(super) struct Guest {
    unshare: Child,
    /// The number of its first process on this machine.
    init: String,
    cgroup: PathBuf,
    place: PathBuf,
}

impl Guest {
    /// Starts it and waits until systemd has started everything.
    pub(super) fn boot() -> Result<Self> {
        let lower = debian()?;
        let id = format!("netd-dist-{}", std::process::id());
        let (cgroup, place) = (cgroup_root()?.join(&id), std::env::temp_dir().join(&id));
        fs::create_dir(&cgroup).with_context(|| format!("create {}", cgroup.display()))?;
        fs::create_dir(&place).with_context(|| format!("create {}", place.display()))?;
        say(&format!("booting Debian {RELEASE} in namespaces"));
        // The cgroup becomes the root of the guest's cgroup namespace.
        let enter = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
        let unshare = Command::new("sh")
            .args(["-c", enter])
            .arg(&cgroup)
            .args(["unshare", "--mount", "--propagation=private", "--pid", "--net", "--uts", "--ipc"])
            .args(["--cgroup", "--fork", "--kill-child", "sh", "-c", BOOT, "boot"])
            .args([&lower, &place])
            .stdin(Stdio::null())
            .spawn()
            .context("start unshare")?;
        let mut guest = Self { unshare, init: String::new(), cgroup, place };
        guest.wait_for_start()?;
        Ok(guest)
    }

    fn wait_for_start(&mut self) -> Result<()> {
        let id = self.unshare.id();
        wait_for("the guest's first process", || {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            children.trim().clone_into(&mut self.init);
            Ok(!self.init.is_empty())
        })?;
        wait_for("the guest's systemd", || {
            if let Some(status) = self.unshare.try_wait()? {
                bail!("the guest did not start: {status}");
            }
            let said = self.command("systemctl is-system-running").output()?;
            let state = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            if state == "degraded" {
                bail!("a service of the guest failed:\n{}", self.sh("systemctl --failed --no-pager")?);
            }
            Ok(state == "running")
        })
    }

    /// A shell command in the guest.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        let spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"];
        command.args(["--target", &self.init]).args(spaces);
        command.args([
            "env",
            "-i",
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND=noninteractive",
        ]);
        command.args(["sh", "-c", line]).stdin(Stdio::null());
        command
    }

    /// Runs a shell command in the guest and returns what it prints. Fails if it fails.
    pub(super) fn sh(&self, line: &str) -> Result<String> {
        let Output { status, stdout, stderr } =
            self.command(line).output().with_context(|| format!("start {line}"))?;
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        if !status.success() {
            bail!("{line}: {status}\n{stdout}{stderr}");
        }
        Ok(stdout.trim().to_owned())
    }

    /// Waits until a shell command in the guest succeeds.
    pub(super) fn until(&self, line: &str) -> Result<()> {
        wait_for(line, || Ok(self.command(line).output()?.status.success()))
    }

    /// Copies a file into the guest.
    pub(super) fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let to = Path::new("/proc").join(&self.init).join("root").join(to.trim_start_matches('/'));
        fs::copy(from, &to).with_context(|| format!("copy {} to the guest", from.display()))?;
        Ok(())
    }
}

impl Drop for Guest {
    /// A failure here would hide the one of the check.
    fn drop(&mut self) {
        // The guest's first process ends with unshare, and all others with that one.
        let _ended = self.unshare.kill();
        let _reaped = self.unshare.wait();
        let _gone = wait_for("the end of the guest", || {
            remove_cgroups(&self.cgroup);
            Ok(!self.cgroup.exists())
        });
        let _removed = fs::remove_dir(&self.place);
    }
}

/// Removes a cgroup and those below it, as far as they are empty.
fn remove_cgroups(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _in_use = fs::remove_dir(folder);
}

/// Waits until a condition holds.
pub(super) fn wait_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        if Instant::now() > deadline {
            bail!("waited in vain for: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Where cgroup v2 is mounted.
fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found =
        fields.find(|fields| fields.get(2) == Some(&"cgroup2")).and_then(|fields| fields.get(1).copied());
    Ok(PathBuf::from(found.context("no cgroup v2 is mounted")?))
}

/// A clean Debian, downloaded once.
fn debian() -> Result<PathBuf> {
    let place = setup::cache()?.join(format!("debian-{RELEASE}"));
    let list = place.with_extension("packages");
    if place.exists() && fs::read_to_string(&list).is_ok_and(|text| text == PACKAGES) {
        return Ok(place);
    }
    say(&format!("downloading Debian {RELEASE} (about two minutes)"));
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
    }
    fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    // Its /dev is replaced at each start.
    run(Command::new("mmdebstrap")
        .args([
            "--quiet",
            "--variant=minbase",
            "--skip=output/dev",
            &format!("--include={PACKAGES}"),
            RELEASE,
        ])
        .arg(&place))?;
    fs::write(&list, PACKAGES).with_context(|| format!("write {}", list.display()))?;
    Ok(place)
}
