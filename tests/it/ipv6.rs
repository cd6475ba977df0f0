//! Every kind of path in IPv6.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::time::Duration;

use netd_tests::lab::{CLIENT, CLIENT6, HOST, HOST_OUTSIDE6, HOST6, Lab, OUTSIDE6};
use netd_tests::netns::{Netns, sandbox};
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_ask};
use nix::net::if_::if_nametoindex;

fn udp6(patience: Duration) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket
}

/// A lab with a network `six` of unique local addresses.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.netd(&["network", "create", "six", "--subnet", "10.6.0.0/24", "--subnet", "fd00:6::/64"]).ok();
    lab
}

fn container(lab: &Lab, label: &str, options: &[&str]) -> String {
    let options: Vec<&str> = ["--network", "six"].iter().chain(options).copied().collect();
    lab.container(label, &options)
}

fn address6(lab: &Lab, name: &str) -> String {
    let inspected = lab.netd(&["--json", "container", "inspect", name]).ok().json();
    inspected["addresses"][1]["ip"].as_str().unwrap().to_owned()
}

#[test]
fn a_network_has_a_subnet_of_each_family() {
    let lab = lab();
    let web = container(&lab, "web", &[]);
    let other = container(&lab, "other", &["--ip", "fd00:6::abcd"]);
    assert_eq!((address6(&lab, &web), address6(&lab, &other)), ("fd00:6::2".into(), "fd00:6::abcd".into()));
    let network = lab.netd(&["--json", "network", "inspect", "six"]).ok().json();
    assert_eq!(network["subnets"], serde_json::json!(["10.6.0.0/24", "fd00:6::/64"]));
    assert_eq!(network["gateways"], serde_json::json!(["10.6.0.1", "fd00:6::1"]));
    let said = lab.command_in(&web, "ip -6 route; ip -6 address show dev eth0").output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout);
    assert!(said.contains("default via fd00:6::1 dev eth0") && !said.contains("tentative"), "{said}");
    // A subnet that netd chooses.
    lab.netd(&["network", "create", "own", "--ipv6"]).ok();
    let network = lab.netd(&["--json", "network", "inspect", "own"]).ok().json();
    let subnet = network["subnets"][1].as_str().unwrap();
    assert!(subnet.starts_with("fd") && subnet.ends_with("::/64"), "{subnet}");
    // Subnets that are refused.
    lab.netd(&["network", "create", "x", "--subnet", "fd00:6:0:0:8000::/65"]).fails(1, "overlaps");
    lab.netd(&["network", "create", "x", "--subnet", "fe80::/64"]).fails(1, "contains reserved addresses");
    lab.netd(&["network", "create", "x", "--subnet", "fd00:7::/64", "--gateway", "fd00:8::1"])
        .fails(1, "not a usable address");
    let name = lab.name("x");
    lab.netd(&["container", "add", &name, "--ip", "fd00:6::9"])
        .fails(1, "network bridge has no further subnet for address fd00:6::9");
    lab.netd(&["container", "add", &name, "--network", "six", "--ip", "fd00:6::abcd"])
        .fails(1, "is the address");
}

