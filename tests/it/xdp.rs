//! The XDP program on uplinks; a veth takes the place of a network card.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, UdpSocket};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use netd_tests::lab::{CLIENT, HOST, HOST6, Lab, OUTSIDE, OUTSIDE6};
use netd_tests::netns::sandbox;
use netd_tests::packet::Packet;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_echoes, tcp_first_line, udp_ask};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// XDP's numbers (linux/bpf.h).
const DROP: u32 = 1;
const PASS: u32 = 2;
/// TC's number for it (linux/pkt_cls.h).
const SHOT: i32 = 2;

/// A lab whose links behave like network cards: checksums are complete, and redirected frames are accepted.
fn lab() -> Lab {
    let lab = Lab::new();
    for netns in [&lab.client, &lab.outside] {
        netns.sh("ethtool -K eth0 tx off gro on");
    }
    lab
}

/// The interfaces with an XDP program, as `netd status` lists them.
fn attached(lab: &Lab) -> Vec<String> {
    let status = lab.netd(&["--json", "status"]).ok().json();
    let programs = status["programs"].as_array().unwrap().iter();
    programs
        .filter(|program| program["hook"] == "xdp" && program["attached"] == true)
        .map(|program| program["on"].as_str().unwrap().to_owned())
        .collect()
}

/// The number of the XDP program that an interface has, or zero.
fn program_on(lab: &Lab, interface: &str) -> u64 {
    let shown: serde_json::Value =
        serde_json::from_str(&lab.host.sh(&format!("ip -j link show {interface}"))).unwrap();
    shown[0]["xdp"]["prog"]["id"].as_u64().unwrap_or(0)
}

