//! The process that follows the host: changes take effect without a command.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;

use netd_tests::lab::{HOST, Lab, OUTSIDE};
use netd_tests::netns::{Process, sandbox};
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_on};
use netd_tests::snapshot::Snapshot;
use netd_tests::wait_for;
use nix::sys::signal::Signal;
use serde_json::Value;

/// The follower as `netd status` shows it; null if there is none.
fn follower(lab: &Lab) -> Value {
    lab.netd(&["--json", "status"]).ok().json()["follower"].clone()
}

/// Its process, once it is at work.
#[track_caller]
fn pid(lab: &Lab) -> i64 {
    let mut pid = 0;
    wait_for("the follower", PATIENCE, || {
        let follower = follower(lab);
        pid = follower["pid"].as_i64().unwrap_or(0);
        follower["passes"].as_u64() > Some(0)
    });
    pid
}

/// A lab whose commands start a follower.
fn followed() -> Lab {
    let mut lab = Lab::new();
    lab.follows = true;
    lab
}

/// The host's end of a container's veth pair.
fn host_end(lab: &Lab, container: &str) -> String {
    let shown = lab.netd(&["--json", "container", "inspect", container]).ok().json();
    shown["host_interface"].as_str().unwrap().to_owned()
}

/// Whether the client reaches the published port.
fn is_served(lab: &Lab) -> bool {
    lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), SILENCE)).is_ok()
}

/// Whether nothing differs from the records.
fn is_whole(lab: &Lab) -> bool {
    lab.netd(&["check"]).status.success()
}

/// What somebody does to the host.
type Harm = fn(&Lab, &str);

const HARMS: [(&str, Harm); 11] = [
    ("all forwarding switched off", |lab, _| {
        lab.host.sh("sysctl -qw net.ipv4.ip_forward=1 && sysctl -qw net.ipv4.ip_forward=0");
    }),
    ("the bridge's forwarding switched off", |lab, _| {
        lab.host.sh("sysctl -qw net.ipv4.conf.netd0.forwarding=0 net.ipv6.conf.netd0.forwarding=0");
    }),
    ("the bridge's address removed", |lab, _| drop(lab.host.ip("address flush dev netd0"))),
    ("the port taken off the bridge", |lab, veth| drop(lab.host.ip(&format!("link set {veth} nomaster")))),
    ("the port set down", |lab, veth| drop(lab.host.ip(&format!("link set {veth} down")))),
    ("the bridge set down", |lab, _| drop(lab.host.ip("link set netd0 down"))),
    ("the bridge deleted", |lab, _| drop(lab.host.ip("link delete netd0"))),
    ("the veth pair deleted", |lab, veth| drop(lab.host.ip(&format!("link delete {veth}")))),
    ("a container's program taken off", |lab, veth| unpin(lab, "container-", veth)),
    ("an uplink's program taken off", |lab, _| unpin(lab, "uplink-", "up0")),
    ("all pins deleted", |lab, _| fs::remove_dir_all(lab.pins()).unwrap()),
];

/// Removes the pin of an interface's program, which takes the program off.
fn unpin(lab: &Lab, prefix: &str, interface: &str) {
    let links = lab.pins().join("links");
    let is_it = |name: &str| name.starts_with(prefix) && name.ends_with(interface);
    let all = fs::read_dir(&links).unwrap().map(|entry| entry.unwrap().path());
    let pins: Vec<_> = all.filter(|path| is_it(path.file_name().unwrap().to_str().unwrap())).collect();
    assert_eq!(pins.len(), 1, "{pins:?}");
    fs::remove_file(&pins[0]).unwrap();
}

#[test]
fn what_somebody_breaks_is_put_right_without_a_command() {
    let lab = followed();
    let web = lab.container("web", &["-p", "8080:80"]);
    let veth = host_end(&lab, &web);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    wait_for("service", PATIENCE, || is_served(&lab));
    assert!(is_whole(&lab));
    for (harm, act) in HARMS {
        let before = follower(&lab)["passes"].as_u64().unwrap();
        act(&lab, &veth);
        wait_for(&format!("a look after {harm}"), PATIENCE, || {
            follower(&lab)["passes"].as_u64() > Some(before)
        });
        wait_for(&format!("service after {harm}"), PATIENCE, || is_served(&lab));
        wait_for(&format!("the records' state after {harm}"), PATIENCE, || is_whole(&lab));
    }
    assert!(follower(&lab)["repaired"].as_u64() >= Some(HARMS.len() as u64 - 2), "{}", follower(&lab));
}

