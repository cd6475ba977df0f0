//! Packets through the programs one at a time (BPF_PROG_TEST_RUN): the verdict, the packet that comes out, and the drop
//! counters, of which only the named one may move.

use std::collections::BTreeMap;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use netd_tests::lab::Lab;
use netd_tests::packet::Packet;

/// TC's numbers (linux/pkt_cls.h).
const NEXT: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

const CLIENT: [u8; 4] = [198, 18, 0, 2];
const HOST: [u8; 4] = [198, 18, 0, 1];
const WEB: [u8; 4] = [172, 17, 0, 2];
const OTHER: [u8; 4] = [172, 17, 0, 3];

/// A host with two containers, and its programs.
struct Bench {
    lab: Lab,
    pins: std::path::PathBuf,
    uplink: Interface,
    veth: Interface,
}

/// What a program sees of where a packet came in.
#[derive(Clone, Copy)]
struct Interface {
    index: u32,
    mac: [u8; 6],
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::new();
        let web = lab.container(
            "web",
            &["-p", "8080:80", "-p", "5353:53/udp", "-p", "127.0.0.1:9000:90", "-p", "8443:8443"],
        );
        lab.container("other", &[]);
        lab.netd(&["network", "create", "elsewhere", "--subnet", "10.20.0.0/24"]).ok();
        let pins = lab.netd(&["--json", "status"]).ok().json()["pins"].as_str().unwrap().into();
        let inspected = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
        let uplink = interface(&lab, "up0");
        let veth = interface(&lab, inspected["host_interface"].as_str().unwrap());
        Self { lab, pins, uplink, veth }
    }

    /// Runs a packet through a program as if it had come in by `from`, addressed to that interface.
    fn run(&self, program: &str, from: Interface, mut packet: Vec<u8>) -> (i32, Vec<u8>) {
        packet[..6].copy_from_slice(&from.mac);
        let mut context = [0_u8; 192];
        // `ifindex` of struct __sk_buff (linux/bpf.h).
        context[40..44].copy_from_slice(&from.index.to_ne_bytes());
        let path = self.pins.join("programs").join(program);
        self.lab.host.run(|| {
            let program = SchedClassifier::from_pin(path).unwrap();
            let mut out = vec![0; packet.len() + 64];
            let mut options = TestRunOptions::new();
            options.data_in = Some(&packet);
            options.data_out = Some(&mut out);
            options.ctx_in = Some(&context);
            let result = program.test_run(options).unwrap();
            let len = result.data_size_out as usize;
            out.truncate(len);
            (result.return_value.cast_signed(), out)
        })
    }

    fn uplink(&self, packet: &Packet) -> (i32, Vec<u8>) {
        self.run("uplink_ingress", self.uplink, packet.bytes())
    }

    fn container(&self, packet: &Packet) -> (i32, Vec<u8>) {
        self.run("container_ingress", self.veth, packet.bytes())
    }

    /// Drop counters that are not zero.
    fn drops(&self) -> BTreeMap<String, u64> {
        let status = self.lab.netd(&["--json", "status"]).ok().json();
        status["drops"]
            .as_array()
            .unwrap()
            .iter()
            .map(|drop| (drop["reason"].as_str().unwrap().to_owned(), drop["packets"].as_u64().unwrap()))
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }
}

fn interface(lab: &Lab, name: &str) -> Interface {
    let shown: serde_json::Value =
        serde_json::from_str(&lab.host.sh(&format!("ip -j link show {name}"))).unwrap();
    let mac: Vec<u8> = shown[0]["address"]
        .as_str()
        .unwrap()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    Interface {
        index: u32::try_from(shown[0]["ifindex"].as_u64().unwrap()).unwrap(),
        mac: mac.try_into().unwrap(),
    }
}

