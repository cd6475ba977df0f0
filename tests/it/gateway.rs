//! Gateway modes and trusted interfaces, and that no other packets pass.

use std::net::UdpSocket;

use netd_tests::lab::{CLIENT, CLIENT6, HOST, HOST_OUTSIDE, HOST_OUTSIDE6, HOST6, Lab, OUTSIDE, OUTSIDE6};
use netd_tests::netns::{Netns, sandbox};
use netd_tests::packet::Packet;
use netd_tests::probe::{
    PATIENCE, SILENCE, Server, patience, tcp_first_line, udp_ask, udp_socket, when_free,
};
use serde_json::json;

/// Makes a network with a subnet of each family, named by `number`, and on it a container `web` with servers on ports
/// 80 and 81. Port 80 is published.
fn network(lab: &Lab, number: u16, options: &[&str]) -> Web {
    let name = format!("net{number}");
    let (four, six) = (format!("10.6.{number}.0/24"), format!("fd00:6:{number}::/64"));
    let words = ["network", "create", &name, "--subnet", &four, "--subnet", &six];
    lab.netd(&[&words[..], options].concat()).ok();
    let host_port = 8000 + number;
    let port = format!("{host_port}:80");
    let web = lab.container(&format!("web{number}"), &["--network", &name, "-p", &port]);
    let servers = [80, 81].map(|port| Server::tcp_echo(&sandbox(&web), port));
    Web {
        name: web,
        addresses: [format!("10.6.{number}.2"), format!("[fd00:6:{number}::2]")],
        host_port,
        _servers: servers,
    }
}

struct Web {
    name: String,
    /// IPv4 and IPv6.
    addresses: [String; 2],
    host_port: u16,
    _servers: [Server; 2],
}

/// Checks what a client reaches by the container's own address: `must` says it of the published port, of the other
/// port, and of ping.
#[track_caller]
fn reaches(from: &Netns, address: &str, must: [bool; 3]) {
    let [port, other, ping] = must;
    answers(from, &format!("{address}:80"), port);
    answers(from, &format!("{address}:81"), other);
    let wait = if ping { 10 } else { 1 };
    let pinged = from.try_sh(&format!("ping -c 1 -W {wait} {}", address.trim_matches(['[', ']'])));
    assert_eq!(pinged.status.success(), ping, "ping {address}");
}

/// Checks whether a TCP port answers a client, as `must` says.
#[track_caller]
fn answers(from: &Netns, to: &str, must: bool) {
    let answer = from.run(|| tcp_first_line(to, patience(must)));
    assert_eq!(answer.is_ok(), must, "{to}: {answer:?}");
}

#[test]
fn each_gateway_mode_applies_in_each_family() {
    let lab = Lab::new();
    let table = [
        ("nat", [false, false, false], true),
        ("nat-unprotected", [true, true, true], true),
        ("routed", [true, false, true], false),
    ];
    let _far = Server::tcp_echo(&lab.outside.path(), 80);
    for (number, (mode, reached, by_the_host)) in (1..).zip(table) {
        let web = network(&lab, number, &["--gateway-mode", mode]);
        for address in &web.addresses {
            reaches(&lab.client, address, reached);
        }
        for (host, client) in [(HOST.to_owned(), CLIENT), (format!("[{HOST6}]"), CLIENT6)] {
            let to = format!("{host}:{}", web.host_port);
            let seen = lab.client.run(|| tcp_first_line(&to, patience(by_the_host)).ok());
            assert_eq!(seen.as_deref(), by_the_host.then_some(client), "{mode}: {to}");
        }
        for host in ["127.0.0.1", "[::1]", HOST] {
            let to = format!("{host}:{}", web.host_port);
            answers(&lab.host, &to, by_the_host);
        }
        // The source address that the outside sees.
        let [own, own6] = web.addresses.each_ref().map(|address| address.trim_matches(['[', ']']));
        let names = if by_the_host { [HOST_OUTSIDE, HOST_OUTSIDE6] } else { [own, own6] };
        lab.run_in(&web.name, || {
            for (to, name) in [OUTSIDE.to_owned(), format!("[{OUTSIDE6}]")].iter().zip(names) {
                assert_eq!(tcp_first_line(&format!("{to}:80"), PATIENCE).unwrap(), name, "{mode}");
            }
        });
        let shown = lab.netd(&["--json", "network", "inspect", &format!("net{number}")]).ok().json();
        assert_eq!(shown["gateway_mode"], json!({"ipv4": mode, "ipv6": mode}));
    }
    let listed = lab.netd(&["network", "ls"]).ok().stdout;
    assert!(listed.contains("MODE") && listed.contains("nat-unprotected"), "{listed}");
}

