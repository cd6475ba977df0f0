//! Requirements of the NAT RFCs for single packets that no other module tests (docs/rfc-ledger.md names the tests).

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use aya::maps::{HashMap, Map, MapData, MapError};
use netd_common::abi::{FlowRow, name, tick};
use netd_common::flow::state::State;
use netd_common::wire::bytes::Ipv4;
use netd_tests::lab::Lab;
use netd_tests::packet::{Packet, icmp_error};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use crate::allocation::{Door, FAR, HOST_OUTSIDE, port_of};
use crate::testbed::numbered;

const WEB: [u8; 4] = [172, 17, 0, 2];

/// A host with one container, and the hooks of its packets.
struct Bench {
    lab: Lab,
    inside: Door,
    outside: Door,
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::new();
        let web = lab.container("web", &["-p", "5353:53/udp"]);
        assert_eq!(lab.address(&web), Ipv4Addr::from(WEB).to_string());
        let (inside, outside) = (Door::of_container(&lab, &web), Door::new(&lab, "uplink_ingress", "up1"));
        Self { lab, inside, outside }
    }

    /// A packet that the container sends, as it leaves.
    fn leaves(&self, packet: &Packet) -> Option<Vec<u8>> {
        self.lab.host.run(|| self.inside.pass(packet))
    }

    /// A packet from beyond the uplink, as the container gets it.
    fn arrives(&self, packet: &Packet) -> Option<Vec<u8>> {
        self.lab.host.run(|| self.outside.pass(packet))
    }

    /// The tables of connections.
    fn tables(&self) -> [HashMap<MapData, [u8; 16], [u8; 64]>; 2] {
        let pins = self.lab.netd(&["--json", "status"]).ok().json()["pins"].as_str().unwrap().to_owned();
        [name::UNREPLIED, name::FLOWS].map(|table| {
            let path = PathBuf::from(&pins).join("maps").join(table);
            HashMap::try_from(Map::HashMap(MapData::from_pin(path).unwrap())).unwrap()
        })
    }

    /// Makes every connection look as if it had been idle for so many seconds more.
    fn wait(&self, seconds: u32) {
        for mut rows in self.tables() {
            let all: Vec<_> = rows.iter().map(Result::unwrap).collect();
            for (key, bytes) in all {
                let mut row: FlowRow<Ipv4> = bytemuck::pod_read_unaligned(&bytes);
                // A direction without packets has no time.
                if row.last != 0 {
                    row.last = row.last.saturating_sub(tick::of_seconds(seconds)).max(1);
                }
                rows.insert(key, <[u8; 64]>::try_from(bytemuck::bytes_of(&row)).unwrap(), 0).unwrap();
            }
        }
    }

    /// When each row was last used.
    fn used(&self) -> Vec<u32> {
        let last = |row: Result<([u8; 16], [u8; 64]), MapError>| {
            let (_key, bytes) = row.unwrap();
            bytemuck::pod_read_unaligned::<FlowRow<Ipv4>>(&bytes).last
        };
        let mut used: Vec<u32> = self.tables().iter().flat_map(|rows| rows.iter().map(last)).collect();
        used.sort_unstable();
        used
    }
}

#[test]
fn a_simultaneous_open_is_one_connection() {
    let bench = Bench::new();
    let (inside, outer, far) = ((WEB, 20_000), (HOST_OUTSIDE, 20_000), (FAR, 80));
    for (from_inside, flags) in [(true, "S"), (false, "S"), (true, "SA"), (false, "SA"), (true, "A")] {
        let (out, expected) = if from_inside {
            (bench.leaves(&Packet::tcp(inside, far, flags)), Packet::tcp(outer, far, flags))
        } else {
            (bench.arrives(&Packet::tcp(far, outer, flags)), Packet::tcp(far, inside, flags))
        };
        assert_eq!(out.unwrap()[14..], Packet { ttl: 63, ..expected }.bytes()[14..], "{flags}");
    }
}

#[test]
fn packets_from_a_published_port_always_have_its_host_port() {
    let bench = Bench::new();
    for last in 1..=20 {
        let peer = ([203, 0, 113, last], 5000 + u16::from(last));
        // A UDP packet does not say whether it is a request or a reply.
        assert_eq!(port_of(&bench.leaves(&Packet::udp((WEB, 53), peer)).unwrap()), 5353);
        assert!(bench.arrives(&Packet::udp(peer, (HOST_OUTSIDE, 5353))).is_some());
    }
    // The container need not have sent to the peer before.
    let stranger = Packet::udp(([203, 0, 113, 99], 9), (HOST_OUTSIDE, 5353));
    assert!(bench.arrives(&stranger).is_some());
}

