//! Published ports whose target is another host.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use aya::maps::{HashMap, Map, MapData};
use netd_common::abi::name;
use netd_tests::lab::{CLIENT, CLIENT6, HOST, HOST_OUTSIDE, HOST_OUTSIDE6, HOST6, Lab, OUTSIDE, OUTSIDE6};
use netd_tests::netns::{Netns, sandbox};
use netd_tests::probe::{
    PATIENCE, SILENCE, Server, tcp_echoes, tcp_first_line, udp_answers, udp_ask, udp_socket,
};

/// The first line that a server says on a port of the host, seen from the client.
fn seen_by_server(lab: &Lab, to: &str) -> std::io::Result<String> {
    lab.client.run(|| tcp_first_line(to, PATIENCE))
}

/// A host, 198.21.0.2, behind the outside one, over a link with this MTU.
fn behind_outside(lab: &Lab, mtu: u32) -> Netns {
    let behind = Netns::new("behind");
    let link = format!("link add far0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}", behind.name);
    lab.outside.ip(&link);
    lab.outside.ip("address add 198.21.0.1/24 dev far0");
    lab.outside.ip("link set far0 up");
    lab.outside.sh("sysctl -qw net.ipv4.ip_forward=1");
    behind.ip("address add 198.21.0.2/24 dev eth0");
    behind.ip("link set eth0 up");
    behind.ip("route add default via 198.21.0.1");
    behind
}

#[test]
fn a_port_of_another_host_is_reached_with_snat() {
    let lab = Lab::new();
    let (_tcp, _udp) = (Server::tcp_echo(&lab.outside.path(), 80), Server::udp_echo(&lab.outside.path(), 53));
    let said = lab.netd(&["publish", "8080:80", OUTSIDE]).ok();
    assert_eq!(said.stdout, format!("*:8080->80/tcp {OUTSIDE}\n"));
    lab.netd(&["publish", "8086:80", OUTSIDE6]).ok();
    lab.netd(&["publish", "5353:53/udp", OUTSIDE]).ok();
    lab.netd(&["publish", "5356:53/udp", OUTSIDE6]).ok();
    assert_eq!(seen_by_server(&lab, &format!("{HOST}:8080")).unwrap(), HOST_OUTSIDE);
    assert_eq!(seen_by_server(&lab, &format!("[{HOST6}]:8086")).unwrap(), HOST_OUTSIDE6);
    lab.client.run(|| {
        let (answer, from) = udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:5353"), b"four").unwrap();
        assert_eq!((answer.as_slice(), from.to_string()), (b"four".as_slice(), format!("{HOST}:5353")));
        let six = std::net::UdpSocket::bind("[::]:0").unwrap();
        six.set_read_timeout(Some(PATIENCE)).unwrap();
        let (answer, from) = udp_ask(&six, &format!("[{HOST6}]:5356"), b"six").unwrap();
        assert_eq!((answer.as_slice(), from.to_string()), (b"six".as_slice(), format!("[{HOST6}]:5356")));
        tcp_echoes(&format!("{HOST}:8080"), 1 << 20);
        tcp_echoes(&format!("[{HOST6}]:8086"), 1 << 20);
    });
    // In by an uplink and out by the same one.
    let near = behind_outside(&lab, 1500);
    assert_eq!(near.run(|| tcp_first_line(&format!("{HOST_OUTSIDE}:8080"), PATIENCE)).unwrap(), HOST_OUTSIDE);
    let port = lab.port("tcp", 8080);
    assert_eq!((&port["target"], &port["target_ip"]), (&OUTSIDE.into(), &OUTSIDE.into()));
    assert_eq!((&port["keep_source"], &port["draining"]), (&false.into(), &false.into()));
    assert_eq!(port["flows"]["total"], 3);
    let count = |direction: &str, what: &str| port[what][direction].as_u64().unwrap();
    assert!(count("in", "bytes") > 1 << 20 && count("out", "bytes") > 1 << 20, "{port}");
    let flows = lab.netd(&["--json", "flows", "--port", "8080"]).ok().json();
    assert!(flows.as_array().unwrap().iter().all(|flow| flow["container"] == OUTSIDE), "{flows}");
    assert_eq!(flows[0]["publication"], "8080:80/tcp");
    // The host's forwarding sysctls are unchanged.
    assert_eq!(lab.host.sh("cat /proc/sys/net/ipv4/conf/up0/forwarding").trim(), "0");
    assert_eq!(lab.host.sh("cat /proc/sys/net/ipv6/conf/up0/forwarding").trim(), "0");
}

