//! Format, lints and documentation, warnings denied.

use std::process::Command;

use anyhow::Result;

use crate::shell::{cargo, output_of, run, say};
use crate::{setup, tidy};

/// Checks format, lints and documentation.
pub(crate) fn lint() -> Result<()> {
    setup::toolchain()?;
    setup::fuzz_tools()?;
    tidy::tidy()?;
    say("format");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    say("clippy, host side");
    let host_side =
        ["netd", "netd-common", "netd-fuzz", "netd-tests", "xtask"].map(|name| format!("--package={name}"));
    run(cargo().args(["clippy", "--quiet", "--all-targets"]).args(host_side).args(["--", "-D", "warnings"]))?;
    say("clippy, BPF side");
    let toolchain = std::env::var("NETD_BPF_TOOLCHAIN")?;
    let bpf_side = |verb: &str| {
        let mut command = Command::new("rustup");
        command
            .args(["run", &toolchain, "cargo", verb, "--quiet", "--release", "--package", "netd-ebpf"])
            .args(["--package", "netd-load"])
            .args([
                "--target",
                "bpfel-unknown-none",
                "-Z",
                "build-std=core",
                "--target-dir",
                "target/bpf-lint",
            ])
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO");
        command
    };
    if output_of(Command::new("rustup").args(["run", &toolchain, "cargo-clippy", "--version"])).is_some() {
        run(bpf_side("clippy").args(["--", "-D", "warnings"]))?;
    } else {
        say(&format!(
            "not run: toolchain {toolchain} has no clippy; the compiler's own warnings are denied instead"
        ));
        run(bpf_side("check").env("RUSTFLAGS", "-D warnings"))?;
    }
    say("documentation");
    run(cargo()
        .args([
            "doc",
            "--quiet",
            "--no-deps",
            "--document-private-items",
            "--package",
            "netd",
            "--package",
            "netd-common",
        ])
        .env("RUSTDOCFLAGS", "-D warnings"))
}
