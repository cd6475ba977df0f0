//! The tests on Debian's older kernels, booted in QEMU with netd and the tests inside.
//!
//! The verifier differs from kernel to kernel, and before 6.6 programs are attached by clsact instead of tcx. Each
//! guest runs the verifier's test, the packet tables and a test of each kind of path.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{cargo, output_of, run, say};
use crate::{build, host, setup};

/// Series of Debian's cloud kernels. The newest kernel of each is run.
const SERIES: [&str; 2] = ["6.1.", "6.12."];
/// Modules for bridges, veth pairs, tunnels, and TC before 6.6, where they are not built in.
const MODULES: [&str; 5] = ["veth", "bridge", "tun", "sch_ingress", "cls_bpf"];
/// Programs that are copied into the guest with their libraries; the rest is busybox. `sh` is among them because
/// busybox's shell prefers its own `ip` and `ping`.
const TOOLS: [&str; 5] = ["sh", "ip", "nsenter", "ping", "traceroute"];
/// The tests that guests run: what differs by kernel, and one of each kind of path. Few, because an emulated processor
/// takes seconds to load the programs, which each test does.
const TESTS: [&str; 19] = [
    "verifier::",
    "packets::",
    // Publishing in both families, localhost, hairpin and masquerade; TCP and UDP.
    "ipv6::a_published_port_is_reached_from_outside",
    "ipv6::a_published_port_is_reached_from_the_host_itself",
    "ipv6::a_container_reaches_outside_with_the_hosts_address",
    "ipv6::containers_reach_each_other_and_published_ports",
    "host::the_host_reaches_its_published_ports_by_localhost_and_by_its_addresses",
    "outside::a_container_reaches_outside_with_the_hosts_address",
    "ipv6::a_neighbour_uses_link_local_addresses",
    "tunnel::a_tunnel_is_an_uplink_in_both_directions",
    "outside::published_ports_are_reached_by_the_hosts_addresses_from_every_network",
    "network::networks_do_not_reach_each_other",
    // Targets on other hosts, gateway modes, replacement, NAT64.
    "forward::a_port_of_another_host_is_reached_with_snat",
    "gateway::each_gateway_mode_applies_in_each_family",
    "replace::open_connections_can_be_cut",
    "cross::an_ipv6_client_reaches_a_container_that_has_only_ipv4",
    // Path MTU, fragments, hops.
    "ipv6::large_datagrams_pass_links_with_a_small_mtu",
    "path::a_container_with_mtu_1500_works_over_uplinks_with_mtu_1280",
    "fragment::fragments_arrive_in_any_order_at_a_published_port_and_outside",
];
/// Tests of these modules that take too long there: they send millions of packets.
const NOT_RUN: [&str; 1] = ["flood"];
/// Kernel options that make an emulated processor faster and change nothing that is tested.
const APPEND: &str = "console=ttyS0 panic=-1 quiet mitigations=off init_on_alloc=0 hardened_usercopy=off";
/// The beginning of the guest's last line. The exit status of the tests follows.
const ENDED: &str = "netd-vm: the tests ended with ";