#[test]
fn the_host_and_its_containers_reach_a_port_of_another_host() {
    let lab = Lab::new();
    let (_tcp, _udp) = (Server::tcp_echo(&lab.outside.path(), 80), Server::udp_echo(&lab.outside.path(), 53));
    let web = lab.container("web", &[]);
    lab.netd(&["network", "create", "both", "--ipv6", "--subnet", "10.20.0.0/24"]).ok();
    let both = lab.container("both", &["--network", "both"]);
    lab.netd(&["network", "create", "open", "--subnet", "10.30.0.0/24", "--no-masquerade"]).ok();
    let open = lab.container("open", &["--network", "open"]);
    lab.outside.ip("route add 10.30.0.0/24 via 198.19.0.1");
    lab.netd(&["publish", "8080:80", OUTSIDE]).ok();
    lab.netd(&["publish", "8086:80", OUTSIDE6]).ok();
    lab.netd(&["publish", "5353:53/udp", OUTSIDE]).ok();
    lab.netd(&["publish", "8087:80", OUTSIDE, "--keep-source"]).ok();
    lab.host.run(|| {
        assert_eq!(tcp_first_line("127.0.0.1:8080", PATIENCE).unwrap(), HOST_OUTSIDE);
        assert_eq!(tcp_first_line("[::1]:8086", PATIENCE).unwrap(), HOST_OUTSIDE6);
        assert_eq!(tcp_first_line("[::1]:8080", PATIENCE).unwrap(), HOST_OUTSIDE, "the other family");
        let (answer, from) = udp_ask(&udp_socket(PATIENCE), "127.0.0.1:5353", b"x").unwrap();
        assert_eq!((answer.as_slice(), from.to_string()), (b"x".as_slice(), "127.0.0.1:5353".to_owned()));
    });
    lab.run_in(&web, || {
        assert_eq!(tcp_first_line(&format!("{HOST}:8080"), PATIENCE).unwrap(), HOST_OUTSIDE);
        let (answer, from) = udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:5353"), b"x").unwrap();
        assert_eq!((answer.as_slice(), from.to_string()), (b"x".as_slice(), format!("{HOST}:5353")));
        // Other hosts never see a container's address, even with --keep-source.
        assert_eq!(tcp_first_line(&format!("{HOST}:8087"), PATIENCE).unwrap(), HOST_OUTSIDE);
        tcp_echoes(&format!("{HOST}:8080"), 300_000);
    });
    lab.run_in(&both, || {
        assert_eq!(tcp_first_line(&format!("[{HOST6}]:8086"), PATIENCE).unwrap(), HOST_OUTSIDE6);
    });
    // Unless its network has no masquerade.
    let own = lab.address(&open);
    lab.run_in(&open, || {
        assert_eq!(tcp_first_line(&format!("{HOST}:8080"), PATIENCE).unwrap(), own);
    });
    let flows = lab.netd(&["--json", "flows", "--port", "53"]).ok().json();
    assert_eq!(flows[0]["container"], OUTSIDE, "{flows}");
}

#[test]
fn keep_source_shows_the_clients_address() {
    let lab = Lab::new();
    let (_tcp, _udp) = (Server::tcp_echo(&lab.outside.path(), 80), Server::udp_echo(&lab.outside.path(), 53));
    for (spec, target) in [("8080:80", OUTSIDE), ("8086:80", OUTSIDE6), ("5353:53/udp", OUTSIDE)] {
        lab.netd(&["publish", spec, target, "--keep-source"]).ok();
    }
    assert_eq!(seen_by_server(&lab, &format!("{HOST}:8080")).unwrap(), CLIENT);
    assert_eq!(seen_by_server(&lab, &format!("[{HOST6}]:8086")).unwrap(), CLIENT6);
    lab.client.run(|| {
        udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:5353"), b"x").unwrap();
        tcp_echoes(&format!("{HOST}:8080"), 300_000);
    });
    assert_eq!(lab.port("tcp", 8080)["keep_source"], true);
}

