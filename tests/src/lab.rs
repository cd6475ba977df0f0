//! A host with netd on it, between a client and an outside network.
//!
//! ```text
//! client 198.18.0.2 ── 198.18.0.1 host 198.19.0.1 ── 198.19.0.2 outside
//! 2001:db8:18::2 ─── 2001:db8:18::1    2001:db8:19::1 ─── 2001:db8:19::2
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use netd_common::abi::{FlowRow, name};
use netd_common::flow::FlowKey;
use netd_common::wire::bytes::Ipv6;
use serde_json::Value;
use tempfile::TempDir;

use crate::netns::{Netns, run_in, unique};
use crate::{need_root, netd_binary};

/// The host's address towards the client.
pub const HOST: &str = "198.18.0.1";
/// The host's address towards the outside network.
pub const HOST_OUTSIDE: &str = "198.19.0.1";
/// The client's address.
pub const CLIENT: &str = "198.18.0.2";
/// The address of a machine in the outside network.
pub const OUTSIDE: &str = "198.19.0.2";

/// The same in IPv6.
pub const HOST6: &str = "2001:db8:18::1";
/// The same in IPv6.
pub const HOST_OUTSIDE6: &str = "2001:db8:19::1";
/// The same in IPv6.
pub const CLIENT6: &str = "2001:db8:18::2";
/// The same in IPv6.
pub const OUTSIDE6: &str = "2001:db8:19::2";

/// Three hosts; netd runs on the middle one.
#[derive(Debug)]
pub struct Lab {
    /// A neighbour of the host.
    pub client: Netns,
    /// Where netd runs.
    pub host: Netns,
    /// The network behind the host's default route.
    pub outside: Netns,
    /// A folder of this test's own. The state folder is in it.
    pub folder: TempDir,
    /// Whether netd attaches its programs by clsact, as on kernels without tcx.
    pub clsact: bool,
    /// Whether commands may start the process that follows the host. It would hold the host's namespace, and do what most tests
    /// wait for a command to do.
    pub follows: bool,
    prefix: String,
}

/// The outcome of a netd command.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
    words: String,
}

impl Said {
    /// The outcome of a netd command with these arguments.
    pub fn of(output: &Output, words: &[&str]) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            words: words.join(" "),
        }
    }

    /// Fails unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(
            self.status.success(),
            "netd {}: {}\n{}{}",
            self.words,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails unless the command failed with this status, and an `error:` line with this in it.
    #[track_caller]
    pub fn fails(self, status: i32, part: &str) -> Self {
        assert_eq!(self.status.code(), Some(status), "netd {}:\n{}{}", self.words, self.stdout, self.stderr);
        let line = self.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(line.contains(part), "netd {}: expected '{part}' in: {}", self.words, self.stderr);
        self
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("netd {}: {error} in:\n{}{}", self.words, self.stdout, self.stderr)
        })
    }
}

impl Lab {
    /// Makes the hosts and the wires between them.
    pub fn new() -> Self {
        Self::with_mtu(1500)
    }

    /// The same with another MTU on every wire.
    pub fn with_mtu(mtu: u32) -> Self {
        need_root();
        let (client, host, outside) = (Netns::new("client"), Netns::new("host"), Netns::new("outside"));
        for netns in [&client, &host, &outside] {
            // Without duplicate address detection addresses are ready at once and do not change between snapshots.
            netns.sh("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0");
        }
        for (name, far) in [("up0", &client), ("up1", &outside)] {
            host.ip(&format!(
                "link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}",
                far.name
            ));
        }
        for (netns, interface, address) in [
            (&client, "eth0", "198.18.0.2/24"),
            (&host, "up0", "198.18.0.1/24"),
            (&host, "up1", "198.19.0.1/24"),
            (&outside, "eth0", "198.19.0.2/24"),
            (&client, "eth0", "2001:db8:18::2/64"),
            (&host, "up0", "2001:db8:18::1/64"),
            (&host, "up1", "2001:db8:19::1/64"),
            (&outside, "eth0", "2001:db8:19::2/64"),
        ] {
            netns.ip(&format!("address add {address} dev {interface}"));
            netns.ip(&format!("link set {interface} up"));
        }
        client.ip("route add default via 198.18.0.1");
        host.ip("route add default via 198.19.0.2");
        outside.ip("route add default via 198.19.0.1");
        client.ip("route add default via 2001:db8:18::1");
        host.ip("route add default via 2001:db8:19::2");
        outside.ip("route add default via 2001:db8:19::1");
        crate::wait_for("the host's link-local addresses", crate::probe::PATIENCE, || {
            let addresses = host.sh("ip -6 -o address show scope link");
            addresses.contains("up0") && addresses.contains("up1") && !addresses.contains("tentative")
        });
        let folder = tempfile::Builder::new().prefix("netd-test-").tempdir().expect("a folder for the test");
        Self { client, host, outside, folder, clsact: false, follows: false, prefix: unique("") }
    }

