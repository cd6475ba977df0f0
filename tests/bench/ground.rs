//! The hosts of one contender, and its way of publishing ports.
//!
//! ```text
//! client 198.18.0.2 ── up0 198.18.0.1 host 172.17.0.1 docker0 ── eth0 172.17.0.2 container
//! flows' addresses 198.18.64.0/18 behind it   198.19.0.1 up1 ── eth0 198.19.0.2 backend
//! ```

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use netd_tests::netd_binary;
use netd_tests::netns::{Netns, own_prefix};
use serde_json::Value;
use tempfile::TempDir;

/// The host's address towards the client.
pub(crate) const HOST: [u8; 4] = [198, 18, 0, 1];
/// The container's address.
pub(crate) const CONTAINER: [u8; 4] = [172, 17, 0, 2];
/// The host's address on its other uplink.
pub(crate) const HOST_BEYOND: [u8; 4] = [198, 19, 0, 1];
/// The address of a machine beyond the host's other interface.
pub(crate) const BACKEND: [u8; 4] = [198, 19, 0, 2];
/// The first of the flows' addresses.
pub(crate) const FLOWS: [u8; 4] = [198, 18, 64, 0];

/// A published port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) proto: &'static str,
    pub(crate) port: u16,
    pub(crate) target: u16,
}

/// The web server's port, the last one that is published.
pub(crate) const HTTP: Published = Published { proto: "tcp", port: 60_000, target: 80 };
/// The web server's port in the middle: half of the other ports are published before it.
pub(crate) const MIDDLE: Published = Published { proto: "tcp", port: 60_001, target: 81 };
/// The port of bulk transfers.
pub(crate) const BULK: Published = Published { proto: "tcp", port: 60_002, target: 5201 };
/// The port of requests and responses.
pub(crate) const ECHO: Published = Published { proto: "tcp", port: 60_003, target: 7 };
/// The port of small packets.
pub(crate) const SMALL: Published = Published { proto: "udp", port: 60_004, target: 80 };
/// The port whose target is beyond another interface.
pub(crate) const FORWARDED: Published = Published { proto: "udp", port: 60_005, target: 80 };

/// Single ports: their target ports descend, so that no two of them form a range.
pub(crate) fn singles(numbers: Range<u32>) -> impl Iterator<Item = Published> {
    numbers.map(|number| {
        let port = u16::try_from(1024 + number).expect("as many ports as there are");
        Published { proto: "tcp", port, target: 65_000 - port }
    })
}

/// Ports in the order of their publication: `before` single ones with [`MIDDLE`] in the middle, then those that are
/// measured.
pub(crate) fn published(before: u32) -> Vec<Published> {
    singles(0..before / 2)
        .chain([MIDDLE])
        .chain(singles(before / 2..before))
        .chain([BULK, ECHO, SMALL, HTTP])
        .collect()
}

/// What carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// Nothing: client and container are directly connected. No forwarder is faster.
    Wire,
    /// The kernel's routing, to the container's own address.
    Routed,
    /// iptables with Docker's chains.
    Iptables,
    /// nftables with one map.
    Nft,
    /// netd.
    Netd,
    /// A BPF program that redirects every packet without reading it: the cost of the path into and out of a container.
    Bare,
}

impl Contender {
    /// All contenders.
    pub(crate) const ALL: [Self; 6] =
        [Self::Wire, Self::Routed, Self::Iptables, Self::Nft, Self::Netd, Self::Bare];

    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Routed => "routed",
            Self::Iptables => "iptables",
            Self::Nft => "nft",
            Self::Netd => "netd",
            Self::Bare => "bare redirect",
        }
    }

    /// Whether clients address the container itself.
    pub(crate) const fn is_direct(self) -> bool {
        matches!(self, Self::Wire | Self::Routed | Self::Bare)
    }
}

/// The options of a ground.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// Single ports published before those that are measured.
    pub(crate) before: u32,
    /// Whether the host receives the container's packets by NAPI, which live frames need.
    pub(crate) napi: bool,
    /// The size of netd's tables in connections; the default if zero.
    pub(crate) connections: u32,
    /// Whether [`FORWARDED`] is published.
    pub(crate) forward: bool,
    /// Settings of netd.
    pub(crate) netd: &'static [&'static str],
    /// The path of another netd than the one under test.
    pub(crate) binary: Option<&'static Path>,
}

