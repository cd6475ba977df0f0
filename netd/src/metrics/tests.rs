//! The text of a report that was made by hand.

use std::sync::Arc;

use expect_test::expect_file;

use super::openmetrics;
use crate::model::Count;
use crate::model::ProgramsVersion;
use crate::model::report::{ContainerFill, Drop, Flows, Follower, InOut, Metrics, Port, TableFill};

fn version(digest: &str) -> ProgramsVersion {
    ProgramsVersion { version: "0.1.0".to_owned(), abi: 4, digest: digest.to_owned(), is_own: true }
}

fn port() -> Port {
    Port {
        packets: InOut { inward: 12_345, out: 23_456 },
        bytes: InOut { inward: 1_234_567, out: 123_456_789 },
        flows: Flows { active: None, total: 1205 },
        dropped: 7,
        ..Port::example()
    }
}

fn fill(table: &'static str, family: &'static str, connections: u64) -> TableFill {
    TableFill { table, family, connections, capacity: 131_072, quota: 104_950 }
}

fn metrics() -> Metrics {
    let range = Port {
        proto: "udp",
        host_ip: Some("2001:db8::1".parse().unwrap()),
        host_port: 30_000,
        host_port_end: 30_099,
        target_port: 30_000,
        target_port_end: 30_099,
        interface: Some("a\"b\\c".to_owned()),
        ..port()
    };
    let remote = Port {
        target: "192.0.2.10".to_owned(),
        target_ip: [192, 0, 2, 10].into(),
        host_port: 9090,
        host_port_end: 9090,
        ..port()
    };
    Metrics {
        build: version("4074adffb64cf111"),
        programs: Some(version("2b34ffbd6cd7")),
        networks: 1,
        containers: 2,
        ports: vec![port(), range, remote],
        tables: vec![fill("established", "ipv4", 12), fill("unreplied", "ipv6", 0)],
        quota_percent: 80,
        quotas: vec![ContainerFill {
            container: "web".to_owned(),
            tables: vec![fill("established", "ipv4", 12)],
        }],
        drops: vec![
            Drop {
                reason: "no_route",
                text: "no route to the destination",
                count: Count { packets: 2, bytes: 148 },
            },
            Drop { reason: "denied", text: "its source may not use the port", count: Count::default() },
        ],
        follower: Some(Follower {
            pid: 4711,
            passes: 12,
            repaired: 1,
            problem: Some("cannot list routes".to_owned()),
            last_pass_unix_ms: Some(1_764_353_517_250),
            lag_ms: 1500,
        }),
    }
}

fn text(metrics: Metrics) -> String {
    let mut text = String::new();
    openmetrics(&Arc::new(metrics), &mut text).unwrap();
    text
}

#[test]
fn the_text_is_as_before() {
    expect_file!["golden/metrics.txt"].assert_eq(&text(metrics()));
}

#[test]
fn an_instance_that_has_nothing_has_metrics_too() {
    let nothing = Metrics {
        networks: 0,
        containers: 0,
        ports: Vec::new(),
        tables: Vec::new(),
        quotas: Vec::new(),
        drops: Vec::new(),
        follower: None,
        ..metrics()
    };
    expect_file!["golden/nothing.txt"].assert_eq(&text(nothing));
}
