//! IPv6 clients of a container that has only IPv4.

use std::net::{Ipv6Addr, UdpSocket};

use netd_tests::lab::{HOST_OUTSIDE6, HOST6, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server, tcp_echoes, tcp_first_line, udp_ask};

/// The gateway of the network `bridge`: the container sees it as the client.
const GATEWAY: &str = "172.17.0.1";

fn udp6() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn an_ipv6_client_reaches_a_container_that_has_only_ipv4() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
    lab.netd(&["network", "create", "six", "--subnet", "10.6.0.0/24", "--subnet", "fd00:6::/64"]).ok();
    let near = lab.container("near", &["--network", "six"]);
    let ask = || {
        for host in [HOST6, HOST_OUTSIDE6] {
            let to = format!("[{host}]:8080");
            assert_eq!(tcp_first_line(&to, PATIENCE).unwrap(), GATEWAY);
            tcp_echoes(&to, 3 << 20);
            let (socket, to) = (udp6(), format!("[{host}]:5353"));
            for len in [0, 1, 3, 1000, 1400] {
                let (answer, from) = udp_ask(&socket, &to, &vec![0x5a; len]).unwrap();
                assert_eq!((answer.len(), from.to_string()), (len, to.clone()));
            }
        }
    };
    lab.client.run(ask);
    lab.run_in(&near, ask);
    let flows = lab.netd(&["--json", "flows", "--port", "5353"]).ok().json();
    let flow = &flows[0];
    assert_eq!((&flow["reply"]["src"], &flow["reply"]["dst"]), (&"172.17.0.2".into(), &GATEWAY.into()));
    assert_eq!(flow["state"], "two_way");
    let port = lab.port("tcp", 8080);
    assert!(port["bytes"]["in"].as_u64() > Some(6 << 20) && port["dropped"] == 0, "{port}");
}

#[test]
fn a_smaller_uplink_mtu_reaches_the_container_as_an_ipv4_error() {
    let lab = Lab::with_mtu(1280);
    lab.netd(&["network", "create", "wide", "--subnet", "10.20.0.0/24", "--mtu", "1500"]).ok();
    let web = lab.container("web", &["--network", "wide", "-p", "8080:80", "-p", "5353:53/udp"]);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
    lab.client.run(|| tcp_echoes(&format!("[{HOST6}]:8080"), 3 << 20));
    // A reply of 1,250 bytes does not fit with IPv6 headers, so the container gets an ICMP error.
    let answered = lab.client.run(|| udp_ask(&udp6(), &format!("[{HOST6}]:5353"), &[7; 1200])).unwrap();
    assert_eq!(answered.0, [7; 1200]);
}

#[test]
fn a_nat64_flow_ends_with_its_container_or_port() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "5353:53/udp"]);
    let _udp = Server::udp_echo(&sandbox(&web), 53);
    let socket = lab.client.run(udp6);
    let to = format!("[{HOST6}]:5353");
    // Until the connection is assured.
    netd_tests::wait_for("the connection to be an assured one", PATIENCE, || {
        udp_ask(&socket, &to, b"x").unwrap();
        let flows = lab.netd(&["--json", "flows", "--port", "5353"]).ok().json();
        flows[0]["original"]["packets"].as_u64() > Some(3)
            && lab.assured6(|key| key.dst_port.get() == 5353) > 0
    });
    lab.netd(&["unpublish", "5353/udp"]).ok();
    socket.set_read_timeout(Some(netd_tests::probe::SILENCE)).unwrap();
    assert!(udp_ask(&socket, &to, b"x").is_err());
    // The same socket then reaches the next owner of the port.
    lab.netd(&["publish", "5353:53/udp", &web]).ok();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(udp_ask(&socket, &to, b"again").unwrap().0, b"again");
    lab.netd(&["unpublish", "5353/udp"]).ok();
    socket.set_read_timeout(Some(netd_tests::probe::SILENCE)).unwrap();
    lab.netd(&["publish", "5353:53/udp", &web, "--deny", "2001:db8:18::/64"]).ok();
    assert!(udp_ask(&socket, &to, b"x").is_err(), "an IPv6 client is judged as one");
}
