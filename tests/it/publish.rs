//! Connections from outside: published ports are reached, and nothing else.

use std::net::UdpSocket;

use netd_tests::lab::{CLIENT, HOST, HOST_OUTSIDE, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_answers, udp_ask, udp_socket};
use netd_tests::wait_for;

#[test]
fn a_published_tcp_port_is_reached_from_outside_with_the_clients_address() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let seen = lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
    assert_eq!(seen, CLIENT);
    // By the host's other address, and through the other uplink.
    let seen = lab.client.run(|| tcp_first_line(&format!("{HOST_OUTSIDE}:8080"), PATIENCE)).unwrap();
    assert_eq!(seen, CLIENT);
    let seen = lab.outside.run(|| tcp_first_line(&format!("{HOST_OUTSIDE}:8080"), PATIENCE)).unwrap();
    assert_eq!(seen, netd_tests::lab::OUTSIDE);
}

#[test]
fn a_udp_port_replies_from_the_address_that_the_request_was_sent_to() {
    let lab = Lab::new();
    let echo = lab.container("echo", &["-p", "5353:53/udp"]);
    let _server = Server::udp_echo(&sandbox(&echo), 53);
    lab.client.run(|| {
        let socket = udp_socket(PATIENCE);
        for host in [HOST, HOST_OUTSIDE] {
            let to = format!("{host}:5353");
            let (answer, from) = udp_ask(&socket, &to, b"ping").unwrap();
            assert_eq!(answer, b"ping");
            assert_eq!(from.to_string(), to);
        }
    });
}

#[test]
fn tcp_and_udp_may_share_a_port_number() {
    let lab = Lab::new();
    let both = lab.container("both", &["-p", "53:53/udp", "-p", "53:53"]);
    let _udp = Server::udp_echo(&sandbox(&both), 53);
    let _tcp = Server::tcp_echo(&sandbox(&both), 53);
    lab.client.run(|| {
        assert_eq!(udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:53"), b"x").unwrap().0, b"x");
        assert_eq!(tcp_first_line(&format!("{HOST}:53"), PATIENCE).unwrap(), CLIENT);
    });
}

#[test]
fn neither_unpublished_ports_nor_the_containers_own_address_are_reached_from_outside() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _web = Server::tcp_echo(&sandbox(&web), 80);
    let _admin = Server::tcp_echo(&sandbox(&web), 81);
    let _udp = Server::udp_echo(&sandbox(&web), 82);
    let address = lab.address(&web);
    lab.client.run(|| {
        for to in [format!("{HOST}:81"), format!("{address}:80"), format!("{address}:81")] {
            assert!(tcp_first_line(&to, SILENCE).is_err(), "{to} was reached");
        }
        assert!(udp_ask(&udp_socket(SILENCE), &format!("{address}:82"), b"x").is_err());
    });
    let drops = lab.netd(&["--json", "status"]).ok().json();
    let direct =
        drops["drops"].as_array().unwrap().iter().find(|drop| drop["reason"] == "direct_access").unwrap();
    assert!(direct["packets"].as_u64().unwrap() >= 3, "{direct}");
    assert!(!lab.client.try_sh(&format!("ping -c 1 -W 1 {address}")).status.success());
    // The programs report one of them.
    let log = lab.netd(&["log"]).ok().stdout;
    assert!(
        log.contains("direct_access 198.18.0.2:") && log.contains(&format!("-> {address}:80 protocol 6")),
        "{log}"
    );
    // The same container, by its published port.
    assert_eq!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap(), CLIENT);
}

#[test]
fn a_port_on_127_0_0_1_is_the_hosts_own() {
    let lab = Lab::new();
    let db = lab.container("db", &["-p", "127.0.0.1:5432:5432"]);
    let _server = Server::tcp_echo(&sandbox(&db), 5432);
    assert!(lab.host.run(|| tcp_first_line("127.0.0.1:5432", PATIENCE)).is_ok());
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:5432"), SILENCE)).is_err());
    assert!(lab.host.run(|| tcp_first_line(&format!("{HOST}:5432"), SILENCE)).is_err());
    // A client that sends loopback addresses over the wire.
    lab.client.ip("route add 127.0.0.1/32 via 198.18.0.1 table 7");
    lab.client.sh("sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.eth0.route_localnet=1");
    lab.client.ip("rule add pref 1 to 127.0.0.1 lookup 7");
    lab.client.sh("ip rule del pref 0; ip rule add pref 2 lookup local");
    assert!(lab.client.run(|| tcp_first_line("127.0.0.1:5432", SILENCE)).is_err());
}

