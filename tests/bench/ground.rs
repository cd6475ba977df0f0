//! The hosts of one contender, and its way of publishing ports.
//!
//! ```text
//! client 198.18.0.2 ── up0 198.18.0.1 host 172.17.0.1 docker0 ── eth0 172.17.0.2 container
//! flows' addresses 198.18.64.0/18 behind it   198.19.0.1 up1 ── eth0 198.19.0.2 backend
//! ```

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use netd_tests::netd_binary;
use netd_tests::netns::Netns;
use tempfile::TempDir;

/// The host's address towards the client.
pub const HOST: [u8; 4] = [198, 18, 0, 1];
/// The container's.
pub const CONTAINER: [u8; 4] = [172, 17, 0, 2];
/// Of a machine beyond the host's other interface.
pub const BACKEND: [u8; 4] = [198, 19, 0, 2];
/// Where the flows' addresses begin.
pub const FLOWS: [u8; 4] = [198, 18, 64, 0];
/// The published port that is measured, which is the last to be published.
pub const PORT: u16 = 60_000;
/// The container's.
pub const TARGET: u16 = 80;

/// Who carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// Nobody: client and container share a wire. No forwarder is faster.
    Wire,
    /// The kernel, to the container's own address.
    Routed,
    /// Docker's chains.
    Iptables,
    /// One map.
    Nft,
    /// Us.
    Netd,
}

impl Contender {
    /// As tables name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Routed => "routed",
            Self::Iptables => "iptables",
            Self::Nft => "nft",
            Self::Netd => "netd",
        }
    }

    /// Whether clients address the container itself.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Wire | Self::Routed)
    }
}

/// What is special about a ground.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Ports published before [`PORT`].
    pub before: u32,
    /// Whether the host takes the container's packets by NAPI, as live frames need.
    pub napi: bool,
    /// Connections that netd's tables shall have room for; the default if zero.
    pub connections: u32,
    /// More words for netd.
    pub netd: &'static [&'static str],
}

/// The hosts.
#[derive(Debug)]
pub struct Ground {
    /// Who carries.
    pub contender: Contender,
    /// On what terms.
    pub terms: Terms,
    /// Where packets come from.
    pub client: Netns,
    /// In the middle; nothing is in it for the wire.
    pub host: Netns,
    /// Behind the published port.
    pub container: Netns,
    /// Beyond the host's other interface.
    pub backend: Netns,
    folder: TempDir,
    /// The host's end of the container's veth.
    pub veth: String,
}

