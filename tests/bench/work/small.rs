//! The smallest packets on one core, to measure the cost of a packet: into and out of a container, by the number of
//! flows and of published ports.

use netd_tests::report::{Bar, Better, Comparison, Table};

use super::{Effort, Outcome, above, fill, number, numbers, values};
use crate::ground::{CONTAINER, Contender, Ground, SMALL, Terms};
use crate::live::{self, Bare, Counter, Generator, ONCE, Rate, TRIES};
use crate::rounds::{Cell, progress};

/// More flows than netd has room for by default.
const MANY: u32 = 100_000;

/// A ground with its sinks.
pub(crate) struct Place {
    pub(crate) ground: Ground,
    inside: Counter,
    outside: Counter,
    _bare: Option<Bare>,
    name: &'static str,
}

impl Place {
    pub(crate) fn new(contender: Contender, terms: Terms) -> Self {
        Self::named(contender.name(), contender, terms, false)
    }

    pub(crate) fn named(name: &'static str, contender: Contender, terms: Terms, counted: bool) -> Self {
        progress(&format!("hosts for {name}"));
        let ground = Ground::new(contender, Terms { napi: true, ..terms });
        let bare = (contender == Contender::Bare).then(|| Bare::new(&ground, counted));
        Self {
            inside: live::container_sink(&ground),
            outside: live::client_sink(&ground),
            ground,
            _bare: bare,
            name,
        }
    }

    fn inward(&self, flows: u32, first: u32) -> Generator {
        live::from_client(&self.ground, self.ground.address(SMALL), flows, first)
    }

    fn outward(&self, flows: u32, first: u32) -> Generator {
        live::from_container(&self.ground, (CONTAINER, SMALL.target), flows, first)
    }

    /// A measurement of packets in this many flows, thousands a second, into the container or out of it.
    pub(crate) fn packets(&self, inward: bool, flows: u32, effort: Effort) -> impl FnMut() -> f64 {
        if inward {
            self.establish(flows);
        }
        let stream = if inward { self.inward(flows, 0) } else { self.outward(flows, 0) };
        let sink = if inward { &self.inside } else { &self.outside };
        move || {
            // Each flow sends one packet before the measurement, since the flows were idle since the last round.
            let frames = stream.frames(effort.packets).max(flows);
            stream.send(flows.max(64));
            carried(self.name, stream.rate(sink, frames, TRIES))
        }
    }

    /// How many rows netd's flow tables have, two for each connection.
    pub(crate) fn rows(&self) -> u64 {
        self.ground.status()["flows"]["rows"].as_u64().expect("a number")
    }

    /// Lets both sides send in every flow, so that connection tracking knows them as replied.
    pub(crate) fn establish(&self, flows: u32) {
        if self.ground.contender.is_direct() {
            return;
        }
        // netd's table of unreplied connections is a quarter as large, and holds all of them.
        let connections =
            if self.ground.terms.connections == 0 { MANY } else { self.ground.terms.connections };
        let at_once = connections / 8;
        for first in (0..flows).step_by(at_once as usize) {
            let some = (flows - first).min(at_once);
            progress(&format!("{}: flow {} of {}", self.name, number(first), number(flows)));
            let (inward, outward) = (self.inward(some, first), self.outward(some, first));
            let frames = some.max(64);
            inward.send(frames);
            outward.send(frames);
            self.ground.outlive_a_tick();
            inward.send(frames);
            outward.send(frames);
        }
    }
}

/// The rate; fails unless nearly all packets arrived, and all of them correctly.
pub(crate) fn carried(who: &str, rate: Rate) -> f64 {
    assert!(rate.wrong == 0, "{who}: {} packets arrived otherwise than they should", rate.wrong);
    assert!(rate.share > 0.98, "{who}: only {:.1} % of the packets arrived", rate.share * 100.0);
    rate.per_second / 1e3
}