#[test]
fn a_port_on_one_address_is_not_on_the_others() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", &format!("{HOST_OUTSIDE}:8080:80")]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    lab.client.run(|| {
        assert!(tcp_first_line(&format!("{HOST_OUTSIDE}:8080"), PATIENCE).is_ok());
        assert!(tcp_first_line(&format!("{HOST}:8080"), SILENCE).is_err());
    });
    // Two containers with the same port, each on another host address.
    let other = lab.container("other", &["-p", &format!("{HOST}:8080:80")]);
    let _other = Server::tcp(&sandbox(&other), 80, |mut stream, _| {
        let _sent = std::io::Write::write_all(&mut stream, b"other\n");
    });
    lab.client.run(|| {
        assert_eq!(tcp_first_line(&format!("{HOST}:8080"), PATIENCE).unwrap(), "other");
        assert_eq!(tcp_first_line(&format!("{HOST_OUTSIDE}:8080"), PATIENCE).unwrap(), CLIENT);
    });
}

#[test]
fn each_port_of_a_range_leads_to_its_target_port() {
    let lab = Lab::new();
    let game = lab
        .container("game", &["-p", "30000-30099:7000-7099", "-p", &format!("{HOST}:31001-31007:7001-7007")]);
    let _first = Server::tcp(&sandbox(&game), 7000, |mut stream, _| {
        let _sent = std::io::Write::write_all(&mut stream, b"first\n");
    });
    let _other = Server::tcp(&sandbox(&game), 7007, |mut stream, _| {
        let _sent = std::io::Write::write_all(&mut stream, b"seventh\n");
    });
    lab.client.run(|| {
        assert_eq!(tcp_first_line(&format!("{HOST}:30000"), PATIENCE).unwrap(), "first");
        assert_eq!(tcp_first_line(&format!("{HOST}:30007"), PATIENCE).unwrap(), "seventh");
        assert_eq!(tcp_first_line(&format!("{HOST}:31007"), PATIENCE).unwrap(), "seventh");
        assert!(tcp_first_line(&format!("{HOST}:30100"), SILENCE).is_err());
        assert!(tcp_first_line(&format!("{HOST}:31008"), SILENCE).is_err());
    });
    lab.netd(&["unpublish", "30000-30099"]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:30007"), SILENCE)).is_err());
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:31007"), PATIENCE)).is_ok());
}

#[test]
fn a_free_port_is_chosen_and_printed() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let made = lab.netd(&["--json", "publish", "80", &web]).ok().json();
    let port = made[0]["host_port"].as_u64().unwrap();
    assert!(!(32768..=60999).contains(&port), "the kernel gives it to sockets: {made}");
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:{port}"), PATIENCE)).is_ok());
    let said = lab.netd(&["publish", "0:80", &web]).ok();
    let second: u64 = said.stdout.split("->").next().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    assert_ne!(second, port);
    // The first free of a range: the ones before it are taken, one by a publication, one by a listening socket.
    let _listener = lab.host.run(|| std::net::TcpListener::bind(("0.0.0.0", 9001)).unwrap());
    lab.netd(&["publish", "9000:80", &web]).ok();
    let made = lab.netd(&["--json", "publish", "9000-9010:80", &web]).ok().json();
    assert_eq!(made[0]["host_port"], 9002);
}

#[test]
fn ports_are_listed_with_their_traffic() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "-p", &format!("{HOST}:8081:81/udp")]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let _echo = Server::udp_echo(&sandbox(&web), 81);
    let before = lab.port("tcp", 8080);
    assert_eq!(before["packets"], serde_json::json!({"in": 0, "out": 0}));
    lab.client.run(|| {
        for _connection in 0..10 {
            tcp_first_line(&format!("{HOST}:8080"), PATIENCE).unwrap();
        }
        udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:8081"), &[0; 100]).unwrap();
    });
    let tcp = lab.port("tcp", 8080);
    assert_eq!(tcp["flows"]["total"], 10);
    assert!(tcp["packets"]["in"].as_u64().unwrap() >= 40, "{tcp}");
    assert!(tcp["packets"]["out"].as_u64().unwrap() >= 30, "{tcp}");
    assert!(tcp["bytes"]["in"].as_u64().unwrap() >= 40 * 54, "{tcp}");
    let udp = lab.port("udp", 8081);
    // One datagram each way: 100 bytes behind 14 of Ethernet, 20 of IPv4 and 8 of UDP.
    assert_eq!(udp["packets"], serde_json::json!({"in": 1, "out": 1}));
    assert_eq!(udp["bytes"], serde_json::json!({"in": 142, "out": 142}));
    assert_eq!(udp["flows"], serde_json::json!({"active": null, "total": 1}));
    let expected = serde_json::json!({
        "proto": "udp", "host_ip": HOST, "host_port": 8081, "host_port_end": 8081, "target": web,
        "target_ip": lab.address(&web), "target_port": 81, "target_port_end": 81,
        "packets": {"in": 1, "out": 1}, "bytes": {"in": 142, "out": 142}, "flows": {"active": null, "total": 1}, "dropped": 0,
        "access": {"allow": [], "deny": []}, "interface": null, "keep_source": false, "draining": false,
    });
    assert_eq!(udp, expected);
    let text = lab.netd(&["ports"]).ok().stdout;
    assert!(text.starts_with("PROTO  HOST"), "{text}");
    let active = lab.netd(&["--json", "ports", "--active"]).ok().json();
    let active: Vec<_> = active.as_array().unwrap().iter().map(|port| &port["flows"]).collect();
    let json = |active, total| serde_json::json!({"active": active, "total": total});
    assert_eq!(active, [&json(10, 10), &json(1, 1)]);
    assert_eq!(lab.netd(&["--json", "ls", "--container", &web]).ok().json().as_array().unwrap().len(), 2);
}

