//! Fuzzing: coverage-guided inputs for the targets of the `fuzz` crate.
//!
//! This is libFuzzer as cargo-fuzz uses it, but on the stable compiler: the coverage that it needs is a pass of LLVM.
//! There is no address sanitizer, because the parsers have no `unsafe` code.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, root};
use crate::setup;
use crate::shell::{cargo, run, say};

/// Options for coverage (the same as cargo-fuzz's).
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// The longest input. netd reads no more of a packet, and other inputs are short.
const MAX_LEN: &str = "-max_len=4096";
/// An input that takes longer than this is a failure. Seconds.
const TIMEOUT: &str = "-timeout=10";

/// Runs the targets with these names, or all, for `seconds` each, one per CPU at a time.
pub(crate) fn fuzz(seconds: u32, wanted: &[String]) -> Result<()> {
    setup::toolchain()?;
    setup::fuzz_tools()?;
    let known = targets()?;
    if let Some(stranger) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target '{stranger}'; there are {}", known.join(", "));
    }
    let targets = if wanted.is_empty() { &known } else { wanted };
    let binaries = build()?;
    let waiting = Mutex::new(targets.iter().collect::<VecDeque<_>>());
    let findings = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from).min(targets.len());
    thread::scope(|scope| {
        for _worker in 0..workers {
            scope.spawn(|| {
                let next = || waiting.lock().ok()?.pop_front();
                while let Some(target) = next() {
                    if let Err(finding) = run_target(&binaries, target, seconds)
                        && let Ok(mut findings) = findings.lock()
                    {
                        findings.push(format!("{finding:#}"));
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().unwrap_or_default();
    if findings.is_empty() { Ok(()) } else { bail!("{}", findings.join("\n")) }
}

/// The names of the targets.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .with_context(|| format!("read {}", folder.display()))?
        .flatten()
        .filter_map(|entry| entry.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Builds the targets and returns the folder that they are in.
fn build() -> Result<PathBuf> {
    let host = build::triple()?;
    let folder = folder();
    // With --target, even the host's own, the flags do not apply to build scripts and procedural macros.
    run(cargo()
        .args(["build", "--quiet", "--package", "netd-fuzz", "--bins", "--profile", "fuzz"])
        .args(["--target", &host, "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f")))?;
    Ok(folder.join(host).join("fuzz"))
}

/// The folder for binaries and for the inputs that were found.
fn folder() -> PathBuf {
    build::target().join("fuzz")
}

/// Runs one target. Inputs that reach new code are kept for the next run; an input that fails is kept and reported.
fn run_target(binaries: &Path, target: &str, seconds: u32) -> Result<()> {
    let found = folder().join("corpus").join(target);
    let broken = folder().join("broken").join(target);
    for folder in [&found, &broken] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let log = folder().join(format!("{target}.log"));
    let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let status = Command::new(binaries.join(target))
        .args([MAX_LEN, TIMEOUT, "-print_final_stats=1", &format!("-max_total_time={seconds}")])
        .arg(format!("-artifact_prefix={}/", broken.display()))
        .arg(&found)
        .arg(root().join("fuzz/corpus").join(target))
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("start {target}"))?;
    let said = fs::read(&log).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default();
    if !status.success() {
        let why = said.lines().skip_while(|line| !line.contains("panicked at")).take(6).collect::<Vec<_>>();
        bail!("fuzz target {target}: {status}; {}\n{}", log.display(), why.join("\n"));
    }
    let count = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    say(&format!("fuzz {target}: {} inputs, no law broken", count.unwrap_or("?").trim()));
    Ok(())
}