/// Sends datagrams from one socket of a container until a server sees them come from this address.
#[track_caller]
fn is_seen_from(asker: &UdpSocket, to: &str, server: &UdpSocket, address: &str) {
    server.set_read_timeout(Some(SILENCE)).unwrap();
    wait_for(&format!("datagrams from {address}"), PATIENCE, || {
        // A host without a route says so to the sender.
        let _refused = asker.send_to(b"x", to);
        server.recv_from(&mut [0; 8]).is_ok_and(|(_, from)| from.ip().to_canonical().to_string() == address)
    });
}

#[test]
fn running_exchanges_get_the_new_address_of_their_uplink() {
    let lab = followed();
    let web = lab.container("web", &[]);
    let server = lab.outside.run(|| udp_on(7000));
    let (asker, to) = (lab.run_in(&web, || udp_on(0)), format!("{OUTSIDE}:7000"));
    is_seen_from(&asker, &to, &server, "198.19.0.1");
    lab.host.ip("address delete 198.19.0.1/24 dev up1");
    lab.host.ip("address add 198.19.0.77/24 dev up1");
    lab.host.ip("route replace default via 198.19.0.2");
    is_seen_from(&asker, &to, &server, "198.19.0.77");
}

#[test]
fn running_exchanges_get_the_address_of_the_uplink_that_they_move_to() {
    // An address that both neighbours have.
    const BOTH: &str = "192.0.2.53";
    let lab = followed();
    let web = lab.container("web", &[]);
    lab.client.ip(&format!("address add {BOTH}/32 dev lo"));
    lab.outside.ip(&format!("address add {BOTH}/32 dev lo"));
    let (client, outside) = (lab.client.run(|| udp_on(7000)), lab.outside.run(|| udp_on(7000)));
    let (asker, to) = (lab.run_in(&web, || udp_on(0)), format!("{BOTH}:7000"));
    is_seen_from(&asker, &to, &outside, "198.19.0.1");
    let listener = lab.outside.run(|| TcpListener::bind((BOTH, 80)).unwrap());
    let _other = lab.client.run(|| TcpListener::bind((BOTH, 80)).unwrap());
    let mut stream = lab.run_in(&web, || TcpStream::connect((BOTH, 80)).unwrap());
    let _accepted = listener.accept().unwrap();
    lab.host.ip("route replace default via 198.18.0.2");
    is_seen_from(&asker, &to, &client, HOST);
    // A connection has no use for another address: it ends with an error.
    wait_for("the end of the connection", PATIENCE, || stream.write_all(b"x").is_err());
}

#[test]
fn an_uplink_that_comes_later_is_used_without_a_command() {
    let lab = followed();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    for _time in 0..2 {
        lab.host.ip(&format!("link add up2 type veth peer name eth2 netns {}", lab.client.name));
        lab.host.ip("address add 198.20.0.1/24 dev up2");
        lab.host.ip("link set up2 up");
        lab.client.ip("address add 198.20.0.2/24 dev eth2");
        lab.client.ip("link set eth2 up");
        wait_for("service by the new uplink", PATIENCE, || {
            lab.client.run(|| tcp_first_line("198.20.0.1:8080", SILENCE)).is_ok()
        });
        lab.host.ip("link delete up2");
    }
}

#[test]
fn the_follower_ends_with_the_last_thing_and_leaves_nothing() {
    let lab = followed();
    let before = Snapshot::of(&lab);
    lab.container("web", &["-p", "8080:80"]);
    let pid = pid(&lab);
    // It has its own session, and no terminal or pipe of the caller's.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session: i64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap().parse().unwrap();
    assert_eq!(session, pid);
    for number in 0..3 {
        let file = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        assert_eq!(file, Path::new("/dev/null"));
    }
    lab.netd(&["down"]).ok();
    wait_for("the end of the follower", PATIENCE, || has_ended(pid));
    Snapshot::of(&lab).assert_same_as(&before);
    assert!(!lab.state_dir().exists(), "{:?}", lab.state_dir());
}