/// The hosts.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The contender.
    pub(crate) contender: Contender,
    /// The options.
    pub(crate) terms: Terms,
    /// The client's namespace.
    pub(crate) client: Netns,
    /// The host's namespace; empty for the wire.
    pub(crate) host: Netns,
    /// The container's namespace.
    pub(crate) container: Netns,
    /// The namespace of the machine beyond the host's other interface.
    pub(crate) backend: Netns,
    folder: TempDir,
    /// The host's end of the container's veth.
    pub(crate) veth: String,
}

/// The prefix of this run's folders.
pub(crate) fn folder_prefix() -> String {
    format!("netd-bench-{}", own_prefix())
}

/// A folder of this run.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix(&folder_prefix()).tempdir().expect("a folder")
}

/// Where netd keeps its state in such a folder.
pub(crate) fn state_in(folder: &Path) -> PathBuf {
    folder.join("state")
}

fn dotted(address: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

impl Ground {
    /// Makes the hosts.
    pub(crate) fn new(contender: Contender, terms: Terms) -> Self {
        let mut ground = Self {
            contender,
            terms,
            client: Netns::new("client"),
            host: Netns::new("host"),
            container: Netns::new("container"),
            backend: Netns::new("backend"),
            folder: folder(),
            veth: "veth0".to_owned(),
        };
        for netns in [&ground.client, &ground.host, &ground.container, &ground.backend] {
            // Every namespace may use reno. Unlike bbr, the default of some machines, it does no pacing, so a sender's
            // timers are not measured.
            netns.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1 \
                net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.tcp_congestion_control=reno");
        }
        if contender == Contender::Wire {
            ground.wire();
            return ground;
        }
        ground.host_between();
        match contender {
            Contender::Wire => {}
            Contender::Routed => ground.bridge(),
            Contender::Bare => ground.veth(),
            Contender::Iptables => {
                ground.bridge();
                ground.iptables();
            }
            Contender::Nft => {
                ground.bridge();
                ground.nft();
            }
            Contender::Netd => ground.netd_network(),
        }
        if terms.forward {
            ground.forward();
        }
        let (host, veth) = (&ground.host, &ground.veth);
        host.sh("ethtool -K up0 gro on && ethtool -K up1 gro on");
        if terms.napi {
            host.sh(&format!("ethtool -K {veth} gro on"));
        }
        ground
    }

    /// The address that clients use.
    pub(crate) fn address(&self, published: Published) -> ([u8; 4], u16) {
        if self.contender.is_direct() { (CONTAINER, published.target) } else { (HOST, published.port) }
    }

    /// The same for programs.
    pub(crate) fn socket(&self, published: Published) -> SocketAddr {
        let (address, port) = self.address(published);
        SocketAddr::from((address, port))
    }

    fn wire(&self) {
        self.client.ip(&format!("link add eth0 type veth peer name eth0 netns {}", self.container.name));
        for (netns, address, other) in
            [(&self.client, "198.18.0.2", "172.17.0.2"), (&self.container, "172.17.0.2", "198.18.0.2")]
        {
            netns.ip(&format!("address add {address}/32 dev eth0"));
            netns.ip("link set eth0 up");
            netns.ip(&format!("route add {other} dev eth0"));
            netns.sh("ethtool -K eth0 gro on");
        }
        self.container.ip("route add default via 198.18.0.2");
    }

    fn host_between(&self) {
        let host = &self.host;
        for (name, far) in [("up0", &self.client), ("up1", &self.backend)] {
            host.ip(&format!("link add {name} type veth peer name eth0 netns {}", far.name));
        }
        for (netns, interface, address) in [
            (&self.client, "eth0", "198.18.0.2/24"),
            (host, "up0", "198.18.0.1/24"),
            (host, "up1", "198.19.0.1/24"),
            (&self.backend, "eth0", "198.19.0.2/24"),
        ] {
            netns.ip(&format!("address add {address} dev {interface}"));
            netns.ip(&format!("link set {interface} up"));
        }
        if self.terms.forward {
            // As with network cards: checksums are complete before XDP, and the other end accepts redirected frames.
            for far in [&self.client, &self.backend] {
                far.sh("ethtool -K eth0 tx off gro on");
            }
        }
        self.client.ip("route add default via 198.18.0.1");
        self.backend.ip("route add default via 198.19.0.1");
        host.ip("route add default via 198.19.0.2");
        host.ip("route add 198.18.64.0/18 via 198.18.0.2");
        // Static neighbours, so that the first packets do not wait for ARP.
        host.sh("ping -q -c 1 -W 2 198.18.0.2 && ping -q -c 1 -W 2 198.19.0.2");
    }

    /// As Docker makes it.
    fn bridge(&self) {
        let host = &self.host;
        host.sh("sysctl -qw net.ipv4.ip_forward=1");
        host.ip("link add docker0 type bridge");
        host.ip("address add 172.17.0.1/16 dev docker0");
        host.ip("link set docker0 up");
        self.veth();
        host.ip(&format!("link set {} master docker0", self.veth));
        self.container.ip("route add default via 172.17.0.1");
        host.sh("ping -q -c 1 -W 2 172.17.0.2");
    }

    fn veth(&self) {
        let host = &self.host;
        host.ip(&format!("link add {} type veth peer name eth0 netns {}", self.veth, self.container.name));
        host.ip(&format!("link set {} up", self.veth));
        self.container.ip("address add 172.17.0.2/16 dev eth0");
        self.container.ip("link set eth0 up");
    }

    fn iptables(&self) {
        self.patience();
        self.feed("iptables-restore", &docker_rules(&published(self.terms.before)));
    }

    fn nft(&self) {
        self.patience();
        self.feed("nft -f -", &nft_rules(&published(self.terms.before)));
    }

    /// Raises conntrack's UDP timeouts, so that connections last from one round to the next.
    fn patience(&self) {
        self.host.sh("sysctl -qw net.netfilter.nf_conntrack_udp_timeout=3600 net.netfilter.nf_conntrack_udp_timeout_stream=3600");
    }

    /// Publishes [`FORWARDED`], whose target is the backend, which sees the host for the client.
    fn forward(&self) {
        let Published { proto, port, target } = FORWARDED;
        match self.contender {
            Contender::Iptables => {
                self.host.sh(&format!(
                    "iptables -t nat -A DOCKER ! -i docker0 -p {proto} --dport {port} -j DNAT --to-destination 198.19.0.2:{target} \
                     && iptables -t nat -A POSTROUTING -d 198.19.0.2/32 -p {proto} --dport {target} -j MASQUERADE \
                     && iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT \
                     && iptables -A FORWARD -d 198.19.0.2/32 -p {proto} --dport {target} -j ACCEPT"
                ));
            }
            Contender::Nft => self.feed(
                "nft -f -",
                &format!(
                    "add element ip nat {proto}_ports {{ {port} : 198.19.0.2 . {target} }}\n\
                     add rule ip nat postrouting ip daddr 198.19.0.2 {proto} dport {target} masquerade\n"
                ),
            ),
            Contender::Netd => {
                self.run_netd(&["publish", &FORWARDED.spec(), "198.19.0.2"]);
            }
            Contender::Wire | Contender::Routed | Contender::Bare => {}
        }
    }

    /// Runs a command in the host with this for its input.
    pub(crate) fn feed(&self, line: &str, input: &str) {
        let mut child = self
            .host
            .command("sh")
            .args(["-c", line])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {line}: {error}"));
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("write to a pipe");
        let status = child.wait().expect("wait for a child");
        assert!(status.success(), "{line}: {status}");
    }

    /// netd, in the host.
    pub(crate) fn netd(&self, words: &[&str]) -> Command {
        let binary = self.terms.binary.map_or_else(netd_binary, Path::to_path_buf);
        let mut command = self.host.command(&binary.to_string_lossy());
        command.arg("--state-dir").arg(state_in(self.folder.path())).args(words);
        command.env("NETD_NO_SERVE", "1");
        command
    }

    /// Runs netd and returns what it prints.
    #[track_caller]
    pub(crate) fn run_netd(&self, words: &[&str]) -> String {
        let output = self.netd(words).output().expect("netd starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "netd {}: {stderr}", words.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What netd prints, as JSON.
    fn netd_json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.run_netd(&[&["--json"], words].concat())).expect("netd's JSON")
    }

    /// netd's status.
    pub(crate) fn status(&self) -> Value {
        self.netd_json(&["status"])
    }

    /// Waits for more than a tick (about a second), after which netd's connections can become assured.
    pub(crate) fn outlive_a_tick(&self) {
        if self.contender == Contender::Netd {
            std::thread::sleep(Duration::from_millis(1_200));
        }
    }

    /// The container's name to netd.
    pub(crate) const CONTAINER_NAME: &'static str = "web";

    fn netd_network(&mut self) {
        let netns = self.container.path();
        let netns = netns.to_string_lossy();
        let room = format!("max-connections={}", self.terms.connections);
        let room = (self.terms.connections != 0).then_some(room.as_str());
        let settings: Vec<&str> = self.terms.netd.iter().copied().chain(room).collect();
        if !settings.is_empty() {
            self.run_netd(&[&["set"], &settings[..]].concat());
        }
        self.run_netd(&["container", "add", Self::CONTAINER_NAME, "--netns", &netns]);
        let inspected = self.netd_json(&["container", "inspect", Self::CONTAINER_NAME]);
        inspected["host_interface"].as_str().expect("a name").clone_into(&mut self.veth);
        assert_eq!(inspected["addresses"][0]["ip"], dotted(CONTAINER), "the container's address");
        self.run_netd(&["timeouts", "one_way=1h", "two_way=1h"]);
        self.publish(&published(self.terms.before));
    }

    /// Publishes ports of the container in one command.
    pub(crate) fn publish(&self, ports: &[Published]) {
        let words: Vec<String> = ports.iter().map(Published::spec).collect();
        let mut all = vec!["publish"];
        all.extend(words.iter().map(String::as_str));
        all.push(Self::CONTAINER_NAME);
        self.run_netd(&all);
    }
}

impl Published {
    /// The specifications, as for `docker run -p`.
    pub(crate) fn spec(&self) -> String {
        format!("{}:{}/{}", self.port, self.target, self.proto)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.contender == Contender::Netd {
            let _down = self.netd(&["--quiet", "down"]).output();
        }
    }
}

/// The three rules of a published port, as Docker 20.10 appends them: of `nat` two, of `filter` one.
pub(crate) fn docker_rule(published: &Published) -> [String; 3] {
    let Published { proto, port, target } = published;
    [
        format!(
            "POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p {proto} -m {proto} --dport {target} -j MASQUERADE"
        ),
        format!(
            "DOCKER ! -i docker0 -p {proto} -m {proto} --dport {port} -j DNAT --to-destination 172.17.0.2:{target}"
        ),
        format!(
            "DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p {proto} -m {proto} --dport {target} -j ACCEPT"
        ),
    ]
}

/// All iptables rules that Docker 20.10 makes for a container with these ports, in its order.
pub(crate) fn docker_rules(ports: &[Published]) -> String {
    let [mut hairpin, mut nat, mut filter] = [const { String::new() }; 3];
    for published in ports {
        for (rules, rule) in [&mut hairpin, &mut nat, &mut filter].into_iter().zip(docker_rule(published)) {
            let _ = writeln!(rules, "-A {rule}");
        }
    }
    format!(
        "*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n:DOCKER -\n\
         -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
         -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
         -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n{hairpin}\
         -A DOCKER -i docker0 -j RETURN\n{nat}COMMIT\n\
         *filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n:DOCKER -\n:DOCKER-ISOLATION-STAGE-1 -\n\
         :DOCKER-ISOLATION-STAGE-2 -\n:DOCKER-USER -\n\
         -A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
         -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A FORWARD -o docker0 -j DOCKER\n-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n\
         -A FORWARD -i docker0 -o docker0 -j ACCEPT\n{filter}\
         -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2\n\
         -A DOCKER-ISOLATION-STAGE-1 -j RETURN\n-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP\n\
         -A DOCKER-ISOLATION-STAGE-2 -j RETURN\n-A DOCKER-USER -j RETURN\nCOMMIT\n"
    )
}

/// The same with one nftables map for each protocol.
pub(crate) fn nft_rules(ports: &[Published]) -> String {
    let elements = |proto: &str| -> String {
        let all: Vec<String> =
            ports.iter().filter(|published| published.proto == proto).map(nft_element).collect();
        all.join(", ")
    };
    let (tcp, udp) = (elements("tcp"), elements("udp"));
    format!(
        "table ip nat {{\n map tcp_ports {{ type inet_service : ipv4_addr . inet_service; elements = {{ {tcp} }}; }}\n\
         map udp_ports {{ type inet_service : ipv4_addr . inet_service; elements = {{ {udp} }}; }}\n\
         chain prerouting {{ type nat hook prerouting priority dstnat; fib daddr type local dnat ip to tcp dport map @tcp_ports\n\
         fib daddr type local dnat ip to udp dport map @udp_ports; }}\n\
         chain output {{ type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to tcp dport map @tcp_ports; }}\n\
         chain postrouting {{ type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade; }}\n}}\n\
         table ip filter {{\n chain forward {{ type filter hook forward priority filter; policy drop; ct state established,related accept\n\
         ct status dnat accept\n iifname \"docker0\" accept; }}\n}}\n"
    )
}

/// The commands that add ports to such a map, or delete them.
pub(crate) fn nft_change(verb: &str, ports: &[Published]) -> String {
    let elements: Vec<String> = ports.iter().map(nft_element).collect();
    format!("{verb} element ip nat tcp_ports {{ {} }}\n", elements.join(", "))
}

/// A port in such a map.
fn nft_element(published: &Published) -> String {
    format!("{} : 172.17.0.2 . {}", published.port, published.target)
}
