//! Connections that a container opens: masqueraded ones to outside, and those to published ports by the host's address.

use std::net::SocketAddrV4;

use netd_tests::lab::{CLIENT, HOST, HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::netns::sandbox;
use netd_tests::probe::{
    PATIENCE, SILENCE, Server, tcp_echoes, tcp_first_line, tcp_from, tcp_on, udp_answers, udp_ask, udp_socket,
};

const GATEWAY: &str = "172.17.0.1";

#[test]
fn a_container_reaches_outside_with_the_hosts_address() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let (_tcp, _udp) = (Server::tcp_echo(&lab.outside.path(), 80), Server::udp_echo(&lab.outside.path(), 53));
    let _near = Server::tcp_echo(&lab.client.path(), 80);
    lab.run_in(&web, || {
        assert_eq!(tcp_first_line(&format!("{OUTSIDE}:80"), PATIENCE).unwrap(), HOST_OUTSIDE);
        // By another uplink, with another source address.
        assert_eq!(tcp_first_line(&format!("{CLIENT}:80"), PATIENCE).unwrap(), HOST);
        let (answer, from) = udp_ask(&udp_socket(PATIENCE), &format!("{OUTSIDE}:53"), b"question").unwrap();
        assert_eq!((answer.as_slice(), from.to_string()), (b"question".as_slice(), format!("{OUTSIDE}:53")));
    });
    let pinged = lab.command_in(&web, &format!("ping -c 3 -i 0.2 -W 10 {OUTSIDE}")).output().unwrap();
    let said = String::from_utf8_lossy(&pinged.stdout);
    assert!(said.contains("3 packets transmitted, 3 received, 0% packet loss"), "{said}");
}

#[test]
fn a_megabyte_is_echoed_intact() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let _server = Server::tcp_echo(&lab.outside.path(), 80);
    lab.run_in(&web, || tcp_echoes(&format!("{OUTSIDE}:80"), 1 << 20));
}

#[test]
fn published_ports_are_reached_by_the_hosts_addresses_from_every_network() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "elsewhere", "--subnet", "10.20.0.0/24"]).ok();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let near = lab.container("near", &[]);
    let far = lab.container("far", &["--network", "elsewhere"]);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
    for (who, seen) in [(&near, lab.address(&near)), (&far, lab.address(&far)), (&web, GATEWAY.to_owned())] {
        lab.run_in(who, || {
            // By the gateways of both networks, too.
            for host in [HOST, HOST_OUTSIDE, GATEWAY, "10.20.0.1"] {
                assert_eq!(tcp_first_line(&format!("{host}:8080"), PATIENCE).unwrap(), seen, "{who}");
                let to = format!("{host}:5353");
                let (answer, from) = udp_ask(&udp_socket(PATIENCE), &to, b"x").unwrap();
                assert_eq!((answer.as_slice(), from.to_string()), (b"x".as_slice(), to), "{who}");
            }
        });
    }
    // The host's own service likewise.
    let _service = Server::tcp_echo(&lab.host.path(), 5000);
    for (who, seen) in [(&near, lab.address(&near)), (&far, lab.address(&far))] {
        for host in [HOST, HOST_OUTSIDE, GATEWAY, "10.20.0.1"] {
            let answer = lab.run_in(who, || tcp_first_line(&format!("{host}:5000"), PATIENCE));
            assert_eq!(answer.unwrap(), seen, "{who} by {host}");
        }
    }
    // Its own address is not reachable.
    let address = lab.address(&web);
    lab.run_in(&far, || assert!(tcp_first_line(&format!("{address}:80"), SILENCE).is_err()));
}