/// Whether a process has ended. Its parent may not have asked for that.
fn has_ended(pid: i64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn there_is_one_follower_and_a_killed_one_is_replaced() {
    let lab = followed();
    lab.container("web", &[]);
    let first = pid(&lab);
    lab.container("db", &[]);
    assert_eq!(pid(&lab), first);
    lab.netd(&["serve", "--background"]).ok();
    assert_eq!(pid(&lab), first);
    let kill = std::process::Command::new("kill").args(["-9", &first.to_string()]).status().unwrap();
    assert!(kill.success());
    wait_for("the end of the follower", PATIENCE, || follower(&lab) == Value::Null);
    // What only shows something starts nothing.
    lab.netd(&["ports"]).ok();
    assert_eq!(follower(&lab), Value::Null);
    lab.netd(&["--no-serve", "sync"]).ok();
    assert_eq!(follower(&lab), Value::Null);
    lab.netd(&["sync"]).ok();
    wait_for("the next follower", PATIENCE, || follower(&lab) != Value::Null);
    let second = pid(&lab);
    assert_ne!(second, first);
    let kill = std::process::Command::new("kill").args(["-9", &second.to_string()]).status().unwrap();
    assert!(kill.success());
    wait_for("the end of the second follower", PATIENCE, || follower(&lab) == Value::Null);
    lab.netd(&["down"]).ok();
    assert!(!lab.state_dir().exists(), "the mark of a killed one goes with the rest");
}

#[test]
fn a_follower_in_the_foreground_stays_until_a_signal() {
    let lab = Lab::new();
    let mut command = lab.netd_command(&["serve"]);
    let mut serve = Process::new(command.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("the follower", PATIENCE, || follower(&lab) != Value::Null);
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    lab.host.ip("link delete netd0");
    wait_for("service", PATIENCE, || is_served(&lab));
    lab.netd(&["down"]).ok();
    assert_ne!(follower(&lab), Value::Null);
    serve.signal(Signal::SIGTERM);
    assert!(serve.wait().success());
    assert_eq!(follower(&lab), Value::Null);
    assert!(!lab.state_dir().exists(), "its mark goes with it");
}

#[test]
fn one_that_stays_takes_the_place_of_one_that_a_command_has_started() {
    let lab = followed();
    lab.container("web", &[]);
    let first = pid(&lab);
    let mut command = lab.netd_command(&["serve"]);
    let mut serve = Process::new(command.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("the end of the first follower", PATIENCE, || has_ended(first));
    assert_ne!(pid(&lab), first);
    assert_eq!(pid(&lab), i64::from(serve.pid()));
    lab.netd(&["serve"]).fails(1, "another 'netd serve' follows this host already");
    serve.signal(Signal::SIGTERM);
    assert!(serve.wait().success());
    lab.netd(&["sync"]).ok();
    wait_for("a follower of a command", PATIENCE, || follower(&lab) != Value::Null);
}

#[test]
fn the_follower_does_not_keep_a_namespace_alive_that_nobody_else_uses() {
    let lab = followed();
    let other = netd_tests::netns::Netns::new("gone");
    let state_dir = lab.folder.path().join("other");
    lab.netd_in(&other, &state_dir, &["network", "create", "n"]).ok();
    let mut pid = 0;
    wait_for("the follower", PATIENCE, || {
        let status = lab.netd_in(&other, &state_dir, &["--json", "status"]).ok().json();
        pid = status["follower"]["pid"].as_i64().unwrap_or(0);
        pid > 0
    });
    drop(other);
    wait_for("the end of the follower", PATIENCE, || has_ended(pid));
    lab.netd_in(&lab.host, &state_dir, &["down", "--all"]).ok();
}

#[test]
fn what_has_drained_is_removed_without_a_command() {
    let lab = followed();
    let old = lab.container("old", &["-p", "8080:80"]);
    let new = lab.container("new", &[]);
    let _servers = [&old, &new].map(|name| Server::tcp_echo(&sandbox(name), 80));
    let stream = lab.client.run(|| TcpStream::connect(format!("{HOST}:8080")).unwrap());
    lab.netd(&["publish", "--replace", "8080:80", &new]).ok();
    let draining = || {
        let ports = lab.netd(&["--json", "ports"]).ok().json();
        ports.as_array().unwrap().iter().filter(|port| port["draining"] == true).count()
    };
    assert_eq!(draining(), 1);
    drop(stream);
    wait_for("the end of what drains", PATIENCE, || draining() == 0);
}

#[test]
fn a_service_manager_hears_of_the_start_the_life_and_the_end() {
    let lab = Lab::new();
    lab.container("web", &[]);
    let path = lab.folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = lab.netd_command(&["serve"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut serve = Process::new(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let hears = |what: &str| {
        let mut buffer = [0; 512];
        wait_for(what, PATIENCE, || {
            let len = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..len]).lines().any(|line| line == what)
        });
    };
    hears("READY=1");
    for _time in 0..3 {
        hears("WATCHDOG=1");
    }
    serve.signal(Signal::SIGTERM);
    hears("STOPPING=1");
    assert!(serve.wait().success());
}

#[test]
fn a_follower_whose_mark_was_removed_gives_way_to_another_one() {
    let lab = followed();
    lab.container("web", &[]);
    let first = pid(&lab);
    let marks = fs::read_dir(lab.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let mark = marks.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "serve")).unwrap();
    fs::remove_file(mark).unwrap();
    wait_for("the end of the first follower", PATIENCE, || has_ended(first));
    lab.netd(&["sync"]).ok();
    assert_ne!(pid(&lab), first);
}