    /// The state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The folder of what detached runs print.
    pub fn log_dir(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// A container name that no other lab has: names of namespaces are shared by the whole machine.
    pub fn name(&self, label: &str) -> String {
        format!("{}{label}", self.prefix)
    }

    /// A netd command in the host, with this lab's state folder.
    pub fn netd_command(&self, words: &[&str]) -> Command {
        self.netd_command_in(&self.host, &self.state_dir(), words)
    }

    /// A netd command in another host, or with another state folder.
    pub fn netd_command_in(&self, host: &Netns, state_dir: &Path, words: &[&str]) -> Command {
        self.command_of(&netd_binary(), host, state_dir, words)
    }

    /// Runs another netd.
    #[track_caller]
    pub fn netd_of(&self, binary: &Path, words: &[&str]) -> Said {
        said(&mut self.command_of(binary, &self.host, &self.state_dir(), words), words)
    }

    fn command_of(&self, binary: &Path, host: &Netns, state_dir: &Path, words: &[&str]) -> Command {
        let mut command = host.command(&binary.to_string_lossy());
        command
            .arg("--state-dir")
            .arg(state_dir)
            .arg("--log-dir")
            .arg(self.log_dir())
            .args(words)
            .stdin(Stdio::null());
        if !self.follows {
            command.env("NETD_NO_SERVE", "1");
        }
        if self.clsact {
            command.env("NETD_TC", "clsact");
        }
        command
    }

    /// Runs netd.
    #[track_caller]
    pub fn netd(&self, words: &[&str]) -> Said {
        said(&mut self.netd_command(words), words)
    }

    /// Starts netd and kills it after this time.
    #[track_caller]
    pub fn netd_killed(&self, words: &[&str], after: Duration) {
        self.netd_killed_of(&netd_binary(), words, after);
    }

    /// Starts another netd and kills it after this time.
    #[track_caller]
    pub fn netd_killed_of(&self, binary: &Path, words: &[&str], after: Duration) {
        let mut command = self.command_of(binary, &self.host, &self.state_dir(), words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("netd starts");
        let moment = Instant::now() + after;
        // Not a sleep: the time is often less than a sleep can be.
        while Instant::now() < moment {
            std::thread::yield_now();
        }
        child.kill().expect("kill netd");
        child.wait().expect("wait for netd");
    }

    /// Runs netd on another state folder or host.
    #[track_caller]
    pub fn netd_in(&self, host: &Netns, state_dir: &Path, words: &[&str]) -> Said {
        said(&mut self.netd_command_in(host, state_dir, words), words)
    }

    /// Adds a container with these options; returns its full name.
    #[track_caller]
    pub fn container(&self, label: &str, options: &[&str]) -> String {
        let name = self.name(label);
        let words: Vec<&str> =
            ["container", "add", &name].into_iter().chain(options.iter().copied()).collect();
        self.netd(&words).ok();
        name
    }

    /// The address of a container.
    #[track_caller]
    pub fn address(&self, container: &str) -> String {
        let inspected = self.netd(&["--json", "container", "inspect", container]).ok().json();
        inspected["addresses"][0]["ip"].as_str().expect("an address").to_owned()
    }

    /// A command in a container.
    pub fn command_in(&self, container: &str, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{container}")).args(["sh", "-c", line]).stdin(Stdio::null());
        command
    }

    /// Runs a shell command in a container. Fails if it fails.
    #[track_caller]
    pub fn run(&self, container: &str, line: &str) {
        let output = self.command_in(container, line).output().expect("nsenter starts");
        assert!(output.status.success(), "{container}: {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs `visit` on a thread in a container.
    #[track_caller]
    pub fn run_in<T: Send>(&self, container: &str, visit: impl FnOnce() -> T + Send) -> T {
        run_in(&Path::new("/run/netns").join(container), visit)
    }

    /// How many rows there are in the table of assured IPv6 flows whose keys `which` accepts.
    #[track_caller]
    pub fn assured6(&self, which: impl Fn(&FlowKey<Ipv6>) -> bool) -> usize {
        const KEY: usize = size_of::<FlowKey<Ipv6>>();
        const ROW: usize = size_of::<FlowRow<Ipv6>>();
        let map = MapData::from_pin(self.pins().join("maps").join(name::FLOWS6)).expect("a map");
        let rows: HashMap<_, [u8; KEY], [u8; ROW]> =
            HashMap::try_from(Map::HashMap(map)).expect("the flow table");
        rows.keys().filter(|key| which(&bytemuck::pod_read_unaligned(key.as_ref().expect("a key")))).count()
    }

    /// The folder of the instance's pins.
    #[track_caller]
    pub fn pins(&self) -> PathBuf {
        self.netd(&["--json", "status"]).ok().json()["pins"].as_str().expect("pins").into()
    }

    /// The pin of a BPF program. The programs are in a folder that has their digest for a name; there is one.
    #[track_caller]
    pub fn program(&self, name: &str) -> PathBuf {
        let folder = self.pins().join("programs");
        let mut sets =
            std::fs::read_dir(&folder).expect("the programs").map(|set| set.expect("a set").path());
        let (set, other) = (sets.next().expect("a set of programs"), sets.next());
        assert_eq!(other, None, "a second set of programs");
        set.join(name)
    }

    /// The publication of this host port as `netd ports --json` shows it.
    #[track_caller]
    pub fn port(&self, proto: &str, host_port: u16) -> Value {
        let ports = self.netd(&["--json", "ports"]).ok().json();
        let found = ports
            .as_array()
            .expect("an array")
            .iter()
            .find(|port| port["proto"] == proto && port["host_port"] == host_port);
        found.unwrap_or_else(|| panic!("no {proto} {host_port} in {ports}")).clone()
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The result does not matter: after a failed test a second failure would hide the first.
        let _down = self.netd_command(&["--quiet", "down"]).output();
    }
}

#[track_caller]
fn said(command: &mut Command, words: &[&str]) -> Said {
    Said::of(&command.output().expect("netd starts"), words)
}
