//! Uplinks whose packets have no link-layer header, as those of WireGuard, PPP and tun.

use std::net::SocketAddr;

use netd_tests::lab::{HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::netns::{Netns, sandbox};
use netd_tests::probe::{
    PATIENCE, Server, tcp_echoes, tcp_first_line, udp_answers, udp_ask, udp_on, udp_socket,
};
use netd_tests::snapshot::Snapshot;
use netd_tests::tun::Tunnel;

/// The host's ends of the tunnel, and the far ones.
const NEAR: &str = "10.64.0.1";
const NEAR6: &str = "2001:db8:64::1";
const FAR: &str = "10.64.0.2";
const FAR6: &str = "2001:db8:64::2";
const MTU: u32 = 1400;

/// A host at the other end of a tunnel that is the host's default route.
fn tunnelled(lab: &Lab) -> (Netns, Tunnel) {
    let far = Netns::new("far");
    far.sh("sysctl -qw net.ipv6.conf.default.accept_dad=0");
    lab.host.sh("sysctl -qw net.ipv6.conf.default.accept_dad=0");
    let tunnel = Tunnel::between([&lab.host, &far], "wg0");
    for (netns, address, address6) in [(&lab.host, NEAR, NEAR6), (&far, FAR, FAR6)] {
        netns.ip(&format!("link set wg0 mtu {MTU} up"));
        netns.ip(&format!("address add {address}/24 dev wg0"));
        netns.ip(&format!("address add {address6}/64 dev wg0"));
    }
    for family in ["-4", "-6"] {
        lab.host.ip(&format!("{family} route replace default dev wg0"));
        far.ip(&format!("{family} route add default dev wg0"));
    }
    (far, tunnel)
}

#[test]
fn a_tunnel_is_an_uplink_in_both_directions() {
    for clsact in [false, true] {
        let mut lab = Lab::new();
        lab.clsact = clsact;
        let (far, _tunnel) = tunnelled(&lab);
        lab.netd(&["network", "create", "both", "--subnet", "10.20.0.0/24", "--subnet", "fd00:20::/64"]).ok();
        let web = lab.container("web", &["--network", "both", "-p", "8080:80", "-p", "8053:53/udp"]);
        let _servers = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
        let _own = Server::tcp_echo(&lab.host.path(), 81);
        far.run(|| {
            for (host, seen) in [(NEAR, FAR), (&format!("[{NEAR6}]"), FAR6)] {
                assert_eq!(tcp_first_line(&format!("{host}:81"), PATIENCE).unwrap(), seen, "the host's own");
                assert_eq!(tcp_first_line(&format!("{host}:8080"), PATIENCE).unwrap(), seen);
                tcp_echoes(&format!("{host}:8080"), 1 << 20);
                let to = format!("{host}:8053");
                let (answer, from) = udp_ask(&udp_on(0), &to, &[7; 4000]).unwrap();
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                assert_eq!((answer.len(), from.to_string()), (4000, to), "in fragments");
            }
        });
        let _far = (Server::tcp_echo(&far.path(), 80), Server::udp_echo(&far.path(), 53));
        lab.run_in(&web, || {
            for (to, seen) in [(FAR, NEAR), (&format!("[{FAR6}]"), NEAR6)] {
                assert_eq!(tcp_first_line(&format!("{to}:80"), PATIENCE).unwrap(), seen);
                tcp_echoes(&format!("{to}:80"), 1 << 20);
                let socket = udp_on(0);
                assert!(udp_ask(&socket, &format!("{to}:53"), &[7; 4000]).unwrap().0 == [7; 4000]);
            }
        });
        let ping =
            lab.command_in(&web, &format!("ping -M do -c 2 -i 0.2 -W 10 -s 1373 {FAR}")).output().unwrap();
        // The container's own stack says so if it knows the MTU by now.
        let said = String::from_utf8_lossy(&[ping.stdout, ping.stderr].concat()).into_owned();
        assert!(
            said.contains("mtu = 1400") || said.contains("mtu: 1400") || said.contains("mtu=1400"),
            "{said}"
        );
        let status = lab.netd(&["--json", "status"]).ok().json();
        assert_eq!(status["warnings"].as_array().map(Vec::len), Some(0), "{}", status["warnings"]);
    }
}

#[test]
fn a_tunnels_clients_get_no_more_than_others() {
    let lab = Lab::new();
    let (far, _tunnel) = tunnelled(&lab);
    lab.host.sh("sysctl -qw net.ipv4.ip_forward=1");
    let web = lab.container("web", &["-p", "8053:53/udp"]);
    let _server = Server::udp_echo(&sandbox(&web), 53);
    let own = format!("{}:53", lab.address(&web));
    far.run(|| {
        udp_answers(&udp_socket(PATIENCE), &own, false);
        udp_answers(&udp_socket(PATIENCE), &format!("{NEAR}:8053"), true);
        // The host's stack forwards what is not netd's.
        lab.outside.ip(&format!("route add {FAR}/32 via {HOST_OUTSIDE}"));
        let _outside = Server::udp_echo(&lab.outside.path(), 54);
        udp_answers(&udp_socket(PATIENCE), &format!("{OUTSIDE}:54"), true);
    });
    let drops = lab.netd(&["--json", "status"]).ok().json();
    let is_direct = |drop: &&serde_json::Value| drop["reason"] == "direct_access";
    let direct = drops["drops"].as_array().unwrap().iter().find(is_direct).unwrap();
    assert_ne!(direct["packets"], 0);
}

#[test]
fn ports_of_another_host_are_reached_by_a_tunnel() {
    let lab = Lab::new();
    let (far, _tunnel) = tunnelled(&lab);
    let (_outside, _far) = (Server::tcp_echo(&lab.outside.path(), 80), Server::tcp_echo(&far.path(), 80));
    lab.netd(&["publish", "8080:80", OUTSIDE]).ok();
    lab.netd(&["publish", "8081:80", FAR]).ok();
    far.run(|| tcp_echoes(&format!("{NEAR}:8080"), 1 << 20));
    lab.outside.run(|| tcp_echoes(&format!("{HOST_OUTSIDE}:8081"), 1 << 20));
}

#[test]
fn a_tunnel_that_is_left_is_as_before() {
    for clsact in [false, true] {
        let mut lab = Lab::new();
        lab.clsact = clsact;
        let (_far, _tunnel) = tunnelled(&lab);
        let before = Snapshot::of(&lab);
        lab.container("web", &["-p", "8080:80"]);
        lab.netd(&["down"]).ok();
        Snapshot::of(&lab).assert_same_as(&before);
    }
}