#[test]
fn each_family_has_its_own_gateway_mode() {
    let lab = Lab::new();
    let web = network(&lab, 1, &["--gateway-mode", "ipv4=routed", "--gateway-mode", "ipv6=nat"]);
    let [four, six] = &web.addresses;
    reaches(&lab.client, four, [true, false, true]);
    reaches(&lab.client, six, [false, false, false]);
    answers(&lab.client, &format!("{HOST}:{}", web.host_port), false);
    answers(&lab.client, &format!("[{HOST6}]:{}", web.host_port), true);
    let shown = lab.netd(&["network", "inspect", "net1"]).ok().stdout;
    assert!(shown.contains("ipv4=routed,ipv6=nat"), "{shown}");
}

#[test]
fn a_routed_port_follows_its_publications() {
    let lab = Lab::new();
    let web = network(&lab, 1, &["--gateway-mode", "routed"]);
    let [four, six] = &web.addresses;
    let answers = |address: &str, port: u16, must| answers(&lab.client, &format!("{address}:{port}"), must);
    answers(four, 80, true);
    assert_eq!(lab.port("tcp", web.host_port)["flows"]["total"], 1);
    // One of two publications of the same port is enough.
    lab.netd(&["publish", "9000:80", &web.name]).ok();
    lab.netd(&["unpublish", "9000"]).ok();
    answers(four, 80, true);
    // A publication for the host only, or for one family, allows nothing else.
    lab.netd(&["publish", "127.0.0.1:9001:81", &web.name]).ok();
    answers(four, 81, false);
    lab.netd(&["publish", "[::]:9002:81", &web.name]).ok();
    answers(four, 81, false);
    answers(six, 81, true);
    // Its access lists apply, and it counts the packets that they deny.
    lab.netd(&["publish", "0.0.0.0:9003:81", &web.name, "--deny", CLIENT]).ok();
    answers(four, 81, false);
    assert!(lab.port("tcp", 9003)["dropped"].as_u64().unwrap() > 0);
    lab.netd(&["unpublish", &web.host_port.to_string()]).ok();
    answers(four, 80, false);
    answers(six, 80, false);
}

#[test]
fn traceroute_and_errors_return_from_a_routed_network() {
    let lab = Lab::new();
    let web = network(&lab, 1, &["--gateway-mode", "routed"]);
    lab.netd(&["publish", "5353:53/udp", &web.name]).ok();
    let own = "10.6.1.2";
    let traced = lab.client.sh(&format!("traceroute -n -q 1 -w 5 -m 5 -U -p 53 {own}"));
    assert!(traced.contains(&format!(" 1  {HOST}")) && traced.contains(&format!(" 2  {own}")), "{traced}");
    // No process listens there, so the sender gets an error.
    let refused = lab.client.run(|| {
        let socket = udp_socket(PATIENCE);
        socket.connect(format!("{own}:53")).unwrap();
        socket.send(b"x").unwrap();
        socket.recv(&mut [0; 16]).unwrap_err().kind()
    });
    assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    let _server = Server::udp_echo(&sandbox(&web.name), 53);
    lab.client.run(|| {
        let large = vec![7; 8000];
        let (answer, from) = udp_ask(&udp_socket(PATIENCE), &format!("{own}:53"), &large).unwrap();
        assert_eq!((answer, from.to_string()), (large, format!("{own}:53")));
    });
    let flows = lab.netd(&["--json", "flows", "--port", "53"]).ok().json();
    let flow = &flows[0];
    assert_eq!((&flow["original"]["dst"], &flow["reply"]["src"]), (&json!(own), &json!(own)), "{flows}");
    assert_eq!(flow["publication"], "5353:53/udp");
}

