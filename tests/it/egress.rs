//! Nothing leaves the host with a container's address, whatever routes and rules there are on the host and in the container.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use netd_tests::lab::{CLIENT, HOST, HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::probe::PATIENCE;
use netd_tests::tap::{Tap, wait_for_any};

const END: &[u8] = b"nothing more is sent";

/// A host that forwards, with a container on the default network and one on an internal network, and taps on both wires.
struct Scene {
    lab: Lab,
    web: String,
    vault: String,
    client: Tap,
    outside: Tap,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new();
        lab.netd(&["network", "create", "vault", "--internal", "--subnet", "10.3.0.0/24"]).ok();
        let web = lab.container("web", &[]);
        let vault = lab.container("vault", &["--network", "vault"]);
        // As on a host with Docker or libvirt.
        lab.host.sh("sysctl -qw net.ipv4.ip_forward=1");
        lab.run(&vault, "ip route add default via 10.3.0.1");
        let client = Tap::open(&lab.client.path(), "eth0");
        let outside = Tap::open(&lab.outside.path(), "eth0");
        Self { lab, web, vault, client, outside }
    }

    /// Sends a datagram from a container, and returns the sources of what the client and the outside got: of the host's own
    /// last datagram, which says that nothing more comes, too.
    fn sources(&self, container: &str, to: &str) -> [Vec<Ipv4Addr>; 2] {
        self.lab.run_in(container, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            // A route that refuses is an error here.
            let _sent = socket.send_to(b"secret", to);
        });
        [(&self.client, CLIENT), (&self.outside, OUTSIDE)].map(|(tap, end)| {
            self.lab.host.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(END, (end, 9)).unwrap());
            until_end(tap)
        })
    }
}

/// The sources of the IPv4 packets that come in until the last one.
fn until_end(tap: &Tap) -> Vec<Ipv4Addr> {
    let mut sources = Vec::new();
    loop {
        wait_for_any(&[tap], Instant::now() + PATIENCE);
        while let Some(packet) = tap.receive() {
            if packet.ends_with(END) {
                return sources;
            }
            if packet[0] >> 4 == 4 && packet.ends_with(b"secret") {
                sources.push(Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]));
            }
        }
    }
}

/// What comes out if nothing but the host's name may.
fn named(client: Option<&str>, outside: Option<&str>) -> [Vec<Ipv4Addr>; 2] {
    [client, outside].map(|name| name.map(|name| name.parse().unwrap()).into_iter().collect())
}

#[test]
fn the_reserved_addresses_are_an_outside_like_any_other() {
    let scene = Scene::new();
    assert_eq!(scene.sources(&scene.web, "240.1.2.3:9"), named(None, Some(HOST_OUTSIDE)));
    assert_eq!(scene.sources(&scene.vault, "240.1.2.3:9"), named(None, None));
    let status = scene.lab.netd(&["--json", "status"]).ok().json();
    let drops = status["drops"].as_array().unwrap();
    assert!(drops.iter().any(|drop| drop["reason"] == "no_way_out"), "{drops:?}");
}

#[test]
fn a_rule_about_ports_is_obeyed_as_the_kernel_obeys_it() {
    let scene = Scene::new();
    let host = &scene.lab.host;
    host.ip(&format!("route add default via {CLIENT} table 100"));
    host.ip("rule add ipproto udp dport 53 lookup 100");
    assert_eq!(scene.sources(&scene.web, "203.0.113.5:53"), named(Some(HOST), None));
    assert_eq!(scene.sources(&scene.web, "203.0.113.5:54"), named(None, Some(HOST_OUTSIDE)));
    // Without another route.
    host.ip("route del default");
    assert_eq!(scene.sources(&scene.web, "203.0.113.5:53"), named(Some(HOST), None));
    assert_eq!(scene.sources(&scene.vault, "203.0.113.5:53"), named(None, None));
}

#[test]
fn a_rule_about_the_containers_subnet_or_bridge_holds_for_the_whole_connection() {
    let scene = Scene::new();
    let host = &scene.lab.host;
    host.ip(&format!("route add default via {CLIENT} table 100"));
    for rule in ["from 172.17.0.0/16", "iif netd0"] {
        host.ip(&format!("rule add {rule} lookup 100"));
        assert_eq!(scene.sources(&scene.web, "203.0.113.5:9"), named(Some(HOST), None), "{rule}");
        host.ip(&format!("rule del {rule} lookup 100"));
    }
}

#[test]
fn what_netd_cannot_see_of_a_route_lets_nothing_out() {
    let scene = Scene::new();
    let host = &scene.lab.host;
    host.ip("route del default");
    host.ip(&format!("route add default via {OUTSIDE} table 100"));
    // The mark is set after netd has decided: for netd there is no route, and the stack has one.
    host.ip("rule add fwmark 7 lookup 100");
    host.sh("nft 'add table ip t; add chain ip t c {type filter hook prerouting priority mangle;}; \
         add rule ip t c meta mark set 7'");
    for container in [&scene.web, &scene.vault] {
        assert_eq!(scene.sources(container, "203.0.113.5:9"), named(None, None), "{container}");
    }
}

#[test]
fn routes_in_a_container_lead_nowhere() {
    let scene = Scene::new();
    let host = &scene.lab.host;
    host.ip(&format!("route add default via {OUTSIDE} table 100"));
    for (container, bridge, net, gateway) in [
        (&scene.web, "netd0", "172.17.0.0/16", "172.17.0.1"),
        (&scene.vault, &*bridge_of(&scene.lab, "vault"), "10.3.0.0/24", "10.3.0.1"),
    ] {
        // The stack would send what a container sends to a neighbour's address by its gateway out by this table.
        host.ip(&format!("rule add iif {bridge} lookup 100"));
        scene.lab.run(
            container,
            &format!("ip route add {gateway} dev eth0; ip route replace {net} via {gateway}"),
        );
        let neighbour = gateway.replace(".0.1", ".0.99");
        assert_eq!(scene.sources(container, &format!("{neighbour}:9")), named(None, None), "{container}");
    }
}

fn bridge_of(lab: &Lab, network: &str) -> String {
    let inspected = lab.netd(&["--json", "network", "inspect", network]).ok().json();
    inspected["bridge"].as_str().unwrap().to_owned()
}
