//! The project's own rules, which no compiler knows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::build::root;
use crate::say;

/// A word and the rooms that may speak it: prefixes of paths.
struct Rule {
    word: &'static str,
    rooms: &'static [&'static str],
    why: &'static str,
}

/// Where tests and tasks live, which may do what the product may not.
const OUTSIDE: [&str; 3] = ["fuzz/", "tests/", "xtask/"];

const RULES: [Rule; 10] = [
    Rule {
        word: "unsafe {",
        rooms: &["netd-ebpf/src/", "netd/src/netns.rs", "netd/src/dataplane/bpf.rs"],
        why: "unsafe has an address",
    },
    Rule {
        word: "unsafe impl",
        rooms: &["netd/src/dataplane/wire.rs", "netd-common/src/plain.rs"],
        why: "the promises about rows are made in one place on each side",
    },
    Rule { word: "aya::", rooms: &["netd/src/dataplane/"], why: "only the dataplane knows the BPF library" },
    Rule { word: "rtnetlink::", rooms: &["netd/src/link/"], why: "only link knows the netlink library" },
    Rule { word: "clap::", rooms: &["netd/src/bin/netd/"], why: "words stay at the door" },
    Rule { word: "setns(", rooms: &["netd/src/netns.rs"], why: "nobody lives in another namespace" },
    Rule { word: "println!", rooms: &["netd/build.rs"], why: "results leave by output.rs" },
    Rule { word: "to_be_bytes", rooms: &["netd-common/src/bytes.rs"], why: "byte order changes in one room" },
    Rule {
        word: "TC_ACT_",
        rooms: &["netd-ebpf/src/main.rs"],
        why: "a reason becomes an action in one place",
    },
    Rule { word: "process::exit", rooms: &[], why: "destructors run" },
];

/// Marks of unfinished work, spelled so that this file does not hold them.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Checks every source file and manifest.
pub(crate) fn tidy() -> Result<()> {
    let root = root();
    let mut files = Vec::new();
    for folder in ["fuzz", "netd", "netd-common", "netd-ebpf", "tests", "xtask"] {
        collect(&root.join(folder), &mut files)?;
    }
    let mut broken = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        broken.extend(check(&name, &text));
    }
    broken.extend(ledger(&root)?);
    if broken.is_empty() {
        say(&format!("tidy: {} files keep the house rules", files.len()));
        return Ok(());
    }
    bail!("house rules are broken:\n  {}", broken.join("\n  "))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") || path.ends_with("Cargo.toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// The rules that a file breaks.
fn check(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if name.ends_with("Cargo.toml") {
        if !text.contains("[lints]\nworkspace = true") {
            broken.push(format!("{name}: the workspace's lints are not inherited"));
        }
        return broken;
    }
    if !text.starts_with("//!") {
        broken.push(format!("{name}: the first line does not say what the file owns"));
    }
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        for mark in UNFINISHED {
            if line.contains(mark) {
                broken.push(format!("{name}:{number}: {mark}"));
            }
        }
        let code = line.split("//").next().unwrap_or_default();
        if OUTSIDE.iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        for rule in &RULES {
            if code.contains(rule.word) && !rule.rooms.iter().any(|room| name.starts_with(room)) {
                broken.push(format!("{name}:{number}: `{}` is not spoken here ({})", rule.word, rule.why));
            }
        }
    }
    broken
}

/// Where the tests that the ledger names may be: `module::test` is in a file of that name.
const TESTS: [&str; 3] = ["tests/it", "netd-common/tests", "netd-common/src"];

/// What is wrong with the ledger of RFCs: a test that does not exist, or a requirement that is kept without one.
fn ledger(root: &Path) -> Result<Vec<String>> {
    let path = root.join("docs/rfc-ledger.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let exists = |module: &str, test: &str| {
        TESTS.iter().any(|folder| {
            let file = root.join(folder).join(module).with_extension("rs");
            fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {test}(")))
        })
    };
    Ok(unproved(&text, exists))
}

/// The rows of a ledger that promise more than a test shows.
fn unproved(text: &str, exists: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, _, kept, _, tests, _] = cells[..] else { continue };
        let names: Vec<&str> = tests.split(['`', ' ', ',']).filter(|name| name.contains("::")).collect();
        let mut complain = |what: &str| broken.push(format!("docs/rfc-ledger.md:{}: {what}", number + 1));
        if names.is_empty() && matches!(kept, "yes" | "partly") {
            complain("kept, and no test shows it");
        }
        for (module, test) in names.iter().filter_map(|name| name.split_once("::")) {
            if !exists(module, test) {
                complain(&format!("there is no test {module}::{test}"));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_promises_a_test_shows() {
        let broken = |row: &str| unproved(row, |module, test| (module, test) == ("laws", "known")).len();
        assert_eq!(broken("| 1 | asks | yes | why | `laws::known` |"), 0);
        assert_eq!(broken("| 1 | asks | yes | why | `laws::unknown` |"), 1);
        assert_eq!(broken("| 1 | asks | partly | why | |"), 1);
        assert_eq!(broken("| 1 | asks | no | why | |"), 0);
        assert_eq!(broken("| 1 | asks | no | why | `laws::known`, `gone::known` |"), 1);
        assert_eq!(ledger(&root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_word_out_of_its_room_is_heard() {
        assert!(check("netd/src/engine/mod.rs", "//! x\nlet x = aya::Ebpf;\n").len() == 1);
        assert!(check("netd/src/dataplane/mod.rs", "//! x\nlet x = aya::Ebpf;\n").is_empty());
        assert!(check("netd/src/engine/mod.rs", "//! x\n// aya:: is elsewhere\n").is_empty());
        assert!(check("tests/src/lib.rs", "//! x\nlet x = aya::Ebpf;\n").is_empty());
        assert!(check("netd/src/engine/mod.rs", "fn x() {}\n").len() == 1);
        assert!(check("netd/Cargo.toml", "[package]\n").len() == 1);
    }
}
