//! Removal works although nothing can be written, and only root gets at what is there.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::Command;

use netd_tests::lab::Lab;
use netd_tests::netns::sandbox;

/// A small file system for a folder of a lab.
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// For its state.
    fn of(lab: &Lab) -> Self {
        Self::at(lab.state_dir())
    }

    /// For what is to be at this path.
    pub(crate) fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        let disk = Self { path };
        disk.mount(&["-t", "tmpfs", "-o", "size=256k", "netd-test"]);
        disk
    }

    #[track_caller]
    fn mount(&self, words: &[&str]) {
        assert!(Command::new("mount").args(words).arg(&self.path).status().unwrap().success(), "{words:?}");
    }

    /// Gives the room back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.path.join("ballast")).unwrap();
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        let mut file = fs::File::create(self.path.join("ballast")).unwrap();
        for size in [4096, 64, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(&self.path).output();
    }
}

#[test]
fn everything_can_be_removed_on_a_full_disk() {
    let lab = Lab::new();
    let disk = Disk::of(&lab);
    let web = lab.container("web", &["-p", "8080:80", "-p", "8081:81"]);
    let db = lab.container("db", &[]);
    lab.netd(&["network", "create", "lab"]).ok();
    disk.fill();
    lab.netd(&["container", "add", &lab.name("new")]).fails(1, "No space left");
    assert!(!sandbox(&lab.name("new")).exists());
    lab.netd(&["unpublish", "8081"]).ok();
    lab.netd(&["network", "rm", "lab"]).ok();
    lab.netd(&["container", "rm", &web]).ok();
    assert!(!sandbox(&web).exists());
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json(), serde_json::json!([]));
    let left = lab.netd(&["--json", "container", "ls"]).ok().json();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    lab.netd(&["check"]).ok();
    lab.netd(&["down"]).ok();
    assert!(!sandbox(&db).exists());
}

#[test]
fn what_is_removed_on_a_read_only_disk_is_gone_although_the_record_stays() {
    let lab = Lab::new();
    let disk = Disk::of(&lab);
    let web = lab.container("web", &["-p", "8080:80"]);
    disk.mount(&["-o", "remount,ro"]);
    lab.netd(&["container", "rm", &web]).fails(1, "Read-only file system");
    assert!(!sandbox(&web).exists());
    disk.mount(&["-o", "remount,rw"]);
    lab.netd(&["container", "rm", &web]).ok();
    lab.netd(&["check"]).ok();
}

#[test]
fn nobody_but_root_can_hold_a_lock_or_read_the_state() {
    let lab = Lab::new();
    lab.container("web", &["-p", "8080:80"]);
    let folder = fs::read_dir(lab.state_dir()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    let mut seen = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
        seen.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["lock", "publications", "state.json"]);
    // Pins as well: whoever could remove one could take a program off.
    let pins = lab.pins();
    assert_eq!(fs::metadata(pins.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
}

/// The user nobody.
const NOBODY: u32 = 65_534;

#[test]
fn nobody_leads_netd_to_other_files() {
    let lab = Lab::new();
    // A folder in which another user may make what netd is about to make.
    let (state_dir, victim) = (lab.state_dir(), lab.folder.path().join("victim"));
    fs::create_dir(&state_dir).unwrap();
    fs::create_dir(&victim).unwrap();
    chown(&state_dir, Some(NOBODY), None).unwrap();
    let cookie = lab.netd(&["--json", "status"]).ok().json()["instance"].as_str().unwrap().to_owned();
    let folder = state_dir.join(cookie.split('-').next().unwrap());
    let add = || lab.netd(&["container", "add", &lab.name("web")]);
    symlink(&victim, &folder).unwrap();
    add().fails(1, "another user owns it");
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(NOBODY), None).unwrap();
    add().fails(1, "another user owns it");
    fs::remove_dir(&folder).unwrap();
    // The name of the namespace.
    let (path, target) = (sandbox(&lab.name("web")), lab.folder.path().join("target"));
    symlink(&target, &path).unwrap();
    let said = add();
    fs::remove_file(&path).unwrap();
    said.fails(1, "already exists");
    assert!(!target.exists() && fs::read_dir(&victim).unwrap().next().is_none());
    add().ok();
}

#[test]
fn a_chosen_uplink_that_is_gone_keeps_nobody_from_removing() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    lab.host.ip("link add up2 type veth peer name far2");
    lab.netd(&["set", "uplinks=up0,up2"]).ok();
    lab.host.ip("link delete up2");
    let said = lab.netd(&["--json", "check"]).json();
    assert_eq!(said[0]["kind"], "uplink_gone");
    lab.netd(&["publish", "8081:81", &web]).ok();
    lab.netd(&["unpublish", "8080"]).ok();
    lab.netd(&["container", "rm", &web]).ok();
    lab.netd(&["sync"]).ok();
}

#[test]
fn a_command_in_a_private_mount_namespace_is_refused_before_it_touches_anything() {
    let lab = Lab::new();
    let netd = netd_tests::netd_binary();
    let words =
        ["--state-dir", lab.state_dir().to_str().unwrap(), "network", "create", "n"].map(str::to_owned);
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.host.name]).arg(netd).args(words);
    let output = command.env("NETD_NO_SERVE", "1").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("nsenter --net"), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
    assert!(!lab.state_dir().exists());
}

#[test]
fn down_without_readable_records_removes_what_is_provably_netds_and_says_what_may_be_left() {
    let lab = Lab::new();
    lab.host.ip("link add theirs type bridge");
    lab.host.ip("address add 10.9.0.1/24 dev theirs");
    lab.host.ip("link set theirs up");
    lab.netd(&["network", "create", "adopted", "--adopt", "theirs"]).ok();
    let web = lab.container("web", &["-p", "8080:80"]);
    let shown = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
    let veth = shown["host_interface"].as_str().unwrap().to_owned();
    let (folder, pins) = (fs::read_dir(lab.state_dir()).unwrap().next().unwrap().unwrap().path(), lab.pins());
    fs::write(folder.join("state.json"), "{").unwrap();
    let said = lab.netd(&["down"]).fails(1, "namespaces of containers may be left");
    assert!(said.stderr.contains("state.json.unreadable"), "{}", said.stderr);
    for gone in [veth.as_str(), "netd0"] {
        assert!(!lab.host.try_sh(&format!("ip link show {gone}")).status.success(), "{gone}");
    }
    assert!(lab.host.try_sh("ip link show theirs").status.success());
    assert!(!pins.exists());
    assert!(folder.join("state.json.unreadable").exists());
    // The next commands begin anew.
    lab.netd(&["status"]).ok();
    std::process::Command::new("ip").args(["netns", "delete", &web]).status().unwrap();
    lab.container("web", &["-p", "8080:80"]);
    lab.netd(&["down"]).ok();
    assert!(!lab.state_dir().exists());
}
