//! A host with two containers whose programs are run on one packet at a time (BPF_PROG_TEST_RUN).

use std::collections::BTreeMap;

use aya::maps::{HashMap, Map, MapData};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use netd_common::abi::name;
use netd_common::flow::FlowKey;
use netd_common::wire::bytes::Ipv4;
use netd_tests::lab::Lab;
use netd_tests::packet::{Packet, icmp_error};

/// TC's numbers (linux/pkt_cls.h).
pub(crate) const NEXT: i32 = -1;
pub(crate) const SHOT: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

pub(crate) const CLIENT: [u8; 4] = [198, 18, 0, 2];
pub(crate) const HOST: [u8; 4] = [198, 18, 0, 1];
pub(crate) const WEB: [u8; 4] = [172, 17, 0, 2];
pub(crate) const WEB_MAC: [u8; 6] = [2, 0x42, 172, 17, 0, 2];
pub(crate) const OTHER: [u8; 4] = [172, 17, 0, 3];
pub(crate) const GATEWAY: [u8; 4] = [172, 17, 0, 1];
/// The host's address on the interface of its default route.
pub(crate) const HOST_OUTSIDE: [u8; 4] = [198, 19, 0, 1];
/// A router on the way there.
pub(crate) const ROUTER: [u8; 4] = [203, 0, 113, 9];
/// A peer beyond that router.
pub(crate) const FAR: [u8; 4] = [203, 0, 113, 1];

/// A host with two containers, and its programs.
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    pub(crate) pins: std::path::PathBuf,
    pub(crate) uplink: Interface,
    pub(crate) outside: Interface,
    pub(crate) veth: Interface,
}