fn dotted(address: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

impl Ground {
    /// Makes the hosts.
    pub fn new(contender: Contender, terms: Terms) -> Self {
        let mut ground = Self {
            contender,
            terms,
            client: Netns::new("client"),
            host: Netns::new("host"),
            container: Netns::new("container"),
            backend: Netns::new("backend"),
            folder: tempfile::Builder::new().prefix("netd-bench-").tempdir().expect("a folder"),
            veth: "veth0".to_owned(),
        };
        for netns in [&ground.client, &ground.host, &ground.container, &ground.backend] {
            netns.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1 \
                net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
        }
        if contender == Contender::Wire {
            ground.wire();
            return ground;
        }
        ground.host_between();
        match contender {
            Contender::Wire => {}
            Contender::Routed => ground.bridge(),
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
        let (host, veth) = (&ground.host, &ground.veth);
        host.sh("ethtool -K up0 gro on && ethtool -K up1 gro on");
        if terms.napi {
            host.sh(&format!("ethtool -K {veth} gro on"));
        }
        ground
    }

    /// What clients address.
    pub fn address(&self) -> ([u8; 4], u16) {
        if self.contender.is_direct() { (CONTAINER, TARGET) } else { (HOST, PORT) }
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
        self.client.ip("route add default via 198.18.0.1");
        self.backend.ip("route add default via 198.19.0.1");
        host.ip("route add default via 198.19.0.2");
        host.ip("route add 198.18.64.0/18 via 198.18.0.2");
        // Nobody answers for the neighbours' neighbours; the first packets are not to wait for ARP.
        host.sh("ping -q -c 1 -W 2 198.18.0.2 && ping -q -c 1 -W 2 198.19.0.2");
    }

    /// As Docker makes it.
    fn bridge(&self) {
        let host = &self.host;
        host.sh("sysctl -qw net.ipv4.ip_forward=1");
        host.ip("link add docker0 type bridge");
        host.ip("address add 172.17.0.1/16 dev docker0");
        host.ip("link set docker0 up");
        host.ip(&format!("link add {} type veth peer name eth0 netns {}", self.veth, self.container.name));
        host.ip(&format!("link set {} master docker0 up", self.veth));
        self.container.ip("address add 172.17.0.2/16 dev eth0");
        self.container.ip("link set eth0 up");
        self.container.ip("route add default via 172.17.0.1");
        host.sh("ping -q -c 1 -W 2 172.17.0.2");
    }

    /// The ports in the order of their publication: [`PORT`] is the last.
    pub fn ports(before: u32) -> impl Iterator<Item = (u16, u16)> {
        // Every other one of those there are, as long as there are enough: none of them makes a range with its neighbour.
        let step = if before < 29_000 { 2 } else { 1 };
        (0..before).map(move |number| {
            let port = u16::try_from(1024 + number * step).expect("as many ports as there are");
            (port, port)
        })
    }

    fn iptables(&self) {
        self.feed("iptables-restore", &docker_rules(self.terms.before, "udp tcp"));
    }

    fn nft(&self) {
        self.feed("nft -f -", &nft_rules(self.terms.before));
    }

    /// Runs a command in the host with this for its input.
    pub fn feed(&self, line: &str, input: &str) {
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
    pub fn netd(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(&netd_binary().to_string_lossy());
        command.arg("--state-dir").arg(self.folder.path().join("state")).args(self.terms.netd).args(words);
        if self.terms.connections != 0 {
            command.args(["--max-connections", &self.terms.connections.to_string()]);
        }
        command
    }

    /// Runs netd and returns what it prints.
    #[track_caller]
    pub fn run_netd(&self, words: &[&str]) -> String {
        let output = self.netd(words).output().expect("netd starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "netd {}: {stderr}", words.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The container's name to netd.
    pub const CONTAINER_NAME: &'static str = "web";

    fn netd_network(&mut self) {
        let netns = self.container.path();
        let netns = netns.to_string_lossy();
        self.run_netd(&["container", "add", Self::CONTAINER_NAME, "--netns", &netns]);
        let inspected = self.run_netd(&["--json", "container", "inspect", Self::CONTAINER_NAME]);
        let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("netd's JSON");
        inspected["host_interface"].as_str().expect("a name").clone_into(&mut self.veth);
        assert_eq!(inspected["addresses"][0]["ip"], dotted(CONTAINER), "the container's address");
        for proto in ["tcp", "udp"] {
            self.run_netd(&["publish", &format!("{PORT}:{TARGET}/{proto}"), Self::CONTAINER_NAME]);
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.contender == Contender::Netd {
            let _down = self.netd(&["--quiet", "down"]).output();
        }
    }
}

/// What Docker 20.10 tells iptables for a container with these ports, in its order.
pub fn docker_rules(before: u32, protocols: &str) -> String {
    let mut nat = String::new();
    let mut hairpin = String::new();
    let mut filter = String::new();
    let measured = protocols.split(' ').map(|proto| (PORT, TARGET, proto));
    for (port, target, proto) in
        Ground::ports(before).map(|(port, target)| (port, target, "tcp")).chain(measured)
    {
        let _ = writeln!(nat, "-A DOCKER ! -i docker0 -p {proto} -m {proto} --dport {port} -j DNAT --to-destination 172.17.0.2:{target}");
        let _ = writeln!(hairpin, "-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p {proto} -m {proto} --dport {target} -j MASQUERADE");
        let _ = writeln!(filter, "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p {proto} -m {proto} --dport {target} -j ACCEPT");
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

/// The same by one map.
pub fn nft_rules(before: u32) -> String {
    let mut tcp = format!("{PORT} : 172.17.0.2 . {TARGET}");
    for (port, target) in Ground::ports(before) {
        let _ = write!(tcp, ", {port} : 172.17.0.2 . {target}");
    }
    format!(
        "table ip nat {{\n map tcp_ports {{ type inet_service : ipv4_addr . inet_service; elements = {{ {tcp} }}; }}\n\
         map udp_ports {{ type inet_service : ipv4_addr . inet_service; elements = {{ {PORT} : 172.17.0.2 . {TARGET} }}; }}\n\
         chain prerouting {{ type nat hook prerouting priority dstnat; fib daddr type local dnat ip to tcp dport map @tcp_ports\n\
         fib daddr type local dnat ip to udp dport map @udp_ports; }}\n\
         chain output {{ type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to tcp dport map @tcp_ports; }}\n\
         chain postrouting {{ type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade; }}\n}}\n\
         table ip filter {{\n chain forward {{ type filter hook forward priority filter; policy drop; ct state established,related accept\n\
         ct status dnat accept\n iifname \"docker0\" accept; }}\n}}\n"
    )
}
