//! Unmanaged networks: somebody else routes the containers, as Docker or a CNI plugin does, and netd publishes their ports. All
//! else stays as it is without netd.

use netd_tests::lab::{CLIENT, HOST, HOST6, Lab, OUTSIDE};
use netd_tests::netns::{Netns, sandbox};
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_answers, udp_ask, udp_socket};
use netd_tests::snapshot::Snapshot;

/// The bridge's address.
const GATEWAY: &str = "10.7.0.1";

/// A host as a container engine leaves it: a bridge `br7`, forwarding, and masquerade by nftables.
struct Engine {
    lab: Lab,
}

/// A container of the engine.
struct Pod {
    netns: Netns,
    address: String,
    /// The host's end of its veth pair.
    veth: String,
}

impl Engine {
    fn new() -> Self {
        let lab = Lab::new();
        lab.host.sh("sysctl -qw net.ipv4.ip_forward=1");
        lab.host.ip("link add br7 type bridge");
        lab.host.ip(&format!("address add {GATEWAY}/24 dev br7"));
        lab.host.ip("link set br7 up");
        lab.host.sh("sysctl -qw net.ipv6.conf.br7.forwarding=1");
        lab.host.sh("nft 'add table ip engine; \
             add chain ip engine post {type nat hook postrouting priority srcnat;}; \
             add rule ip engine post ip saddr 10.7.0.0/24 oifname != br7 masquerade; \
             add chain ip engine pre {type nat hook prerouting priority dstnat;}; \
             add rule ip engine pre fib daddr type local tcp dport 9999 dnat to 10.7.0.6:80; \
             add rule ip engine pre fib daddr type local tcp dport 9998 dnat to 198.19.0.2:80'");
        Self { lab }
    }

    fn pod(&self, number: u8) -> Pod {
        let (netns, host) = (Netns::new(&format!("pod{number}")), &self.lab.host);
        let (address, veth) = (format!("10.7.0.{number}"), format!("pod{number}"));
        host.ip(&format!("link add {veth} type veth peer name eth0 netns {}", netns.name));
        host.ip(&format!("link set {veth} master br7 up"));
        netns.ip(&format!("address add {address}/24 dev eth0"));
        netns.ip("link set lo up");
        netns.ip("link set eth0 up");
        netns.ip(&format!("route add default via {GATEWAY}"));
        netd_tests::wait_for("the pod's interface", PATIENCE, || {
            let is_tentative = |netns: &Netns| netns.sh("ip -6 -o address show").contains("tentative");
            host.sh(&format!("ip -o link show {veth}")).contains("state UP")
                && !is_tentative(host)
                && !is_tentative(&netns)
        });
        Pod { netns, address, veth }
    }

    fn network(&self) {
        self.lab.netd(&["network", "create", "pods", "--adopt", "br7", "--unmanaged"]).ok();
    }

    fn adopt(&self, pod: &Pod, options: &[&str]) -> String {
        let path = pod.netns.path();
        let words = ["--network", "pods", "--adopt", &pod.veth, "--netns", path.to_str().unwrap()];
        self.lab.container(&pod.veth, &[&words, options].concat())
    }
}

fn seen_from(netns: &Netns, to: &str) -> Option<String> {
    netns.run(|| tcp_first_line(to, PATIENCE)).ok()
}

/// Fails unless the server that answers there sees the client with this address.
#[track_caller]
fn sees(netns: &Netns, to: &str, address: &str) {
    assert_eq!(seen_from(netns, to).as_deref(), Some(address), "to {to}");
}

