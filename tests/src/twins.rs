//! One topology twice: once with the kernel's routing, conntrack and nftables rules like Docker's, once with
//! netd. It has four ends, each a packet socket; the stacks at the ends send nothing of their own.
//!
//! ```text
//! client ── up0 host up1 ── outside
//!               │
//!             bridge ── first (10.77.0.2, fd77::2), second (10.77.0.3, fd77::3)
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::netns::{Netns, run_in};
use crate::stimulus::{Body, Stimulus, Tuple};
use crate::tap::{Tap, mac, wait_for_any};

/// Where packets go in and come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A neighbour on the host's first uplink.
    Client,
    /// The router on the host's second uplink, where the default route leads.
    Outside,
    /// A container.
    First,
    /// Another container of the same network.
    Second,
}

impl End {
    /// Every end.
    pub const ALL: [Self; 4] = [Self::Client, Self::Outside, Self::First, Self::Second];

    /// Whether it is a container.
    pub fn is_container(self) -> bool {
        matches!(self, Self::First | Self::Second)
    }
}

/// The containers' subnet, IPv4: its first three bytes.
const SUBNET: &str = "10.77.0";
/// The containers' subnet, IPv6.
const SUBNET6: &str = "fd77:";
/// How many neighbours are on the client's link, starting at the client's address.
pub const CLIENTS: u8 = 16;

/// The `number`th address of the containers' subnet: the gateway has 1, the containers 2 and 3.
pub fn inside(v6: bool, number: u8) -> IpAddr {
    let text = if v6 { format!("{SUBNET6}:{number:x}") } else { format!("{SUBNET}.{number}") };
    text.parse().expect("an address")
}

/// The host's address on the uplink of an end.
pub fn host(v6: bool, end: End) -> IpAddr {
    let outside = end == End::Outside;
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, if outside { 0x19 } else { 0x18 }, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(198, if outside { 19 } else { 18 }, 0, 1).into()
    }
}

/// The `number`th neighbour on the client's link.
pub fn client(v6: bool, number: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0x18, 0, 0, 0, 0, 2 + u16::from(number)).into()
    } else {
        Ipv4Addr::new(198, 18, 0, 2 + number).into()
    }
}

/// The address of the router outside.
pub fn outside(v6: bool) -> IpAddr {
    if v6 { crate::lab::OUTSIDE6 } else { crate::lab::OUTSIDE }.parse().expect("an address")
}

/// The `number`th address beyond the router outside.
pub fn far(v6: bool, number: u16) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, number).into()
    } else {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(100, 64, high, low).into()
    }
}

/// A range of host ports, one protocol, both families.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// `tcp` or `udp`.
    pub proto: &'static str,
    /// First host port.
    pub host_port: u16,
    /// How many ports.
    pub count: u16,
    /// The container that they lead to, or the machine outside.
    pub container: End,
    /// First port there.
    pub port: u16,
    /// Whether it is on the host's addresses towards the client only.
    pub bound: bool,
}

const fn published(proto: &'static str, host_port: u16, container: End, port: u16) -> Published {
    Published { proto, host_port, count: 1, container, port, bound: false }
}

/// What both hosts publish.
pub const PUBLISHED: [Published; 11] = [
    published("tcp", 8080, End::First, 80),
    published("tcp", 8081, End::First, 80),
    published("tcp", 8443, End::First, 8443),
    published("tcp", 8082, End::Second, 80),
    published("udp", 5353, End::First, 53),
    published("udp", 5354, End::Second, 53),
    published("udp", 5355, End::First, 53),
    Published { count: 10, ..published("tcp", 30_000, End::First, 31_000) },
    Published { count: 10, ..published("udp", 30_000, End::Second, 31_000) },
    Published { bound: true, ..published("tcp", 9000, End::Second, 90) },
    published("udp", SENTINEL, End::First, SENTINEL),
];

/// Ports of the machine outside that both hosts publish for IPv4; the next host port is for IPv6.
pub const FORWARDED: [Published; 2] =
    [published("tcp", 8090, End::Outside, 80), published("udp", 5390, End::Outside, 53)];

/// The destination and source port of the last packet of an exchange.
const SENTINEL: u16 = 4000;
/// Longer than any exchange takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The outcome of the packets that an end sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What arrived where, in order for each end.
    pub arrived: Vec<(End, Vec<u8>)>,
    /// Whether conntrack called one of the packets invalid.
    pub judged: bool,
}

