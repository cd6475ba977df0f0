//! Which packets change a connection's state, and how a connection is made again whose rows are lost.

use std::collections::BTreeMap;

use netd_common::wire::bytes::Ipv4;
use netd_tests::packet::Packet;

use crate::testbed::{Bench, CLIENT, FAR, HOST, HOST_OUTSIDE, REDIRECT, SHOT, WEB, numbered};

#[test]
fn only_a_credible_reset_or_abort_shortens_the_timeout() {
    let bench = Bench::new();
    let (client, host, web) = ((CLIENT, 40_000), (HOST, 8080), (WEB, 80));
    let phase = |proto: &str| {
        let flows = bench.lab.netd(&["--json", "flows", "--proto", proto]).ok().json();
        flows[0]["state"].as_str().unwrap().to_owned()
    };
    let from_client =
        |flags, numbers| bench.run("uplink_ingress", bench.uplink, numbered(client, host, flags, numbers)).0;
    assert_eq!(from_client("S", [1000, 0]), REDIRECT);
    assert_eq!(bench.container_frame(numbered(web, client, "SA", [5000, 1001])).0, REDIRECT);
    assert_eq!(from_client("A", [1001, 5001]), REDIRECT);
    assert_eq!(phase("tcp"), "established");
    // Far before and far behind what the other side expects: they pass, for the receiver to judge. A SYN touches nothing.
    for sequence in [1, 1000, 1_001_001] {
        for flags in ["R", "F", "FA", "S"] {
            assert_eq!(from_client(flags, [sequence, 5001]), REDIRECT);
            assert_eq!(phase("tcp"), "established", "{flags} by {sequence}");
        }
    }
    assert_eq!(from_client("FA", [1001, 5001]), REDIRECT);
    assert_eq!(phase("tcp"), "fin_wait");
    assert_eq!(from_client("S", [77, 0]), REDIRECT);
    assert_eq!(phase("tcp"), "fin_wait", "one direction goes on");
    assert_eq!(from_client("R", [1001, 0]), REDIRECT);
    assert_eq!(phase("tcp"), "closed");

    let sctp = |chunk, tag: Option<u32>| {
        let mut bytes = Packet::sctp(client, (HOST, 9899), chunk).bytes();
        if let Some(tag) = tag {
            bytes[38..42].copy_from_slice(&tag.to_be_bytes());
        }
        bench.run("uplink_ingress", bench.uplink, bytes).0
    };
    assert_eq!(sctp(1, None), REDIRECT);
    assert_eq!(bench.container(&Packet::sctp((WEB, 9898), client, 2)).0, REDIRECT);
    assert_eq!(sctp(10, Some(78)), REDIRECT);
    assert_eq!(phase("sctp"), "syn_received", "another tag");
    assert_eq!(sctp(10, None), REDIRECT);
    assert_eq!(phase("sctp"), "established");
    // An abort, and the last packet of a shutdown.
    for chunk in [6, 14] {
        assert_eq!(sctp(chunk, Some(78)), REDIRECT);
        assert_eq!(phase("sctp"), "established", "with another tag");
    }
    assert_eq!(sctp(6, None), REDIRECT);
    assert_eq!(phase("sctp"), "closed");
}

#[test]
fn only_the_numbers_of_the_handshake_establish_a_connection() {
    let bench = Bench::new();
    let (client, host, web) = ((CLIENT, 40_000), (HOST, 8080), (WEB, 80));
    let phase = || bench.lab.netd(&["--json", "flows"]).ok().json()[0]["state"].as_str().unwrap().to_owned();
    let from_client =
        |flags, numbers| bench.run("uplink_ingress", bench.uplink, numbered(client, host, flags, numbers)).0;
    assert_eq!(from_client("S", [1000, 0]), REDIRECT);
    assert_eq!(bench.container_frame(numbered(web, client, "SA", [5000, 1001])).0, REDIRECT);
    for acknowledged in [0, 1, 5000, 12345] {
        assert_eq!(from_client("A", [1001, acknowledged]), REDIRECT);
        assert_eq!(phase(), "syn_received", "by {acknowledged}");
    }
    assert_eq!(from_client("A", [1001, 5001]), REDIRECT);
    assert_eq!(phase(), "established");
}