#[test]
fn a_datagram_that_nobody_answers_counts_at_once_and_once() {
    let lab = Lab::new();
    lab.container("web", &["-p", "8080:80/udp"]);
    lab.client.run(|| udp_socket(SILENCE).send_to(&[0; 100], format!("{HOST}:8080")).unwrap());
    let counted = || lab.port("udp", 8080)["bytes"]["in"].clone();
    wait_for("the datagram", PATIENCE, || counted() != 0);
    assert_eq!(counted(), 142);
    let active = lab.netd(&["--json", "ports", "--active"]).ok().json();
    assert_eq!(active[0]["bytes"]["in"], 142);
}

#[test]
fn a_port_is_published_and_unpublished_while_the_container_runs() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let reached = |patience| lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), patience).is_ok());
    assert!(!reached(SILENCE));
    lab.netd(&["publish", "8080:80", &web]).ok();
    assert!(reached(PATIENCE));
    lab.netd(&["unpublish", "8080"]).ok();
    assert!(!reached(SILENCE));
    lab.netd(&["unpublish", "8080"]).fails(1, "8080/tcp is not published");
    lab.netd(&["publish", "8080:80", &web]).ok();
    lab.netd(&["publish", "8081:80", &web]).ok();
    lab.netd(&["unpublish", "--container", &web]).ok();
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json(), serde_json::json!([]));
    lab.netd(&["unpublish", "--all"]).ok();
}

#[test]
fn unpublishing_a_port_cuts_its_flows() {
    let lab = Lab::new();
    let echo = lab.container("echo", &["-p", "5353:53/udp"]);
    let _server = Server::udp_echo(&sandbox(&echo), 53);
    let to = format!("{HOST}:5353");
    let socket: UdpSocket = lab.client.run(|| udp_socket(PATIENCE));
    udp_answers(&socket, &to, true);
    lab.netd(&["unpublish", "5353/udp"]).ok();
    udp_answers(&socket, &to, false);
}

#[test]
fn it_works_with_a_firewall_that_drops_everything_forwarded() {
    let lab = Lab::new();
    lab.host.sh("iptables -P FORWARD DROP");
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).is_ok());
    assert!(lab.host.run(|| tcp_first_line("127.0.0.1:8080", PATIENCE)).is_ok());
    // netd makes no firewall rule and does not turn on forwarding on the host.
    let rules = lab.host.sh("iptables -S; nft list ruleset | grep -c netd || true");
    assert!(!rules.contains("-A "), "{rules}");
    assert_eq!(lab.host.sh("cat /proc/sys/net/ipv4/conf/up0/forwarding").trim(), "0");
    lab.host.sh("iptables -P FORWARD ACCEPT");
}

#[test]
fn an_uplink_that_appears_later_is_attached_by_the_next_command() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let third = netd_tests::netns::Netns::new("third");
    lab.host.ip(&format!("link add up2 type veth peer name eth0 netns {}", third.name));
    lab.host.ip("address add 198.20.0.1/24 dev up2");
    lab.host.ip("link set up2 up");
    third.ip("address add 198.20.0.2/24 dev eth0");
    third.ip("link set eth0 up");
    assert!(third.run(|| tcp_first_line("198.20.0.1:8080", SILENCE)).is_err());
    lab.netd(&["sync"]).ok();
    assert_eq!(third.run(|| tcp_first_line("198.20.0.1:8080", PATIENCE)).unwrap(), "198.20.0.2");
    // Chosen uplinks are the only ones.
    lab.netd(&["set", "uplinks=up0"]).ok();
    assert!(third.run(|| tcp_first_line("198.20.0.1:8080", SILENCE)).is_err());
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).is_ok());
    lab.netd(&["set", "uplinks=nosuch"]).fails(1, "nosuch");
    lab.netd(&["set", "uplinks=up0,lo"]).fails(1, "lo is the loopback interface");
    assert_eq!(lab.netd(&["get", "uplinks"]).ok().stdout, "up0\n");
}

