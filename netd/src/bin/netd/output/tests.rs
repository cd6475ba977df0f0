//! The JSON of each answer, whose keys programs rely on, and its text. No privilege is needed: the answers are made by hand.

use std::net::IpAddr;

use expect_test::{expect, expect_file};
use netd::Access;
use netd::Count;
use netd::ProgramsVersion;
use netd::report::{Action, Change, ValueChange};
use netd::report::{
    Address, ByFamily, Container, Direction, Drop, Features, Flow, Flows, InOut, Interface, Member, Network,
    Port, Removed, Status, Timeout,
};
use netd::report::{
    Attachment, Difference, Dropped, Fill, Follower, KeptRun, Quota, Repaired, Run, RunStatus, Setting,
    TableFill, Warning,
};
use serde::Serialize;

use super::{AllContainers, Applied, Differences, Failure, FailureBody, Published, Text};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Compares an answer with golden/NAME.json and golden/NAME.txt.
fn check(name: &str, value: &(impl Text + Serialize)) {
    expect_file![format!("golden/{name}.json")]
        .assert_eq(&(serde_json::to_string_pretty(value).unwrap() + "\n"));
    let text = value.text();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    expect_file![format!("golden/{name}.txt")].assert_eq(&text);
}

fn port() -> Port {
    Port {
        proto: "tcp",
        host_ip: None,
        host_port: 8080,
        host_port_end: 8080,
        target: "web".to_owned(),
        target_ip: ip("172.17.0.2"),
        target_port: 80,
        target_port_end: 80,
        access: Access::default(),
        interface: None,
        keep_source: false,
        draining: false,
        packets: InOut { inward: 12_345, out: 23_456 },
        bytes: InOut { inward: 1_234_567, out: 123_456_789 },
        flows: Flows { active: None, total: 1205 },
        dropped: 7,
    }
}

fn fill(table: &'static str, connections: u64) -> TableFill {
    TableFill { table, family: "ipv4", connections, capacity: 131_072, quota: 104_950 }
}

fn restricted() -> Port {
    let access = Access::new(vec!["192.0.2.0/24".parse().unwrap()], vec!["192.0.2.13".parse().unwrap()]);
    Port {
        host_ip: None,
        interface: Some("eth0".to_owned()),
        target: "192.0.2.10".to_owned(),
        access: access.unwrap(),
        draining: true,
        ..port()
    }
}

