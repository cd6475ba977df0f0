//! Packets through the programs one at a time (BPF_PROG_TEST_RUN): verdict, outgoing packet, and the one drop counter that moves.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use netd_common::abi::name;
use netd_common::flow::FlowKey;
use netd_common::wire::bytes::Ipv4;
use netd_tests::packet::{Kind, Packet, checksum, icmp_error};
use netd_tests::probe::{PATIENCE, Server};
use netd_tests::wait_for;

use crate::testbed::{
    Bench, CLIENT, FAR, GATEWAY, HOST, HOST_OUTSIDE, NEXT, OTHER, REDIRECT, ROUTER, SHOT, WEB, WEB_MAC,
    interface_of,
};

/// Makes a packet from its source and its destination.
type Make = fn(([u8; 4], u16), ([u8; 4], u16)) -> Packet;

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
        // The target port equals the host port, so the checksum changes only by the addresses.
        (8443, 8443, |from, to| Packet::tcp(from, to, "SA")),
        (9899, 9898, |from, to| Packet::sctp(from, to, 1)),
        (9899, 9898, |from, to| Packet { payload: vec![0x5a; 1401], ..Packet::sctp(from, to, 0) }),
        (9899, 9898, |from, to| Packet { no_checksum: true, ..Packet::sctp(from, to, 3) }),
        (132, 132, |from, to| Packet::sctp(from, to, 10)),
    ] {
        let asked = make(client, (HOST, port));
        let (verdict, out) = bench.uplink(&asked);
        assert_eq!(verdict, REDIRECT, "{asked:?}");
        // The expected packet is built from scratch, with all checksums computed. The Ethernet header is compared
        // below.
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
fn a_packet_that_is_not_for_netd_is_passed_on_unchanged() {
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
        ("from a network's broadcast address", Packet::udp(([198, 18, 0, 255], 1), (HOST, 5353)).bytes()),
        ("from the host's own address", Packet::tcp((HOST_OUTSIDE, 1), (HOST, 8080), "S").bytes()),
        ("ARP", arp),
        ("a header length beyond the packet", lying),
        ("another IP version", version),
        ("cut inside the TCP header", host(8080)[..44].to_vec()),
        ("a fragment to an unpublished port", fragment(Packet::udp((CLIENT, 1), (HOST, 53)).bytes())),
        ("a later fragment of nothing known", {
            let mut bytes = fragment(Packet::udp((CLIENT, 1), (HOST, 5353)).bytes());
            bytes[21] = 1;
            bytes
        }),
    ];
    for (what, packet) in table {
        let mut expected = packet.clone();
        expected[..6].copy_from_slice(&bench.uplink.mac);
        let (verdict, out) = bench.run("uplink_ingress", bench.uplink, packet);
        assert_eq!(verdict, NEXT, "{what}");
        assert_eq!(out, expected, "{what}");
    }
    let table: Vec<(&str, Packet)> = vec![
        ("to everybody", Packet::udp((WEB, 1), ([255; 4], 67))),
        ("to a neighbour's address, not in a frame to it", Packet::tcp((WEB, 1), (OTHER, 80), "S")),
        ("to the gateway", Packet::udp((WEB, 1), (GATEWAY, 53))),
        ("to another address of the host", Packet::tcp((WEB, 1), (HOST, 22), "S")),
    ];
    // All but the first go on with a TTL that the stack forwards in no case.
    for (number, (what, packet)) in table.into_iter().enumerate() {
        let mut expected = Packet { ttl: if number == 0 { packet.ttl } else { 1 }, ..packet.clone() }.bytes();
        expected[..6].copy_from_slice(&bench.veth.mac);
        expected[6..12].copy_from_slice(&WEB_MAC);
        assert_eq!(bench.container(&packet), (NEXT, expected), "{what}");
    }
    assert_eq!(bench.drops(), BTreeMap::new());
}

