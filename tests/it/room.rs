//! Who gets room in the flow tables, and who keeps it.

use std::collections::BTreeMap;

use netd_common::abi::name;
use netd_common::flow::FlowKey;
use netd_common::wire::bytes::Ipv4;
use netd_tests::packet::Packet;
use netd_tests::probe::PATIENCE;
use netd_tests::wait_for;
use serde_json::Value;

use crate::testbed::{Bench, CLIENT, FAR, HOST, OTHER, REDIRECT, SHOT, WEB, interface_of, numbered};

/// Room for this many established connections.
const ROOM: u16 = 1000;

fn bench() -> Bench {
    Bench::with(&["max-connections=1000"])
}

/// The first packet of a client's connection: what becomes of it.
fn opens(bench: &Bench, port: u16) -> i32 {
    bench.run("uplink_ingress", bench.uplink, numbered((CLIENT, port), (HOST, 8080), "S", [1000, 0])).0
}

/// Makes an established connection of a client that has this port.
#[track_caller]
fn establish(bench: &Bench, port: u16) {
    let client = (CLIENT, port);
    assert_eq!(opens(bench, port), REDIRECT, "{port}");
    assert_eq!(bench.container_frame(numbered((WEB, 80), client, "SA", [5000, 1001])).0, REDIRECT);
    let ack = numbered(client, (HOST, 8080), "A", [1001, 5001]);
    assert_eq!(bench.run("uplink_ingress", bench.uplink, ack).0, REDIRECT);
}

/// Resets it.
fn reset(bench: &Bench, port: u16) {
    let reset = numbered((CLIENT, port), (HOST, 8080), "R", [1001, 0]);
    assert_eq!(bench.run("uplink_ingress", bench.uplink, reset).0, REDIRECT);
}

fn all(_key: &FlowKey<Ipv4>) -> bool {
    true
}

/// What a report says of the IPv4 connections of a table.
fn table(report: &Value, table: &str) -> (u64, u64) {
    let tables = report.as_array().unwrap();
    let is_it = |one: &&Value| one["table"] == table && one["family"] == "ipv4";
    let found = tables.iter().find(is_it).unwrap();
    (found["connections"].as_u64().unwrap(), found["quota"].as_u64().unwrap())
}

fn of_container(bench: &Bench, label: &str, of: &str) -> (u64, u64) {
    let inspected = bench.lab.netd(&["--json", "container", "inspect", &bench.lab.name(label)]).ok().json();
    table(&inspected["flows"], of)
}

#[test]
fn a_connection_is_out_of_a_floods_way_as_soon_as_its_handshake_is_complete() {
    let bench = Bench::new();
    establish(&bench, 40_000);
    // It says no more, and no tick has passed.
    assert_eq!(bench.rows(name::FLOWS, all), 2);
    // Clients of nowhere that guess what to acknowledge.
    let web = (WEB, 80);
    for number in 0..100_u16 {
        let client = ([100, 64, 0, 1], 1024 + number);
        let send = |flags, numbers| {
            let packet = numbered(client, (HOST, 8080), flags, numbers);
            assert_eq!(bench.run("uplink_ingress", bench.uplink, packet).0, REDIRECT);
        };
        send("S", [1000, 0]);
        assert_eq!(bench.container_frame(numbered(web, client, "SA", [77_000, 1001])).0, REDIRECT);
        for (flags, acknowledged) in [("A", 12345), ("FA", 77_000), ("F", 0), ("A", 77_002)] {
            send(flags, [1001, acknowledged]);
        }
    }
    bench.flood(100_000, || {});
    assert_eq!(bench.rows(name::FLOWS, all), 2);
    let client = |key: &FlowKey<Ipv4>| key.src == Ipv4::from_wire(CLIENT);
    assert_eq!(bench.rows(name::FLOWS, client), 1, "the one that was established");
}

#[test]
fn a_full_table_refuses_new_connections_and_keeps_those_that_it_has() {
    let bench = bench();
    bench.lab.netd(&["quota", "100%"]).ok();
    (0..ROOM).for_each(|number| establish(&bench, 20_000 + number));
    assert_eq!(opens(&bench, 10_000), SHOT);
    assert_eq!(bench.drops(), BTreeMap::from([("table_full".into(), 1)]));
    assert_eq!(bench.rows(name::FLOWS, all), 2 * usize::from(ROOM));
    let said = bench.lab.netd(&["status"]).ok().stdout;
    assert!(said.contains("all 1000 established ipv4 connections are in use"), "{said}");
    // Datagrams need no room there.
    assert_eq!(bench.uplink(&Packet::udp((CLIENT, 9), (HOST, 5353))).0, REDIRECT);
    // Whoever ends makes room.
    reset(&bench, 20_000);
    assert_eq!(bench.rows(name::FLOWS, all), 2 * usize::from(ROOM) - 2);
    establish(&bench, 10_000);
    assert_eq!(opens(&bench, 10_001), SHOT);
    // So does what nobody has used for too long, once others need it.
    bench.lab.netd(&["timeouts", "established=1s"]).ok();
    wait_for("an idle connection to give way", PATIENCE, || opens(&bench, 10_001) == REDIRECT);
    bench.lab.netd(&["timeouts", "--reset"]).ok();
}