/// The guest's init. The arguments of the tests are in a file.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/tools:/bin NETD_BIN=/bin/netd
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev && mount -t tmpfs run /run
mkdir -p /sys/fs/cgroup && mount -t cgroup2 cgroup /sys/fs/cgroup
for module in /modules/*.ko; do insmod $module; done
netd container add one && netd status && netd down
it $(cat /tests)
echo "netd-vm: the tests ended with $?"
poweroff -f
"#;

/// Boots each kernel and runs the tests there.
pub(crate) fn vm() -> Result<()> {
    host::check()?;
    setup::guest_tools()?;
    build::build(true)?;
    let tests = Tests::build()?;
    for series in SERIES {
        let package = newest(series)?;
        let kernel = unpack(&package)?;
        say(&format!("booting {package} for {} tests", tests.count));
        let said = boot(&kernel, &tests)?;
        let passed = said.contains(&format!("{} passed; 0 failed", tests.count));
        if !passed || !said.lines().any(|line| line.strip_prefix(ENDED) == Some("0")) {
            bail!("netd failed on {package}; the guest said:\n{said}");
        }
        let how = if said.contains("tcx ingress") { "tcx" } else { "clsact" };
        say(&format!("{package}: all {} tests passed, by {how}", tests.count));
    }
    Ok(())
}

/// The program of the privileged tests, and which of them guests run.
struct Tests {
    program: PathBuf,
    arguments: Vec<&'static str>,
    count: usize,
}

impl Tests {
    /// Builds the tests. A name that matches no test is an error.
    fn build() -> Result<Self> {
        let mut command = cargo();
        command.args(["test", "--release", "--package", "netd-tests", "--test", "it", "--no-run"]);
        let built = command.args(["--message-format", "json"]).stderr(std::process::Stdio::inherit());
        let built = output_of(built).context("the tests do not build")?;
        let program = built
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == "it")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .context("cargo names no test program")?;
        let list = |arguments: &[&str]| -> Result<usize> {
            let listed = output_of(Command::new(&program).args(arguments).arg("--list"))
                .context("the tests cannot be listed")?;
            Ok(listed.lines().filter(|line| line.ends_with(": test")).count())
        };
        for name in TESTS {
            ensure!(list(&[name])? > 0, "no test is called {name}");
        }
        let skipped = NOT_RUN.iter().flat_map(|name| ["--skip", name]);
        let arguments: Vec<&str> = TESTS.into_iter().chain(skipped).collect();
        Ok(Self { count: list(&arguments)?, program, arguments })
    }
}

/// The newest package of a series.
fn newest(series: &str) -> Result<String> {
    let pattern = format!("^linux-image-{}[0-9.+a-z-]*-cloud-amd64$", series.replace('.', "\\."));
    let found =
        output_of(Command::new("apt-cache").args(["search", "--names-only", &pattern])).unwrap_or_default();
    let number = |name: &str| -> Vec<u32> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    found
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.contains("unsigned") && !name.ends_with("-dbg"))
        .max_by_key(|name| number(name))
        .map(str::to_owned)
        .with_context(|| format!("apt knows no Debian cloud kernel {series}*; `apt-get update` may help"))
}

/// A kernel, its modules, and its version.
struct Kernel {
    folder: PathBuf,
    version: String,
}

/// Downloads a kernel's package and unpacks it, once.
fn unpack(package: &str) -> Result<Kernel> {
    let folder = setup::cache()?.join("kernels").join(package);
    if !folder.join("unpacked").exists() {
        fs::create_dir_all(&folder).context("make a folder for the kernel")?;
        run(Command::new("apt-get").args(["-qq", "download", package]).current_dir(&folder))?;
        let archive = fs::read_dir(&folder)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|kind| kind == "deb"))
            .context("apt-get downloaded nothing")?;
        run(Command::new("dpkg").arg("-x").arg(&archive).arg(&folder))?;
        fs::remove_file(archive)?;
    }
    let version = fs::read_dir(folder.join("lib/modules"))?
        .flatten()
        .next()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .context("the kernel's package has no modules")?;
    run(Command::new("depmod").arg("-b").arg(&folder).arg(&version))?;
    fs::write(folder.join("unpacked"), "")?;
    Ok(Kernel { folder, version })
}

/// Boots a kernel with netd inside and returns the output of its console.
fn boot(kernel: &Kernel, tests: &Tests) -> Result<String> {
    let guest = std::env::temp_dir().join(format!("netd-vm-{}-{}", std::process::id(), kernel.version));
    let booted = furnish(kernel, tests, &guest).and_then(|image| start(kernel, &image));
    fs::remove_dir_all(&guest).context("remove the guest's folder")?;
    booted
}

/// Makes the guest's file system and packs it.
fn furnish(kernel: &Kernel, tests: &Tests, guest: &Path) -> Result<PathBuf> {
    let root = guest.join("root");
    for folder in ["bin", "tools", "modules", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("copy busybox")?;
    copy_program(&build::binary(true), &root, "bin/netd")?;
    copy_program(&tests.program, &root, "bin/it")?;
    fs::write(root.join("tests"), tests.arguments.join(" "))?;
    for tool in TOOLS {
        let place = setup::find(tool).with_context(|| format!("{tool} is not installed"))?;
        copy_program(&place, &root, &format!("tools/{tool}"))?;
    }
    let needed = output_of(
        Command::new("modprobe")
            .arg("-d")
            .arg(&kernel.folder)
            .args(["-S", &kernel.version, "--show-depends", "-a"])
            .args(MODULES),
    )
    .context("modprobe does not know the kernel's modules")?;
    let mut copied: Vec<&str> = Vec::new();
    for path in needed.lines().filter_map(|line| line.strip_prefix("insmod ")).map(str::trim) {
        if copied.contains(&path) {
            continue;
        }
        // In the order in which modprobe would load them.
        let place = root.join(format!("modules/{:02}.ko", copied.len()));
        if Path::new(path).extension().is_some_and(|kind| kind == "xz") {
            let unpacked = Command::new("xz").args(["-dc", path]).output().context("run xz")?;
            fs::write(place, unpacked.stdout)?;
        } else {
            fs::copy(path, place)?;
        }
        copied.push(path);
    }
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let image = guest.join("initramfs");
    let pack = format!("find . | cpio --quiet -o -H newc | gzip -1 > {}", image.display());
    run(Command::new("sh").args(["-c", &pack]).current_dir(&root))?;
    Ok(image)
}

/// Copies a program and its shared libraries.
fn copy_program(program: &Path, root: &Path, place: &str) -> Result<()> {
    fs::copy(program, root.join(place)).with_context(|| format!("copy {}", program.display()))?;
    let libraries = output_of(Command::new("ldd").arg(program)).unwrap_or_default();
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let copy = root.join(library.trim_start_matches('/'));
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(library, copy).with_context(|| format!("copy {library}"))?;
    }
    Ok(())
}

fn start(kernel: &Kernel, image: &Path) -> Result<String> {
    let output = Command::new("timeout")
        .args(["900", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "3072"])
        .args(["-nic", "none", "-display", "none", "-serial", "stdio", "-no-reboot", "-append", APPEND])
        .arg("-kernel")
        .arg(kernel.folder.join("boot").join(format!("vmlinuz-{}", kernel.version)))
        .arg("-initrd")
        .arg(image)
        .stdin(std::process::Stdio::null())
        .output()
        .context("start qemu-system-x86_64")?;
    Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}