#[test]
fn a_connection_survives_the_loss_of_its_rows() {
    let bench = Bench::new();
    let client = (CLIENT, 40_000);
    let to_web = Packet::tcp(client, (HOST, 8080), "A");
    let to_client = Packet::tcp((WEB, 80), client, "A");
    let translated = |out: &[u8], expected: Packet| {
        assert_eq!(out[14..], Packet { ttl: 63, ..expected }.bytes()[14..]);
    };
    // First a packet of the client, in the middle of the connection; then one of the container.
    for _round in 0..2 {
        let (verdict, out) = bench.uplink(&to_web);
        assert_eq!(verdict, REDIRECT);
        translated(&out, Packet::tcp(client, (WEB, 80), "A"));
        bench.forget_flows();
        let (verdict, out) = bench.container(&to_client);
        assert_eq!(verdict, REDIRECT);
        translated(&out, Packet::tcp((HOST, 8080), client, "A"));
        bench.forget_flows();
    }
    // If only one row is lost, the other one is enough to restore it.
    bench.uplink(&to_web);
    bench.forget(|key| key.src == Ipv4::from_wire(WEB));
    let (verdict, out) = bench.container(&to_client);
    assert_eq!(verdict, REDIRECT);
    translated(&out, Packet::tcp((HOST, 8080), client, "A"));
    // So is a masqueraded one's, as long as its port is free.
    for (own, is_kept) in [(25_000, true), (50_000, false)] {
        let (verdict, out) = bench.container(&Packet::tcp((WEB, own), (FAR, 443), "S"));
        assert_eq!(verdict, REDIRECT);
        let port = u16::from_be_bytes([out[34], out[35]]);
        assert_eq!(port == own, is_kept, "{own} as {port}");
        bench.forget_flows();
        let (verdict, out) = bench.container(&Packet::tcp((WEB, own), (FAR, 443), "A"));
        assert_eq!(verdict, REDIRECT);
        translated(&out, Packet::tcp((HOST_OUTSIDE, port), (FAR, 443), "A"));
    }
}

#[test]
fn an_answer_is_not_guessed_if_one_container_port_has_two_host_ports() {
    let bench = Bench::new();
    let (client, web) = ((CLIENT, 40_000), bench.lab.name("web"));
    let answer = || bench.container(&Packet::tcp((WEB, 80), client, "A"));
    let translated = |(verdict, out): (i32, Vec<u8>), port| {
        assert_eq!(verdict, REDIRECT, "{port}");
        let expected = Packet { ttl: 63, ..Packet::tcp((HOST, port), client, "A") };
        assert_eq!(out[14..], expected.bytes()[14..], "{port}");
    };
    bench.lab.netd(&["publish", "8081:80", &web]).ok();
    for port in [8080, 8081] {
        // The container speaks first after the rows were lost, then the client.
        assert_eq!(answer().0, SHOT, "{port}");
        assert_eq!(bench.uplink(&Packet::tcp(client, (HOST, port), "A")).0, REDIRECT);
        translated(answer(), port);
        bench.forget_flows();
    }
    assert_eq!(bench.drops(), BTreeMap::from([("out_of_state".into(), 2)]));
    // With one left there is no doubt; nor is there if the other is for this host only, or for IPv6.
    bench.lab.netd(&["unpublish", "8080"]).ok();
    translated(answer(), 8081);
    bench.forget_flows();
    bench.lab.netd(&["publish", "127.0.0.1:8082:80", &web]).ok();
    bench.lab.netd(&["publish", "[2001:db8:18::1]:8083:80", &web]).ok();
    translated(answer(), 8081);
}
