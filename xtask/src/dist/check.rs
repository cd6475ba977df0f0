//! Installs the package in a clean Debian as a user does, and tries what it promises: netd runs, an upgrade drops no packet,
//! removal leaves nothing.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::guest::Guest;
use crate::shell::say;

/// The host's address in the guest, and the client's.
const NETWORK: &str = "
ip netns add client
ip link add eth0 type veth peer name eth0 netns client
ip address add 198.18.0.1/24 dev eth0
ip link set eth0 up
ip route add default via 198.18.0.2
ip -n client address add 198.18.0.2/24 dev eth0
ip -n client link set eth0 up
";

/// Every file of the system but those that change in any case.
const FILES: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root \
                     -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt \
                     -o -path /var/lib/systemd -o -path /var/tmp \\) -prune -o -print | sort";

/// What netd could leave behind: state, lock, pins, interfaces, namespaces, programs, processes, cgroup.
const LEFT: &str = "ls -d /run/netd /run/netd.lock /run/netns/web /sys/fs/cgroup/netd 2>/dev/null
ls -A /sys/fs/bpf 2>/dev/null
ip -o link | grep -E 'netd0|veth|prog/'
pgrep -x 'netd|exe'";

/// What is tried: its name, and how.
type Step = (&'static str, fn(&Guest) -> Result<()>);

/// Tries the packages (the second one is newer) and the tarball.
pub(super) fn check(packages: &[&Path; 2], tarball: &Path) -> Result<()> {
    let guest = Guest::boot()?;
    guest.sh(NETWORK)?;
    for (number, package) in packages.iter().enumerate() {
        guest.copy(package, &format!("/root/netd_{number}.deb"))?;
    }
    guest.copy(tarball, "/root/netd.tar.gz")?;
    guest.sh(&format!("{FILES} > /root/files"))?;
    let steps: [Step; 8] = [
        ("the package is well-formed", is_well_formed),
        ("it installs, and netd runs", installs),
        ("the service puts right what is broken", repairs),
        ("the service takes the place of a process that a command has started", takes_over),
        ("an upgrade drops no packet and refuses no connection", upgrades),
        ("removal leaves nothing", removes),
        ("so does removal after another installation", removes_again),
        ("the tarball is installed in /usr/local", unpacks),
    ];
    for (what, step) in steps {
        step(&guest).with_context(|| format!("not so: {what}"))?;
        say(&format!("dist: {what}"));
    }
    Ok(())
}

fn is_well_formed(guest: &Guest) -> Result<()> {
    let listed =
        guest.sh("dpkg-deb --fsys-tarfile /root/netd_0.deb | tar --list --verbose --numeric-owner")?;
    for line in listed.lines() {
        let mut fields = line.split_whitespace();
        let (rights, owner, path) = (fields.next(), fields.next(), fields.nth(3));
        let expected = match path {
            Some("./usr/bin/netd") => "-rwxr-xr-x",
            Some(path) if path.ends_with('/') => "drwxr-xr-x",
            _ => "-rw-r--r--",
        };
        ensure!(rights == Some(expected) && owner == Some("0/0"), "wrong rights: {line}");
    }
    let control = |file: &str| guest.sh(&format!("dpkg-deb --info /root/netd_0.deb {file}"));
    ensure!(control("conffiles")? == "/etc/netd/netd.toml", "conffiles: {}", control("conffiles")?);
    for script in ["postinst", "prerm", "postrm"] {
        let text = control(script)?;
        ensure!(text.starts_with("#!/bin/sh\nset -e\n"), "{script} goes on after a failure:\n{text}");
        ensure!(!text.contains("#DEBHELPER#"), "{script} is not complete:\n{text}");
    }
    Ok(())
}

fn install(guest: &Guest, number: u32) -> Result<String> {
    guest.sh(&format!("apt-get install --quiet --yes /root/netd_{number}.deb"))
}

/// Fails unless the service runs and follows the host.
fn serves(guest: &Guest) -> Result<()> {
    guest.sh("systemctl is-active netd")?;
    let pid: u64 = main_pid(guest)?.parse().context("the service has no process")?;
    let status: Value = serde_json::from_str(&guest.sh("netd --json status")?)?;
    ensure!(status["follower"]["pid"] == pid, "{}", status["follower"]);
    Ok(())
}

fn main_pid(guest: &Guest) -> Result<String> {
    guest.sh("systemctl show netd --property MainPID --value")
}

fn installs(guest: &Guest) -> Result<()> {
    install(guest, 0)?;
    serves(guest)?;
    guest.sh("systemctl is-enabled netd")?;
    guest.sh("systemd-analyze verify --man=no netd.service")?;
    guest.sh("test $(systemctl show netd --property Type --value) = notify")?;
    let pages = guest.sh("netd man | grep -c '^.TH '")?;
    let installed = guest.sh("ls /usr/share/man/man1/netd*.1.gz | wc -l")?;
    ensure!(pages == installed, "netd has {pages} pages, of which {installed} are installed");
    for file in [
        "/usr/share/bash-completion/completions/netd",
        "/usr/share/zsh/vendor-completions/_netd",
        "/usr/share/fish/vendor_completions.d/netd.fish",
        "/etc/netd/netd.toml",
    ] {
        guest.sh(&format!("test -s {file}"))?;
    }
    // Configured once more, as dpkg does after an interruption.
    guest.sh("/var/lib/dpkg/info/netd.postinst configure '' && systemctl is-active netd")?;
    guest.sh("netd container add web -p 8080:5201 -p 8080:5201/udp -p 8081:81")?;
    guest.sh("netd container exec web -- iperf3 --server --daemon --port 5201")?;
    guest.sh("systemd-run --quiet netd container exec web -- socat TCP-LISTEN:81,fork,reuseaddr EXEC:cat")?;
    guest.until(&connects())
}

/// A new connection from the client through a published port.
fn connects() -> String {
    "echo hello | ip netns exec client socat -T 10 - TCP:198.18.0.1:8081 | grep hello".to_owned()
}

/// What the unit allows must be enough for all that the follower does.
fn repairs(guest: &Guest) -> Result<()> {
    let veth = "$(netd --json container inspect web | tr , '\\n' | sed -n 's/.*host_interface\": *\"\\([^\"]*\\).*/\\1/p' | head -n 1)";
    for harm in [
        "ip link delete netd0".to_owned(),
        format!("ip link delete {veth}"),
        "rm -r /sys/fs/bpf/netd/*".to_owned(),
        "umount --lazy /sys/fs/bpf".to_owned(),
        "sysctl -qw net.ipv4.conf.netd0.forwarding=0".to_owned(),
    ] {
        guest.sh(&harm)?;
        guest.until(&format!("netd check && {}", connects())).with_context(|| harm)?;
    }
    // A new uplink; also what is left of a run of another user whose supervisor was killed.
    guest.sh("netd --no-serve run --name job --detach -- setpriv --reuid=65534 sleep 3600")?;
    guest.until("pgrep --euid 65534 sleep")?;
    guest.sh("kill -9 $(pgrep --full 'net[d] supervise')")?;
    guest.sh("ip link add eth1 type veth peer name eth2 && ip address add 198.20.0.1/24 dev eth1 && ip link set eth1 up")?;
    guest.until("netd status | grep 'uplink_ingress .* eth1$'")?;
    guest.until("! pgrep --euid 65534 sleep && ! test -e /run/netns/job")?;
    guest.sh("ip link delete eth1")?;
    guest.until("netd check")?;
    serves(guest)
}

fn takes_over(guest: &Guest) -> Result<()> {
    guest.sh("systemctl stop netd")?;
    guest.sh(&connects())?;
    guest.sh("netd sync")?;
    guest.until("pgrep --full 'net[d] serve --background'")?;
    guest.sh("systemctl start netd")?;
    serves(guest)?;
    guest.until("! pgrep --full 'net[d] serve --background'")
}

fn upgrades(guest: &Guest) -> Result<()> {
    let before = main_pid(guest)?;
    let pieces = "ip netns exec client iperf3 --client 198.18.0.1 --port 8080 --udp --bitrate 1M --length 500 --time 40 --json";
    let mut datagrams = guest.command(pieces).stdout(Stdio::piped()).spawn().context("start iperf3")?;
    guest.until("netd --json flows --proto udp --port 8080 | grep 5201")?;
    let clients = guest
        .command(&format!("until test -e /root/stop; do ({}) 2>> /root/said || exit 1; done", connects()))
        .stdout(Stdio::piped())
        .spawn()
        .context("start the clients")?;
    let upgraded = install(guest, 1);
    let is_too_early = datagrams.try_wait()?.is_some();
    guest.sh("touch /root/stop")?;
    let clients = clients.wait_with_output().context("wait for the clients")?;
    upgraded?;
    ensure!(clients.status.success(), "a connection failed: {}", guest.sh("cat /root/said")?);
    ensure!(!clients.stdout.is_empty(), "nobody connected during the upgrade");
    ensure!(!is_too_early, "the datagrams ended before the upgrade");
    serves(guest)?;
    ensure!(main_pid(guest)? != before, "the service was not started again");
    let version = guest.sh("dpkg-query --show --showformat '${Version}' netd")?;
    ensure!(version.ends_with("-2"), "version {version} is installed");
    let said = datagrams.wait_with_output().context("wait for iperf3")?;
    let said: Value = serde_json::from_slice(&said.stdout).context("read what iperf3 says")?;
    let sum = &said["end"]["sum"];
    ensure!(sum["packets"].as_u64() > Some(0) && sum["lost_packets"] == 0, "datagrams were lost: {sum}");
    guest.sh("netd check").map(drop)
}

/// Fails if something of netd's is left.
fn leaves_nothing(guest: &Guest) -> Result<()> {
    let left = guest.command(LEFT).output()?.stdout;
    if !left.is_empty() {
        bail!("left:\n{}", String::from_utf8_lossy(&left));
    }
    Ok(())
}

fn removes(guest: &Guest) -> Result<()> {
    guest.sh("apt-get remove --quiet --yes netd")?;
    leaves_nothing(guest)?;
    guest.sh("test -e /etc/netd/netd.toml")?;
    guest.sh("apt-get purge --quiet --yes netd")?;
    guest.sh("! test -e /etc/netd && ! systemctl cat netd")?;
    guest.sh(&format!("{FILES} | diff /root/files -")).map(drop)
}

fn removes_again(guest: &Guest) -> Result<()> {
    install(guest, 1)?;
    serves(guest)?;
    // A file of the administrator's goes as well when everything is purged.
    guest.sh("mkdir /etc/netd/netd.d && touch /etc/netd/netd.d/site.toml && netd network create lab")?;
    guest.sh("apt-get purge --quiet --yes netd && ! test -e /etc/netd")?;
    leaves_nothing(guest)
}

fn unpacks(guest: &Guest) -> Result<()> {
    guest.sh("tar --directory /usr/local --strip-components 1 --extract --file /root/netd.tar.gz")?;
    guest.sh("systemctl daemon-reload && systemctl enable --quiet --now netd")?;
    serves(guest)?;
    guest.sh("systemctl disable --quiet --now netd && netd down").map(drop)
}