/// A host with its neighbours and containers.
#[derive(Debug)]
pub struct World {
    /// The hosts. Declared before the containers' namespaces, so that netd removes its own part first.
    pub lab: Lab,
    _namespaces: Vec<Netns>,
    taps: [Tap; 4],
    /// The host's MAC address as each end sees it.
    gateways: [[u8; 6]; 4],
    /// Where conntrack's invalid packets are routed to.
    judge: Option<Tap>,
    exchanges: u32,
}

impl World {
    /// The host with netd.
    pub fn netd() -> Self {
        let lab = Lab::new();
        let subnets = [format!("{SUBNET}.0/24"), format!("{SUBNET6}:/64")];
        let bridge = "br77";
        // As long as in the other world, and longer than an exchange takes on a busy machine.
        lab.netd(&["timeouts", "one_way=20m", "two_way=20m", "echo=20m", "generic=20m"]).ok();
        lab.netd(&[
            "network",
            "create",
            "twin",
            "--subnet",
            &subnets[0],
            "--subnet",
            &subnets[1],
            "--bridge",
            bridge,
        ])
        .ok();
        let names: Vec<String> = [End::First, End::Second]
            .map(|end| {
                let mut words = vec!["--network".to_owned(), "twin".to_owned()];
                for spec in PUBLISHED.iter().filter(|entry| entry.container == end).flat_map(Published::specs)
                {
                    words.extend(["-p".to_owned(), spec]);
                }
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                lab.container(if end == End::First { "first" } else { "second" }, &words)
            })
            .into();
        for v6 in [false, true] {
            let specs = FORWARDED.map(|entry| entry.forwarded(v6).specs().remove(0));
            lab.netd(&["publish", &specs[0], &specs[1], &outside(v6).to_string()]).ok();
        }
        let paths: Vec<PathBuf> = names.iter().map(|name| Path::new("/run/netns").join(name)).collect();
        Self::finish(lab, Vec::new(), &paths, bridge, None)
    }

    /// The host with nftables.
    pub fn nftables() -> Self {
        let lab = Lab::new();
        let bridge = "br77";
        lab.host.ip(&format!("link add {bridge} type bridge"));
        lab.host.ip(&format!("address add {} dev {bridge}", format_args!("{SUBNET}.1/24")));
        lab.host.ip(&format!("address add {} dev {bridge} nodad", format_args!("{SUBNET6}:1/64")));
        lab.host.ip(&format!("link set {bridge} up"));
        let containers: Vec<Netns> = ["first", "second"]
            .map(|name| {
                let netns = Netns::new(name);
                lab.host.ip(&format!("link add {name} type veth peer name eth0 netns {}", netns.name));
                lab.host.ip(&format!("link set {name} master {bridge} up"));
                netns.ip("link set eth0 up");
                netns
            })
            .into();
        let paths: Vec<PathBuf> = containers.iter().map(Netns::path).collect();
        let judge = Netns::new("judge");
        lab.host.ip(&format!("link add judge0 type veth peer name eth0 netns {}", judge.name));
        lab.host.ip("link set judge0 up");
        judge.ip("link set eth0 up");
        mute(&judge.path());
        let tap = Tap::open(&judge.path(), "eth0");
        let far_mac = mac_text(tap.mac);
        for (family, hop) in [("-4", "192.0.2.1"), ("-6", "fe80::1")] {
            lab.host.sh(&format!(
                "ip {family} rule add pref 1 fwmark 1 lookup 100
                 ip {family} rule add pref 2 lookup local
                 ip {family} rule delete pref 0
                 ip {family} neighbour add {hop} lladdr {far_mac} dev judge0 nud permanent
                 ip {family} route add default via {hop} dev judge0 onlink table 100"
            ));
        }
        lab.host.sh(SWITCHES);
        let rules = lab.folder.path().join("rules.nft");
        std::fs::write(&rules, ruleset(bridge)).expect("write the rules");
        lab.host.sh(&format!("nft -f {}", rules.display()));
        let namespaces = containers.into_iter().chain([judge]).collect();
        Self::finish(lab, namespaces, &paths, bridge, Some(tap))
    }