#[test]
fn a_redirect_is_for_the_host() {
    let bench = Bench::new();
    let client = (CLIENT, 40_000);
    assert_eq!(bench.uplink(&Packet::tcp(client, (HOST, 8080), "S")).0, REDIRECT);
    let quote = Packet::tcp((HOST, 8080), client, "SA").bytes()[14..].to_vec();
    let error = |kind| icmp_error(CLIENT, HOST, 64, kind, u32::from_be_bytes(ROUTER), &quote);
    let mut expected = error([5, 1]);
    expected[..6].copy_from_slice(&bench.uplink.mac);
    assert_eq!(bench.run("uplink_ingress", bench.uplink, error([5, 1])), (NEXT, expected));
    assert_eq!(bench.run("uplink_ingress", bench.uplink, error([3, 1])).0, REDIRECT, "another error");
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
        ("isolated", true, Packet::tcp((WEB, 1), ([10, 20, 0, 9], 8080), "S")),
        ("martian", true, Packet::tcp((WEB, 1), ([127, 0, 0, 1], 9000), "S")),
        ("out_of_state", true, Packet::tcp((WEB, 1), (FAR, 80), "R")),
        ("out_of_state", true, Packet::tcp((WEB, 1), (FAR, 80), "FA")),
        ("out_of_state", true, Packet::tcp((WEB, 1), (FAR, 80), "SA")),
    ];
    for (reason, from_container, packet) in table {
        let before = bench.drops();
        let (verdict, _) = if from_container { bench.container(&packet) } else { bench.uplink(&packet) };
        let answered = ["ttl_exceeded", "too_big"].contains(&reason);
        assert_eq!(verdict, if answered { REDIRECT } else { SHOT }, "{reason}: {packet:?}");
        let mut expected = before;
        *expected.entry(reason.to_owned()).or_default() += 1;
        assert_eq!(bench.drops(), expected, "{packet:?}");
    }
    let dropped = bench.lab.port("tcp", 8080)["dropped"].clone();
    assert_eq!(dropped, 2, "a flow's drops are its publication's too");
}

#[test]
fn one_client_port_can_use_two_publications_of_a_container_port() {
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
    // Each reply returns to the client's own port.
    for (inside, outside) in [(port(&first), 8080), (port(&second), 8081)] {
        let (verdict, out) = bench.container(&Packet::tcp((WEB, 80), (CLIENT, inside), "SA"));
        assert_eq!(verdict, REDIRECT);
        let expected = Packet { ttl: 63, ..Packet::tcp((HOST, outside), client, "SA") }.bytes();
        assert_eq!(out[14..], expected[14..]);
    }
}

#[test]
fn a_flow_of_a_removed_container_is_stale() {
    let bench = Bench::new();
    let asked = Packet::udp((CLIENT, 40_000), (HOST, 5353));
    assert_eq!(bench.uplink(&asked).0, REDIRECT);
    let web = bench.lab.name("web");
    bench.lab.netd(&["container", "rm", &web]).ok();
    let mut untouched = asked.bytes();
    untouched[..6].copy_from_slice(&bench.uplink.mac);
    assert_eq!(bench.uplink(&asked), (NEXT, untouched));
    // Another container has the address, but no published port.
    bench.lab.container("squatter", &["--ip", "172.17.0.2"]);
    assert_eq!(bench.uplink(&asked).0, NEXT);
}