#[test]
fn published_ports() {
    check("ports", &vec![port()]);
    check("ports_active", &vec![Port { flows: Flows { active: Some(3), total: 1205 }, ..port() }]);
    check("ports_restricted", &vec![restricted(), port()]);
    expect![[r"
        *:8080->80/tcp web
        *%eth0:8080->80/tcp 192.0.2.10
    "]]
    .assert_eq(&Published(vec![port(), restricted()]).text());
}

#[test]
fn what_was_applied() {
    let value = |what: &str, from: Option<&str>, to: Option<&str>| ValueChange {
        what: what.to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    let change = |action, object, name: &str, differences| Change {
        action,
        object,
        name: name.to_owned(),
        differences,
    };
    let long = "192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24";
    let changes = vec![
        change(Action::Change, "setting", "quota", vec![value("value", Some("80%"), Some("50%"))]),
        change(Action::Remove, "network", "old", Vec::new()),
        change(Action::Add, "container", "shop", vec![value("network", None, Some("web"))]),
        change(
            Action::Change,
            "publish",
            "8080:80/tcp",
            vec![value("allow", Some(long), None), value("to", Some("web"), Some("shop"))],
        ),
    ];
    check("applied", &Applied { changes, dry_run: false });
    check("applied_nothing", &Applied { changes: Vec::new(), dry_run: true });
}

#[test]
fn access_lists() {
    check("access", &restricted().access);
    expect![[r"
        everybody is allowed
    "]]
    .assert_eq(&Access::default().text());
}

#[test]
fn connections() {
    let direction = |src: &str, src_port, dst: &str, dst_port, packets| Direction {
        src: ip(src),
        src_port,
        dst: ip(dst),
        dst_port,
        packets,
        bytes: packets * 100,
    };
    let flow = Flow {
        proto: "tcp".to_owned(),
        state: "established",
        idle_ms: 1500,
        container: "web".to_owned(),
        publication: Some("8080:80/tcp".to_owned()),
        original: direction("198.51.100.207", 49_152, "203.0.113.101", 8080, 12_345),
        reply: direction("172.17.0.2", 80, "198.51.100.207", 49_152, 9),
    };
    check("flows", &vec![flow]);
}

#[test]
fn timeouts() {
    let timeout = Timeout {
        state: "one_way",
        seconds: 30,
        default_seconds: 120,
        source: "RFC 4787 REQ-5: 2 min at least",
    };
    check("timeouts", &vec![timeout]);
}

#[test]
fn quota() {
    check("quota", &Quota { percent: 80, tables: vec![fill("established", 12)] });
}

#[test]
fn a_dropped_packet() {
    let dropped = Dropped {
        reason: "direct_access",
        src: ip("198.51.100.7"),
        src_port: 49_152,
        dst: ip("172.17.0.2"),
        dst_port: 80,
        protocol: 6,
        bytes: 74,
        interface: 2,
    };
    check("log", &dropped);
}

fn network<T>(containers: T) -> Network<T> {
    Network {
        name: "backend".to_owned(),
        driver: "bridge",
        bridge: Some("br-backend".to_owned()),
        subnets: vec!["172.18.0.0/16".to_owned(), "fdca:f081:395e::/64".to_owned()],
        gateways: vec![ip("172.18.0.1"), ip("fdca:f081:395e::1")],
        mtu: Some(1500),
        unmanaged: false,
        internal: false,
        icc: true,
        masquerade: true,
        gateway_mode: ByFamily { ipv4: Some("nat"), ipv6: Some("nat") },
        trusted_interfaces: vec!["eth1".to_owned()],
        containers,
    }
}

#[test]
fn networks() {
    let member = Member {
        name: "web".to_owned(),
        addresses: vec!["172.18.0.2/16".to_owned()],
        mac: Some("02:42:ac:12:00:02".to_owned()),
    };
    check("networks", &vec![network(1)]);
    check("network", &network(vec![member]));
}

#[test]
fn containers() {
    let address = Address { ip: ip("172.17.0.2"), prefix_len: 16, gateway: Some(ip("172.17.0.1")) };
    let interface = Interface {
        name: "eth0".to_owned(),
        network: "bridge".to_owned(),
        host_interface: "veth93758db4".to_owned(),
        mac: "02:42:ac:11:00:02".to_owned(),
        mtu: 1500,
        addresses: vec![address.clone()],
        allowed_addresses: Vec::new(),
        adopted: false,
    };
    let container = Container {
        name: "web".to_owned(),
        network: "bridge".to_owned(),
        key: None,
        sandbox: "/run/netns/web".to_owned(),
        interface: Some("eth0".to_owned()),
        host_interface: Some("veth93758db4".to_owned()),
        mac: Some("02:42:ac:11:00:02".to_owned()),
        mtu: Some(1500),
        addresses: vec![address],
        interfaces: vec![interface],
        ports: vec![port(), port(), port()],
        flows: vec![fill("established", 12), fill("unreplied", 0)],
        counters: InOut { inward: Count { packets: 4, bytes: 624 }, out: Count { packets: 3, bytes: 304 } },
    };
    let brief = Container { ports: Vec::new(), ..container.clone() };
    check("containers", &vec![container.clone()]);
    check("container", &brief);
}

fn kept(exit_status: Option<u8>, signal: Option<&str>) -> KeptRun {
    let run = Run {
        status: RunStatus::Ended,
        command: ["sh", "-c", "it's done\n"].map(str::to_owned).to_vec(),
        started: "2026-01-31T12:00:00.5Z".parse().unwrap(),
        ended: exit_status.map(|_known| "2026-01-31T13:00:00Z".parse().unwrap()),
        exit_status,
        signal: signal.map(str::to_owned),
        problem: None,
        dropped_bytes: 0,
        log: "/var/log/netd/1-4074adffb64cf111/web".to_owned(),
    };
    KeptRun { name: "web".to_owned(), run }
}

#[test]
fn ended_runs() {
    let mut lossy = kept(Some(137), Some("SIGKILL"));
    lossy.run.problem = Some("cannot remove network namespace /run/netns/web".to_owned());
    lossy.run.dropped_bytes = 12_345;
    lossy.run.command.push("x".repeat(100));
    check("run", &kept(Some(3), None));
    let all = vec![kept(Some(0), None), kept(None, None), lossy.clone()];
    check("all_containers", &AllContainers { containers: Vec::new(), ended: all });
    lossy.run.command.truncate(1);
    check("run_problem", &lossy);
    expect![[r"
        name:        web
        status:      ended with its supervisor, which was killed
        command:     sh -c 'it'\''s done\n'
        started:     2026-01-31T12:00:00Z
        ended:       -
        exit status: -
        output:      netd logs web
    "]]
    .assert_eq(&kept(None, None).text());
}

#[test]
fn status() {
    let program = Attachment {
        program: "container_ingress".to_owned(),
        on: "veth93758db4".to_owned(),
        hook: "tcx ingress",
        attached: true,
    };
    let status = Status {
        instance: "2572-4074adffb64cf111".to_owned(),
        state_dir: "/run/netd".to_owned(),
        pins: Some("/sys/fs/bpf/netd/2572-4074adffb64cf111".to_owned()),
        version: Some(ProgramsVersion {
            version: "0.1.0".to_owned(),
            abi: 4,
            digest: "2b34ffbd6cd7".repeat(5) + "2b34",
            is_own: true,
        }),
        networks: 1,
        containers: 2,
        publications: 3,
        xdp: "auto",
        programs: vec![program],
        flows: Some(Fill {
            rows: 10,
            capacity: 425_984,
            max_connections: 131_072,
            tables: vec![fill("established", 12)],
        }),
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
        features: Features {
            kernel: "6.18.0".to_owned(),
            tcx: true,
            cgroup2: Some("/sys/fs/cgroup".to_owned()),
            btf: true,
        },
        warnings: vec![Warning::NotAttached { program: "uplink_ingress".to_owned(), on: "eth0".to_owned() }],
    };
    check("status", &status);
}

#[test]
fn settings() {
    let setting = |name, value: &str, source| Setting {
        name,
        value: value.to_owned(),
        default: "auto".to_owned(),
        source,
    };
    check(
        "settings",
        &vec![setting("uplinks", "eth0,eth1", "set"), setting("max-connections", "auto", "default")],
    );
}

#[test]
fn differences() {
    let gone = Difference::BridgeGone { network: "web".into(), bridge: "br-web".into(), adopted: false };
    let lost = Difference::NamespaceGone { container: "db".into(), path: "/run/netns/db".into() };
    check("differences", &Differences(vec![gone.clone(), lost.clone()]));
    check("no-differences", &Differences(Vec::new()));
    check("repaired", &Repaired { repaired: vec![gone], left: vec![lost] });
}

#[test]
fn what_was_removed() {
    check("removed", &Removed { removed: vec!["container web".to_owned()] });
}

#[test]
fn failures() {
    let error = FailureBody {
        kind: "not_found".to_owned(),
        message: "there is no container web".to_owned(),
        hint: Some("'netd container ls' lists the containers".to_owned()),
    };
    expect![[r#"
        {
          "error": {
            "kind": "not_found",
            "message": "there is no container web",
            "hint": "'netd container ls' lists the containers"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&Failure { error }).unwrap());
}
