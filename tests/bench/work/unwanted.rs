//! Unwanted packets: from a denied source, and to an unpublished port.

use std::process::Stdio;

use netd_tests::netns::Process;
use netd_tests::report::{Bar, Better, Comparison, Table};

use super::{Effort, Outcome, fill};
use crate::ground::{Contender, Ground, HOST, SMALL, Terms};
use crate::live::{self, Counter, Dropper, Generator, TRIES};
use crate::rounds::{Cell, progress};

/// The flows' addresses.
const DENIED: &str = "198.18.64.0/18";
/// An unpublished port of the host.
const NOBODYS: u16 = 60_100;

/// A contender that drops packets, and how its drop counter is read.
struct Place {
    name: &'static str,
    ground: Ground,
    inside: Counter,
    dropped: fn(&Ground) -> u64,
    _floor: Option<Dropper>,
}

impl Place {
    fn new(
        name: &'static str,
        contender: Contender,
        netd: &'static [&'static str],
        deny: fn(&Ground),
        dropped: fn(&Ground) -> u64,
    ) -> Self {
        progress(&format!("hosts for {name}"));
        let ground = Ground::new(contender, Terms { netd, ..Terms::default() });
        deny(&ground);
        let floor = (name == FLOOR).then(|| Dropper::new(&ground.host, "up0"));
        Self { name, inside: live::container_sink(&ground), ground, dropped, _floor: floor }
    }

    fn stream(&self, port: u16) -> Generator {
        live::from_client(&self.ground, (HOST, port), 1024, 0)
    }

    /// Packets a second that were dropped; fails unless its own counter shows all of them.
    fn rate(&self, stream: &Generator, seconds: f64) -> f64 {
        let frames = stream.frames(seconds);
        let before = (self.dropped)(&self.ground);
        let pace = stream.pace(frames, TRIES);
        let counted = (self.dropped)(&self.ground) - before;
        if self.name != FLOOR {
            let share = counted as f64 / pace.made as f64;
            assert!(share > 0.98, "{}: says that it dropped {counted} of {} packets", self.name, pace.made);
        }
        assert!(self.inside.arrived().right == 0, "{}: a denied packet reached the container", self.name);
        1.0 / pace.seconds / 1e3
    }
}

const FLOOR: &str = "XDP that only says drop";

fn nothing(_ground: &Ground) {}

fn none(_ground: &Ground) -> u64 {
    0
}

/// The packets that a rule with this mark in its line has counted.
fn rule_count(listed: &str, mark: &str) -> u64 {
    let line = listed.lines().find(|line| line.contains(mark)).expect("the rule");
    line.split_whitespace().next().expect("its packets").parse().expect("a number")
}

fn nft_count(ground: &Ground) -> u64 {
    let listed = ground.host.sh("nft list table netdev guard");
    let after = listed.split("packets ").nth(1).expect("a counter");
    after.split(' ').next().expect("a number").parse().expect("a number")
}

fn netd_denied(ground: &Ground) -> u64 {
    ground.status()["drops"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|drop| drop["reason"] == "denied")
        .map(|drop| drop["packets"].as_u64().expect("a number"))
        .sum()
}

pub(crate) fn measure(effort: Effort) -> Outcome {
    let netd = |ground: &Ground| {
        ground.run_netd(&["access", "--deny", DENIED]);
    };
    let places = [
        Place::new(FLOOR, Contender::Routed, &[], nothing, none),
        Place::new(
            "iptables, DOCKER-USER",
            Contender::Iptables,
            &[],
            |ground| {
                ground.host.sh(&format!("iptables -I DOCKER-USER -s {DENIED} -j DROP"));
            },
            |ground| rule_count(&ground.host.sh("iptables -nvxL DOCKER-USER"), DENIED),
        ),
        Place::new(
            "iptables, raw",
            Contender::Iptables,
            &[],
            |ground| {
                ground.host.sh(&format!("iptables -t raw -I PREROUTING -s {DENIED} -j DROP"));
            },
            |ground| rule_count(&ground.host.sh("iptables -t raw -nvxL PREROUTING"), DENIED),
        ),
        Place::new(
            "nft, ingress",
            Contender::Nft,
            &[],
            |ground| {
                let table = format!(
                    "table netdev guard {{ chain up0 {{ type filter hook ingress device up0 priority 0; \
                     ip saddr {DENIED} counter drop; }}; }}"
                );
                ground.feed("nft -f -", &table);
            },
            nft_count,
        ),
        Place::new("netd", Contender::Netd, &[], netd, netd_denied),
        Place::new("netd with XDP", Contender::Netd, &["xdp=native"], netd, netd_denied),
        Place::new("netd, log followed", Contender::Netd, &[], netd, netd_denied),
    ];
    let log = &places.last().expect("there are places").ground;
    let _log = Process::new(log.netd(&["log", "--follow"]).stdout(Stdio::null()).stderr(Stdio::null()));
    let title = "Packets of a denied source dropped, one core";
    let mut table = Table::new("denied", title, "kpps", Better::More, ("port", &["published"]));
    let mut cells = Vec::new();
    for place in &places {
        let stream = place.stream(SMALL.port);
        cells.push(Cell::new(place.name, 0, move || place.rate(&stream, effort.packets)));
    }
    fill(&mut table, effort, cells, "not measured");
    let ratio = table.ratio("netd with XDP", FLOOR, "published");
    let bars = vec![Bar::new(
        "dropping a denied source, netd with XDP / bare XDP drop",
        Comparison::AtLeast(0.9),
        ratio,
    )];

    let title = "Packets to a port that is not published, refused by the host's stack, one core";
    let mut refused = Table::new("unpublished", title, "kpps", Better::More, ("port", &["not published"]));
    let open = |name, contender, netd| Place::new(name, contender, netd, nothing, none);
    let places = [
        open("routed", Contender::Routed, &[][..]),
        open("iptables", Contender::Iptables, &[][..]),
        open("nft", Contender::Nft, &[][..]),
        open("netd", Contender::Netd, &[][..]),
        open("netd with XDP", Contender::Netd, &["xdp=native"][..]),
    ];
    let mut cells = Vec::new();
    for place in &places {
        let stream = place.stream(NOBODYS);
        cells.push(Cell::new(place.name, 0, move || {
            let frames = stream.frames(effort.packets);
            let rate = 1.0 / stream.pace(frames, TRIES).seconds / 1e3;
            assert!(place.inside.arrived().right == 0, "{}: it reached the container", place.name);
            rate
        }));
    }
    fill(&mut refused, effort, cells, "not measured");
    Outcome { tables: vec![table, refused], bars, notes: Vec::new() }
}