#[test]
fn a_containers_connection_to_outside_is_masqueraded() {
    let bench = Bench::new();
    for make in [
        (|from, to| Packet::tcp(from, to, "S")) as fn(_, _) -> Packet,
        |from, to| Packet::udp(from, to),
        |from, to| Packet { no_checksum: true, ..Packet::udp(from, to) },
        |from, to| Packet::sctp(from, to, 1),
        |from: ([u8; 4], u16), to| Packet::echo(from.0, to.0, from.1, true),
        |from: ([u8; 4], u16), to| Packet::other(from.0, to.0, 47),
    ] {
        let (inside, far) = ((WEB, 20_000), (FAR, 80));
        let asked = make(inside, far);
        let (verdict, out) = bench.container(&asked);
        assert_eq!(verdict, REDIRECT, "{asked:?}");
        let seen = match asked.kind {
            // The host's own pings may have any identifier.
            Kind::Echo { .. } => u16::from_be_bytes([out[38], out[39]]),
            _ => 20_000,
        };
        let outer = (HOST_OUTSIDE, seen);
        let expected = Packet { ttl: 63, ..make(outer, far) }.bytes();
        assert_eq!(out[14..], expected[14..], "{asked:?}");

        let answer = |to| match &asked.kind {
            Kind::Tcp(_) => Packet::tcp(far, to, "SA"),
            Kind::Udp => Packet { no_checksum: asked.no_checksum, ..Packet::udp(far, to) },
            Kind::Sctp(_) => Packet::sctp(far, to, 2),
            Kind::Echo { .. } => Packet::echo(FAR, to.0, to.1, false),
            Kind::Other(number) => Packet::other(FAR, to.0, *number),
        };
        let (verdict, out) = bench.outside(&answer(outer));
        assert_eq!(verdict, REDIRECT, "{asked:?}");
        let expected = Packet { ttl: 63, ..answer(inside) }.bytes();
        assert_eq!(out[14..], expected[14..], "{asked:?}");
        // A packet of another peer to the same port does not belong to the flow.
        let stranger = Packet { from: ([203, 0, 113, 2], 80), ..answer(outer) };
        assert_eq!(bench.outside(&stranger).0, NEXT, "{asked:?}");
    }
    assert_eq!(bench.drops(), BTreeMap::new());
}

#[test]
fn two_containers_with_the_same_source_port_are_distinguished() {
    let bench = Bench::new();
    let port = |frame: &[u8]| u16::from_be_bytes([frame[34], frame[35]]);
    let (_, first) = bench.container(&Packet::udp((WEB, 20_000), (FAR, 53)));
    let other = interface_of(&bench.lab, "other");
    let mut frame = Packet::udp((OTHER, 20_000), (FAR, 53)).bytes();
    frame[6..12].copy_from_slice(&[2, 0x42, 172, 17, 0, 3]);
    let (verdict, second) = bench.run("container_ingress", other, frame);
    assert_eq!(verdict, REDIRECT);
    assert_eq!(port(&first), 20_000, "kept, since it was free");
    assert!(port(&second) >= 1024 && port(&second) != 20_000, "{}", port(&second));
    for (outside, inside, address) in [(20_000, 20_000, WEB), (port(&second), 20_000, OTHER)] {
        let (verdict, out) = bench.outside(&Packet::udp((FAR, 53), (HOST_OUTSIDE, outside)));
        assert_eq!(verdict, REDIRECT);
        let expected = Packet { ttl: 63, ..Packet::udp((FAR, 53), (address, inside)) }.bytes();
        assert_eq!(out[14..], expected[14..]);
    }
}