#[test]
fn a_packet_to_a_published_port_and_its_answer_are_translated_to_the_byte() {
    let bench = Bench::new();
    let client = (CLIENT, 40_000);
    for (port, target, make) in [
        (8080, 80, (|from, to| Packet::tcp(from, to, "S")) as fn(_, _) -> Packet),
        (5353, 53, |from, to| Packet::udp(from, to)),
        (5353, 53, |from, to| Packet { no_checksum: true, ..Packet::udp(from, to) }),
        (8080, 80, |from, to| Packet { options: vec![1; 8], ..Packet::tcp(from, to, "A") }),
        (8080, 80, |from, to| Packet { payload: vec![0xa5; 1400], ..Packet::tcp(from, to, "A") }),
        // The same port inside: the ports' part of the checksum is left alone.
        (8443, 8443, |from, to| Packet::tcp(from, to, "SA")),
    ] {
        let asked = make(client, (HOST, port));
        let (verdict, out) = bench.uplink(&asked);
        assert_eq!(verdict, REDIRECT, "{asked:?}");
        // Built anew with every checksum computed from nothing; only the Ethernet header is the program's own.
        let expected = Packet { ttl: asked.ttl - 1, ..make(client, (WEB, target)) }.bytes();
        assert_eq!(out[14..], expected[14..], "{asked:?}");
        assert_eq!(out[..6], [2, 0x42, 172, 17, 0, 2], "the container's MAC address");
        assert_eq!(out[6..12], [2, 0x42, 172, 17, 0, 1], "the bridge's MAC address");

        let answered = make((WEB, target), client);
        let (verdict, out) = bench.container(&answered);
        assert_eq!(verdict, REDIRECT, "{answered:?}");
        let expected = Packet { ttl: answered.ttl - 1, ..make((HOST, port), client) }.bytes();
        assert_eq!(out[14..], expected[14..], "{answered:?}");
    }
    assert_eq!(bench.drops(), BTreeMap::new());
}

#[test]
fn a_packet_that_is_not_ours_is_handed_on_untouched() {
    let bench = Bench::new();
    let fragment = |mut bytes: Vec<u8>| {
        bytes[20] = 0x20;
        bytes
    };
    let host = |port| Packet::tcp((CLIENT, 40_000), (HOST, port), "S").bytes();
    let mut arp = host(80);
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut lying = host(8080);
    lying[14] = 0x4f;
    let mut version = host(8080);
    version[14] = 0x65;
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("an unpublished port", host(22)),
        ("a port on 127.0.0.1 only", host(9000)),
        ("a published TCP port, by UDP", Packet::udp((CLIENT, 1), (HOST, 8080)).bytes()),
        ("in transit to another host", Packet::tcp((CLIENT, 1), ([203, 0, 113, 1], 8080), "S").bytes()),
        ("from 0.0.0.0's neighbour, a broadcast source", Packet::udp(([255; 4], 1), (HOST, 5353)).bytes()),
        ("ARP", arp),
        ("a header length beyond the packet", lying),
        ("another IP version", version),
        ("cut inside the TCP header", host(8080)[..44].to_vec()),
        ("a fragment", fragment(Packet::udp((CLIENT, 1), (HOST, 5353)).bytes())),
    ];
    for (what, packet) in table {
        let mut expected = packet.clone();
        expected[..6].copy_from_slice(&bench.uplink.mac);
        let (verdict, out) = bench.run("uplink_ingress", bench.uplink, packet);
        assert_eq!(verdict, NEXT, "{what}");
        assert_eq!(out, expected, "{what}");
    }
    let table: Vec<(&str, Packet)> = vec![
        ("to a neighbour", Packet::tcp((WEB, 1), (OTHER, 80), "S")),
        ("to the gateway", Packet::udp((WEB, 1), ([172, 17, 0, 1], 53))),
        ("to another address of the host", Packet::tcp((WEB, 1), (HOST, 22), "S")),
        ("to everybody", Packet::udp((WEB, 1), ([255; 4], 67))),
    ];
    for (what, packet) in table {
        let mut expected = packet.bytes();
        expected[..6].copy_from_slice(&bench.veth.mac);
        assert_eq!(bench.container(&packet), (NEXT, expected), "{what}");
    }
    assert_eq!(bench.drops(), BTreeMap::new());
}

