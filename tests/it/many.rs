//! Many ports in one command, and one port among many.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use netd_tests::lab::{HOST, Lab, OUTSIDE, Said};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line};
use netd_tests::snapshot::Snapshot;

/// Every second host port from 10,001 on, each to another target port: no two of them form a range.
fn singles(count: u16) -> String {
    let lines =
        (0..count).map(|number| (10_001 + 2 * number, if number == 0 { 80 } else { 20_000 + number }));
    lines.fold(String::new(), |mut all, (host, port)| {
        writeln!(all, "{host}:{port}").unwrap();
        all
    })
}

/// Runs netd with this standard input.
fn fed(lab: &Lab, words: &[&str], input: &str) -> Said {
    let mut child = lab
        .netd_command(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Said::of(&child.wait_with_output().unwrap(), words)
}

fn published(lab: &Lab) -> usize {
    lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len()
}

fn greets(lab: &Lab, port: u16, patience: Duration) -> bool {
    lab.client.run(|| tcp_first_line(&format!("{HOST}:{port}"), patience)).is_ok()
}

#[test]
fn one_command_publishes_several_ports_or_none() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let said = lab.netd(&["publish", "8080:80", "8081:80", "5353:53/udp", &web]).ok();
    assert_eq!(said.stdout.lines().count(), 3, "{}", said.stdout);
    assert!(greets(&lab, 8080, PATIENCE) && greets(&lab, 8081, PATIENCE));
    let before = Snapshot::of(&lab);
    for (specs, part) in [
        (["8082:80", "8081:81"], "port 8081:81/tcp is in use: published to"),
        (["8082:80", "8082:81"], "port 8082:81/tcp is in use: published to"),
        (["8082:80", "203.0.113.9:8083:80"], "203.0.113.9 is not an address of this host"),
    ] {
        lab.netd(&["publish", specs[0], specs[1], &web]).fails(1, part);
    }
    lab.netd(&["unpublish", "8080", "8082"]).fails(1, "8082/tcp is not published");
    assert_eq!(published(&lab), 3);
    Snapshot::of(&lab).assert_same_as(&before);
    lab.netd(&["unpublish", "8080", "5353/udp"]).ok();
    assert!(!greets(&lab, 8080, SILENCE) && greets(&lab, 8081, PATIENCE));
}

#[test]
fn several_ports_are_replaced_by_one_command() {
    let lab = Lab::new();
    let (blue, green) = (lab.container("blue", &[]), lab.container("green", &[]));
    let _server = Server::tcp_echo(&sandbox(&green), 80);
    lab.netd(&["publish", "8080:80", "8081:80", "8083:80", &blue]).ok();
    lab.netd(&["publish", "--replace", "8080:80", "8080:81", &green]).fails(1, "8080");
    lab.netd(&["publish", "--replace", "8080:80", "8081:80", "8082:80", &green]).ok();
    for port in 8080..8083 {
        assert!(greets(&lab, port, PATIENCE), "{port}");
    }
    // The next changing command removes publications that have no connections left.
    lab.netd(&["sync"]).ok();
    let ports = lab.netd(&["--json", "ports"]).ok().json();
    let of = |name: &str| ports.as_array().unwrap().iter().filter(|port| port["target"] == name).count();
    assert_eq!((of(&blue), of(&green)), (1, 3), "{ports}");
}

#[test]
fn ports_are_published_and_unpublished_from_a_file() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let file = lab.folder.path().join("ports");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "# the shop\n8080:80 8081:80\n\n8443:443/udp # its datagrams\n").unwrap();
    let said = lab.netd(&["--json", "publish", "--from", path, "8082:80", &web]).ok().json();
    let ports: BTreeSet<u64> =
        said.as_array().unwrap().iter().map(|port| port["host_port"].as_u64().unwrap()).collect();
    assert_eq!(ports, BTreeSet::from([8080, 8081, 8082, 8443]));
    assert!(greets(&lab, 8081, PATIENCE));
    lab.netd(&["unpublish", "--from", path]).ok();
    assert_eq!(published(&lab), 1);
    for (text, part) in [
        ("8090:80\n8091:\n", "line 2 of"),
        ("\n\n8091:99999 8092:80", "'99999' is not a port"),
        ("# nothing\n", "there is no port in"),
    ] {
        std::fs::write(&file, text).unwrap();
        lab.netd(&["publish", "--from", path, &web]).fails(1, part);
    }
    lab.netd(&["publish", "--from", "/nowhere/to/be/found", &web]).fails(1, "/nowhere/to/be/found");
    assert_eq!(published(&lab), 1);
    fed(&lab, &["publish", "--from", "-", &web], "8080:80").ok();
    assert!(greets(&lab, 8080, PATIENCE));
    fed(&lab, &["publish", "--from", "-", &web], "8090:80 x").fails(1, "line 1 of standard input");
}

#[test]
fn ports_of_another_host_are_added_and_removed_one_by_one() {
    let lab = Lab::new();
    let _server = Server::tcp_echo(&lab.outside.path(), 80);
    lab.netd(&["publish", "8080:80", "8081:80", OUTSIDE]).ok();
    lab.netd(&["publish", "8082:80", OUTSIDE]).ok();
    for port in 8080..8083 {
        assert!(greets(&lab, port, PATIENCE), "{port}");
        lab.netd(&["unpublish", &port.to_string()]).ok();
        assert!(!greets(&lab, port, SILENCE), "{port}");
    }
}