#[test]
fn a_published_port_is_reached_by_the_hosts_address_from_inside() {
    let bench = Bench::new();
    let other = interface_of(&bench.lab, "other");
    let from_other = |packet: &Packet| {
        let mut frame = packet.bytes();
        frame[6..12].copy_from_slice(&[2, 0x42, 172, 17, 0, 3]);
        bench.run("container_ingress", other, frame)
    };
    for host in [HOST, HOST_OUTSIDE, GATEWAY] {
        // Another container is seen with its own address.
        let (verdict, out) = from_other(&Packet::tcp((OTHER, 40_000), (host, 8080), "S"));
        assert_eq!(verdict, REDIRECT, "{host:?}");
        let port = u16::from_be_bytes([out[34], out[35]]);
        let expected = Packet { ttl: 63, ..Packet::tcp((OTHER, port), (WEB, 80), "S") }.bytes();
        assert_eq!(out[14..], expected[14..], "{host:?}");
        assert_eq!(out[..6], WEB_MAC);
        let (verdict, out) = bench.container(&Packet::tcp((WEB, 80), (OTHER, port), "SA"));
        assert_eq!(verdict, REDIRECT, "{host:?}");
        let expected = Packet { ttl: 63, ..Packet::tcp((host, 8080), (OTHER, 40_000), "SA") }.bytes();
        assert_eq!(out[14..], expected[14..], "{host:?}");
        // A container that connects to itself sees the gateway's address.
        let (verdict, out) = bench.container(&Packet::tcp((WEB, 40_000), (host, 8080), "S"));
        assert_eq!(verdict, REDIRECT, "{host:?}");
        let port = u16::from_be_bytes([out[34], out[35]]);
        let expected = Packet { ttl: 63, ..Packet::tcp((GATEWAY, port), (WEB, 80), "S") }.bytes();
        assert_eq!(out[14..], expected[14..], "{host:?}");
        let (verdict, out) = bench.container(&Packet::tcp((WEB, 80), (GATEWAY, port), "SA"));
        assert_eq!(verdict, REDIRECT, "{host:?}");
        let expected = Packet { ttl: 63, ..Packet::tcp((host, 8080), (WEB, 40_000), "SA") }.bytes();
        assert_eq!(out[14..], expected[14..], "{host:?}");
    }
    assert_eq!(bench.drops(), BTreeMap::new());
}

#[test]
fn a_container_can_use_only_its_own_addresses() {
    let bench = Bench::new();
    let arp = |mac: [u8; 6], address: [u8; 4]| {
        let mut frame = vec![0xff; 6];
        frame.extend(mac);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(mac);
        frame.extend(address);
        frame.extend([0; 6]);
        frame.extend(GATEWAY);
        frame
    };
    let run = |frame: Vec<u8>| bench.run("container_ingress", bench.veth, frame).0;
    assert_eq!(run(arp(WEB_MAC, WEB)), NEXT);
    assert_eq!(run(arp(WEB_MAC, OTHER)), SHOT, "another's address");
    assert_eq!(run(arp([2, 0x42, 172, 17, 0, 3], WEB)), SHOT, "another's MAC address");
    let mut frame = Packet::udp((WEB, 1), (OTHER, 53)).bytes();
    assert_eq!(run(frame.clone()), SHOT, "an IP packet by another MAC address");
    frame[6..12].copy_from_slice(&WEB_MAC);
    assert_eq!(run(frame.clone()), NEXT);
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(run(frame.clone()), SHOT, "another protocol");
    frame[12..14].copy_from_slice(&[0x81, 0]);
    assert_eq!(run(frame), SHOT, "a VLAN tag");
    assert_eq!(bench.drops(), BTreeMap::from([("spoofed".to_owned(), 3), ("foreign".to_owned(), 2)]));
}