    fn finish(lab: Lab, namespaces: Vec<Netns>, paths: &[PathBuf], bridge: &str, judge: Option<Tap>) -> Self {
        let ends = [lab.client.path(), lab.outside.path(), paths[0].clone(), paths[1].clone()];
        for end in &ends {
            mute(end);
        }
        let taps = ends.map(|end| Tap::open(&end, "eth0"));
        let mut neighbours = String::new();
        for (end, interface, tap) in [
            (End::Client, "up0", &taps[0]),
            (End::Outside, "up1", &taps[1]),
            (End::First, bridge, &taps[2]),
            (End::Second, bridge, &taps[3]),
        ] {
            for v6 in [false, true] {
                let addresses: Vec<IpAddr> = match end {
                    End::Client => (0..CLIENTS).map(|number| client(v6, number)).collect(),
                    End::Outside => vec![outside(v6)],
                    End::First => vec![inside(v6, 2)],
                    End::Second => vec![inside(v6, 3)],
                };
                for address in addresses {
                    writeln!(
                        neighbours,
                        "ip neighbour replace {address} lladdr {} dev {interface} nud permanent",
                        mac_text(tap.mac)
                    )
                    .expect("a string takes all");
                }
            }
        }
        lab.host.sh(&neighbours);
        // The answers of both hosts are compared, so neither may limit their rate.
        lab.host.sh(
            "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=1000000 net.ipv6.icmp.ratelimit=0
             for switch in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$switch; done
             for switch in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$switch; done",
        );
        let [up0, up1, inner] = ["up0", "up1", bridge].map(|name| mac(&lab.host.path(), name));
        Self { lab, _namespaces: namespaces, taps, gateways: [up0, up1, inner, inner], judge, exchanges: 0 }
    }

    /// Sends packets from an end, one after the other, and returns the outcome when nothing more can arrive.
    ///
    /// If the calling thread stays on one CPU, all packets pass that CPU's queue in order: after the last packet, all
    /// earlier ones have passed.
    pub fn exchange(&mut self, from: End, packets: &[Vec<u8>]) -> Outcome {
        let (tap, gateway) = (&self.taps[from as usize], self.gateways[from as usize]);
        for packet in packets {
            tap.send(gateway, packet);
        }
        self.exchanges += 1;
        let mark = [b"the last of the exchange".as_slice(), &self.exchanges.to_be_bytes()].concat();
        tap.send(gateway, &last(from, mark.clone()));
        let deadline = Instant::now() + PATIENCE;
        let mut outcome = Outcome::default();
        let mut is_over = false;
        while !is_over {
            for (end, tap) in End::ALL.into_iter().zip(&self.taps) {
                while let Some(packet) = tap.receive() {
                    if packet.ends_with(&mark) {
                        is_over = true;
                    } else {
                        outcome.arrived.push((end, packet));
                    }
                }
            }
            if !is_over {
                wait_for_any(&self.taps.each_ref(), deadline);
            }
        }
        // Packets that arrived at an end after it was read.
        for (end, tap) in End::ALL.into_iter().zip(&self.taps) {
            while let Some(packet) = tap.receive() {
                outcome.arrived.push((end, packet));
            }
        }
        outcome.arrived.sort_by_key(|(end, _)| *end);
        while self.judge.as_ref().is_some_and(|judge| judge.receive().is_some()) {
            outcome.judged = true;
        }
        outcome
    }
}

impl Published {
    /// As arguments of netd; a publication on single addresses needs one for each family.
    fn specs(&self) -> Vec<String> {
        let span = |first: u16| match self.count {
            1 => first.to_string(),
            count => format!("{first}-{}", first + count - 1),
        };
        let ports = format!("{}:{}/{}", span(self.host_port), span(self.port), self.proto);
        if self.bound {
            [false, true]
                .map(|v6| match host(v6, End::Client) {
                    IpAddr::V4(address) => format!("{address}:{ports}"),
                    IpAddr::V6(address) => format!("[{address}]:{ports}"),
                })
                .into()
        } else {
            vec![ports]
        }
    }

    /// The same for a family, if it is [`FORWARDED`].
    #[must_use]
    pub fn forwarded(self, v6: bool) -> Self {
        Self { host_port: self.host_port + u16::from(v6), ..self }
    }

    /// The container port behind a host port.
    pub fn target(&self, host_port: u16) -> u16 {
        self.port + (host_port - self.host_port)
    }
}

/// The packet after which an exchange is over.
fn last(from: End, payload: Vec<u8>) -> Vec<u8> {
    let (src, dst) = match from {
        End::Client => (client(false, 0), host(false, End::Client)),
        End::Outside => (outside(false), host(false, End::Outside)),
        End::First => (inside(false, 2), outside(false)),
        End::Second => (inside(false, 3), outside(false)),
    };
    let tuple = Tuple { src, dst, sport: 4444 + from as u16, dport: SENTINEL };
    Stimulus { payload, ..Stimulus::new(Body::Udp) }.packets(&tuple).remove(0)
}