#[test]
fn a_trusted_interface_reaches_published_ports_by_container_address() {
    let lab = Lab::new();
    let web = network(&lab, 1, &["--trusted-interface", "up0", "--trusted-interface", "up2"]);
    for address in &web.addresses {
        reaches(&lab.client, address, [true, false, false]);
        reaches(&lab.outside, address, [false, false, false]);
    }
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:{}", web.host_port), PATIENCE).is_ok()));
    let shown = lab.netd(&["--json", "network", "inspect", "net1"]).ok().json();
    assert_eq!(shown["trusted_interfaces"], json!(["up0", "up2"]));
    // An interface that is added later is trusted from the next command on.
    let third = Netns::new("third");
    lab.host.ip(&format!("link add up2 type veth peer name eth0 netns {}", third.name));
    lab.host.ip("address add 198.18.9.1/24 dev up2");
    lab.host.ip("link set up2 up");
    third.ip("address add 198.18.9.2/24 dev eth0");
    third.ip("link set eth0 up");
    third.ip("route add default via 198.18.9.1");
    lab.netd(&["sync"]).ok();
    reaches(&third, &web.addresses[0], [true, false, false]);
    // Interfaces that another network trusts are not trusted by this one.
    let other = network(&lab, 2, &[]);
    reaches(&lab.client, &other.addresses[0], [false, false, false]);
}

#[test]
fn containers_of_another_network_have_the_access_of_outside() {
    let lab = Lab::new();
    let far = lab.container("far", &[]);
    let own = lab.address(&far);
    for (number, mode, reached) in
        [(1, "nat", [false, false]), (2, "nat-unprotected", [true, true]), (3, "routed", [true, false])]
    {
        let web = network(&lab, number, &["--gateway-mode", mode, "--trusted-interface", "netd0"]);
        for (port, must) in [80, 81].into_iter().zip(reached) {
            let to = format!("{}:{port}", web.addresses[0]);
            let seen = lab.run_in(&far, || tcp_first_line(&to, patience(must)).ok());
            assert_eq!(seen.as_deref(), must.then_some(own.as_str()), "{mode}: {to}");
        }
    }
}

#[test]
fn an_isolated_network_has_no_gateway() {
    let lab = Lab::new();
    let words = ["network", "create", "sealed", "--ipv6", "--subnet", "10.6.0.0/24", "--internal"];
    lab.netd(&[&words[..], &["--bridge", "sealed0", "--gateway-mode", "isolated"]].concat()).ok();
    let (one, two) =
        (lab.container("one", &["--network", "sealed"]), lab.container("two", &["--network", "sealed"]));
    assert_eq!(lab.host.sh("ip -o address show dev sealed0"), "");
    let shown = lab.netd(&["--json", "network", "inspect", "sealed"]).ok().json();
    assert_eq!((&shown["gateways"], &shown["gateway_mode"]["ipv6"]), (&json!([]), &json!("isolated")));
    let address = lab.address(&two);
    let _server = Server::tcp_echo(&sandbox(&two), 80);
    let _host = Server::tcp_echo(&lab.host.path(), 90);
    lab.run_in(&one, || assert!(tcp_first_line(&format!("{address}:80"), PATIENCE).is_ok()));
    // The host is reached by none of its addresses, even if a container sends packets for other destinations to the
    // bridge's MAC address.
    let routed = lab.command_in(&one, "ip route add default dev eth0").status().unwrap();
    assert!(routed.success());
    lab.run_in(&one, || {
        for host in ["10.6.0.1", HOST] {
            assert!(tcp_first_line(&format!("{host}:90"), SILENCE).is_err(), "{host}");
        }
    });
    assert!(lab.host.run(|| tcp_first_line(&format!("{address}:80"), SILENCE)).is_err());
}