#[test]
fn an_icmp_error_about_a_flow_is_translated() {
    let bench = Bench::new();
    let (client, host) = ((CLIENT, 40_000), (HOST, 8080));
    let (inside, far) = ((WEB, 20_000), (FAR, 80));
    let outer = (HOST_OUTSIDE, 20_000);
    let make: [Make; 4] = [
        |from, to| Packet { payload: b"long enough for the checksum".to_vec(), ..Packet::tcp(from, to, "A") },
        |from, to| Packet::udp(from, to),
        |from, to| Packet { no_checksum: true, ..Packet::udp(from, to) },
        |from, to| Packet { options: vec![1; 8], ..Packet::udp(from, to) },
    ];
    for (number, make) in make.into_iter().enumerate() {
        let host = if number == 0 { host } else { (HOST, 5353) };
        let web = if number == 0 { (WEB, 80) } else { (WEB, 53) };
        // An error quotes at least the IP header and eight bytes.
        for quoted in [28 + make(client, client).options.len(), 200] {
            let cut = |packet: Packet| {
                let bytes = packet.bytes()[14..].to_vec();
                bytes[..quoted.min(bytes.len())].to_vec()
            };
            // The container answers a client's packet with an ICMP error.
            assert_eq!(bench.uplink(&make(client, host)).0, REDIRECT);
            let told = |from, to, packet| icmp_error(from, to, 64, [3, 4], 1280, &cut(packet));
            let (verdict, out) = bench.container_frame(told(WEB, CLIENT, make(client, web)));
            assert_eq!(verdict, REDIRECT, "{number}, {quoted} bytes");
            let expected = icmp_error(HOST, CLIENT, 63, [3, 4], 1280, &cut(make(client, host)));
            assert_eq!(out[14..], expected[14..], "{number}, {quoted} bytes");
            // A router on the path, or the peer itself, answers a container's packet.
            assert_eq!(bench.container(&make(inside, far)).0, REDIRECT);
            for reporter in [ROUTER, FAR] {
                let frame = icmp_error(reporter, HOST_OUTSIDE, 64, [11, 0], 0, &cut(make(outer, far)));
                let (verdict, out) = bench.run("uplink_ingress", bench.outside, frame);
                assert_eq!(verdict, REDIRECT, "{number}, {quoted} bytes");
                let expected = icmp_error(reporter, WEB, 63, [11, 0], 0, &cut(make(inside, far)));
                assert_eq!(out[14..], expected[14..], "{number}, {quoted} bytes");
            }
        }
    }
    // An error about an echo request.
    let (verdict, out) = bench.container(&Packet::echo(WEB, FAR, 7, true));
    assert_eq!(verdict, REDIRECT);
    let identifier = u16::from_be_bytes([out[38], out[39]]);
    let quote = |from, identifier| Packet::echo(from, FAR, identifier, true).bytes()[14..].to_vec();
    let frame = icmp_error(ROUTER, HOST_OUTSIDE, 64, [3, 1], 0, &quote(HOST_OUTSIDE, identifier));
    let (verdict, out) = bench.run("uplink_ingress", bench.outside, frame);
    assert_eq!(verdict, REDIRECT);
    assert_eq!(out[14..], icmp_error(ROUTER, WEB, 63, [3, 1], 0, &quote(WEB, 7))[14..]);
    assert_eq!(bench.drops(), BTreeMap::new());
}

#[test]
fn an_icmp_error_about_no_flow_reaches_only_the_host() {
    let bench = Bench::new();
    let quote = |from, to| Packet::udp(from, to).bytes()[14..].to_vec();
    let own = icmp_error(FAR, HOST_OUTSIDE, 64, [3, 3], 0, &quote((HOST_OUTSIDE, 9), (FAR, 53)));
    assert_eq!(bench.run("uplink_ingress", bench.outside, own).0, NEXT, "the host's own");
    let to_host = icmp_error(WEB, GATEWAY, 64, [3, 3], 0, &quote((GATEWAY, 9), (WEB, 53)));
    assert_eq!(bench.container_frame(to_host).0, NEXT, "a container's answer to the host");
    assert_eq!(bench.drops(), BTreeMap::new());
    let stray = icmp_error(WEB, FAR, 64, [3, 3], 0, &quote((FAR, 9), (WEB, 53)));
    assert_eq!(bench.container_frame(stray).0, SHOT);
    let cut = icmp_error(WEB, FAR, 64, [3, 3], 0, &quote((FAR, 9), (WEB, 53))[..24]);
    assert_eq!(bench.container_frame(cut).0, SHOT);
    assert_eq!(bench.drops(), BTreeMap::from([("not_related".to_owned(), 2)]));
    // An error about a flow of another container.
    assert_eq!(bench.uplink(&Packet::udp((CLIENT, 40_000), (HOST, 5353))).0, REDIRECT);
    let forged = icmp_error(OTHER, CLIENT, 64, [3, 3], 0, &quote((CLIENT, 40_000), (WEB, 53)));
    assert_eq!(bench.container_frame(forged).0, SHOT);
    assert_eq!(bench.drops().get("spoofed"), Some(&1));
}