#[test]
fn icmp_errors_return_to_the_client() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    for options in [&[][..], &["--keep-source"]] {
        for (spec, target) in [("8080:80", OUTSIDE), ("5353:53/udp", OUTSIDE), ("5356:53/udp", OUTSIDE6)] {
            lab.netd(&[&["publish", spec, target], options].concat()).ok();
        }
        let refused = std::io::ErrorKind::ConnectionRefused;
        let connected = |bind: &str, to: &str| {
            let socket = std::net::UdpSocket::bind(bind).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(to).unwrap();
            socket.send(b"x").unwrap();
            socket.recv(&mut [0; 10]).map_err(|error| error.kind())
        };
        let four = || connected("0.0.0.0:0", &format!("{HOST}:5353"));
        lab.client.run(|| {
            assert_eq!(TcpStream::connect(format!("{HOST}:8080")).unwrap_err().kind(), refused);
            assert_eq!(four(), Err(refused), "{options:?}");
            assert_eq!(connected("[::]:0", &format!("[{HOST6}]:5356")), Err(refused), "{options:?}");
        });
        lab.run_in(&web, || assert_eq!(four(), Err(refused), "a container, {options:?}"));
        lab.netd(&["unpublish", "--all"]).ok();
    }
    // The host and the target are hops; both answer with the host's address.
    lab.netd(&["publish", "8080:80", OUTSIDE]).ok();
    let traced = lab.client.sh(&format!("traceroute -n -q 1 -w 5 -T -p 8080 {HOST}"));
    assert!(traced.contains(&format!(" 1  {HOST}")) && traced.contains(&format!(" 2  {HOST}")), "{traced}");
}

#[test]
fn a_smaller_mtu_behind_the_uplink_is_found() {
    let lab = Lab::new();
    // A router behind the uplink, whose next link has a smaller MTU.
    let far = behind_outside(&lab, 1280);
    let (_tcp, _udp) = (Server::tcp_echo(&far.path(), 80), Server::udp_echo(&far.path(), 53));
    let web = lab.container("web", &[]);
    lab.netd(&["publish", "8080:80", "198.21.0.2"]).ok();
    lab.netd(&["publish", "5353:53/udp", "198.21.0.2"]).ok();
    let large = vec![0x5a; 8000];
    let ask = || {
        tcp_echoes(&format!("{HOST}:8080"), 300_000);
        let socket = udp_socket(std::time::Duration::from_secs(4));
        (0..5).find_map(|_attempt| udp_ask(&socket, &format!("{HOST}:5353"), &large).ok())
    };
    assert_eq!(lab.client.run(ask).map(|(answer, _)| answer), Some(large.clone()));
    assert_eq!(lab.run_in(&web, ask).map(|(answer, _)| answer), Some(large.clone()));
}

#[test]
fn access_lists_counters_and_unpublish_apply_to_other_hosts() {
    let lab = Lab::new();
    let _server = Server::tcp_echo(&lab.outside.path(), 80);
    let _echo = Server::udp_echo(&lab.outside.path(), 53);
    lab.netd(&["publish", "8080:80", OUTSIDE, "--deny", CLIENT]).ok();
    lab.netd(&["publish", "5353:53/udp", OUTSIDE]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), SILENCE)).is_err());
    assert!(lab.port("tcp", 8080)["dropped"].as_u64().unwrap() > 0);
    assert_eq!(lab.port("tcp", 8080)["flows"]["total"], 0);
    let to = format!("{HOST}:5353");
    let socket = lab.client.run(|| udp_socket(PATIENCE));
    udp_answers(&socket, &to, true);
    lab.netd(&["unpublish", "5353/udp"]).ok();
    udp_answers(&socket, &to, false);
    assert_eq!(lab.netd(&["--json", "flows"]).ok().json(), serde_json::json!([]));
    // A container in its place is reached, and no old row is used.
    let web = lab.container("web", &["-p", "5353:53/udp"]);
    let _inside = Server::udp_echo(&sandbox(&web), 53);
    udp_answers(&socket, &to, true);
    assert_eq!(lab.port("udp", 5353)["flows"]["total"], 1);
    // The network cannot be removed while the publication needs its bridge.
    lab.netd(&["container", "rm", &web]).ok();
    lab.netd(&["network", "rm", "bridge"]).fails(1, "8080:80/tcp, published to 198.19.0.2");
    lab.netd(&["network", "rm", "--force", "bridge"]).ok();
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json(), serde_json::json!([]));
}