pub(crate) fn measure(effort: Effort) -> Outcome {
    let sizes: &[u32] = if effort.large { &[1, 10_000, 1_000_000] } else { &[1] };
    let names = numbers(sizes);
    let names = values(&names);
    let contenders =
        [Contender::Wire, Contender::Bare, Contender::Routed, Contender::Iptables, Contender::Nft];
    let mut places: Vec<Place> =
        contenders.into_iter().map(|contender| Place::new(contender, Terms::default())).collect();
    places.push(Place::named("bare redirect, counted", Contender::Bare, Terms::default(), true));
    places.push(Place::new(Contender::Netd, Terms::default()));
    if effort.large {
        let before = 50_000;
        for (name, contender) in
            [("iptables, 50,000 ports", Contender::Iptables), ("netd, 50,000 ports", Contender::Netd)]
        {
            places.push(Place::named(name, contender, Terms { before, ..Terms::default() }, false));
        }
    }
    // Its tables are made with another size.
    let large = effort
        .large
        .then(|| Place::new(Contender::Netd, Terms { connections: 1_100_000, ..Terms::default() }));

    let table = |id, title, unit, better| Table::new(id, title, unit, better, ("flows", &names));
    let mut inward = table("small_in", "Smallest packets to a container, one core", "kpps", Better::More);
    let mut outward = table("small_out", "Smallest packets from a container, one core", "kpps", Better::More);
    for direction in [&mut inward, &mut outward] {
        let is_inward = direction.id == "small_in";
        let mut cells = Vec::new();
        for (column, &flows) in sizes.iter().enumerate() {
            for place in &places {
                if place.ground.terms.before != 0 && flows != 1 {
                    continue;
                }
                let place = match &large {
                    Some(large) if flows > MANY && place.ground.contender == Contender::Netd => large,
                    _ => place,
                };
                cells.push(Cell::new(place.name, column, place.packets(is_inward, flows, effort)));
            }
        }
        fill(direction, effort, cells, "not measured");
    }
    let (cost_in, cost_out) =
        (above(&inward, "wire", "small_in_cost"), above(&outward, "wire", "small_out_cost"));
    let mut bars = Vec::new();
    let cost = |claim: &str, table: &Table, other: &str, part: f64| {
        let found = table.ratio("netd", other, "1");
        Bar::new(&format!("{claim}, netd / {other}"), Comparison::AtMost(1.0 / part), found)
    };
    bars.push(cost("cost above the wire of a small packet in", &cost_in, "iptables", 6.0));
    bars.push(cost("cost above the wire of a small packet in", &cost_in, "routed", 2.5));
    bars.push(cost("cost above the wire of a small packet out", &cost_out, "iptables", 4.0));
    for (flows, times) in names.iter().zip([2.2, 2.2, 2.0]) {
        for (other, times) in [("iptables", times), ("routed", 1.4)] {
            let claim = format!("packets to a container, flows: {flows}, netd / {other}");
            bars.push(Bar::new(&claim, Comparison::AtLeast(times), inward.ratio("netd", other, flows)));
        }
    }
    let share = inward.ratio("netd", "wire", "1");
    bars.push(Bar::new("packets to a container, flows: 1, netd / wire", Comparison::AtLeast(0.78), share));
    Outcome { tables: vec![inward, cost_in, outward, cost_out], bars, notes: Vec::new() }
}

/// A stream without replies to the newest of many ports: contenders with rules evaluate them for each packet, or for
/// the first one.
pub(crate) fn measure_ports(effort: Effort) -> Outcome {
    let sizes: &[u32] = if effort.large { &[1, 1_000, 10_000, 50_000] } else { &[1, 1_000] };
    let names = numbers(sizes);
    let names = values(&names);
    let mut places = Vec::new();
    for (column, &before) in sizes.iter().enumerate() {
        for contender in [Contender::Iptables, Contender::Nft, Contender::Netd] {
            places.push((column, Place::new(contender, Terms { before, ..Terms::default() })));
        }
    }
    let mut stream = Table::new(
        "ports_stream",
        "A stream that nobody answers, to the newest of many ports, one core",
        "kpps",
        Better::More,
        ("ports published", &names),
    );
    let cells = places.iter().map(|(column, place)| {
        let stream = place.inward(1, 0);
        Cell::new(place.name, *column, move || carried(place.name, stream.run(&place.inside, effort.packets)))
    });
    fill(&mut stream, effort, cells.collect(), "not measured");
    let mut first = Table::new(
        "ports_first",
        "Packets that each begin a flow to the newest of many ports, one core",
        "kpps",
        Better::More,
        ("ports published", &names),
    );
    let cells = places.iter().map(|(column, place)| {
        let mut next = 1_000;
        Cell::new(place.name, *column, move || {
            // Flows that are in no table yet; fewer if each takes longer.
            let flows = if place.ground.contender == Contender::Iptables && place.ground.terms.before > 1 {
                20_000_000 / (place.ground.terms.before + 1_000)
            } else {
                20_000
            };
            next += flows + live::AROUND;
            carried(place.name, place.inward(flows + live::AROUND, next).rate(&place.inside, flows, ONCE))
        })
    });
    fill(&mut first, effort, cells.collect(), "not measured");
    Outcome { tables: vec![stream, first], ..Outcome::default() }
}