#[test]
fn a_network_without_masquerade_keeps_its_addresses() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "plain", "--subnet", "10.20.0.0/24", "--no-masquerade"]).ok();
    let web = lab.container("web", &["--network", "plain"]);
    let _server = Server::tcp_echo(&lab.outside.path(), 80);
    let address = lab.address(&web);
    let seen = lab.run_in(&web, || tcp_first_line(&format!("{OUTSIDE}:80"), PATIENCE)).unwrap();
    assert_eq!(seen, address);
    // Its own connections work; no client outside can open one.
    let _inside = Server::tcp_echo(&sandbox(&web), 80);
    lab.outside.run(|| assert!(tcp_first_line(&format!("{address}:80"), SILENCE).is_err()));
}

#[test]
fn a_privileged_source_port_stays_privileged() {
    let lab = Lab::new();
    let (first, second) = (lab.container("first", &[]), lab.container("second", &[]));
    let listener = lab.outside.run(|| tcp_on(2049));
    let to = SocketAddrV4::new(OUTSIDE.parse().unwrap(), 2049);
    for (own, others) in [(800, 600..1024), (99, 1..512)] {
        // All stay open, so the second container cannot have the port of the first.
        let _one = lab.run_in(&first, || tcp_from(own, to)).unwrap();
        let (_at, from) = listener.accept().unwrap();
        assert_eq!(from.port(), own);
        let _other = lab.run_in(&second, || tcp_from(own, to)).unwrap();
        let (_at, from) = listener.accept().unwrap();
        assert!(from.port() != own && others.contains(&from.port()), "{own} became {}", from.port());
    }
}

#[test]
fn an_address_whose_ports_are_all_published_is_a_source_too() {
    let lab = Lab::new();
    lab.host.ip("address add 198.19.0.77/24 dev up1");
    let words = ["network", "create", "whole", "--subnet", "10.20.0.0/24", "--snat-address", "198.19.0.77"];
    lab.netd(&words).ok();
    let all = "198.19.0.77:1-65535:1-65535";
    let whole = lab.container("whole", &["--network", "whole", "-p", all, "-p", &format!("{all}/udp")]);
    let other = lab.container("other", &["--network", "whole"]);
    let _server = Server::tcp_echo(&lab.outside.path(), 80);
    let _dns = Server::udp_echo(&lab.outside.path(), 53);
    let _inside = Server::tcp_echo(&sandbox(&whole), 80);
    for container in [&whole, &other] {
        lab.run_in(container, || {
            for _connection in 0..20 {
                let seen = tcp_first_line(&format!("{OUTSIDE}:80"), PATIENCE).unwrap();
                assert_eq!(seen, "198.19.0.77", "{container}");
                udp_answers(&udp_socket(PATIENCE), &format!("{OUTSIDE}:53"), true);
            }
        });
    }
    lab.outside.run(|| assert!(tcp_first_line("198.19.0.77:80", PATIENCE).is_ok()));
}

#[test]
fn a_network_can_have_another_snat_address() {
    let lab = Lab::new();
    lab.host.ip("address add 198.19.0.77/24 dev up1");
    lab.host.ip("address add 2001:db8:19::77/64 dev up1");
    let words = ["network", "create", "shop", "--subnet", "10.20.0.0/24", "--subnet", "2001:db8:6::/64"];
    let words =
        [&words[..], &["--snat-address", "198.19.0.77", "--snat-address", "2001:db8:19::77"]].concat();
    lab.netd(&words).ok();
    let web = lab.container("web", &["--network", "shop"]);
    let _server = Server::tcp_echo(&lab.outside.path(), 80);
    lab.run_in(&web, || {
        assert_eq!(tcp_first_line(&format!("{OUTSIDE}:80"), PATIENCE).unwrap(), "198.19.0.77");
        let six = format!("[{}]:80", netd_tests::lab::OUTSIDE6);
        assert_eq!(tcp_first_line(&six, PATIENCE).unwrap(), "2001:db8:19::77");
    });
    lab.netd(&["network", "create", "x", "--snat-address", "192.0.2.1"])
        .fails(1, "is not an address of this host");
    lab.netd(&["network", "create", "x", "--snat-address", "2001:db8:19::77"])
        .fails(1, "there is no subnet for");
}