#[test]
fn contradictory_gateway_modes_are_refused() {
    let lab = Lab::new();
    let create = |options: &[&str]| {
        lab.netd(&[&["network", "create", "x", "--subnet", "10.6.0.0/24"], options].concat())
    };
    create(&["--gateway-mode", "bridge"]).fails(2, "'bridge' is not a gateway mode");
    create(&["--gateway-mode", "nat", "--gateway-mode", "ipv4=routed"]).fails(1, "twice");
    create(&["--gateway-mode", "isolated"]).fails(1, "is not internal");
    create(&["--gateway-mode", "ipv6=routed"]).fails(1, "no IPv6 subnet");
    create(&["--internal", "--gateway-mode", "routed"]).fails(1, "is internal");
    create(&["--internal", "--gateway-mode", "nat-unprotected"]).fails(1, "is internal");
    create(&["--internal", "--trusted-interface", "up0"]).fails(1, "is internal");
    create(&["--internal", "--gateway-mode", "isolated", "--gateway", "10.6.0.9"]).fails(1, "no gateway");
    create(&["--gateway-mode", "routed", "--snat-address", HOST]).fails(1, HOST);
    create(&["--trusted-interface", "a/b"]).fails(2, "a/b");
    let networks = lab.netd(&["--json", "network", "ls"]).ok().json();
    assert_eq!(networks.as_array().unwrap().len(), 3, "{networks}");
}

#[test]
fn packets_from_a_port_published_on_localhost_are_masqueraded() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "127.0.0.1:5353:53/udp"]);
    let _server = Server::udp_echo(&lab.outside.path(), 53);
    lab.run_in(&web, || {
        let socket = UdpSocket::bind("0.0.0.0:53").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(udp_ask(&socket, &format!("{OUTSIDE}:53"), b"x").unwrap().0, b"x");
    });
}

/// The host forwards packets here, as a router does: the stack delivers packets that netd passes on.
#[test]
fn tags_and_options_bypass_nothing_on_a_forwarding_host() {
    let lab = Lab::new();
    lab.host.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let (closed, open) = (network(&lab, 1, &[]), network(&lab, 2, &["--gateway-mode", "nat-unprotected"]));
    let record_route = |web: &Web, wait: u32| {
        lab.client.try_sh(&format!("ping -R -c 1 -W {wait} {}", web.addresses[0])).status.success()
    };
    assert!(record_route(&open, 10) && !record_route(&closed, 1), "an IPv4 option");
    // Frames without a tag; with a priority tag (VLAN 0); with two of them; and of a VLAN that does not exist.
    let mac = lab.host.sh("ip -o link show up0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'");
    let mac: Vec<u8> = mac.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    for (tags, expected) in [(&[][..], true), (&[0], true), (&[0, 0], false), (&[7], false)] {
        let send = |number: u8| {
            let mut frame = Packet::udp(([198, 18, 0, 2], 4000), ([10, 6, number, 2], 53)).bytes();
            frame[..6].copy_from_slice(&mac);
            for tag in tags {
                frame.splice(12..12, [0x81, 0, 0, *tag]);
            }
            lab.client.sh(&format!("python3 -c '{SEND}' '{frame:?}'"));
        };
        let arrives = |web: &Web, number, must| {
            lab.run_in(&web.name, || {
                let socket = when_free(|| UdpSocket::bind("0.0.0.0:53"));
                socket.set_read_timeout(Some(patience(must))).unwrap();
                send(number);
                socket.recv(&mut [0; 64]).is_ok()
            })
        };
        assert!(!arrives(&closed, 1, false), "{tags:?}");
        assert_eq!(arrives(&open, 2, expected), expected, "{tags:?}");
    }
}

/// Sends a frame as it is.
const SEND: &str = "import json, socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); \
                    s.bind((\"eth0\", 0)); s.send(bytes(json.loads(sys.argv[1])))";