#[test]
fn a_container_gets_no_more_than_its_quota() {
    let bench = bench();
    bench.lab.netd(&["quota", "1%"]).ok();
    let quota = bench.lab.netd(&["--json", "quota"]).ok().json();
    assert_eq!((&quota["percent"], table(&quota["tables"], "established")), (&1.into(), (0, 10)));
    (0..10).for_each(|number| establish(&bench, 20_000 + number));
    assert_eq!(of_container(&bench, "web", "established"), (10, 10));
    assert_eq!(opens(&bench, 10_000), SHOT);
    let own = Packet::tcp((WEB, 30_000), (FAR, 80), "S");
    assert_eq!(bench.container(&own).0, SHOT, "its own connections count as well");
    assert_eq!(bench.drops(), BTreeMap::from([("quota".into(), 2)]));
    // Others have a quota of their own.
    let other = interface_of(&bench.lab, "other");
    let from_other = |packet: Packet| {
        let mut frame = packet.bytes();
        frame[6..12].copy_from_slice(&[2, 0x42, 172, 17, 0, 3]);
        bench.run("container_ingress", other, frame).0
    };
    assert_eq!(from_other(Packet::tcp((OTHER, 30_000), (FAR, 80), "S")), REDIRECT);
    reset(&bench, 20_000);
    assert_eq!(of_container(&bench, "web", "established"), (9, 10));
    establish(&bench, 10_000);
    // A larger quota holds at once.
    assert_eq!(opens(&bench, 10_001), SHOT);
    bench.lab.netd(&["quota", "2%"]).ok();
    assert_eq!(opens(&bench, 10_001), REDIRECT);
}

#[test]
fn one_container_alone_uses_most_of_a_table_and_leaves_room_for_another() {
    let bench = bench();
    (0..800).for_each(|number| establish(&bench, 20_000 + number));
    assert_eq!(opens(&bench, 10_000), SHOT);
    assert_eq!(bench.drops(), BTreeMap::from([("quota".into(), 1)]));
    assert_eq!(of_container(&bench, "web", "established"), (800, 800));
    // What another container may have.
    let quota = bench.lab.netd(&["--json", "quota"]).ok().json();
    assert_eq!((&quota["percent"], table(&quota["tables"], "established")), (&80.into(), (800, 160)));
    // The connections of a container that is gone are not those of the next one in its place.
    let web = bench.lab.name("web");
    bench.lab.netd(&["container", "rm", &web]).ok();
    bench.lab.container("web", &["-p", "8080:80"]);
    assert_eq!(of_container(&bench, "web", "established").0, 0);
    // A client that comes again has both rows of its old one removed.
    assert_eq!(opens(&bench, 20_000), REDIRECT);
    assert_eq!(bench.rows(name::FLOWS, all), 2 * 799);
}

#[test]
fn a_container_that_speaks_to_everybody_pushes_out_nobody_but_itself() {
    let bench = bench();
    // However slow the machine is.
    bench.lab.netd(&["timeouts", "one_way=1h"]).ok();
    let other = interface_of(&bench.lab, "other");
    let mut asked = Packet::udp((OTHER, 30_000), (FAR, 53)).bytes();
    asked[6..12].copy_from_slice(&[2, 0x42, 172, 17, 0, 3]);
    assert_eq!(bench.run("container_ingress", other, asked).0, REDIRECT);
    let of_other = |key: &FlowKey<Ipv4>| key.src == Ipv4::from_wire(OTHER);
    for number in 0..1500_u16 {
        let [high, low] = number.to_be_bytes();
        let to = ([203, 0, 114 + (high >> 6), high & 63], 1024 + u16::from(low));
        assert_eq!(bench.container(&Packet::udp((WEB, 30_000), to)).0, REDIRECT);
    }
    assert_eq!(bench.rows(name::UNREPLIED, of_other), 1, "it waits for its answer");
    let (connections, quota) = of_container(&bench, "web", "unreplied");
    assert!(
        connections > 300 && connections <= quota + 16,
        "{connections} of {quota}: it leaves room to others"
    );
    assert_eq!(of_container(&bench, "other", "unreplied").0, 1);
    assert_eq!(bench.drops(), BTreeMap::new());
}

#[test]
fn a_quota_is_shown_changed_and_kept() {
    let lab = netd_tests::lab::Lab::new();
    let percent = || lab.netd(&["--json", "quota"]).ok().json()["percent"].clone();
    assert_eq!(percent(), 80);
    assert!(!lab.state_dir().exists(), "nothing was changed");
    lab.netd(&["quota", "25%"]).ok();
    assert_eq!(percent(), 25);
    // What is said before anything is loaded holds when it is.
    lab.container("web", &[]);
    let shown = lab.netd(&["quota"]).ok().stdout;
    assert!(shown.starts_with("quota: 25%") && shown.contains("32768"), "{shown}");
    for (wrong, part) in [("0%", "is not a quota"), ("101", "is not a quota"), ("half", "is not a quota")] {
        lab.netd(&["quota", wrong]).fails(2, part);
    }
    assert_eq!(percent(), 25);
}
