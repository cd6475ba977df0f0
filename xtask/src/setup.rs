//! The BPF toolchain and the test tools. Installs those that are missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{cargo, output_of, run, say};

/// bpf-linker's version. Its major version follows LLVM's.
const BPF_LINKER: &str = "0.13.0";
/// Debian's compiler and the sources of its standard library. Debian updates both in its stable releases.
const COMPILER_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];
/// Programs that the demo and the tests run, each with its Debian package.
const TOOLS: [(&str, &str); 17] = [
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("nginx", "nginx-light"),
    ("curl", "curl"),
    ("iperf3", "iperf3"),
    ("traceroute", "traceroute"),
    ("dnsmasq", "dnsmasq-base"),
    ("dig", "bind9-dnsutils"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("tcpdump", "tcpdump"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ping", "iputils-ping"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("cc", "gcc"),
];

/// The same for the guests of `cargo xtask vm`.
const GUEST_TOOLS: [(&str, &str); 10] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("modprobe", "kmod"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("traceroute", "traceroute"),
    ("timeout", "coreutils"),
];

/// The same for the benchmark.
const BENCH_TOOLS: [(&str, &str); 10] = [
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("iperf3", "iperf3"),
    ("docker-proxy", "docker.io"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ss", "iproute2"),
    ("taskset", "util-linux"),
    ("chrt", "util-linux"),
];

/// The same for `cargo xtask dist`, and for its check.
const DIST_TOOLS: [(&str, &str); 3] = [("cc", "gcc"), ("ldd", "libc-bin"), ("tar", "tar")];
const GUEST_SYSTEM_TOOLS: [(&str, &str); 3] =
    [("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"), ("nsenter", "util-linux")];
/// The tools of the release and of the audit, from crates.io.
const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");
const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");

/// The compiler for libFuzzer.
const FUZZ_TOOLS: [(&str, &str); 1] = [("c++", "g++")];

/// Installs the toolchain and the tools.
pub(crate) fn everything() -> Result<()> {
    toolchain()?;
    tools(&TOOLS)?;
    say("setup: everything is there");
    Ok(())
}

/// Installs the compiler and the linker of the BPF programs.
pub(crate) fn toolchain() -> Result<()> {
    let name = toolchain_name()?;
    if compiler(&name).is_none() {
        link_compiler(&name)?;
    }
    let Some(compiler) = compiler(&name) else {
        bail!("toolchain {name} does not work; `rustup run {name} rustc -vV` says why");
    };
    if linker_for(&compiler)?.is_none() {
        install_linker(&compiler)?;
    }
    Ok(())
}

fn toolchain_name() -> Result<String> {
    env::var("NETD_BPF_TOOLCHAIN")
        .context("NETD_BPF_TOOLCHAIN is not set: run this as `cargo xtask`, which reads .cargo/config.toml")
}

/// A compiler that can build `core` for the BPF target.
struct Compiler {
    /// LLVM's major version. The linker must have the same.
    llvm: u32,
}

/// A rustup toolchain with its LLVM version. None if it is missing or has no library sources.
fn compiler(name: &str) -> Option<Compiler> {
    let run =
        |arguments: &[&str]| output_of(Command::new("rustup").args(["run", name, "rustc"]).args(arguments));
    let version = run(&["-vV"])?;
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    let llvm = llvm.split('.').next()?.parse().ok()?;
    let sysroot = run(&["--print", "sysroot"])?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    (sources.exists() && output_of(Command::new("rustup").args(["run", name, "cargo", "-V"])).is_some())
        .then_some(Compiler { llvm })
}

/// Links the toolchain to its name: an installed nightly with library sources, or else Debian's compiler.
fn link_compiler(name: &str) -> Result<()> {
    let installed = output_of(Command::new("rustup").args(["toolchain", "list"]))
        .context("rustup does not answer: netd is built with rustup's cargo")?;
    let nightlies = installed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|line| line.starts_with("nightly"));
    for nightly in nightlies {
        if compiler(nightly).is_some()
            && let Some(sysroot) =
                output_of(Command::new("rustup").args(["run", nightly, "rustc", "--print", "sysroot"]))
        {
            say(&format!("setup: {name} is {nightly}"));
            return run(Command::new("rustup").args(["toolchain", "link", name, sysroot.trim()]));
        }
    }
    say("setup: installing Debian's Rust compiler with its library's sources, for the BPF programs");
    install(&COMPILER_PACKAGES)?;
    run(Command::new("rustup").args(["toolchain", "link", name, "/usr"]))
}

/// The folder for what is downloaded or built once per machine.
pub(crate) fn cache() -> Result<PathBuf> {
    let tools = tools_folder()?;
    Ok(tools.parent().map_or_else(|| tools.clone(), Path::to_path_buf))
}

/// The folder of bpf-linker.
fn tools_folder() -> Result<PathBuf> {
    let home = env::var_os("HOME").context("HOME is not set")?;
    let folder = env::var_os("NETD_TOOLS").context("NETD_TOOLS is not set: run this as `cargo xtask`")?;
    Ok(Path::new(&home).join(folder))
}

/// Which LLVM version the linker beside this file was built for.
fn mark(compiler: &Compiler) -> String {
    format!("bpf-linker {BPF_LINKER} llvm {}\n", compiler.llvm)
}

fn linker_for(compiler: &Compiler) -> Result<Option<PathBuf>> {
    let folder = tools_folder()?;
    let linker = folder.join("bin/bpf-linker");
    let made_for = fs::read_to_string(folder.join("made-for")).unwrap_or_default();
    let works = made_for == mark(compiler) && output_of(Command::new(&linker).arg("--version")).is_some();
    Ok(works.then_some(linker))
}

fn install_linker(compiler: &Compiler) -> Result<()> {
    let llvm = compiler.llvm;
    let prefix = format!("/usr/lib/llvm-{llvm}");
    if !Path::new(&prefix).join("bin/llvm-config").exists() {
        say(&format!("setup: installing LLVM {llvm}, which bpf-linker shares with the BPF side's compiler"));
        install(&[&format!("llvm-{llvm}-dev")]).with_context(|| {
            format!("the BPF side's compiler has LLVM {llvm}, and no package llvm-{llvm}-dev goes with it")
        })?;
    }
    say(&format!("setup: building bpf-linker {BPF_LINKER} for LLVM {llvm} (under a minute)"));
    let folder = tools_folder()?;
    run(cargo()
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force", "--quiet"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
        .arg(&folder)
        .env("LLVM_PREFIX", prefix)
        .env_remove("CARGO_TARGET_DIR"))?;
    fs::write(folder.join("made-for"), mark(compiler)).context("note what bpf-linker was made for")
}

/// Installs the tools of `cargo xtask vm`.
pub(crate) fn guest_tools() -> Result<()> {
    tools(&GUEST_TOOLS)
}

/// Installs the tools of the benchmark.
pub(crate) fn bench_tools() -> Result<()> {
    tools(&BENCH_TOOLS)
}

/// Installs the tools of the fuzzers.
pub(crate) fn fuzz_tools() -> Result<()> {
    tools(&FUZZ_TOOLS)
}

/// Installs the tools of the release.
pub(crate) fn dist_tools() -> Result<()> {
    tools(&DIST_TOOLS)
}

/// Installs the tools that start a Debian system in namespaces.
pub(crate) fn guest_system_tools() -> Result<()> {
    tools(&GUEST_SYSTEM_TOOLS)
}

/// Where cargo-deb is. Builds it if it is missing.
pub(crate) fn cargo_deb() -> Result<PathBuf> {
    cargo_tool(CARGO_DEB)
}

/// Where cargo-deny is. Builds it if it is missing.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    cargo_tool(CARGO_DENY)
}

fn cargo_tool((name, version): (&str, &str)) -> Result<PathBuf> {
    let folder = tools_folder()?;
    let program = folder.join("bin").join(name);
    let found = output_of(Command::new(&program).arg("--version")).unwrap_or_default();
    if found.split_whitespace().last() != Some(version) {
        say(&format!("setup: building {name} {version} (some minutes)"));
        // Not optimised: it runs for seconds.
        run(cargo()
            .args([
                "install",
                name,
                "--version",
                version,
                "--locked",
                "--force",
                "--quiet",
                "--debug",
                "--root",
            ])
            .arg(&folder)
            .env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(program)
}

/// Installs the packages of those programs that are missing.
fn tools(needed: &[(&str, &'static str)]) -> Result<()> {
    let mut missing: Vec<&str> =
        needed.iter().filter(|(tool, _)| !is_installed(tool)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("setup: installing {}", missing.join(" ")));
    install(&missing)
}

/// Whether a program is in PATH or in Debian's sbin folders.
fn is_installed(tool: &str) -> bool {
    find(tool).is_some()
}

/// Where a program is.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(tool))
        .find(|place| place.exists())
}

/// Installs Debian packages without starting their services: the tests start what they need, in namespaces.
fn install(packages: &[&str]) -> Result<()> {
    if !is_installed("apt-get") {
        bail!(
            "this machine has no apt-get; install what goes by these names in Debian: {}",
            packages.join(" ")
        );
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        // policy-rc.d's answer 101 is "do not start"; RUNLEVEL alone makes invoke-rc.d quiet on machines without init.
        apt.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").arg("-qq");
        apt
    };
    run(apt().arg("update"))?;
    let mut command = apt();
    command.args(["install", "-y", "--no-install-recommends"]).args(packages);
    let policy = Policy::forbid_services()?;
    let installed = command.stdout(std::process::Stdio::null()).status();
    drop(policy);
    if !installed.context("start apt-get")?.success() {
        bail!("apt-get could not install {}", packages.join(" "));
    }
    Ok(())
}

/// Keeps Debian from starting services while packages are installed (policy-rc.d). Removed when dropped.
struct Policy {
    made: bool,
}

impl Policy {
    const PATH: &str = "/usr/sbin/policy-rc.d";

    fn forbid_services() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if Path::new(Self::PATH).exists() {
            return Ok(Self { made: false });
        }
        fs::write(Self::PATH, "#!/bin/sh\nexit 101\n").context("write policy-rc.d")?;
        fs::set_permissions(Self::PATH, fs::Permissions::from_mode(0o755)).context("write policy-rc.d")?;
        Ok(Self { made: true })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.made {
            // No error if it has been removed.
            let _gone = fs::remove_file(Self::PATH);
        }
    }
}
