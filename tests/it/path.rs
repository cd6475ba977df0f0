//! ICMP errors on the path: MTU, hops, and closed ports.

use std::net::TcpStream;

use netd_tests::lab::{HOST, HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server, tcp_echoes, udp_ask, udp_socket};

/// If packets are larger than the next link's MTU, the sender gets an error and sends smaller TCP segments or UDP
/// fragments.
fn carries(lab: &Lab, web: &str) {
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(web), 80), Server::udp_echo(&sandbox(web), 53));
    let (_far_tcp, _far_udp) =
        (Server::tcp_echo(&lab.outside.path(), 80), Server::udp_echo(&lab.outside.path(), 53));
    lab.client.run(|| tcp_echoes(&format!("{HOST}:8080"), 300_000));
    lab.run_in(web, || tcp_echoes(&format!("{OUTSIDE}:80"), 300_000));
    let large = vec![0x5a; 8000];
    for (name, to) in [(None, format!("{HOST}:5353")), (Some(web), format!("{OUTSIDE}:53"))] {
        let ask = || {
            // After a "too big" error the sender sends smaller fragments.
            let socket = udp_socket(std::time::Duration::from_secs(4));
            (0..5).find_map(|_attempt| udp_ask(&socket, &to, &large).ok())
        };
        let answer = match name {
            None => lab.client.run(ask),
            Some(name) => lab.run_in(name, ask),
        };
        assert_eq!(answer.map(|(answer, _)| answer), Some(large.clone()), "{to}");
    }
}

#[test]
fn a_container_with_mtu_1500_works_over_uplinks_with_mtu_1280() {
    let lab = Lab::with_mtu(1280);
    lab.netd(&["network", "create", "wide", "--subnet", "10.20.0.0/24", "--mtu", "1500"]).ok();
    let web = lab.container("web", &["--network", "wide", "-p", "8080:80", "-p", "5353:53/udp"]);
    carries(&lab, &web);
}

#[test]
fn uplinks_with_mtu_1500_reach_a_container_with_mtu_1280() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "narrow", "--subnet", "10.20.0.0/24", "--mtu", "1280"]).ok();
    let web = lab.container("web", &["--network", "narrow", "-p", "8080:80", "-p", "5353:53/udp"]);
    carries(&lab, &web);
}

#[test]
fn the_largest_datagram_goes_in_and_out() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "5353:53/udp"]);
    let (_near, _far) = (Server::udp_echo(&sandbox(&web), 53), Server::udp_echo(&lab.outside.path(), 53));
    let largest = vec![0x33; 65_507];
    let answer =
        lab.client.run(|| udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:5353"), &largest)).unwrap();
    assert!(answer.0 == largest);
    let answer =
        lab.run_in(&web, || udp_ask(&udp_socket(PATIENCE), &format!("{OUTSIDE}:53"), &largest)).unwrap();
    assert!(answer.0 == largest);
}

#[test]
fn every_hop_answers_a_traceroute() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    // A router further away.
    lab.outside.ip("address add 203.0.113.1/32 dev lo");
    let hops = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let ping = |ttl: u8| {
        let line = format!("ping -n -c 1 -W 5 -t {ttl} 203.0.113.1");
        hops(lab.command_in(&web, &line).output().unwrap())
    };
    let first = ping(1);
    assert!(first.contains("From 172.17.0.1") && first.contains("Time to live exceeded"), "{first}");
    let last = ping(2);
    assert!(last.contains("64 bytes from 203.0.113.1"), "{last}");
    let traced = hops(lab.command_in(&web, "traceroute -n -q 1 -w 5 203.0.113.1").output().unwrap());
    assert!(traced.contains(" 1  172.17.0.1") && traced.contains(" 2  203.0.113.1"), "{traced}");
    // To a published port: the host, then the container, which answers with the host's address.
    for line in [
        format!("traceroute -n -q 1 -w 5 -T -p 8080 {HOST}"),
        format!("traceroute -n -q 1 -w 5 -U -p 5353 {HOST}"),
    ] {
        let output = lab.client.command("sh").args(["-c", &line]).output().unwrap();
        let traced = hops(output);
        assert!(
            traced.contains(&format!(" 1  {HOST}")) && traced.contains(&format!(" 2  {HOST}")),
            "{traced}"
        );
    }
}

#[test]
fn a_closed_port_is_refused_at_once() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let refused = std::io::ErrorKind::ConnectionRefused;
    let connected = |to: &str| {
        let socket = udp_socket(PATIENCE);
        socket.connect(to).unwrap();
        socket.send(b"x").unwrap();
        socket.recv(&mut [0; 10]).map_err(|error| error.kind())
    };
    lab.client.run(|| {
        assert_eq!(TcpStream::connect(format!("{HOST}:8080")).unwrap_err().kind(), refused);
        assert_eq!(connected(&format!("{HOST}:5353")), Err(refused), "the container's ICMP error");
    });
    lab.run_in(&web, || {
        assert_eq!(TcpStream::connect(format!("{OUTSIDE}:80")).unwrap_err().kind(), refused);
        assert_eq!(connected(&format!("{OUTSIDE}:53")), Err(refused));
        assert_eq!(
            connected(&format!("{HOST_OUTSIDE}:5353")),
            Err(refused),
            "its own, by the host's address"
        );
    });
}