#[test]
fn a_published_port_is_reached_from_outside() {
    let lab = lab();
    let web = container(&lab, "web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
    lab.client.run(|| {
        for host in [HOST6, HOST_OUTSIDE6] {
            assert_eq!(tcp_first_line(&format!("[{host}]:8080"), PATIENCE).unwrap(), CLIENT6);
            let to = format!("[{host}]:5353");
            let (answer, from) = udp_ask(&udp6(PATIENCE), &to, b"x").unwrap();
            assert_eq!((answer.as_slice(), from.to_string()), (b"x".as_slice(), to));
        }
        // The same publication also serves IPv4.
        assert_eq!(tcp_first_line(&format!("{HOST}:8080"), PATIENCE).unwrap(), CLIENT);
        // No other port is reached.
        for to in [format!("[{HOST6}]:81"), "[fd00:6::2]:80".to_owned()] {
            assert!(tcp_first_line(&to, SILENCE).is_err(), "{to}");
        }
    });
}

#[test]
fn a_published_port_is_reached_from_the_host_itself() {
    let lab = lab();
    let web = container(&lab, "web", &["-p", "8080:80", "-p", "5353:53/udp", "-p", "[::1]:9000:80"]);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
    lab.host.run(|| {
        for host in ["::1", HOST6, HOST_OUTSIDE6] {
            assert_eq!(tcp_first_line(&format!("[{host}]:8080"), PATIENCE).unwrap(), "fd00:6::1", "{host}");
            let to: SocketAddr = format!("[{host}]:5353").parse().unwrap();
            let (answer, from) = udp_ask(&udp6(PATIENCE), &to.to_string(), b"x").unwrap();
            assert_eq!((answer.as_slice(), from), (b"x".as_slice(), to), "a datagram to {host}");
            let stream = TcpStream::connect(format!("[{host}]:8080")).unwrap();
            assert_eq!(stream.peer_addr().unwrap().to_string(), format!("[{host}]:8080"));
        }
        assert!(tcp_first_line("[::1]:9000", PATIENCE).is_ok());
    });
    lab.client.run(|| assert!(tcp_first_line(&format!("[{HOST6}]:9000"), SILENCE).is_err()));
}

#[test]
fn a_container_reaches_outside_with_the_hosts_address() {
    let lab = lab();
    let web = container(&lab, "web", &[]);
    let (_tcp, _udp) = (Server::tcp_echo(&lab.outside.path(), 80), Server::udp_echo(&lab.outside.path(), 53));
    lab.run_in(&web, || {
        assert_eq!(tcp_first_line(&format!("[{OUTSIDE6}]:80"), PATIENCE).unwrap(), HOST_OUTSIDE6);
        assert_eq!(udp_ask(&udp6(PATIENCE), &format!("[{OUTSIDE6}]:53"), b"x").unwrap().0, b"x");
    });
    let pinged = lab.command_in(&web, &format!("ping -c 3 -i 0.2 -W 5 {OUTSIDE6}")).output().unwrap();
    let said = String::from_utf8_lossy(&pinged.stdout);
    assert!(said.contains("3 packets transmitted, 3 received, 0% packet loss"), "{said}");
}

#[test]
fn global_addresses_are_not_masqueraded() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "global", "--subnet", "10.6.0.0/24", "--subnet", "2001:db8:6::/64"]).ok();
    let web = lab.container("web", &["--network", "global"]);
    let _server = Server::tcp_echo(&lab.outside.path(), 80);
    let seen = lab.run_in(&web, || tcp_first_line(&format!("[{OUTSIDE6}]:80"), PATIENCE)).unwrap();
    assert_eq!(seen, "2001:db8:6::2");
    let _inside = Server::tcp_echo(&sandbox(&web), 80);
    lab.outside.run(|| assert!(tcp_first_line("[2001:db8:6::2]:80", SILENCE).is_err()));
}

#[test]
fn containers_reach_each_other_and_published_ports() {
    let lab = lab();
    lab.netd(&["network", "create", "far", "--subnet", "10.7.0.0/24", "--subnet", "fd00:7::/64"]).ok();
    let web = container(&lab, "web", &["-p", "8080:80"]);
    let near = container(&lab, "near", &[]);
    let far = lab.container("far", &["--network", "far"]);
    let _tcp = Server::tcp_echo(&sandbox(&web), 80);
    lab.run_in(&near, || assert_eq!(tcp_first_line("[fd00:6::2]:80", PATIENCE).unwrap(), "fd00:6::3"));
    lab.run_in(&far, || assert!(tcp_first_line("[fd00:6::2]:80", SILENCE).is_err(), "another network"));
    for (who, seen) in [(&near, "fd00:6::3"), (&far, "fd00:7::2"), (&web, "fd00:6::1")] {
        let line = lab.run_in(who, || tcp_first_line(&format!("[{HOST6}]:8080"), PATIENCE)).unwrap();
        assert_eq!(line, seen, "{who}");
    }
}

#[test]
fn a_port_can_be_published_in_one_family() {
    let lab = lab();
    let web = container(&lab, "web", &["-p", "[::]:8080:80", "-p", "0.0.0.0:8081:80"]);
    let _tcp = Server::tcp_echo(&sandbox(&web), 80);
    // The same port is free in the other family.
    lab.netd(&["publish", "0.0.0.0:8080:81", &web]).ok();
    lab.netd(&["publish", "8080:82", &web]).fails(1, "is in use");
    lab.client.run(|| {
        assert!(tcp_first_line(&format!("[{HOST6}]:8080"), PATIENCE).is_ok());
        assert!(tcp_first_line(&format!("{HOST}:8081"), PATIENCE).is_ok());
        assert!(tcp_first_line(&format!("[{HOST6}]:8081"), SILENCE).is_err());
    });
    lab.netd(&["publish", &format!("[{HOST6}]:8082:80"), &web]).ok();
    lab.netd(&["publish", "[2001:db8::99]:8083:80", &web]).fails(1, "is not an address of this host");
    lab.client.run(|| {
        assert!(tcp_first_line(&format!("[{HOST6}]:8082"), PATIENCE).is_ok());
        assert!(tcp_first_line(&format!("[{HOST_OUTSIDE6}]:8082"), SILENCE).is_err());
    });
    lab.netd(&["unpublish", "[::]:8080"]).ok();
    lab.client.run(|| assert!(tcp_first_line(&format!("[{HOST6}]:8080"), SILENCE).is_err()));
}