/// Packets that an XDP program has redirected or dropped.
fn frames(lab: &Lab, interface: &str) -> (u64, u64) {
    let shown = lab.host.sh(&format!("ethtool -S {interface}"));
    let sum = |name: &str| {
        let lines = shown.lines().filter(|line| line.contains(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    (sum("xdp_redirect:"), sum("xdp_drops:"))
}

/// A host with the XDP program, which is run on one packet at a time.
struct Bench {
    lab: Lab,
    ifindex: u32,
    mac: [u8; 6],
}

impl Bench {
    fn new(lab: Lab) -> Self {
        let shown: serde_json::Value = serde_json::from_str(&lab.host.sh("ip -j link show up0")).unwrap();
        let mac = shown[0]["address"].as_str().unwrap().split(':');
        let mac: Vec<u8> = mac.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let ifindex = u32::try_from(shown[0]["ifindex"].as_u64().unwrap()).unwrap();
        Self { lab, ifindex, mac: mac.try_into().unwrap() }
    }

    /// Runs the XDP program on a frame from the uplink, a few times on one CPU, since TC gets the first dropped packet
    /// in a tick. Returns the lowest action number, which is that of a drop.
    fn stage(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut context = [0_u8; 24];
        // `data_end` and `ingress_ifindex` of struct xdp_md (linux/bpf.h).
        context[4..8].copy_from_slice(&u32::try_from(frame.len()).unwrap().to_ne_bytes());
        context[12..16].copy_from_slice(&self.ifindex.to_ne_bytes());
        let path = self.lab.program("uplink_xdp");
        self.lab.host.run(|| {
            on_one_cpu();
            let program = Xdp::from_pin(path, XdpAttachType::Interface).unwrap();
            let run = |_| {
                let mut out = vec![0; frame.len() + 64];
                let mut options = TestRunOptions::new();
                options.data_in = Some(frame);
                options.data_out = Some(&mut out);
                options.ctx_in = Some(&context);
                let result = program.test_run(options).unwrap();
                let len = result.data_size_out as usize;
                out.truncate(len);
                (result.return_value, out)
            };
            (0..4).map(run).min_by_key(|(verdict, _)| *verdict).unwrap()
        })
    }

    /// The frame of a packet to the uplink.
    fn frame(&self, packet: &Packet) -> Vec<u8> {
        let mut frame = packet.bytes();
        frame[..6].copy_from_slice(&self.mac);
        frame
    }

    /// Runs a frame through the TC program.
    fn tc(&self, frame: &[u8]) -> i32 {
        let mut context = [0_u8; 192];
        context[40..44].copy_from_slice(&self.ifindex.to_ne_bytes());
        let path = self.lab.program("uplink_ingress");
        self.lab.host.run(|| {
            on_one_cpu();
            let program = SchedClassifier::from_pin(path).unwrap();
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.ctx_in = Some(&context);
            program.test_run(options).unwrap().return_value.cast_signed()
        })
    }

    /// Drop counters that are not zero.
    fn drops(&self) -> BTreeMap<String, u64> {
        drops(&self.lab)
    }
}

/// Keeps the calling thread on one CPU, since each CPU has its own deny cache.
fn on_one_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}

fn drops(lab: &Lab) -> BTreeMap<String, u64> {
    let status = lab.netd(&["--json", "status"]).ok().json();
    let drops = status["drops"].as_array().unwrap().iter();
    drops
        .map(|drop| (drop["reason"].as_str().unwrap().to_owned(), drop["packets"].as_u64().unwrap()))
        .filter(|(_, packets)| *packets > 0)
        .collect()
}

#[test]
fn packets_to_other_hosts_get_no_skb() {
    let lab = lab();
    let _servers = (Server::tcp_echo(&lab.outside.path(), 80), Server::udp_echo(&lab.outside.path(), 53));
    lab.netd(&["set", "xdp=native"]).ok();
    for (spec, target) in
        [("8080:80", OUTSIDE), ("8086:80", OUTSIDE6), ("5353:53/udp", OUTSIDE), ("5356:53/udp", OUTSIDE6)]
    {
        lab.netd(&["publish", spec, target]).ok();
    }
    assert_eq!(attached(&lab), ["up0", "up1"]);
    for (to, interface) in [(format!("{HOST}:8080"), "four"), (format!("[{HOST6}]:8086"), "six")] {
        let before = (frames(&lab, "up0").0, frames(&lab, "up1").0);
        lab.client.run(|| tcp_echoes(&to, 4 << 20));
        let after = (frames(&lab, "up0").0, frames(&lab, "up1").0);
        println!("{interface}: {before:?} {after:?}");
        assert!(after.0 > before.0 + 500 && after.1 > before.1 + 500, "{interface}: {before:?} {after:?}");
    }
    for (to, bind) in [(format!("{HOST}:5353"), "0.0.0.0:0"), (format!("[{HOST6}]:5356"), "[::]:0")] {
        let before = (frames(&lab, "up0").0, frames(&lab, "up1").0);
        lab.client.run(|| {
            let socket = UdpSocket::bind(bind).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            for number in 0..500_u32 {
                let (answer, from) = udp_ask(&socket, &to, &number.to_be_bytes()).unwrap();
                assert_eq!(
                    (answer.as_slice(), from.to_string()),
                    (number.to_be_bytes().as_slice(), to.clone())
                );
            }
        });
        let after = (frames(&lab, "up0").0, frames(&lab, "up1").0);
        println!("{before:?} {after:?}");
        assert!(after.0 > before.0 + 300 && after.1 > before.1 + 300, "{to}: {before:?} {after:?}");
    }
}

#[test]
fn early_drop_drops_only_what_tc_would_drop() {
    let lab = lab();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp", "-p", "9899:9898/sctp"]);
    lab.netd(&["publish", "8081:80", &web, "--interface", "up1"]).ok();
    lab.netd(&["network", "create", "open", "--subnet", "10.20.0.0/24", "--gateway-mode", "nat-unprotected"])
        .ok();
    lab.container("free", &["--network", "open", "--ip", "10.20.0.2"]);
    lab.netd(&["publish", "9090:80", OUTSIDE]).ok();
    lab.netd(&["set", "xdp=native"]).ok();
    lab.netd(&["access", "--deny", CLIENT]).ok();
    let bench = Bench::new(lab);
    let (client, friend, host) = ([198, 18, 0, 2], [198, 18, 0, 3], [198, 18, 0, 1]);
    let packet = |from, to: ([u8; 4], u16)| Packet::udp((from, 40_000), to);
    let tcp = |from, to: ([u8; 4], u16), flags| Packet::tcp((from, 40_000), to, flags);
    let table: Vec<(&str, Packet, Option<&str>)> = vec![
        ("a denied source", packet(client, (host, 5353)), Some("denied")),
        ("a denied source, TCP", tcp(client, (host, 8080), "S"), Some("denied")),
        ("in the middle of nothing", tcp(client, (host, 8080), "A"), Some("denied")),
        ("SCTP", Packet::sctp((client, 1), (host, 9899), 1), Some("denied")),
        ("to another host's port", tcp(client, (host, 9090), "S"), Some("denied")),
        ("to another interface's port", tcp(client, (host, 8081), "S"), None),
        ("a port that nobody has", packet(client, (host, 99)), None),
        ("one that TC answers", Packet { ttl: 1, ..packet(client, (host, 5353)) }, None),
        ("straight to a container", packet(friend, ([172, 17, 0, 2], 53)), Some("direct_access")),
        ("straight to nobody", packet(friend, ([172, 17, 0, 99], 53)), Some("direct_access")),
        ("straight to who is open to it", packet(friend, ([10, 20, 0, 2], 53)), None),
        ("in a container's name", packet([172, 17, 0, 9], (host, 5353)), Some("forged_source")),
        ("a loopback source", packet([127, 0, 0, 1], (host, 99)), Some("martian")),
        ("a loopback destination", packet(friend, ([127, 0, 0, 1], 5353)), Some("martian")),
        ("in the host's own name", packet(host, (host, 5353)), None),
        ("in transit", packet(friend, ([203, 0, 113, 1], 5353)), None),
        ("to a group", packet(client, ([224, 0, 0, 1], 5353)), None),
        ("an echo", Packet::echo(client, host, 1, true), None),
        ("with options", Packet { options: vec![1; 8], ..packet(client, (host, 5353)) }, Some("denied")),
    ];
    for (what, packet, reason) in &table {
        let frame = bench.frame(packet);
        let before = bench.drops();
        assert_eq!(bench.tc(&frame) == SHOT, reason.is_some(), "{what}: TC");
        let by_tc = bench.drops();
        let (verdict, out) = bench.stage(&frame);
        assert_eq!(verdict, if reason.is_some() { DROP } else { PASS }, "{what}");
        assert_eq!(out, frame, "{what}: it is left as it was");
        let by_xdp = bench.drops();
        let Some(reason) = reason else {
            assert_eq!(by_tc, by_xdp, "{what}");
            continue;
        };
        let count = |of: &BTreeMap<String, u64>| of.get(*reason).copied().unwrap_or(0);
        assert_eq!(count(&by_tc), count(&before) + 1, "{what}: {by_tc:?}");
        let (mut rest_before, mut rest) = (by_tc.clone(), by_xdp.clone());
        assert!((1..=4).contains(&(count(&by_xdp) - count(&by_tc))), "{what}: {by_tc:?} {by_xdp:?}");
        rest_before.remove(*reason);
        rest.remove(*reason);
        assert_eq!(rest_before, rest, "{what}");
    }
    // Packets for other hosts are passed on, whatever they contain.
    let elsewhere = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = bench.frame(&packet(client, (host, 5353)));
        change(&mut frame);
        bench.stage(&frame).0
    };
    assert_eq!(elsewhere(&|_| {}), DROP);
    assert_eq!(elsewhere(&|frame| frame[5] ^= 1), PASS, "another station's");
    assert_eq!(elsewhere(&|frame| frame[..6].fill(0xff)), PASS, "everybody's");
    assert_eq!(elsewhere(&|frame| frame[20] = 0x20), PASS, "a fragment");
    assert_eq!(elsewhere(&|frame| frame.truncate(40)), PASS, "cut short");
    assert_eq!(
        elsewhere(&|frame| {
            frame.splice(12..12, [0x81, 0, 0, 5]);
        }),
        PASS,
        "of a VLAN"
    );
    // A source that is allowed again is accepted at once.
    bench.lab.netd(&["access", "--open"]).ok();
    assert_eq!(elsewhere(&|_| {}), PASS);
}

#[test]
fn a_denied_flood_is_dropped_early_and_older_connections_continue() {
    const FLOOD: u64 = 20_000;
    let lab = lab();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
    lab.netd(&["set", "xdp=native"]).ok();
    assert_eq!(attached(&lab), ["up0", "up1"]);
    lab.client.run(|| tcp_echoes(&format!("{HOST}:8080"), 1 << 20));
    let stream = lab.client.run(|| TcpStream::connect(format!("{HOST}:8080")).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), CLIENT);
    lab.netd(&["access", "--deny", CLIENT]).ok();
    let before = frames(&lab, "up0").1;
    lab.client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..FLOOD {
            socket.send_to(&number.to_ne_bytes(), format!("{HOST}:5353")).unwrap();
        }
    });
    (&stream).write_all(b"still here\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "still here");
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), SILENCE)).is_err());
    let dropped = frames(&lab, "up0").1 - before;
    assert!(dropped > FLOOD * 9 / 10, "{dropped} of {FLOOD}");
    let counted = lab.port("udp", 5353)["dropped"].as_u64().unwrap();
    assert_eq!(counted, FLOOD, "all are counted, by whom they were dropped");
    assert!(drops(&lab)["denied"] > FLOOD);
    let told = lab.netd(&["log"]).ok().stdout;
    assert!(told.contains(&format!("denied {CLIENT}:")), "{told}");
    lab.netd(&["access", "--open"]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).is_ok());
}