#[test]
fn expired_ttl_and_oversized_packets_are_answered() {
    let bench = Bench::new();
    let old = |packet: Packet| Packet { ttl: 1, ..packet };
    let large = |packet: Packet| Packet { payload: vec![7; 1500], ..packet };
    let (client, far) = ((CLIENT, 40_000), (FAR, 80));
    // The packet, its hook, the source of the answer, and the answer's type and code.
    let table = [
        (old(Packet::tcp(client, (HOST, 8080), "S")), false, HOST, [11, 0], 0),
        (old(Packet::udp(client, (HOST, 5353))), false, HOST, [11, 0], 0),
        (old(Packet::udp((WEB, 1), far)), true, GATEWAY, [11, 0], 0),
        (old(Packet::echo(WEB, FAR, 3, true)), true, GATEWAY, [11, 0], 0),
        (large(Packet::udp(client, (HOST, 5353))), false, HOST, [3, 4], 1500),
        (large(Packet::udp((WEB, 1), far)), true, GATEWAY, [3, 4], 1500),
    ];
    for (packet, inside, answerer, kind, mtu) in table {
        let (verdict, out) = if inside { bench.container(&packet) } else { bench.uplink(&packet) };
        assert_eq!(verdict, REDIRECT, "{packet:?}");
        assert_eq!(&out[14..16], [0x45, 0xc0]);
        assert_eq!((&out[26..30], &out[30..34]), (&answerer[..], &packet.from.0[..]));
        assert_eq!(checksum(&out[14..34]), 0, "the header's checksum");
        assert_eq!(u16::from_be_bytes([out[16], out[17]]), u16::try_from(out.len() - 14).unwrap());
        let message = &out[34..];
        assert_eq!((&message[..2], checksum(message)), (&kind[..], 0), "{packet:?}");
        assert_eq!(message[4..8], u32::to_be_bytes(mtu), "{packet:?}");
        // The quote is the start of the packet, at least up to eight bytes of the transport header.
        let sent = packet.bytes();
        assert_eq!(message[8..36], sent[14..42], "{packet:?}");
        // The error goes back to the sender.
        let sender = if inside { WEB_MAC } else { [2, 0, 0, 0, 0, 1] };
        assert_eq!(out[..6], sender);
    }
    assert_eq!(bench.drops(), BTreeMap::from([("ttl_exceeded".to_owned(), 4), ("too_big".to_owned(), 2)]));
    // A later fragment and an ICMP error are not answered.
    assert_eq!(bench.uplink(&Packet::udp(client, (HOST, 5353))).0, REDIRECT);
    let quote = Packet::udp((HOST, 5353), client).bytes()[14..].to_vec();
    let error = icmp_error(CLIENT, HOST, 1, [3, 3], 0, &quote);
    assert_ne!(bench.run("uplink_ingress", bench.uplink, error).0, REDIRECT);
    let mut first = Packet::udp(client, (HOST, 5353)).bytes();
    first[20] = 0x20;
    let mut middle = Packet { ttl: 1, ..Packet::other(CLIENT, HOST, 17) }.bytes();
    middle[21] = 2;
    assert_eq!(bench.run("uplink_ingress", bench.uplink, first).0, REDIRECT);
    assert_eq!(bench.run("uplink_ingress", bench.uplink, middle).0, SHOT);
}

