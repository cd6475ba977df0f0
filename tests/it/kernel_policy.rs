//! The kernel's own policies about packets that netd sends past the stack (docs/kernel-policies.md): routes that refuse, and IPsec.

use std::io::ErrorKind;
use std::net::{TcpStream, UdpSocket};

use netd_tests::lab::{CLIENT, CLIENT6, HOST, HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_answers, udp_socket};
use nix::libc;

/// How connecting to an address ends, as an error number.
fn refusal(to: &str) -> Option<i32> {
    TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE).unwrap_err().raw_os_error()
}

#[test]
fn a_container_is_told_which_route_refuses_it() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "both", "--subnet", "10.20.0.0/24", "--subnet", "fd00:20::/64"]).ok();
    let web = lab.container("web", &["--network", "both"]);
    for (kind, error) in [("unreachable", libc::ENETUNREACH), ("prohibit", libc::EACCES)] {
        for (net, to) in [("203.0.113.0/24", "203.0.113.9:80"), ("2001:db8:9::/64", "[2001:db8:9::9]:80")] {
            lab.host.ip(&format!("route add {kind} {net}"));
            // What Linux makes of the ICMP error: of IPv4's "prohibited" the same as of "unreachable", of IPv6's "no route" that the
            // network is unreachable.
            let told = lab.run_in(&web, || refusal(to));
            assert_eq!(
                told,
                Some(if net.contains('.') { libc::EHOSTUNREACH } else { error }),
                "{kind} {net}"
            );
            lab.host.ip(&format!("route del {kind} {net}"));
        }
    }
    // A blackhole says nothing.
    lab.host.ip("route add blackhole 203.0.113.0/24");
    let silent = lab.run_in(&web, || TcpStream::connect_timeout(&"203.0.113.9:80".parse().unwrap(), SILENCE));
    assert_eq!(silent.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_running_connection_is_told_too() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let _server = Server::udp_echo(&lab.outside.path(), 53);
    lab.run_in(&web, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket.connect((OUTSIDE, 53)).unwrap();
        udp_sends(&socket).unwrap();
        lab.host.ip(&format!("route add prohibit {OUTSIDE}/32"));
        netd_tests::wait_for("the route to be asked again", PATIENCE, || {
            udp_sends(&socket).is_err_and(|error| error.raw_os_error() == Some(libc::EHOSTUNREACH))
        });
    });
}

#[test]
fn a_route_has_an_mtu_of_its_own() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    lab.outside.ip("address add 203.0.113.9/32 dev lo");
    lab.outside.ip("address add 203.0.114.9/32 dev lo");
    lab.host.ip(&format!("route add 203.0.112.0/21 via {OUTSIDE} mtu 1300"));
    lab.host.ip(&format!("route add 203.0.114.0/24 via {OUTSIDE}"));
    lab.netd(&["timeouts", "one_way=40s"]).ok();
    let ping = |size: u16, to: &str| {
        let line = format!("ping -M do -c 2 -i 0.2 -W 10 -s {size} {to}");
        let output = lab.command_in(&web, &line).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // 28 bytes of headers.
    assert!(ping(1272, "203.0.113.9").0);
    let (answered, said) = ping(1273, "203.0.113.9");
    assert!(!answered && said.contains("mtu = 1300"), "{said}");
    assert!(ping(1472, "203.0.114.9").0, "a longer prefix without one");
}

/// Sends a datagram by a connected socket, and waits for the answer.
fn udp_sends(socket: &UdpSocket) -> std::io::Result<usize> {
    socket.send(b"x")?;
    socket.recv(&mut [0; 16])
}

#[test]
fn a_filter_that_does_not_see_containers_packets_is_named() {
    for clsact in [false, true] {
        let mut lab = Lab::new();
        lab.clsact = clsact;
        let _web = lab.container("web", &["-p", "8080:80"]);
        let named = || {
            let status = lab.netd(&["--json", "status"]).ok().json();
            let is_it =
                |one: &&serde_json::Value| one.as_str().unwrap().contains("tc filters on the ingress of");
            status["warnings"]
                .as_array()
                .unwrap()
                .iter()
                .filter(is_it)
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(named(), Vec::<String>::new());
        lab.host.ip("link add ifb0 type ifb");
        lab.host.sh("tc qdisc show dev up0 | grep -q clsact || tc qdisc add dev up0 ingress; \
             tc filter add dev up0 ingress pref 9 u32 match u32 0 0 action mirred egress redirect dev ifb0");
        let warnings = named();
        assert!(warnings.len() == 1 && warnings[0].contains("up0"), "{warnings:?}");
    }
}

/// A policy of the host that demands IPsec of packets of a protocol family, written as `ip xfrm policy` takes it.
fn demand(lab: &Lab, selector: &str, direction: &str) {
    lab.host.ip(&format!("xfrm policy add {selector} dir {direction} action block"));
}

#[test]
fn a_peer_of_an_ipsec_policy_is_refused_and_named() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let (_inside, _outside) =
        (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&lab.outside.path(), 53));
    let (from, to) = (format!("{OUTSIDE}:53"), format!("{HOST_OUTSIDE}:8080"));
    demand(&lab, &format!("src {HOST_OUTSIDE}/32 dst {OUTSIDE}/32"), "out");
    demand(&lab, &format!("src {CLIENT}/32 dst {HOST}/32"), "in");
    // One for addresses that are not the host's is for nothing that netd sends.
    demand(&lab, "src 192.0.2.0/24 dst 198.18.0.0/15", "out");
    let status = lab.netd(&["--json", "status"]).ok().json();
    let named = |peer: &str| {
        let warnings = status["warnings"].as_array().unwrap();
        warnings
            .iter()
            .filter(|one| {
                one.as_str().unwrap().contains(&format!("IPsec policy of this host is for {peer}/32"))
            })
            .count()
    };
    assert_eq!((named(OUTSIDE), named(CLIENT)), (1, 1), "{}", status["warnings"]);
    lab.netd(&["timeouts", "one_way=40s"]).ok();
    lab.run_in(&web, || udp_answers(&udp_socket(PATIENCE), &from, false));
    assert!(
        lab.outside.run(|| tcp_first_line(&to, SILENCE)).is_err(),
        "the answers would go out as they are"
    );
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), SILENCE)).is_err());
    let six = format!("[{}]:8080", netd_tests::lab::HOST6);
    assert!(lab.client.run(|| tcp_first_line(&six, PATIENCE)).is_ok(), "{CLIENT6} has none");
    let drops = lab.netd(&["--json", "status"]).ok().json();
    let ipsec = drops["drops"].as_array().unwrap().iter().find(|drop| drop["reason"] == "ipsec");
    assert!(ipsec.is_some_and(|drop| drop["packets"].as_u64() >= Some(2)), "{}", drops["drops"]);
    // Without policies all is as before, from the next command on.
    lab.host.ip("xfrm policy flush");
    lab.netd(&["timeouts", "--reset"]).ok();
    lab.run_in(&web, || udp_answers(&udp_socket(PATIENCE), &from, true));
}
