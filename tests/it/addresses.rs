//! Addresses that a container uses besides its own.

use netd_tests::lab::{HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line};

/// Runs `ip` in a container.
fn ip(lab: &Lab, container: &str, words: &str) {
    let status = lab.command_in(container, &format!("ip {words}")).status().unwrap();
    assert!(status.success(), "ip {words}");
}

#[test]
fn a_container_uses_the_addresses_that_it_was_allowed() {
    let lab = Lab::new();
    let vip = ["--allowed-address", "172.17.0.100", "--allowed-address", "10.244.1.0/24"];
    let a = lab.container("a", &vip);
    let b = lab.container("b", &["--allowed-address", "10.244.2.0/24"]);
    let c = lab.container("c", &[]);
    let shown = lab.netd(&["--json", "container", "inspect", &a]).ok().json();
    let allowed = &shown["interfaces"][0]["allowed_addresses"];
    assert_eq!(*allowed, serde_json::json!(["172.17.0.100/32", "10.244.1.0/24"]));
    let _server = Server::tcp_echo(&sandbox(&a), 80);
    // A failover address between containers.
    ip(&lab, &a, "address add 172.17.0.100/16 dev eth0");
    assert!(lab.run_in(&b, || tcp_first_line("172.17.0.100:80", PATIENCE)).is_ok());
    // Subnets behind containers, which route to each other over the bridge.
    for (container, own, other, by) in [(&a, "10.244.1", "10.244.2", &b), (&b, "10.244.2", "10.244.1", &a)] {
        ip(&lab, container, &format!("address add {own}.1/32 dev lo"));
        ip(&lab, container, &format!("route add {other}.0/24 via {} src {own}.1", lab.address(by)));
    }
    let seen = lab.run_in(&b, || tcp_first_line("10.244.1.1:80", PATIENCE)).unwrap();
    assert_eq!(seen, "10.244.2.1");
    // They leave the host as the container's own address does.
    let _outside = Server::tcp_echo(&lab.outside.path(), 7000);
    ip(&lab, &b, "route replace default via 172.17.0.1 src 10.244.2.1");
    let to = format!("{OUTSIDE}:7000");
    assert_eq!(lab.run_in(&b, || tcp_first_line(&to, PATIENCE)).unwrap(), HOST_OUTSIDE);
    // Nobody else may use them, nor others than these.
    let _other = Server::tcp_echo(&sandbox(&c), 80);
    ip(&lab, &c, "address add 172.17.0.101/16 dev eth0");
    assert!(lab.run_in(&b, || tcp_first_line("172.17.0.101:80", SILENCE)).is_err());
    lab.netd(&["container", "rm", &a]).ok();
    ip(&lab, &c, "address add 172.17.0.100/16 dev eth0");
    assert!(lab.run_in(&b, || tcp_first_line("172.17.0.100:80", SILENCE)).is_err());
}

#[test]
fn an_allowed_address_is_an_address_or_a_prefix() {
    let lab = Lab::new();
    let name = lab.name("web");
    lab.netd(&["container", "add", &name, "--allowed-address", "10.244.1"]).fails(2, "10.244.1");
    lab.netd(&["container", "add", &name, "--network", "none", "--allowed-address", "10.244.1.1"])
        .fails(1, "network none has no interface");
}
