//! Forwarding to another host by another interface: the path on which XDP needs no skb.

use netd_tests::report::{Bar, Better, Comparison, Table};

use super::{Effort, Outcome, above, fill, numbers, small::carried, values};
use crate::ground::{BACKEND, Contender, FORWARDED, Ground, HOST_BEYOND, Terms};
use crate::live::{self, Counter, Expected, Generator, Sink, Stream};
use crate::rounds::{Cell, progress};

struct Place {
    name: &'static str,
    ground: Ground,
    sink: Counter,
}

impl Place {
    fn new(name: &'static str, contender: Contender, netd: &'static [&'static str]) -> Self {
        progress(&format!("hosts for {name}"));
        let ground = Ground::new(contender, Terms { forward: true, netd, ..Terms::default() });
        let expected = Expected { src: None, dst: Some((BACKEND, FORWARDED.target)) };
        let sink = if name == FLOOR {
            Counter::new(&ground.host, "up0", Sink::Xdp, expected)
        } else {
            Counter::new(&ground.backend, "eth0", Sink::Xdp, expected)
        };
        Self { name, ground, sink }
    }

    fn stream(&self, flows: u32) -> Generator {
        let to = if self.ground.contender.is_direct() {
            (BACKEND, FORWARDED.target)
        } else {
            self.ground.address(FORWARDED)
        };
        live::from_client(&self.ground, to, flows, 0)
    }

    /// Lets the backend send replies to the host's address, which it sees as the client.
    fn establish(&self, flows: u32) {
        if self.ground.contender.is_direct() {
            return;
        }
        let answers =
            Stream { fixed: (BACKEND, FORWARDED.target), outward: true, base: HOST_BEYOND, flows, first: 0 };
        let answers =
            Generator::new(&self.ground.backend, "eth0", live::mac(&self.ground.host, "up1"), &answers);
        for _ in 0..2 {
            self.stream(flows).send(flows.max(64));
            answers.send(flows.max(64));
            self.ground.outlive_a_tick();
        }
    }
}

/// Frames that are dropped as soon as they reach the host.
const FLOOR: &str = "dropped at the uplink";

pub(crate) fn measure(effort: Effort) -> Outcome {
    let sizes: &[u32] = if effort.large { &[1, 10_000] } else { &[1] };
    let names = numbers(sizes);
    let names = values(&names);
    let places = [
        Place::new(FLOOR, Contender::Routed, &[]),
        Place::new("routed", Contender::Routed, &[]),
        Place::new("iptables", Contender::Iptables, &[]),
        Place::new("nft", Contender::Nft, &[]),
        Place::new("netd", Contender::Netd, &[]),
        Place::new("netd with XDP", Contender::Netd, &["xdp=native"]),
    ];
    let title = "Smallest packets to a target beyond another interface, one core";
    let mut table = Table::new("beyond", title, "kpps", Better::More, ("flows", &names));
    let mut cells = Vec::new();
    for (column, &flows) in sizes.iter().enumerate() {
        for place in &places {
            place.establish(flows);
            let stream = place.stream(flows);
            cells.push(Cell::new(place.name, column, move || {
                carried(place.name, stream.run(&place.sink, effort.packets))
            }));
        }
    }
    fill(&mut table, effort, cells, "not measured");
    let cost = above(&table, FLOOR, "beyond_cost");
    let xdp = "netd with XDP";
    let bars = vec![
        Bar::new(
            "beyond another interface, netd with XDP / iptables",
            Comparison::AtLeast(1.9),
            table.ratio(xdp, "iptables", "1"),
        ),
        Bar::new(
            "beyond another interface, netd with XDP / routed",
            Comparison::AtLeast(1.3),
            table.ratio(xdp, "routed", "1"),
        ),
        Bar::new(
            "beyond another interface, cost above the floor, netd with XDP / iptables",
            Comparison::AtMost(0.25),
            cost.ratio(xdp, "iptables", "1"),
        ),
    ];
    Outcome { tables: vec![table, cost], bars, notes: Vec::new() }
}