#[test]
fn large_datagrams_pass_links_with_a_small_mtu() {
    let lab = Lab::with_mtu(1280);
    lab.netd(&[
        "network",
        "create",
        "six",
        "--subnet",
        "10.6.0.0/24",
        "--subnet",
        "fd00:6::/64",
        "--mtu",
        "1500",
    ])
    .ok();
    let web = container(&lab, "web", &["-p", "5353:53/udp"]);
    let (_near, _far) = (Server::udp_echo(&sandbox(&web), 53), Server::udp_echo(&lab.outside.path(), 53));
    let large = vec![0x5a; 60_000];
    // After a "too big" error the sender sends smaller fragments.
    let ask = |to: &str| {
        let socket = udp6(Duration::from_secs(4));
        (0..5).find_map(|_attempt| udp_ask(&socket, to, &large).ok()).map(|(answer, _)| answer.len())
    };
    assert_eq!(lab.client.run(|| ask(&format!("[{HOST6}]:5353"))), Some(large.len()));
    assert_eq!(lab.run_in(&web, || ask(&format!("[{OUTSIDE6}]:53"))), Some(large.len()));
    let traced = lab.command_in(&web, &format!("traceroute -6 -n -q 1 -w 5 {OUTSIDE6}")).output().unwrap();
    let traced = String::from_utf8_lossy(&traced.stdout).into_owned();
    assert!(traced.contains(" 1  fd00:6::1") && traced.contains(&format!(" 2  {OUTSIDE6}")), "{traced}");
    let line = format!("traceroute -6 -n -q 1 -w 5 -U -p 5353 {HOST6}");
    let output = lab.client.command("sh").args(["-c", &line]).output().unwrap();
    let traced = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(traced.contains(&format!(" 1  {HOST6}")) && traced.contains(&format!(" 2  {HOST6}")), "{traced}");
}

#[test]
fn a_neighbour_uses_link_local_addresses() {
    let lab = lab();
    let web = container(&lab, "web", &["-p", "8080:80", "-p", "8053:53/udp"]);
    let four = lab.container("four", &["-p", "8084:80"]);
    let _servers = [&web, &four].map(|name| Server::tcp_echo(&sandbox(name), 80));
    let _dns = Server::udp_echo(&sandbox(&web), 53);
    let link_local = |netns: &Netns, interface: &str| {
        let said = netns.sh(&format!("ip -6 -o address show dev {interface} scope link"));
        said.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap().to_owned()
    };
    let scope = |netns: &Netns| netns.run(|| if_nametoindex("eth0").unwrap());
    for (neighbour, uplink) in [(&lab.client, "up0"), (&lab.outside, "up1")] {
        let host: Ipv6Addr = link_local(&lab.host, uplink).parse().unwrap();
        let scope = scope(neighbour);
        let at = |port| SocketAddr::from(SocketAddrV6::new(host, port, 0, scope));
        neighbour.run(|| {
            let seen = |port| {
                let mut line = String::new();
                let stream = TcpStream::connect_timeout(&at(port), PATIENCE).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                BufReader::new(stream).read_line(&mut line).unwrap();
                line.trim().to_owned()
            };
            assert_eq!(seen(8080), "fd00:6::1", "the gateway stands for the neighbour");
            assert_eq!(seen(8084), "172.17.0.1", "a container with only IPv4");
            let socket = udp6(PATIENCE);
            for len in [1, 4000] {
                socket.send_to(&vec![9; len], at(8053)).unwrap();
                let mut answer = vec![0; 8192];
                assert_eq!(socket.recv_from(&mut answer).unwrap(), (len, at(8053)));
            }
        });
    }
    // The link-local address of another interface is none of this link's.
    let host: Ipv6Addr = link_local(&lab.host, "up1").parse().unwrap();
    let elsewhere = SocketAddrV6::new(host, 8080, 0, scope(&lab.client));
    lab.client.run(|| assert!(TcpStream::connect_timeout(&elsewhere.into(), SILENCE).is_err()));
}
