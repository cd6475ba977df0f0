//! Builds netd with the BPF programs inside.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::setup;
use crate::shell::{cargo, output_of, run, say};

/// Builds netd.
pub(crate) fn build(release: bool) -> Result<()> {
    setup::toolchain()?;
    let mut command = cargo();
    command.args(["build", "--package", "netd"]);
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    say(&format!("built {}", binary(release).display()));
    Ok(())
}

/// Builds a netd whose programs have rows of another form, for the test that replaces programs. Returns where it is.
pub(crate) fn other_layout() -> Result<PathBuf> {
    let folder = target().join("other-layout");
    run(cargo()
        .args(["build", "--package", "netd", "--features", "other-layout", "--target-dir"])
        .arg(&folder))?;
    Ok(folder.join("debug/netd"))
}

/// What the compiler compiles for on this machine.
pub(crate) fn triple() -> Result<String> {
    output_of(Command::new("rustc").arg("-vV"))
        .and_then(|said| said.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned)))
        .context("rustc does not say what it compiles for")
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where the binary is.
pub(crate) fn binary(release: bool) -> PathBuf {
    target().join(if release { "release" } else { "debug" }).join("netd")
}

/// The top folder of the repository, found by the folder of this package.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}