#[test]
fn each_drop_is_counted_by_its_reason_and_by_no_other() {
    let bench = Bench::new();
    let old = |ttl| Packet { ttl, ..Packet::tcp((CLIENT, 40_001), (HOST, 8080), "S") };
    let large = Packet { payload: vec![0; 1500], ..Packet::udp((CLIENT, 40_002), (HOST, 5353)) };
    let table: Vec<(&str, bool, Packet)> = vec![
        ("direct_access", false, Packet::tcp((CLIENT, 1), (WEB, 80), "S")),
        ("direct_access", false, Packet::udp((CLIENT, 1), ([172, 17, 9, 9], 80))),
        ("forged_source", false, Packet::tcp((WEB, 1), (HOST, 22), "S")),
        ("forged_source", false, Packet::tcp((WEB, 1), (HOST, 8080), "S")),
        ("martian", false, Packet::tcp((CLIENT, 1), ([127, 0, 0, 1], 9000), "S")),
        ("martian", false, Packet::udp(([127, 0, 0, 1], 1), (HOST, 5353))),
        ("ttl_exceeded", false, old(1)),
        ("ttl_exceeded", false, old(0)),
        ("too_big", false, large),
        ("spoofed", true, Packet::tcp((OTHER, 1), (HOST, 22), "S")),
        ("spoofed", true, Packet::udp(([0, 0, 0, 0], 68), ([255; 4], 67))),
        ("isolated", true, Packet::tcp((WEB, 1), ([10, 20, 0, 2], 80), "S")),
        ("no_way_out", true, Packet::tcp((WEB, 1), ([203, 0, 113, 1], 80), "S")),
    ];
    for (reason, from_container, packet) in table {
        let before = bench.drops();
        let (verdict, _) = if from_container { bench.container(&packet) } else { bench.uplink(&packet) };
        assert_eq!(verdict, SHOT, "{reason}: {packet:?}");
        let mut expected = before;
        *expected.entry(reason.to_owned()).or_default() += 1;
        assert_eq!(bench.drops(), expected, "{packet:?}");
    }
    let dropped = bench.lab.port("tcp", 8080)["dropped"].clone();
    assert_eq!(dropped, 2, "a flow's drops are its publication's too");
}

#[test]
fn one_client_port_may_speak_to_one_container_port_by_two_ways() {
    let bench = Bench::new();
    let web = bench.lab.name("web");
    bench.lab.netd(&["publish", "8081:80", &web]).ok();
    let client = (CLIENT, 40_000);
    let (_, first) = bench.uplink(&Packet::tcp(client, (HOST, 8080), "S"));
    let (verdict, second) = bench.uplink(&Packet::tcp(client, (HOST, 8081), "S"));
    assert_eq!(verdict, REDIRECT);
    let port = |packet: &[u8]| u16::from_be_bytes([packet[34], packet[35]]);
    assert_eq!(port(&first), 40_000);
    assert_ne!(port(&second), 40_000, "the container could not tell the two apart");
    // Each answer finds its way back, to the client's own port.
    for (inside, outside) in [(port(&first), 8080), (port(&second), 8081)] {
        let (verdict, out) = bench.container(&Packet::tcp((WEB, 80), (CLIENT, inside), "SA"));
        assert_eq!(verdict, REDIRECT);
        let expected = Packet { ttl: 63, ..Packet::tcp((HOST, outside), client, "SA") }.bytes();
        assert_eq!(out[14..], expected[14..]);
    }
}

#[test]
fn a_flow_of_a_container_that_is_gone_is_nobodys() {
    let bench = Bench::new();
    let asked = Packet::udp((CLIENT, 40_000), (HOST, 5353));
    assert_eq!(bench.uplink(&asked).0, REDIRECT);
    let web = bench.lab.name("web");
    bench.lab.netd(&["container", "rm", &web]).ok();
    let mut untouched = asked.bytes();
    untouched[..6].copy_from_slice(&bench.uplink.mac);
    assert_eq!(bench.uplink(&asked), (NEXT, untouched));
    // Somebody else on the address, without the port.
    bench.lab.container("squatter", &["--ip", "172.17.0.2"]);
    assert_eq!(bench.uplink(&asked).0, NEXT);
}
