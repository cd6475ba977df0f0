//! Compiles the BPF programs (netd-ebpf), and hands the object and its SHA-256 to `dataplane::object`, which embeds them. The
//! benchmark's programs (tests/ebpf) are compiled along, since most of the time goes into their common libraries.
//!
//! Cargo has no stable way to depend on another crate's binary for another target, so this calls the BPF side's own
//! cargo. aya-build does the same, but takes the compiler's bootstrap switch and the linker's place from the
//! environment of the whole build; setting them here keeps them away from the host's crates.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest as _, Sha256};

const PROGRAMS: &str = "netd-dataplane";
const LOAD: &str = "netd-load";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    for source in ["Cargo.toml", "Cargo.lock", "netd-common", "netd-ebpf", "tests/ebpf"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    for setting in ["NETD_BPF_TOOLCHAIN", "NETD_TOOLS", "HOME"] {
        println!("cargo::rerun-if-env-changed={setting}");
    }
    let toolchain = env::var("NETD_BPF_TOOLCHAIN")?;
    let tools = PathBuf::from(env::var("HOME")?).join(env::var("NETD_TOOLS")?).join("bin");
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(tools).chain(env::split_paths(&path)))?;
    let target_dir = PathBuf::from(env::var("OUT_DIR")?).join("bpf");

    let mut cargo = Command::new("rustup");
    cargo
        .args(["run", &toolchain, "cargo", "build", "--release", "--package", "netd-ebpf"])
        .args(["--package", "netd-load", "--bins"])
        .args(["--target", target, "-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .args(env::var_os("CARGO_FEATURE_OTHER_LAYOUT").map(|_set| "--features=netd-ebpf/other-layout"))
        .current_dir(&root)
        .env("PATH", path)
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            // v3 is what kernel 5.12 and newer run; the linker's default could follow LLVM to a later set.
            [
                "-Cdebuginfo=2",
                "-Ctarget-cpu=v3",
                "-Clink-arg=--btf",
                "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
                "-Clink-arg=--disable-expand-memcpy-in-order",
            ]
            .join("\x1f"),
        );
    for inherited in
        ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO"]
    {
        cargo.env_remove(inherited);
    }
    let hint = "run `cargo xtask setup` once: it installs the BPF toolchain";
    let status =
        cargo.status().map_err(|why| format!("cannot start rustup for the BPF programs: {why}; {hint}"))?;
    if !status.success() {
        return Err(format!(
            "the BPF programs did not build ({status}); if their toolchain is missing, {hint}"
        )
        .into());
    }
    let objects = target_dir.join(target).join("release");
    let programs = objects.join(PROGRAMS);
    let digest = format!("{:x}", Sha256::digest(fs::read(&programs)?));
    println!("cargo::rustc-env=NETD_DATAPLANE_OBJECT={}", programs.display());
    println!("cargo::rustc-env=NETD_DATAPLANE_DIGEST={digest}");
    println!("cargo::metadata=LOAD_OBJECT={}", objects.join(LOAD).display());
    Ok(())
}