#[test]
fn xdp_is_attached_as_requested_and_replaces_no_other_program() {
    let lab = lab();
    lab.container("web", &["-p", "8080:80"]);
    assert_eq!(attached(&lab), [""; 0], "never without being asked for");
    // The veth is not a network card.
    lab.netd(&["set", "xdp=auto"]).ok();
    assert_eq!(attached(&lab), [""; 0]);
    let told = lab.netd(&["status"]).ok().stdout;
    assert!(told.contains("up0 has no XDP program: it is a veth"), "{told}");
    lab.netd(&["set", "xdp=native"]).ok();
    assert_eq!(attached(&lab), ["up0", "up1"]);
    let ours = program_on(&lab, "up0");
    // Another instance of netd counts as another program.
    let other = lab.folder.path().join("other");
    let said = lab.netd_in(&lab.host, &other, &["set", "xdp=native"]);
    said.fails(1, &format!("already has XDP program {ours}, which netd does not replace"));
    assert_eq!(program_on(&lab, "up0"), ours);
    lab.netd_in(&lab.host, &other, &["set", "xdp=auto"]).ok();
    lab.netd_in(&lab.host, &other, &["network", "create", "n"]).ok();
    let told = lab.netd_in(&lab.host, &other, &["status"]).ok().stdout;
    assert!(told.contains("up0 has no XDP program: up0 already has XDP program"), "{told}");
    lab.netd_in(&lab.host, &other, &["down"]).ok();
    assert_eq!(program_on(&lab, "up0"), ours);
    // Uplinks that are added and removed.
    lab.host.ip("link add up2 type veth peer name far2");
    lab.host.ip("address add 198.20.0.1/24 dev up2");
    lab.host.ip("link set up2 up");
    lab.netd(&["sync"]).ok();
    assert_eq!(attached(&lab), ["up0", "up1", "up2"]);
    lab.host.ip("link delete up2");
    lab.netd(&["sync"]).ok();
    assert_eq!(attached(&lab), ["up0", "up1"]);
    lab.netd(&["set", "uplinks=up0"]).ok();
    assert_eq!((attached(&lab), program_on(&lab, "up1")), (vec!["up0".to_owned()], 0));
    lab.netd(&["set", "xdp=off"]).ok();
    assert_eq!((attached(&lab), program_on(&lab, "up0")), (vec![], 0));
    lab.netd(&["set", "xdp=native"]).ok();
    assert_ne!(program_on(&lab, "up0"), 0);
    lab.netd(&["down"]).ok();
    assert_eq!(program_on(&lab, "up0"), 0);
}