/// Keeps a namespace's own stack from sending: without addresses it sends nothing.
fn mute(netns: &Path) {
    let line = "ip address flush dev eth0 && sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1";
    let status = run_in(netns, || Command::new("sh").args(["-c", line]).status().expect("sh starts"));
    assert!(status.success(), "{}: {line}: {status}", netns.display());
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Configures the kernel's NAT: forwarding; no checks of checksums and sequence numbers, like netd; netd's timeouts;
/// and routing of packets from the bridge to the bridge.
const SWITCHES: &str = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
     net.netfilter.nf_conntrack_checksum=0 net.netfilter.nf_conntrack_tcp_be_liberal=1 \
     net.netfilter.nf_conntrack_tcp_ignore_invalid_rst=1 net.netfilter.nf_conntrack_tcp_loose=1 \
     net.netfilter.nf_conntrack_udp_timeout=1200 net.netfilter.nf_conntrack_udp_timeout_stream=1200 \
     net.netfilter.nf_conntrack_icmp_timeout=1200 net.netfilter.nf_conntrack_icmpv6_timeout=1200 \
     net.netfilter.nf_conntrack_generic_timeout=1200
     sysctl -qe -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0";

/// The essential rules of Docker, for nftables. Packets that conntrack calls invalid go to a separate link, where the
/// test sees them; with Docker they pass untranslated.
fn ruleset(bridge: &str) -> String {
    let mut rules = String::new();
    for v6 in [false, true] {
        let family = if v6 { "ip6" } else { "ip" };
        let subnet = if v6 { format!("{SUBNET6}:/64") } else { format!("{SUBNET}.0/24") };
        let (mut dnat, mut accept, mut own) = (String::new(), String::new(), String::new());
        for entry in &PUBLISHED {
            let target = inside(v6, if entry.container == End::First { 2 } else { 3 });
            let bound = if entry.bound {
                format!("{family} daddr {} ", host(v6, End::Client))
            } else {
                String::new()
            };
            for port in entry.host_port..entry.host_port + entry.count {
                let (proto, inner) = (entry.proto, entry.target(port));
                let to = if v6 { format!("[{target}]:{inner}") } else { format!("{target}:{inner}") };
                writeln!(dnat, "{bound}{proto} dport {port} dnat to {to}").expect("a string takes all");
                writeln!(accept, "{family} daddr {target} {proto} dport {inner} accept")
                    .expect("a string takes all");
                writeln!(
                    own,
                    "{family} saddr {target} {family} daddr {target} {proto} dport {inner} masquerade"
                )
                .expect("a string takes all");
            }
        }
        for entry in FORWARDED.map(|entry| entry.forwarded(v6)) {
            let Published { proto, host_port, port, .. } = entry;
            let target = outside(v6);
            let to = if v6 { format!("[{target}]:{port}") } else { format!("{target}:{port}") };
            writeln!(dnat, "{proto} dport {host_port} dnat to {to}").expect("a string takes all");
            writeln!(accept, "{family} daddr {target} {proto} dport {port} accept")
                .expect("a string takes all");
            writeln!(own, "{family} daddr {target} {proto} dport {port} ct status dnat masquerade")
                .expect("a string takes all");
        }
        // IPv4 has a sysctl for this.
        let quiet = if v6 {
            "chain output { type filter hook output priority filter; icmpv6 type nd-redirect drop; }"
        } else {
            ""
        };
        writeln!(
            rules,
            "table {family} twin {{
               chain direct {{
                 type filter hook prerouting priority raw
                 iifname != {bridge} {family} daddr {subnet} drop
                 iifname != {bridge} {family} saddr {subnet} drop
               }}
               chain judge {{
                 type filter hook prerouting priority mangle
                 ct state invalid meta mark set 1
               }}
               chain prerouting {{
                 type nat hook prerouting priority dstnat
                 fib daddr type local jump published
               }}
               chain published {{
                 {dnat}
               }}
               chain forward {{
                 type filter hook forward priority filter; policy drop
                 meta mark 1 accept
                 ct state established,related accept
                 iifname {bridge} accept
                 {accept}
               }}
               chain postrouting {{
                 type nat hook postrouting priority srcnat
                 {family} saddr {subnet} oifname != {bridge} masquerade
                 {own}
               }}
               {quiet}
             }}"
        )
        .expect("a string takes all");
    }
    rules
}