#[test]
fn ports_are_published_to_everybody_and_nothing_else_changes() {
    let engine = Engine::new();
    let lab = &engine.lab;
    let (app, plain, peer) = (engine.pod(5), engine.pod(6), engine.pod(7));
    let before = Snapshot::of(lab);
    engine.network();
    let name = engine.adopt(&app, &["-p", "8080:80", "-p", "5353:53/udp"]);
    engine.adopt(&peer, &["-p", "8081:80"]);
    let _servers = [&app, &plain, &peer].map(|pod| Server::tcp_echo(&pod.netns.path(), 80));
    let _dns = Server::udp_echo(&app.netns.path(), 53);
    let _far = Server::tcp_echo(&lab.outside.path(), 80);
    let published = format!("{HOST}:8080");

    // Clients everywhere.
    sees(&lab.client, &published, CLIENT);
    assert!(seen_from(&lab.host, "127.0.0.1:8080").is_some());
    assert!(seen_from(&lab.host, &published).is_some());
    assert!(seen_from(&lab.client, &format!("[{HOST6}]:8080")).is_some(), "IPv6 clients, too");
    for address in [HOST, GATEWAY] {
        let to = format!("{address}:8080");
        sees(&plain.netns, &to, &plain.address);
        sees(&peer.netns, &to, &peer.address);
        sees(&app.netns, &to, GATEWAY);
    }
    for netns in [&lab.client, &plain.netns, &peer.netns] {
        netns.run(|| udp_answers(&udp_socket(PATIENCE), &format!("{HOST}:5353"), true));
    }

    // What is the engine's: its masquerade, its own port forwarding, its routing to the containers' addresses.
    let outside = format!("{OUTSIDE}:80");
    for pod in [&app, &plain, &peer] {
        sees(&pod.netns, &outside, netd_tests::lab::HOST_OUTSIDE);
        pod.netns.sh(&format!("ping -c 1 -W 5 {OUTSIDE}"));
        pod.netns.sh(&format!("ping -c 1 -W 5 {GATEWAY}"));
    }
    for address in [HOST, GATEWAY] {
        sees(&app.netns, &format!("{address}:9999"), &app.address);
        sees(&app.netns, &format!("{address}:9998"), netd_tests::lab::HOST_OUTSIDE);
    }
    sees(&lab.client, &format!("{HOST}:9999"), CLIENT);
    sees(&lab.client, "10.7.0.5:80", CLIENT);
    sees(&lab.client, "10.7.0.6:80", CLIENT);
    sees(&peer.netns, "10.7.0.5:80", &peer.address);
    assert!(seen_from(&lab.host, "10.7.0.5:80").is_some());
    // A further address, which nobody told netd of.
    app.netns.ip("address add 10.7.0.77/24 dev eth0");
    app.netns.sh(&format!("ping -c 1 -W 5 -I 10.7.0.77 {OUTSIDE}"));
    sees(&lab.client, "10.7.0.77:80", CLIENT);
    app.netns.ip("address del 10.7.0.77/24 dev eth0");
    let status = lab.netd(&["--json", "status"]).ok().json();
    let drops = status["drops"].as_array().expect("drops");
    let dropped: Vec<_> = drops.iter().filter(|one| one["packets"] != 0).collect();
    assert!(dropped.is_empty(), "netd dropped something: {dropped:?}");

    // netd's own containers beside them.
    let own = lab.container("own", &["-p", "8082:80"]);
    let _own = Server::tcp_echo(&sandbox(&own), 80);
    let in_own = |to: &str| lab.run_in(&own, || tcp_first_line(to, PATIENCE)).unwrap();
    assert_eq!(in_own(&published), lab.address(&own));
    assert_eq!(in_own("10.7.0.5:80"), GATEWAY);
    for pod in [&app, &plain] {
        sees(&pod.netns, &format!("{HOST}:8082"), &pod.address);
    }
    lab.netd(&["container", "rm", &own]).ok();

    lab.netd(&["check"]).ok();
    lab.netd(&["container", "rm", &name]).ok();
    assert!(lab.client.run(|| tcp_first_line(&published, SILENCE)).is_err());
    lab.netd(&["down"]).ok();
    Snapshot::of(lab).assert_same_as(&before);
}

#[test]
fn the_engine_may_forward_ports_of_the_bridges_own_address() {
    let engine = Engine::new();
    let app = engine.pod(5);
    engine.network();
    engine.adopt(&app, &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&engine.lab.outside.path(), 80);
    // No flow leads to that address yet, so the first program decides about the packets. The kernel forwards them with their TTL.
    sees(&app.netns, &format!("{GATEWAY}:9998"), netd_tests::lab::HOST_OUTSIDE);
}

#[test]
fn a_container_without_netd_reaches_published_ports_by_udp_from_a_fixed_port() {
    let engine = Engine::new();
    let (app, plain) = (engine.pod(5), engine.pod(6));
    engine.network();
    engine.adopt(&app, &["-p", "5353:53/udp"]);
    let _dns = Server::udp_echo(&app.netns.path(), 53);
    plain.netns.run(|| {
        let socket = netd_tests::probe::udp_on(4000);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (_, from) = udp_ask(&socket, &format!("{HOST}:5353"), b"who").unwrap();
        assert_eq!((from.ip().to_canonical().to_string().as_str(), from.port()), (HOST, 5353));
    });
}

#[test]
fn what_an_unmanaged_network_cannot_be_is_refused() {
    let engine = Engine::new();
    let lab = &engine.lab;
    let create = ["network", "create", "pods", "--adopt", "br7", "--unmanaged"];
    for (option, what) in [
        (&["--internal"][..], "is unmanaged, so netd does not decide about internal"),
        (&["--no-icc"], "isolation"),
        (&["--no-masquerade"], "the source address"),
        (&["--gateway-mode", "routed"], "the gateway mode"),
        (&["--trusted-interface", "up0"], "trusted interfaces"),
    ] {
        lab.netd(&[&create[..], option].concat()).fails(1, what);
    }
    lab.netd(&["network", "create", "pods", "--unmanaged"]).fails(2, "--adopt");
    lab.host.sh("sysctl -qw net.ipv4.ip_forward=0");
    lab.netd(&create).fails(1, "the kernel does not forward packets of br7");
    lab.host.sh("sysctl -qw net.ipv4.ip_forward=1");
    let shown = lab.netd(&[&["--json"][..], &create].concat()).ok().json();
    assert_eq!(shown["unmanaged"], true);
    // It is saved, and applied again.
    let saved = lab.netd(&["save"]).ok().stdout;
    assert!(saved.contains("unmanaged = true"), "{saved}");
    lab.netd(&["check"]).ok();
}
