//! The main job on other kernels: Debian's, booted in QEMU, with netd and little else inside.
//!
//! Verifiers differ from kernel to kernel, and below 6.6 the programs sit on clsact instead of tcx. Each guest loads the
//! programs, serves a page from a container to another namespace and to itself, takes everything down and says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{build, host, output_of, run, say, setup};

/// Series of Debian's cloud kernels: the newest of each is run.
const SERIES: [&str; 2] = ["6.1.", "6.12."];
/// What bridges and veth pairs, and TC below 6.6, are made of where they are modules.
const MODULES: [&str; 4] = ["veth", "bridge", "sch_ingress", "cls_bpf"];
/// The guest's own tools, with the libraries that they need; everything else is busybox.
const TOOLS: [&str; 2] = ["ip", "nsenter"];
/// The line with which a guest says that all of it held.
const HELD: &str = "netd-vm: all of it held";

/// What the guest does. `set -e` ends it at the first claim that does not hold, and then the last line is missing.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/tools:/bin
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev && mount -t tmpfs run /run
mkdir -p /sys/fs/cgroup /www && mount -t cgroup2 cgroup /sys/fs/cgroup
for module in /modules/*.ko; do insmod $module; done
fetch() { printf 'GET / HTTP/1.0\r\n\r\n' | $1 nc -w 5 $2 $3; }
journeys() {
    set -e
    /tools/ip link set lo up
    /tools/ip netns add client
    /tools/ip link add up0 type veth peer name eth0 netns client
    /tools/ip address add 198.18.0.1/24 dev up0
    /tools/ip address add 2001:db8::1/64 dev up0 nodad
    /tools/ip link set up0 up
    /tools/ip -n client address add 198.18.0.2/24 dev eth0
    /tools/ip -n client address add 2001:db8::2/64 dev eth0 nodad
    /tools/ip -n client link set eth0 up
    /tools/ip -n client route add default via 198.18.0.1
    /tools/ip -n client route add default via 2001:db8::1
    echo hello-from-a-container > /www/index.html
    client="/tools/nsenter --net=/run/netns/client"
    $client httpd -p 8000 -h /www
    netd network create six --subnet 10.6.0.0/24 --ipv6
    netd container add web --network six -p 8080:80
    netd container exec web -- httpd -p 80 -h /www
    netd container add other
    for host in 198.18.0.1 2001:db8::1; do
        # From outside, from the host, from another network, and the container itself.
        for who in "$client" "" "netd container exec other --" "netd container exec web --"; do
            # A container without IPv6 has no way there.
            case "$who $host" in *other*:*) continue ;; esac
            fetch "$who" $host 8080 | grep hello-from-a-container
        done
    done
    fetch "" 127.0.0.1 8080 | grep hello-from-a-container
    fetch "" ::1 8080 | grep hello-from-a-container
    ! fetch "$client" 10.6.0.2 80 | grep hello
    # A routed network: by the container's own address, and not by the host's.
    netd network create own --subnet 10.7.0.0/24 --gateway-mode routed
    netd container add own --network own -p 8090:80
    netd container exec own -- httpd -p 80 -h /www
    fetch "$client" 10.7.0.2 80 | grep hello-from-a-container
    ! fetch "$client" 198.18.0.1 8090 | grep hello
    # To outside, in the host's name, and by a hop that answers.
    for peer in 198.18.0.2 2001:db8::2; do
        fetch "netd container exec web --" $peer 8000 | grep hello-from-a-container
        netd container exec web -- ping -c 1 -W 5 $peer
    done
    # On to another host: the one that asks, and by a container.
    netd publish 8090:8000 198.18.0.2
    netd publish --replace 8096:8000 2001:db8::2
    fetch "$client" 198.18.0.1 8090 | grep hello-from-a-container
    fetch "$client" 2001:db8::1 8096 | grep hello-from-a-container
    fetch "netd container exec other --" 198.18.0.1 8090 | grep hello-from-a-container
    netd publish --replace --cut 8090:80 web
    fetch "$client" 198.18.0.1 8090 | grep hello-from-a-container
    netd container exec web -- traceroute -n -q 1 -w 5 198.18.0.2 | grep -F ' 1  10.6.0.1'
    netd status
    ! netd status | grep 'warning:'
    netd ports
    killall httpd
    netd down
    ! /tools/ip link show netd0 2> /dev/null
    ! ls /sys/fs/bpf | grep netd
    echo "netd-vm: all of it held"
}
journeys
poweroff -f
"#;

/// Boots each kernel and runs the journeys there.
pub(crate) fn vm() -> Result<()> {
    host::check()?;
    setup::guest_tools()?;
    build::build(true)?;
    for series in SERIES {
        let package = newest(series)?;
        let kernel = unpack(&package)?;
        say(&format!("booting {package}"));
        let said = boot(&kernel)?;
        if !said.lines().any(|line| line.trim() == HELD) {
            bail!("netd failed on {package}; the guest said:\n{said}");
        }
        let how = if said.contains("tcx ingress") { "tcx" } else { "clsact" };
        say(&format!("{package}: programs load, journeys hold, by {how}"));
    }
    Ok(())
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

/// Boots a kernel with netd inside and returns what its console said.
fn boot(kernel: &Kernel) -> Result<String> {
    let guest = std::env::temp_dir().join(format!("netd-vm-{}-{}", std::process::id(), kernel.version));
    let booted = furnish(kernel, &guest).and_then(|image| start(kernel, &image));
    fs::remove_dir_all(&guest).context("remove the guest's folder")?;
    booted
}

/// Puts the guest's file system together and packs it.
fn furnish(kernel: &Kernel, guest: &Path) -> Result<PathBuf> {
    let root = guest.join("root");
    for folder in ["bin", "tools", "modules", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("copy busybox")?;
    copy_program(&build::binary(true), &root, "bin/netd")?;
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
        // In the order that modprobe would load them.
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

/// Copies a program and the libraries that it is linked with.
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
        .args(["180", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "768", "-nic", "none"])
        .args([
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-append",
            "console=ttyS0 panic=-1 quiet",
        ])
        .arg("-kernel")
        .arg(kernel.folder.join("boot").join(format!("vmlinuz-{}", kernel.version)))
        .arg("-initrd")
        .arg(image)
        .stdin(std::process::Stdio::null())
        .output()
        .context("start qemu-system-x86_64")?;
    Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}