#[test]
fn down_removes_ports_of_other_hosts() {
    let lab = Lab::new();
    let before = netd_tests::snapshot::Snapshot::of(&lab);
    lab.netd(&["publish", "8080:80", OUTSIDE]).ok();
    lab.netd(&["publish", "8086:80", OUTSIDE6, "--keep-source"]).ok();
    lab.netd(&["down"]).ok();
    netd_tests::snapshot::Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn a_containers_address_means_the_container() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let address = lab.address(&web);
    lab.netd(&["publish", "8080:80", &address]).ok();
    assert_eq!(lab.port("tcp", 8080)["target"], web.as_str());
    assert_eq!(seen_by_server(&lab, &format!("{HOST}:8080")).unwrap(), CLIENT);
    lab.netd(&["publish", "8081:80", &web, "--keep-source"]).fails(1, "not for container");
}

#[test]
fn an_invalid_target_is_refused_and_changes_nothing() {
    let lab = Lab::new();
    for (target, part) in [
        (HOST, "198.18.0.1 is an address of this host"),
        ("127.0.0.1", "127.0.0.1 is an address of this host"),
        (HOST6, "2001:db8:18::1 is an address of this host"),
        ("0.0.0.0", "is not the unicast address of a host"),
        ("224.0.0.1", "is not the unicast address of a host"),
        ("fe80::1", "is not the unicast address of a host"),
        ("::ffff:192.0.2.1", "is not the unicast address of a host"),
    ] {
        lab.netd(&["publish", "8080:80", target]).fails(1, part);
    }
    lab.netd(&["publish", "8080:80", "192.0.2.10:80"]).fails(2, "is not a container name or an IP address");
    lab.netd(&["publish", &format!("{HOST6}:8080:80"), OUTSIDE]).fails(2, "brackets");
    lab.netd(&["publish", &format!("[{HOST6}]:8080:80"), OUTSIDE]).fails(1, "of different IP versions");
    lab.host.ip("route add unreachable 192.0.2.0/24");
    lab.netd(&["publish", "8080:80", "192.0.2.10"]).fails(1, "look up the route to 192.0.2.10");
    lab.host.ip("link add side0 type veth peer name side1");
    lab.host.ip("link set side0 up");
    lab.host.ip("route add 203.0.113.0/24 dev side0");
    lab.netd(&["set", "uplinks=up0"]).ok();
    lab.netd(&["publish", "8080:80", "203.0.113.1"])
        .fails(1, "the route to 203.0.113.1 leads through side0, which is not an uplink");
    lab.netd(&["set", "uplinks=auto"]).ok();
    assert!(!lab.state_dir().exists());
    lab.container("web", &[]);
    lab.netd(&["publish", "8080:80", "172.17.0.99"]).fails(1, "no container has address 172.17.0.99");
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json(), serde_json::json!([]));
}

#[test]
fn lost_rows_are_rebuilt_by_the_clients_next_packet() {
    let lab = Lab::new();
    let _server = Server::tcp_echo(&lab.outside.path(), 80);
    lab.netd(&["publish", "8080:80", OUTSIDE]).ok();
    let mut stream = lab.client.run(|| TcpStream::connect(format!("{HOST}:8080")).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), HOST_OUTSIDE);
    let pins = lab.netd(&["--json", "status"]).ok().json()["pins"].as_str().unwrap().to_owned();
    for table in [name::FLOWS, name::UNREPLIED] {
        let map = Map::HashMap(MapData::from_pin(format!("{pins}/maps/{table}")).unwrap());
        let mut rows: HashMap<_, [u8; 16], [u8; 64]> = HashMap::try_from(map).unwrap();
        let keys: Vec<_> = rows.keys().map(Result::unwrap).collect();
        for key in keys {
            rows.remove(&key).unwrap();
        }
    }
    assert_eq!(lab.netd(&["--json", "flows"]).ok().json(), serde_json::json!([]));
    stream.write_all(b"still here\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "still here");
}