#[test]
fn ten_thousand_ports_are_published_and_unpublished_at_once() {
    const COUNT: u16 = 10_000;
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let before = Snapshot::of(&lab);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let lines = singles(COUNT);
    for _twice in 0..2 {
        let start = Instant::now();
        fed(&lab, &["publish", "--from", "-", &web], &lines).ok();
        // For a fifth of these ports, iptables takes a minute if they are published one by one. The limit shows whether
        // netd still publishes all of them at once.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(greets(&lab, 10_001, PATIENCE));
        assert_eq!(published(&lab), usize::from(COUNT));
        lab.netd(&["publish", "29999:1", &web]).fails(1, "port 29999:1/tcp is in use");
        let start = Instant::now();
        fed(&lab, &["unpublish", "--from", "-"], &lines).ok();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!greets(&lab, 10_001, SILENCE));
        assert_eq!(published(&lab), 0);
    }
    Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn one_port_among_fifty_thousand_is_as_quick_as_the_first() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    // Other work on this machine makes single commands slow; the fastest one shows the cost.
    let fastest = || {
        let once = |_| {
            let start = Instant::now();
            lab.netd(&["publish", "80:80", &web]).ok();
            let published = start.elapsed();
            let start = Instant::now();
            lab.netd(&["unpublish", "80"]).ok();
            published.max(start.elapsed())
        };
        (0..10).map(once).min().unwrap()
    };
    let alone = fastest();
    let lines = (10_001..60_001_u32).fold(String::new(), |mut all, port| {
        writeln!(all, "{port}:{}", port % 60_000 + 1).unwrap();
        all
    });
    fed(&lab, &["publish", "--from", "-", &web], &lines).ok();
    let among = fastest();
    // Tolerance for a busy machine.
    let limit = 2 * alone + Duration::from_millis(150);
    assert!(among < limit, "{among:?} among 50,000, {alone:?} alone");
    assert_eq!(published(&lab), 50_000);
    lab.netd(&["unpublish", "--container", &web]).ok();
    assert_eq!(published(&lab), 0);
}

#[test]
fn a_killed_command_publishes_all_ports_or_none() {
    const COUNT: u16 = 2_000;
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "80:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let file = lab.folder.path().join("ports");
    std::fs::write(&file, singles(COUNT)).unwrap();
    let path = file.to_str().unwrap();
    let (all, none) = (usize::from(COUNT) + 1, 1);
    for words in [vec!["publish", "--from", path, &*web], vec!["unpublish", "--from", path]] {
        let mut seen = BTreeSet::new();
        for step in 0..40 {
            lab.netd_killed(&words, Duration::from_micros(600 * step));
            lab.netd(&["sync"]).ok();
            let left = published(&lab);
            assert!([all, none].contains(&left), "{words:?} {step}: {left}");
            assert!(greets(&lab, 80, PATIENCE));
            assert_eq!(greets(&lab, 10_001, if left == all { PATIENCE } else { SILENCE / 8 }), left == all);
            seen.insert(left);
            // Restores everything for the next try.
            if words[0] == "publish" && left == all {
                lab.netd(&["unpublish", "--from", path]).ok();
            } else if words[0] == "unpublish" && left == none {
                lab.netd(&["publish", "--from", path, &web]).ok();
            }
        }
        if words[0] == "publish" && published(&lab) == none {
            lab.netd(&["publish", "--from", path, &web]).ok();
        }
        assert!(seen.contains(&if words[0] == "publish" { none } else { all }), "{seen:?}");
    }
}

/// Runs many `ip` commands in the host at once.
fn ip_batch(lab: &Lab, lines: &str) {
    let path = lab.folder.path().join("batch");
    std::fs::write(&path, lines).unwrap();
    lab.host.sh(&format!("ip -batch {}", path.display()));
}

#[test]
fn a_host_may_have_more_addresses_and_uplinks_than_the_tables_have_room_for() {
    const PAIRS: u32 = 600;
    let lab = Lab::new();
    let mut lines = String::new();
    for number in 0..4_200_u32 {
        writeln!(lines, "address add 10.100.{}.{}/32 dev up0", number / 200, number % 200 + 1).unwrap();
    }
    for number in 0..PAIRS {
        writeln!(lines, "link add m{number}a type veth peer name m{number}b").unwrap();
        for (end, second) in [("a", 101), ("b", 102)] {
            let (third, fourth) = (number / 200, number % 200 + 1);
            writeln!(lines, "address add 10.{second}.{third}.{fourth}/32 dev m{number}{end}").unwrap();
            writeln!(lines, "link set m{number}{end} up").unwrap();
            writeln!(lines, "route add 10.{}.{third}.{fourth}/32 dev m{number}{end}", second + 10).unwrap();
        }
    }
    ip_batch(&lab, &lines);
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    // The uplink with the default route is among those that are served.
    let _outside = lab.outside.run(|| tcp_first_line("198.19.0.1:8080", PATIENCE)).unwrap();
    lab.client.ip("route add 10.100.20.200/32 via 198.18.0.1");
    lab.client.run(|| tcp_first_line("10.100.20.200:8080", PATIENCE)).unwrap();
    let status = lab.netd(&["--json", "status"]).ok().json();
    let said: Vec<&str> =
        status["warnings"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    let expected = format!("the host has {} uplinks, and netd takes the first 1024", 2 * PAIRS + 2);
    assert!(said.iter().any(|one| one.starts_with(&expected)), "{said:?}");
    lab.netd(&["check"]).ok();
    lab.netd(&["container", "rm", &web]).ok();
}
