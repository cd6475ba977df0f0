//! `netd check` finds what differs from the records, and `netd repair` puts it right.

use std::fs;

use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server, tcp_first_line};
use serde_json::Value;

/// Exit status if something differs.
const DIFFERS: i32 = 3;

/// The kinds of what differs.
#[track_caller]
fn kinds(lab: &Lab) -> Vec<String> {
    let said = lab.netd(&["--json", "check"]);
    let found = said.status;
    let said = said.json();
    let kinds = said.as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap().to_owned());
    let kinds: Vec<String> = kinds.collect();
    assert_eq!(found.code(), Some(if kinds.is_empty() { 0 } else { DIFFERS }));
    kinds
}

struct Ground {
    lab: Lab,
    web: String,
    veth: String,
    _server: Server,
}

impl Ground {
    fn new(clsact: bool) -> Self {
        let mut lab = Lab::new();
        lab.clsact = clsact;
        let web = lab.container("web", &["-p", "8080:80"]);
        let shown = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
        let veth = shown["host_interface"].as_str().unwrap().to_owned();
        let server = Server::tcp_echo(&sandbox(&web), 80);
        Self { lab, web, veth, _server: server }
    }

    /// Fails unless exactly these are found, a repair puts them right, and the port is served then.
    #[track_caller]
    fn is_repaired(&self, expected: &[&str]) {
        let Self { lab, .. } = self;
        assert_eq!(kinds(lab), expected);
        let said = lab.netd(&["--json", "repair"]).ok().json();
        assert_eq!(said["left"], serde_json::json!([]));
        assert!(said["repaired"].as_array().unwrap().len() >= expected.len(), "{said}");
        assert_eq!(kinds(lab), [""; 0]);
        lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
    }
}

#[test]
fn every_difference_is_named_and_put_right() {
    let ground = Ground::new(false);
    let Ground { lab, veth, .. } = &ground;
    assert_eq!(kinds(lab), [""; 0]);
    lab.host.sh("sysctl -qw net.ipv4.conf.netd0.forwarding=0");
    ground.is_repaired(&["forwarding_off"]);
    lab.host.ip("address flush dev netd0");
    ground.is_repaired(&["gateway_gone"]);
    lab.host.ip(&format!("link set {veth} nomaster"));
    ground.is_repaired(&["not_a_bridge_port"]);
    lab.host.ip(&format!("link set {veth} down"));
    ground.is_repaired(&["interface_down"]);
    lab.host.ip("link set netd0 down");
    ground.is_repaired(&["bridge_down"]);
    lab.host.ip(&format!("link delete {veth}"));
    ground.is_repaired(&["interface_gone"]);
    lab.host.ip("link delete netd0");
    ground.is_repaired(&["bridge_gone"]);
    for prefix in ["container-", "uplink-", "bridge-", "cgroup-"] {
        let links = fs::read_dir(lab.pins().join("links")).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let pin = links.into_iter().find(|path| name(path).starts_with(prefix)).unwrap();
        fs::remove_file(pin).unwrap();
        ground.is_repaired(&["not_attached"]);
    }
    fs::remove_dir_all(lab.pins().join("maps")).unwrap();
    ground.is_repaired(&["programs_gone"]);
    fs::remove_dir_all(lab.pins()).unwrap();
    ground.is_repaired(&["programs_gone"]);
}

#[test]
fn filters_and_their_qdisc_are_put_back_and_copies_removed() {
    let ground = Ground::new(true);
    let Ground { lab, veth, .. } = &ground;
    assert_eq!(kinds(lab), [""; 0]);
    for (interface, hook) in [(veth.as_str(), "ingress"), ("up0", "ingress"), ("netd0", "egress")] {
        lab.host.sh(&format!("tc filter delete dev {interface} {hook}"));
        ground.is_repaired(&["not_attached"]);
        lab.host.sh(&format!("tc qdisc delete dev {interface} clsact"));
        ground.is_repaired(&["not_attached"]);
    }
    let program = lab.program("uplink_ingress");
    let copy =
        format!("tc filter add dev up0 ingress prio 7 bpf direct-action object-pinned {}", program.display());
    lab.host.sh(&copy);
    ground.is_repaired(&["attached_twice"]);
    let filters = lab.host.sh("tc filter show dev up0 ingress");
    assert_eq!(filters.matches("handle").count(), 1, "{filters}");
}