/// The context fields that say where a packet came in.
#[derive(Clone, Copy)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// The same, with options of the first command, which makes the tables.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let lab = Lab::new();
        let network = ["network", "create", "elsewhere", "--subnet", "10.20.0.0/24"];
        if !settings.is_empty() {
            lab.netd(&[&["set"], settings].concat()).ok();
        }
        lab.netd(&network).ok();
        lab.container(
            "web",
            &[
                "-p",
                "8080:80",
                "-p",
                "5353:53/udp",
                "-p",
                "127.0.0.1:9000:90",
                "-p",
                "8443:8443",
                "-p",
                "9899:9898/sctp",
                "-p",
                "132:132/sctp",
            ],
        );
        lab.container("other", &[]);
        let pins = lab.pins();
        let (uplink, outside) = (interface(&lab, "up0"), interface(&lab, "up1"));
        let veth = interface_of(&lab, "web");
        Self { lab, pins, uplink, outside, veth }
    }

    /// Runs a packet through a program as if it had come in by `from`, addressed to that interface.
    pub(crate) fn run(&self, program: &str, from: Interface, mut packet: Vec<u8>) -> (i32, Vec<u8>) {
        packet[..6].copy_from_slice(&from.mac);
        let mut context = [0_u8; 192];
        // `ifindex` of struct __sk_buff (linux/bpf.h).
        context[40..44].copy_from_slice(&from.index.to_ne_bytes());
        let path = self.lab.program(program);
        self.lab.host.run(|| {
            let program = SchedClassifier::from_pin(path).unwrap();
            let mut out = vec![0; packet.len() + 256];
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

    pub(crate) fn uplink(&self, packet: &Packet) -> (i32, Vec<u8>) {
        self.run("uplink_ingress", self.uplink, packet.bytes())
    }

    pub(crate) fn container(&self, packet: &Packet) -> (i32, Vec<u8>) {
        self.container_frame(packet.bytes())
    }

    /// A frame that the container `web` sends.
    pub(crate) fn container_frame(&self, mut frame: Vec<u8>) -> (i32, Vec<u8>) {
        frame[6..12].copy_from_slice(&WEB_MAC);
        self.run("container_ingress", self.veth, frame)
    }

    /// From beyond the interface of the default route.
    pub(crate) fn outside(&self, packet: &Packet) -> (i32, Vec<u8>) {
        self.run("uplink_ingress", self.outside, packet.bytes())
    }

    /// Deletes the rows whose packets `which` selects, like an eviction.
    pub(crate) fn forget(&self, which: impl Fn(&FlowKey<Ipv4>) -> bool) {
        for table in [name::FLOWS, name::UNREPLIED] {
            let path = self.pins.join("maps").join(table);
            let map = Map::HashMap(MapData::from_pin(path).unwrap());
            let mut rows: HashMap<_, [u8; 16], [u8; 64]> = HashMap::try_from(map).unwrap();
            let keys: Vec<_> = rows.keys().map(Result::unwrap).collect();
            for key in keys {
                if which(&bytemuck::pod_read_unaligned(&key)) {
                    rows.remove(&key).unwrap();
                }
            }
        }
    }

    /// How many rows of a table `which` selects.
    pub(crate) fn rows(&self, table: &str, which: impl Fn(&FlowKey<Ipv4>) -> bool) -> usize {
        let map = Map::HashMap(MapData::from_pin(self.pins.join("maps").join(table)).unwrap());
        let rows: HashMap<_, [u8; 16], [u8; 64]> = HashMap::try_from(map).unwrap();
        rows.keys().filter(|key| which(&bytemuck::pod_read_unaligned(key.as_ref().unwrap()))).count()
    }

    /// Sends `count` packets, each of a new client, at full speed; calls `between` from time to time.
    pub(crate) fn flood(&self, count: u32, mut between: impl FnMut() + Send) {
        let quote = Packet::udp((HOST, 9), (FAR, 53)).bytes()[14..].to_vec();
        let path = self.lab.program("uplink_ingress");
        let mut context = [0_u8; 192];
        context[40..44].copy_from_slice(&self.uplink.index.to_ne_bytes());
        self.lab.host.run(|| {
            let program = SchedClassifier::from_pin(path).unwrap();
            for number in 0..count {
                let [_, a, b, c] = number.to_be_bytes();
                let [_, _, high, low] = (number / 4).to_be_bytes();
                let from = ([100, 64 | (a & 0x3f), b, c], 1024 + u16::from(c));
                let mut packet = match number % 4 {
                    0 | 1 => Packet::tcp(from, (HOST, 8080), "S").bytes(),
                    2 => Packet::udp(from, (HOST, u16::from_be_bytes([high, low]))).bytes(),
                    _ => icmp_error(from.0, HOST, 64, [3, 3], 0, &quote),
                };
                packet[..6].copy_from_slice(&self.uplink.mac);
                let mut options = TestRunOptions::new();
                options.data_in = Some(&packet);
                options.ctx_in = Some(&context);
                program.test_run(options).unwrap();
                if number % 1000 == 0 {
                    between();
                }
            }
        });
    }

    pub(crate) fn forget_flows(&self) {
        self.forget(|_key| true);
    }

    /// Drop counters that are not zero.
    pub(crate) fn drops(&self) -> BTreeMap<String, u64> {
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

/// The host's end of a container's veth pair.
pub(crate) fn interface_of(lab: &Lab, label: &str) -> Interface {
    let inspected = lab.netd(&["--json", "container", "inspect", &lab.name(label)]).ok().json();
    interface(lab, inspected["host_interface"].as_str().unwrap())
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

/// TCP with these numbers.
pub(crate) fn numbered(
    from: ([u8; 4], u16),
    to: ([u8; 4], u16),
    flags: &'static str,
    numbers: [u32; 2],
) -> Vec<u8> {
    let mut bytes = Packet::tcp(from, to, flags).bytes();
    // The checksum is then wrong; only the receiver checks it.
    bytes[38..42].copy_from_slice(&numbers[0].to_be_bytes());
    bytes[42..46].copy_from_slice(&numbers[1].to_be_bytes());
    bytes
}
