//! Fragmented datagrams, with fragments in any order.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, UdpHeader};
use netd_tests::lab::{CLIENT, CLIENT6, HOST, HOST6, Lab, OUTSIDE, OUTSIDE6};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server, udp_ask, udp_socket};
use netd_tests::tap;
use nix::sys::socket::{AddressFamily, MsgFlags, SockaddrIn, SockaddrIn6, sendto};

/// Bytes of the datagram in each fragment: as many as fit an MTU of 1,500.
const PART: usize = 1448;

/// The IP packets that a datagram is sent in, in order.
fn parts(from: SocketAddr, to: SocketAddr, id: u16, payload: &[u8]) -> Vec<Vec<u8>> {
    let (number, mut datagram) = (IpNumber::UDP, Vec::new());
    match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let ip = Ipv4Header { source: src.octets(), destination: dst.octets(), ..Ipv4Header::default() };
            let udp = UdpHeader::with_ipv4_checksum(from.port(), to.port(), &ip, payload).unwrap();
            udp.write(&mut datagram).unwrap();
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let ip = Ipv6Header { source: src.octets(), destination: dst.octets(), ..Ipv6Header::default() };
            let udp = UdpHeader::with_ipv6_checksum(from.port(), to.port(), &ip, payload).unwrap();
            udp.write(&mut datagram).unwrap();
        }
        _ => panic!("one family"),
    }
    datagram.extend_from_slice(payload);
    let count = datagram.len().div_ceil(PART);
    let part = |(index, bytes): (usize, &[u8])| {
        let more = u16::from(index + 1 < count);
        let offset = u16::try_from(index * PART / 8).unwrap();
        let mut packet = Vec::new();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let len = u16::try_from(bytes.len()).unwrap();
                let mut ip = Ipv4Header::new(len, 64, number, src.octets(), dst.octets()).unwrap();
                (ip.identification, ip.dont_fragment) = (id, false);
                (ip.more_fragments, ip.fragment_offset) = (more == 1, offset.try_into().unwrap());
                ip.header_checksum = ip.calc_header_checksum();
                ip.write(&mut packet).unwrap();
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let ip = Ipv6Header {
                    source: src.octets(),
                    destination: dst.octets(),
                    payload_length: u16::try_from(bytes.len() + 8).unwrap(),
                    next_header: IpNumber::IPV6_FRAGMENTATION_HEADER,
                    hop_limit: 64,
                    ..Ipv6Header::default()
                };
                ip.write(&mut packet).unwrap();
                packet.extend([number.0, 0]);
                packet.extend(((offset << 3) | more).to_be_bytes());
                packet.extend(u32::from(id).to_be_bytes());
            }
            _ => panic!("one family"),
        }
        packet.extend_from_slice(bytes);
        packet
    };
    datagram.chunks(PART).enumerate().map(part).collect()
}

/// Sends IP packets as they are, from the calling thread's namespace.
fn send(packets: &[Vec<u8>], to: IpAddr) {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let raw = tap::raw(family);
    for packet in packets {
        let sent = match SocketAddr::new(to, 0) {
            SocketAddr::V4(to) => sendto(raw.as_raw_fd(), packet, &SockaddrIn::from(to), MsgFlags::empty()),
            SocketAddr::V6(to) => sendto(raw.as_raw_fd(), packet, &SockaddrIn6::from(to), MsgFlags::empty()),
        };
        assert_eq!(sent.unwrap(), packet.len());
    }
}

/// Sends a fragmented datagram to an echo server; `order` sorts the fragments.
#[track_caller]
fn asks(own: &str, to: &str, len: usize, order: fn(&mut Vec<Vec<u8>>)) {
    let socket = UdpSocket::bind(SocketAddr::new(own.parse().unwrap(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let to: SocketAddr = to.parse().unwrap();
    let payload: Vec<u8> = (0..=250).cycle().take(len).collect();
    let id = u16::try_from(len & 0xffff).unwrap() ^ socket.local_addr().unwrap().port();
    let mut packets = parts(socket.local_addr().unwrap(), to, id, &payload);
    order(&mut packets);
    send(&packets, to.ip());
    let mut answer = vec![0; 65536];
    let (got, from) =
        socket.recv_from(&mut answer).unwrap_or_else(|error| panic!("{len} bytes to {to}: {error}"));
    assert!(answer[..got] == payload && from == to, "{got} bytes of {len} from {from}");
}

type Order = fn(&mut Vec<Vec<u8>>);

/// In order; last fragment first; first fragment last; first and last in the middle.
const ORDERS: [Order; 4] = [
    |_in_order| {},
    |parts| parts.reverse(),
    |parts| parts.rotate_left(1),
    |parts| {
        let middle = parts.len() / 2;
        parts.rotate_left(middle);
    },
];

#[test]
fn fragments_arrive_in_any_order_at_a_published_port_and_outside() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "six", "--subnet", "10.6.0.0/24", "--subnet", "fd00:6::/64"]).ok();
    let web = lab.container("web", &["--network", "six", "-p", "5353:53/udp"]);
    let (_in, _out) = (Server::udp_echo(&sandbox(&web), 53), Server::udp_echo(&lab.outside.path(), 53));
    for len in [1, 3000, 65_507] {
        for order in ORDERS {
            lab.client.run(|| {
                asks(CLIENT, &format!("{HOST}:5353"), len, order);
                asks(CLIENT6, &format!("[{HOST6}]:5353"), len, order);
            });
            lab.run_in(&web, || {
                asks("10.6.0.2", &format!("{OUTSIDE}:53"), len, order);
                asks("fd00:6::2", &format!("[{OUTSIDE6}]:53"), len, order);
                asks("10.6.0.2", &format!("{HOST}:5353"), len, order);
            });
        }
    }
    let status = lab.netd(&["--json", "status"]).ok().json();
    let lost = status["drops"].as_array().unwrap().iter().find(|drop| drop["reason"] == "fragment").unwrap();
    assert_eq!(lost["packets"], 0, "{status}");
}

#[test]
fn the_hosts_own_fragments_arrive_in_any_order() {
    let lab = Lab::new();
    lab.container("web", &["-p", "5353:53/udp"]);
    let _own = Server::udp_echo(&lab.host.path(), 53);
    for order in ORDERS {
        lab.client.run(|| asks(CLIENT, &format!("{HOST}:53"), 20_000, order));
    }
    lab.client.run(|| udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:53"), b"x")).unwrap();
}