#[test]
fn what_has_another_name_is_followed() {
    let ground = Ground::new(false);
    let Ground { lab, veth, .. } = &ground;
    lab.host.sh("ip link set netd0 down && ip link set netd0 name mybr0 && ip link set mybr0 up");
    // The kernel removes IPv6 addresses of an interface that is set down.
    assert!(kinds(lab).contains(&"bridge_renamed".to_owned()));
    lab.netd(&["repair"]).ok();
    let shown = lab.netd(&["--json", "network", "inspect", "bridge"]).ok().json();
    assert_eq!(shown["bridge"], "mybr0");
    lab.host.sh(&format!("ip link set {veth} down && ip link set {veth} name my.0 && ip link set my.0 up"));
    ground.is_repaired(&["interface_renamed"]);
    let shown = lab.netd(&["--json", "container", "inspect", &ground.web]).ok().json();
    assert_eq!(shown["host_interface"], "my.0");
    lab.netd(&["container", "rm", &ground.web]).ok();
    assert!(!lab.host.try_sh("ip link show my.0").status.success());
    lab.netd(&["network", "rm", "bridge"]).ok();
    assert!(!lab.host.try_sh("ip link show mybr0").status.success());
}

#[test]
fn a_container_whose_namespace_is_gone_is_named_and_left_to_the_user() {
    let ground = Ground::new(false);
    let Ground { lab, web, .. } = &ground;
    std::process::Command::new("ip").args(["netns", "delete", web]).status().unwrap();
    std::process::Command::new("ip").args(["netns", "add", web]).status().unwrap();
    let said = lab.netd(&["--json", "check"]).json();
    assert_eq!(
        (&said[0]["kind"], &said[0]["container"]),
        (&Value::from("namespace_gone"), &Value::from(web.as_str()))
    );
    assert_eq!(said[0]["cure"], format!("netd container rm {web}"));
    assert_eq!(lab.netd(&["repair"]).status.code(), Some(DIFFERS));
    lab.netd(&["container", "rm", web]).ok();
    assert!(sandbox(web).exists(), "the namespace is somebody else's");
    std::process::Command::new("ip").args(["netns", "delete", web]).status().unwrap();
    assert_eq!(kinds(lab), [""; 0]);
}

#[test]
fn a_lost_interface_is_not_taken_for_another_one_that_looks_alike() {
    let lab = Lab::new();
    for (name, subnet) in [("one", "10.31.0.0/24"), ("two", "10.32.0.0/24")] {
        lab.netd(&["network", "create", &lab.name(name), "--subnet", subnet]).ok();
    }
    let web = lab.container("web", &["--network", &lab.name("one"), "-p", "8080:80"]);
    lab.netd(&["network", "connect", &lab.name("two"), &web]).ok();
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let interfaces = || {
        let shown = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
        let host = |nth: usize| shown["interfaces"][nth]["host_interface"].as_str().unwrap().to_owned();
        (host(0), host(1))
    };
    let (first, second) = interfaces();
    lab.host.ip(&format!("link delete {first}"));
    assert_eq!(kinds(&lab), ["interface_gone"]);
    lab.netd(&["repair"]).ok();
    assert_eq!(interfaces(), (first, second));
    assert_eq!(kinds(&lab), [""; 0]);
    lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
}

#[test]
fn a_bridge_that_is_lost_with_its_ports_is_made_again_at_once() {
    let ground = Ground::new(false);
    let Ground { lab, veth, .. } = &ground;
    lab.host.ip("link delete netd0");
    lab.host.ip(&format!("link delete {veth}"));
    ground.is_repaired(&["bridge_gone", "interface_gone"]);
}

