//! The dependencies: licences, sources, duplicates, and known vulnerabilities.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::build::root;
use crate::setup;
use crate::shell::{run, say};

/// Checks the dependencies. Fails on any finding; says so if the advisories cannot be had.
pub(crate) fn audit() -> Result<()> {
    let program = setup::cargo_deny()?;
    let deny = |level: &str| {
        let mut command = Command::new(&program);
        command.arg("--manifest-path").arg(root().join("Cargo.toml"));
        command.arg("--config").arg(root().join("xtask/deny.toml")).args(["--log-level", level]);
        command
    };
    say("licences, sources, duplicates");
    run(deny("warn").args(["check", "--hide-inclusion-graph", "licenses", "sources", "bans"]))?;
    let fetched =
        deny("off").args(["fetch", "db"]).stderr(Stdio::null()).status().context("start cargo-deny")?;
    if !fetched.success() {
        say("not run: advisories and yanked versions; the RustSec database cannot be had from here");
        return Ok(());
    }
    say("advisories, yanked versions");
    run(deny("warn").args(["check", "--hide-inclusion-graph", "advisories"]))
}
