//! The descriptors of a process: none may leak into the programs that it starts.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The flag in /proc/PID/fdinfo, octal like all of them there (include/uapi/asm-generic/fcntl.h).
const CLOEXEC: u32 = 0o2_000_000;

/// The descriptors above standard error that a program started by this process would inherit, with their targets.
/// Descriptors that the process itself inherited from its parent do not count.
pub fn leaking(process: u32) -> Vec<String> {
    let own = PathBuf::from(format!("/proc/{process}"));
    let given = PathBuf::from(format!("/proc/{}", parent(&own)));
    let entries = fs::read_dir(own.join("fd")).expect("read a process's descriptors");
    let names = entries.map(|entry| entry.expect("a descriptor").file_name());
    let numbers = names.map(|name| name.to_str().and_then(|name| name.parse().ok()).expect("a number"));
    let mut leaking = Vec::new();
    for number in numbers.filter(|number: &u32| *number > 2) {
        // None: closed since it was listed.
        let Some(target) = target(&own, number) else { continue };
        if !is_close_on_exec(&own, number) && self::target(&given, number).as_ref() != Some(&target) {
            leaking.push(format!("{number} -> {}", target.display()));
        }
    }
    leaking
}

fn parent(process: &Path) -> u32 {
    let status = fs::read_to_string(process.join("status")).expect("read a process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    line.trim().parse().expect("a number")
}

fn is_close_on_exec(process: &Path, number: u32) -> bool {
    match fs::read_to_string(process.join("fdinfo").join(number.to_string())) {
        Ok(text) => {
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
            u32::from_str_radix(flags.trim(), 8).expect("an octal number") & CLOEXEC != 0
        }
        // Closed since it was listed.
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => panic!("read the flags of descriptor {number}: {error}"),
    }
}

fn target(process: &Path, number: u32) -> Option<PathBuf> {
    fs::read_link(process.join("fd").join(number.to_string())).ok()
}