#[test]
fn an_adopted_bridge_may_change_its_mac_address() {
    let lab = Lab::new();
    // The kernel gives such a bridge the lowest MAC address of its ports.
    lab.host.ip("link add br7 type bridge");
    lab.host.ip("address add 10.77.0.1/24 dev br7");
    lab.host.ip("link set br7 up");
    lab.netd(&["network", "create", "theirs", "--adopt", "br7"]).ok();
    let web = lab.container("web", &["--network", "theirs", "-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    lab.netd(&["sync"]).ok();
    assert_eq!(kinds(&lab), [""; 0]);
    lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
    lab.netd(&["container", "rm", &web]).ok();
    lab.netd(&["sync"]).ok();
    lab.netd(&["network", "inspect", "theirs"]).ok();
    lab.netd(&["network", "rm", "theirs"]).ok();
    assert_eq!(lab.host.sh("cat /proc/sys/net/ipv4/conf/br7/forwarding"), "0\n");
}

#[test]
fn filters_of_another_instance_are_not_its_own() {
    let ground = Ground::new(true);
    let Ground { lab, .. } = &ground;
    let other = lab.folder.path().join("other");
    lab.netd_in(&lab.host, &other, &["network", "create", "n", "--subnet", "10.33.0.0/24"]).ok();
    for _time in 0..2 {
        lab.netd(&["repair"]).ok();
        lab.netd_in(&lab.host, &other, &["repair"]).ok();
        assert_eq!(kinds(lab), [""; 0]);
        lab.netd_in(&lab.host, &other, &["check"]).ok();
        let filters = lab.host.sh("tc filter show dev up0 ingress");
        assert_eq!(filters.matches("handle").count(), 2, "{filters}");
    }
    lab.netd_in(&lab.host, &other, &["down"]).ok();
}

#[test]
fn down_without_records_removes_what_is_provably_netds() {
    let ground = Ground::new(false);
    let Ground { lab, veth, .. } = &ground;
    std::fs::remove_dir_all(lab.state_dir()).unwrap();
    lab.netd(&["down"]).ok();
    for gone in [veth.as_str(), "netd0"] {
        assert!(!lab.host.try_sh(&format!("ip link show {gone}")).status.success(), "{gone}");
    }
    std::process::Command::new("ip").args(["netns", "delete", &ground.web]).status().unwrap();
}

#[test]
fn a_check_changes_nothing() {
    let ground = Ground::new(false);
    let Ground { lab, veth, .. } = &ground;
    lab.host.ip(&format!("link set {veth} nomaster"));
    for _time in 0..2 {
        assert_eq!(kinds(lab), ["not_a_bridge_port"]);
    }
    let said = lab.netd(&["check"]);
    assert!(said.stdout.contains("cure:   netd repair"), "{}", said.stdout);
}

#[test]
fn an_instance_that_was_never_used_has_no_differences() {
    let lab = Lab::new();
    assert_eq!(kinds(&lab), [""; 0]);
    let said = lab.netd(&["repair"]).ok();
    assert_eq!(said.stdout, "nothing differs from the records\n");
    assert!(!lab.state_dir().exists());
}

#[test]
fn an_interface_may_have_a_dot_in_its_name() {
    for clsact in [false, true] {
        let mut lab = Lab::new();
        lab.clsact = clsact;
        // As a VLAN has it, and beside it one whose name differs only there.
        lab.host.ip(&format!("link add up.100 type veth peer name eth2 netns {}", lab.client.name));
        lab.host.ip("link add up_100 type veth peer name far");
        for (name, address) in [("up.100", "198.20.0.1/24"), ("up_100", "198.21.0.1/24")] {
            lab.host.ip(&format!("address add {address} dev {name}"));
            lab.host.ip(&format!("link set {name} up"));
        }
        lab.client.ip("address add 198.20.0.2/24 dev eth2");
        lab.client.ip("link set eth2 up");
        let web = lab.container("web", &["-p", "8080:80"]);
        let _server = Server::tcp_echo(&sandbox(&web), 80);
        lab.client.run(|| tcp_first_line("198.20.0.1:8080", PATIENCE)).unwrap();
        let status = lab.netd(&["--json", "status"]).ok().json();
        let on: Vec<&str> =
            status["programs"].as_array().unwrap().iter().filter_map(|one| one["on"].as_str()).collect();
        assert!(on.contains(&"up.100") && on.contains(&"up_100"), "{on:?}");
        assert_eq!(kinds(&lab), [""; 0]);
        lab.netd(&["set", "uplinks=up_100"]).ok();
        assert_eq!(kinds(&lab), [""; 0]);
        let shown = lab.host.sh("tc filter show dev up.100 ingress");
        assert_eq!(shown, "", "clsact: {clsact}");
        lab.netd(&["down"]).ok();
        assert_eq!(lab.host.sh("tc qdisc show clsact 2>/dev/null || true"), "");
    }
}