#[test]
fn a_port_can_be_for_one_interface_only() {
    let lab = Lab::new();
    let web = lab.container("web", &["--interface", "up0", "-p", "8080:80"]);
    let near = lab.container("near", &[]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let by_up0 = |patience| lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), patience).is_ok());
    let by_up1 =
        |host: &str, patience| lab.outside.run(|| tcp_first_line(&format!("{host}:8080"), patience).is_ok());
    assert!(by_up0(PATIENCE));
    // To either address of the host; only the interface decides.
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST_OUTSIDE}:8080"), PATIENCE)).is_ok());
    assert!(!by_up1(HOST_OUTSIDE, SILENCE) && !by_up1(HOST, SILENCE));
    lab.run_in(&near, || assert!(tcp_first_line(&format!("{HOST}:8080"), SILENCE).is_err()));
    lab.host.run(|| assert!(tcp_first_line("127.0.0.1:8080", SILENCE).is_err()));
    assert_eq!(lab.port("tcp", 8080)["interface"], "up0");
    assert!(lab.netd(&["ports"]).ok().stdout.contains("*%up0:8080"));
    // Packets that the publication does not accept are the host's own.
    let _own = Server::tcp_echo(&lab.host.path(), 8080);
    assert!(by_up1(HOST_OUTSIDE, PATIENCE));
    assert_eq!(lab.port("tcp", 8080)["flows"]["total"], 2);
    lab.netd(&["publish", "8080:81", &web, "--interface", "up1"]).fails(1, "8080:80/tcp on interface up0");
    lab.netd(&["publish", "8081:80", &web, "--interface", "nosuch"]).fails(1, "there is no interface nosuch");
    lab.netd(&["publish", "8081:80", &web, "--interface", "netd0"]).fails(1, "netd0 is not an uplink");
    lab.netd(&["publish", "8081:80", &web, "--interface", "a/b"]).fails(2, "a/b");
    // The publication can be replaced by one for another interface.
    lab.netd(&["publish", "--replace", "--cut", "8080:80", &web, "--interface", "up1"]).ok();
    assert!(by_up1(HOST_OUTSIDE, PATIENCE));
    assert_eq!(lab.port("tcp", 8080)["flows"]["total"], 1);
    assert_eq!(lab.port("tcp", 8080)["interface"], "up1");
}

#[test]
fn an_interface_is_known_by_its_name() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "--interface", "up0"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).is_ok());
    // Another interface gets the name.
    let third = netd_tests::netns::Netns::new("third");
    lab.host.ip("link delete up0");
    lab.host.ip(&format!("link add up0 type veth peer name eth0 netns {}", third.name));
    lab.host.ip("address add 198.20.0.1/24 dev up0");
    lab.host.ip("link set up0 up");
    third.ip("address add 198.20.0.2/24 dev eth0");
    third.ip("link set eth0 up");
    lab.netd(&["sync"]).ok();
    assert_eq!(third.run(|| tcp_first_line("198.20.0.1:8080", PATIENCE)).unwrap(), "198.20.0.2");
    // If no interface has the name, no client is accepted.
    lab.host.ip("link delete up0");
    lab.netd(&["sync"]).ok();
    lab.outside.run(|| assert!(tcp_first_line(&format!("{HOST_OUTSIDE}:8080"), SILENCE).is_err()));
}

#[test]
fn a_large_range_takes_few_rows_and_tcp_and_udp_share_it() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "10000-59999:10000-59999", "-p", "10000-59999:10000-59999/udp"]);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 59999), Server::udp_echo(&sandbox(&web), 10000));
    assert_eq!(
        lab.client.run(|| tcp_first_line(&format!("{HOST}:59999"), PATIENCE)).unwrap(),
        netd_tests::lab::CLIENT
    );
    lab.client.run(|| udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:10000"), b"x").unwrap());
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len(), 2);
    let pins = lab.netd(&["--json", "status"]).ok().json()["pins"].as_str().unwrap().to_owned();
    let map = aya::maps::MapData::from_pin(format!("{pins}/maps/TARGET_PORTS")).unwrap();
    let rows: aya::maps::LpmTrie<_, [u8; 8], [u8; 4]> =
        aya::maps::LpmTrie::try_from(aya::maps::Map::LpmTrie(map)).unwrap();
    assert!(rows.keys().count() < 100, "{} rows", rows.keys().count());
    lab.netd(&["publish", "5000:80", &web]).ok();
    lab.netd(&["unpublish", "10000-59999"]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:59999"), SILENCE)).is_err());
    lab.client.run(|| udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:10000"), b"x").unwrap());
}
