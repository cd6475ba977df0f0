//! Adopted interfaces and bridges: netd uses them as they are, and does not remove them.

use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::Netns;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line};
use netd_tests::snapshot::Snapshot;

/// A bridge `br7` (10.7.0.1/24) with a veth `app0`, whose other end is eth0 (10.7.0.5/24) of a namespace, as a
/// container engine would make them.
fn stranger(lab: &Lab) -> Netns {
    let inside = Netns::new("app");
    lab.host.ip("link add br7 type bridge");
    lab.host.ip("address add 10.7.0.1/24 dev br7");
    lab.host.ip("link set br7 up");
    lab.host.ip(&format!("link add app0 type veth peer name eth0 netns {}", inside.name));
    lab.host.ip("link set app0 master br7 up");
    inside.ip("address add 10.7.0.5/24 dev eth0");
    inside.ip("link set eth0 up");
    inside.ip("route add default via 10.7.0.1");
    netd_tests::wait_for("the bridge to carry packets", PATIENCE, || {
        lab.host.sh("ip -o link show app0").contains("state UP") && is_quiet(&lab.host) && is_quiet(&inside)
    });
    inside
}

/// Whether no address is tentative any more.
fn is_quiet(netns: &Netns) -> bool {
    !netns.sh("ip -6 -o address show").contains("tentative")
}

fn adopt(lab: &Lab, inside: &Netns, options: &[&str]) -> String {
    lab.netd(&["network", "create", "theirs", "--adopt", "br7"]).ok();
    let path = inside.path();
    let mut words = vec!["--network", "theirs", "--adopt", "app0", "--netns", path.to_str().unwrap()];
    words.extend(options);
    lab.container("app", &words)
}

fn reaches(lab: &Lab, patience: std::time::Duration) -> bool {
    lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), patience)).is_ok()
}

#[test]
fn an_adopted_interface_is_published_and_not_changed() {
    let lab = Lab::new();
    let inside = stranger(&lab);
    let (before, within) = (Snapshot::of(&lab), inside.sh("ip address; ip route"));
    let key = "f".repeat(64);
    let app = adopt(&lab, &inside, &["--key", &key, "-p", "8080:80"]);
    let shown = lab.netd(&["--json", "container", "inspect", &app]).ok().json();
    assert_eq!(shown["key"], key.as_str());
    assert_eq!(shown["addresses"][0]["ip"], "10.7.0.5");
    assert_eq!(shown["interfaces"][0]["adopted"], true);
    assert_eq!(shown["host_interface"], "app0");
    let _server = Server::tcp_echo(&inside.path(), 80);
    assert_eq!(
        lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap(),
        netd_tests::lab::CLIENT
    );
    // A container that netd made is on the same bridge.
    let own = lab.container("own", &["--network", "theirs"]);
    assert_eq!(lab.run_in(&own, || tcp_first_line("10.7.0.5:80", PATIENCE)).unwrap(), lab.address(&own));
    lab.netd(&["container", "rm", &app, &own]).ok();
    assert!(!reaches(&lab, SILENCE));
    lab.netd(&["network", "rm", "theirs"]).ok();
    lab.netd(&["down"]).ok();
    assert_eq!(inside.sh("ip address; ip route"), within);
    Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn down_leaves_adopted_interfaces() {
    let lab = Lab::new();
    let inside = stranger(&lab);
    let before = Snapshot::of(&lab);
    adopt(&lab, &inside, &["-p", "8080:80"]);
    lab.netd(&["down"]).ok();
    Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn a_deleted_adopted_interface_is_removed_with_its_ports() {
    let lab = Lab::new();
    let inside = stranger(&lab);
    adopt(&lab, &inside, &["-p", "8080:80"]);
    lab.host.ip("link delete app0");
    // A new interface with the same name is not the adopted one.
    lab.host.ip(&format!("link add app0 type veth peer name eth0 netns {}", inside.name));
    lab.netd(&["sync"]).ok();
    assert_eq!(lab.netd(&["--json", "container", "ls"]).ok().json(), serde_json::json!([]));
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json(), serde_json::json!([]));
    assert!(lab.host.sh("ip -o link").contains("app0"), "the stranger was removed");
    lab.host.ip("link delete br7");
    lab.netd(&["sync"]).ok();
    let networks = lab.netd(&["--json", "network", "ls"]).ok().json();
    assert!(networks.as_array().unwrap().iter().all(|network| network["name"] != "theirs"), "{networks}");
}

#[test]
fn what_cannot_be_adopted_is_refused() {
    let lab = Lab::new();
    let inside = stranger(&lab);
    lab.netd(&["network", "create", "x", "--adopt", "up0"]).fails(1, "is not a bridge");
    lab.netd(&["network", "create", "x", "--adopt", "nosuch"]).fails(1, "there is no interface nosuch");
    let app = adopt(&lab, &inside, &[]);
    lab.netd(&["network", "create", "x", "--adopt", "br7"]).fails(1, "belongs to network theirs");
    let other = Netns::new("other");
    let path = other.path();
    let words = ["container", "add", "nt-x", "--network", "theirs", "--adopt", "app0", "--netns"];
    let words: Vec<&str> = words.into_iter().chain([path.to_str().unwrap()]).collect();
    lab.netd(&words).fails(1, "eth0");
    other.ip("link add eth0 type veth peer name eth9");
    lab.netd(&words).fails(1, &format!("belongs to container {app}"));
}

#[test]
fn a_container_may_be_on_several_networks() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "back", "--subnet", "10.8.0.0/24"]).ok();
    let web = lab.container("web", &["-p", "8080:80"]);
    let db = lab.container("db", &["--network", "back"]);
    // The container without what traffic changes.
    let inspect = || {
        let mut shown = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
        let fields = shown.as_object_mut().unwrap();
        for counted in ["counters", "ports", "flows"] {
            fields.remove(counted);
        }
        shown
    };
    let before = inspect();
    lab.netd(&["network", "connect", "back", &web, "--interface", "lan", "--ip", "10.8.0.9"]).ok();
    let shown = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
    assert_eq!(shown["interfaces"][1]["name"], "lan");
    assert_eq!(shown["interfaces"][1]["addresses"][0]["ip"], "10.8.0.9");
    assert_eq!(
        shown["interfaces"][1]["addresses"][0]["gateway"],
        serde_json::Value::Null,
        "one default route"
    );
    let _servers = (
        Server::tcp_echo(&netd_tests::netns::sandbox(&db), 5432),
        Server::tcp_echo(&netd_tests::netns::sandbox(&web), 80),
    );
    let to = format!("{}:5432", lab.address(&db));
    assert_eq!(lab.run_in(&web, || tcp_first_line(&to, PATIENCE)).unwrap(), "10.8.0.9");
    assert!(reaches(&lab, PATIENCE));
    lab.netd(&["network", "connect", "back", &web, "--interface", "lan2"])
        .fails(1, "already on network back");
    lab.netd(&["network", "disconnect", "bridge", &web]).fails(1, "is needed by 8080:80/tcp");
    lab.netd(&["network", "rm", "back"]).fails(1, "has containers");
    lab.netd(&["network", "disconnect", "back", &web]).ok();
    lab.netd(&["network", "disconnect", "back", &web]).fails(1, "is not on network back");
    assert_eq!(inspect(), before);
    assert!(reaches(&lab, PATIENCE));
}
