//! What the host's own stack forwards into a network: nothing from an interface that has no program of netd's, unless the network
//! trusts it.

use netd_tests::lab::{CLIENT, HOST, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server, udp_answers, udp_ask, udp_socket};
use serde_json::Value;

/// Packets dropped for a reason.
fn dropped(lab: &Lab, reason: &str) -> u64 {
    let status = lab.netd(&["--json", "status"]).ok().json();
    let of_reason = |drop: &&Value| drop["reason"] == reason;
    let drop = status["drops"].as_array().unwrap().iter().find(of_reason);
    drop.map_or(0, |drop| drop["packets"].as_u64().unwrap())
}

/// Takes the client's wire away and makes it again, as a driver or a hypervisor does: the host's end has no program.
fn plug_in_again(lab: &Lab) {
    lab.host.ip("link del up0");
    lab.host.ip(&format!("link add up0 type veth peer name eth0 netns {}", lab.client.name));
    for (netns, interface, address) in [(&lab.client, "eth0", CLIENT), (&lab.host, "up0", HOST)] {
        netns.ip(&format!("address add {address}/24 dev {interface}"));
        netns.ip(&format!("link set {interface} up"));
    }
    lab.client.ip(&format!("route add 172.16.0.0/12 via {HOST}"));
}

#[test]
fn an_interface_that_is_made_anew_lets_nobody_in() {
    for clsact in [false, true] {
        let mut lab = Lab::new();
        lab.clsact = clsact;
        lab.host.sh("sysctl -qw net.ipv4.ip_forward=1");
        let web = lab.container("web", &["-p", "8053:53/udp"]);
        let _server = Server::udp_echo(&sandbox(&web), 53);
        let own = format!("{}:53", lab.address(&web));
        plug_in_again(&lab);
        lab.client.run(|| udp_answers(&udp_socket(PATIENCE), &own, false));
        // A reading command does not put the program on.
        assert_eq!(dropped(&lab, "unguarded"), 1);
        // The host's own packets pass, and so does everything once a command has put the program on.
        lab.host.run(|| udp_answers(&udp_socket(PATIENCE), &own, true));
        lab.netd(&["timeouts", "one_way=40s"]).ok();
        lab.client.run(|| udp_answers(&udp_socket(PATIENCE), &format!("{HOST}:8053"), true));
        lab.client.run(|| udp_answers(&udp_socket(PATIENCE), &own, false));
        assert_eq!(dropped(&lab, "direct_access"), 1);
    }
}

#[test]
fn the_host_routes_between_a_network_and_an_interface_that_it_trusts() {
    let lab = Lab::new();
    lab.host.sh("sysctl -qw net.ipv4.ip_forward=1");
    // With the uplinks named, the client's interface has no program, like a tunnel.
    lab.netd(&["set", "uplinks=up1"]).ok();
    lab.netd(&["network", "create", "open", "--subnet", "172.20.0.0/24", "--trusted-interface", "up0"]).ok();
    lab.netd(&["network", "create", "shut", "--subnet", "172.21.0.0/24"]).ok();
    let (open, shut) =
        (lab.container("open", &["--network", "open"]), lab.container("shut", &["--network", "shut"]));
    let _servers = [&open, &shut].map(|name| Server::udp_echo(&sandbox(name), 53));
    lab.client.ip(&format!("route add 172.16.0.0/12 via {HOST}"));
    for (name, must) in [(&open, true), (&shut, false)] {
        let to = format!("{}:53", lab.address(name));
        lab.client.run(|| udp_answers(&udp_socket(PATIENCE), &to, must));
    }
    assert_eq!(dropped(&lab, "unguarded"), 1);
    // The other way round: in its own name to whom the network trusts, and not at all otherwise.
    let _client = Server::udp_echo(&lab.client.path(), 54);
    let ask = || udp_ask(&udp_socket(PATIENCE), &format!("{CLIENT}:54"), b"x");
    assert!(lab.run_in(&open, ask).is_ok());
    lab.run_in(&shut, || udp_answers(&udp_socket(PATIENCE), &format!("{CLIENT}:54"), false));
}