#[test]
fn fragments_follow_their_first() {
    let bench = Bench::new();
    let fragment = |from, to, id: u8, offset: u16, more: bool, payload: &[u8]| {
        let whole = Packet { payload: payload.to_vec(), ..Packet::udp(from, to) };
        let whole = if offset == 0 {
            whole
        } else {
            Packet { payload: payload.to_vec(), ..Packet::other(from.0, to.0, 17) }
        };
        let mut bytes = whole.bytes();
        let field = (offset / 8) | if more { 0x2000 } else { 0 };
        bytes[18..20].copy_from_slice(&[0, id]);
        bytes[20..22].copy_from_slice(&field.to_be_bytes());
        bytes[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let aged = |mut bytes: Vec<u8>| {
        bytes[22] -= 1;
        bytes[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let (client, host, web) = ((CLIENT, 40_000), (HOST, 5353), (WEB, 53));
    for (id, from_container) in [(1, false), (2, true)] {
        let (from, to) = if from_container { (web, client) } else { (client, host) };
        let (new_from, new_to) = if from_container { (host, client) } else { (client, web) };
        let run = |frame| {
            if from_container {
                bench.container_frame(frame)
            } else {
                bench.run("uplink_ingress", bench.uplink, frame)
            }
        };
        for (offset, more) in [(0, true), (1472, true), (2944, false)] {
            let payload = vec![id; 100];
            let (verdict, out) = run(fragment(from, to, id, offset, more, &payload));
            assert_eq!(verdict, REDIRECT, "{id} {offset}");
            let expected = aged(fragment(new_from, new_to, id, offset, more, &payload));
            assert_eq!(out[14..], expected[14..], "{id} {offset}");
        }
    }
    // A later fragment is queued until the first one arrives; at most 64 for each datagram. On a busy machine a datagram's time may
    // be over before: then another one is tried.
    let is_refused = |id| {
        let stray = || fragment(web, client, id, 1472, false, b"middle");
        for _held in 0..64 {
            assert_eq!(bench.container_frame(stray()).0, SHOT);
        }
        assert_eq!(bench.drops(), BTreeMap::new());
        assert_eq!(bench.container_frame(stray()).0, SHOT);
        bench.drops() == BTreeMap::from([("fragment".to_owned(), 1)])
    };
    assert!((9..20).any(is_refused), "the 65th fragment of a datagram is held as well");
}

#[test]
fn a_flood_evicts_only_unreplied_connections() {
    const FLOOD: u32 = 3_000_000;
    let bench = Bench::new();
    let web = bench.lab.name("web");
    let sandbox = std::path::Path::new("/run/netns").join(&web);
    let _server = Server::tcp_echo(&sandbox, 80);
    let to = format!("{}:8080", netd_tests::lab::HOST);
    let stream = bench.lab.client.run(|| TcpStream::connect(to).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = stream.local_addr().unwrap().port();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut exchange = || {
        (&stream).write_all(b"a line of an established connection\n").unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "a line of an established connection\n");
    };
    let own = |key: &FlowKey<Ipv4>| {
        (key.src == Ipv4::from_wire(CLIENT) && key.src_port.get() == port)
            || (key.dst == Ipv4::from_wire(CLIENT) && key.dst_port.get() == port)
    };
    wait_for("the connection to be one that both sides want", PATIENCE, || {
        exchange();
        bench.rows(name::FLOWS, own) == 2
    });
    // SYNs of new clients, datagrams to a published port and to unpublished ports, and ICMP errors about no flow.
    bench.flood(FLOOD, &mut exchange);
    exchange();
    assert_eq!(bench.rows(name::FLOWS, own), 2, "its rows are where they were");
    assert_eq!(bench.rows(name::FLOWS, |_key| true), 2, "nothing that nobody answers gets there");
    let drops = bench.drops();
    assert!(!drops.contains_key("table_full") && !drops.contains_key("collision"), "{drops:?}");
    // A connection that the flood has evicted is rebuilt by its publication.
    let flows = bench.lab.port("tcp", 8080)["flows"]["total"].as_u64().unwrap();
    assert!(flows > u64::from(FLOOD / 4), "{flows}");
}

#[test]
fn a_routed_containers_flow_is_rebuilt_without_nat() {
    let bench = Bench::new();
    let words = ["network", "create", "own", "--subnet", "10.6.0.0/24", "--gateway-mode", "routed"];
    bench.lab.netd(&words).ok();
    bench.lab.container("own", &["--network", "own", "-p", "9080:80"]);
    let veth = interface_of(&bench.lab, "own");
    let (client, own) = ((CLIENT, 40_000), ([10, 6, 0, 2], 80));
    let answer = |flags| {
        let mut frame = Packet::tcp(own, client, flags).bytes();
        frame[6..12].copy_from_slice(&[2, 0x42, 10, 6, 0, 2]);
        bench.run("container_ingress", veth, frame)
    };
    let translated = |packet: Packet| Packet { ttl: packet.ttl - 1, ..packet }.bytes()[14..].to_vec();
    for flags in ["S", "A"] {
        let asked = Packet { options: vec![1; 4], ..Packet::tcp(client, own, flags) };
        let (verdict, out) = bench.uplink(&asked);
        assert_eq!((verdict, &out[14..]), (REDIRECT, translated(asked).as_slice()), "{flags}");
        // After the rows are lost, the container may be the first to send.
        bench.forget_flows();
        let (verdict, out) = answer("A");
        let expected = translated(Packet::tcp(own, client, "A"));
        assert_eq!((verdict, &out[14..]), (REDIRECT, expected.as_slice()), "{flags}");
    }
    bench.forget_flows();
    assert_eq!(bench.uplink(&Packet::tcp(client, (own.0, 81), "S")).0, SHOT);
    assert_eq!(bench.uplink(&Packet { ttl: 1, ..Packet::tcp(client, (own.0, 81), "S") }).0, SHOT);
    assert_eq!(bench.uplink(&Packet::tcp((OTHER, 1), own, "S")).0, SHOT, "in a container's name");
    assert_eq!(bench.drops(), BTreeMap::from([("direct_access".into(), 2), ("forged_source".into(), 1)]));
}

#[test]
fn extension_headers_do_not_hide_a_containers_address() {
    let bench = Bench::new();
    let net = |name, subnet| {
        bench.lab.netd(&["network", "create", name, "--ipv6", "--subnet", subnet]).ok();
        bench.lab.container(name, &["--network", name]);
    };
    net("six", "fd00:6::/64");
    net("far", "fd00:7::/64");
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    // A datagram behind destination options; the longest ones exceed what netd reads.
    let frame = |src: &str, dst: &str, options: usize| {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, u8::try_from(options + 8).unwrap(), 60, 64]);
        frame.extend([address(src), address(dst)].concat());
        // PadN fills the header (RFC 8200 §4.2).
        frame.extend([17, u8::try_from(options / 8 - 1).unwrap(), 1, u8::try_from(options - 4).unwrap()]);
        frame.extend(vec![0; options - 4]);
        frame.extend([0x9c, 0x40, 0, 80, 0, 8, 0, 0]);
        frame
    };
    let outside =
        |dst, options| bench.run("uplink_ingress", bench.uplink, frame("2001:db8:18::2", dst, options)).0;
    let veth = interface_of(&bench.lab, "six");
    let container = |dst, options| {
        let mut frame = frame("fd00:6::2", dst, options);
        let shown = bench.lab.netd(&["--json", "container", "inspect", &bench.lab.name("six")]).ok().json();
        let mac = shown["mac"].as_str().unwrap().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
        frame[6..12].copy_from_slice(&mac.collect::<Vec<_>>());
        bench.run("container_ingress", veth, frame).0
    };
    for options in [8, 64, 200] {
        assert_eq!(outside("fd00:6::2", options), SHOT, "{options} bytes");
        assert_eq!(container("fd00:7::2", options), SHOT, "{options} bytes");
    }
    assert_eq!(
        bench.drops(),
        BTreeMap::from([("direct_access".into(), 3), ("isolated".into(), 2), ("malformed".into(), 1)])
    );
    assert_eq!(outside("2001:db8:18::1", 200), NEXT, "the host's own");
}