#[test]
fn packets_of_both_directions_refresh_a_mapping() {
    let bench = Bench::new();
    let question = Packet::udp((WEB, 20_000), (FAR, 53));
    let answer = Packet::udp((FAR, 53), (HOST_OUTSIDE, 20_000));
    bench.leaves(&question).unwrap();
    let one_way = State::UdpOneWay.default_timeout();
    for _packet in 0..3 {
        bench.wait(one_way - 10);
        bench.leaves(&question).unwrap();
    }
    for _packet in 0..3 {
        bench.wait(one_way - 10);
        bench.arrives(&answer).unwrap();
    }
    bench.wait(State::UdpTwoWay.default_timeout() + 10);
    assert_eq!(bench.arrives(&answer), None, "of no mapping any more");
}

#[test]
fn a_socket_of_the_host_that_comes_later_takes_no_mapping_over() {
    let bench = Bench::new();
    let answer = Packet::udp((FAR, 53), (HOST_OUTSIDE, 20_000));
    bench.leaves(&Packet::udp((WEB, 20_000), (FAR, 53))).unwrap();
    let unconnected = bench.lab.host.run(|| UdpSocket::bind("0.0.0.0:20000").unwrap());
    bench.wait(10);
    assert!(bench.arrives(&answer).is_some(), "it is the container's");
    unconnected.connect("203.0.113.1:53").unwrap();
    bench.wait(10);
    assert!(bench.arrives(&answer).is_some(), "it is still the container's");
    // Once it has ended, it does not matter any more.
    bench.wait(State::UdpTwoWay.default_timeout() + 10);
    assert_eq!(bench.arrives(&answer), None, "it is the socket's");
}

#[test]
fn a_connection_of_the_host_has_the_port_of_one_that_has_ended() {
    let bench = Bench::new();
    let (inside, outer, far) = ((WEB, 20_000), (HOST_OUTSIDE, 20_000), (FAR, 80));
    for (from_inside, flags, numbers) in [
        (true, "S", [100, 0]),
        (false, "SA", [500, 101]),
        (true, "FA", [101, 501]),
        (false, "FA", [501, 102]),
        (true, "A", [102, 502]),
    ] {
        let passed = bench.lab.host.run(|| {
            if from_inside {
                bench.inside.pass_from(inside.0, numbered(inside, far, flags, numbers))
            } else {
                bench.outside.pass_frame(numbered(far, outer, flags, numbers))
            }
        });
        assert!(passed.is_some(), "{flags}");
    }
    let socket = bench.lab.host.run(|| {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
        bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 20_000)).unwrap();
        assert_eq!(
            connect(socket.as_raw_fd(), &SockaddrIn::new(203, 0, 113, 1, 80)),
            Err(Errno::EINPROGRESS)
        );
        socket
    });
    assert_eq!(bench.arrives(&Packet::tcp(far, outer, "SA")), None, "it is the socket's");
    drop(socket);
}

#[test]
fn an_icmp_error_neither_ends_nor_refreshes_a_mapping() {
    let bench = Bench::new();
    let make: [fn() -> Packet; 2] =
        [|| Packet::udp((WEB, 20_000), (FAR, 53)), || Packet::echo(WEB, FAR, 7, true)];
    for sent in make.map(|make| make()) {
        let quote = bench.leaves(&sent).unwrap()[14..].to_vec();
        bench.wait(30);
        let before = bench.used();
        let error = icmp_error(FAR, HOST_OUTSIDE, 64, [3, 3], 0, &quote);
        let told = bench.lab.host.run(|| bench.outside.pass_frame(error));
        assert!(told.is_some(), "{sent:?}");
        assert_eq!(bench.used(), before, "{sent:?}");
        assert_eq!(bench.leaves(&sent).unwrap()[14..], quote, "{sent:?}");
    }
}

#[test]
fn only_a_reset_of_a_connection_is_translated() {
    let bench = Bench::new();
    let (inside, outer, far) = ((WEB, 20_000), (HOST_OUTSIDE, 20_000), (FAR, 80));
    assert_eq!(bench.leaves(&Packet::tcp(inside, far, "R")), None);
    bench.leaves(&Packet::tcp(inside, far, "S")).unwrap();
    let reset = bench.arrives(&Packet::tcp(far, outer, "RA")).unwrap();
    assert_eq!(reset[14..], Packet { ttl: 63, ..Packet::tcp(far, inside, "RA") }.bytes()[14..]);
    // The same two ports again, immediately.
    let again = bench.leaves(&Packet::tcp(inside, far, "S")).unwrap();
    assert_eq!(port_of(&again), 20_000);
}
