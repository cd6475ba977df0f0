//! Bulk TCP: one and many streams, in, out and both ways, and what it takes of the CPUs.

use std::cell::RefCell;

use netd_tests::report::{Bar, Better, Cell as Found, Comparison, Table};

use super::{Effort, Outcome, fill};
use crate::ground::{BULK, Contender, Ground, Terms};
use crate::load::{self, Way};
use crate::rounds::Cell;

const JOURNEYS: [(&str, Way, u32); 6] = [
    ("in, 1 stream", Way::In, 1),
    ("out, 1", Way::Out, 1),
    ("both, 1", Way::Both, 1),
    ("in, 8", Way::In, 8),
    ("out, 8", Way::Out, 8),
    ("both, 8", Way::Both, 8),
];

pub(crate) fn measure(effort: Effort) -> Outcome {
    let contenders =
        [Contender::Wire, Contender::Routed, Contender::Iptables, Contender::Nft, Contender::Netd];
    let places: Vec<_> = contenders
        .into_iter()
        .map(|contender| {
            let ground = Ground::new(contender, Terms::default());
            let server = load::iperf3(&ground.container, BULK.target);
            (ground, server)
        })
        .collect();
    // A quick look leaves many streams out.
    let journeys: &[(&str, Way, u32)] = if effort.large { &JOURNEYS } else { &JOURNEYS[..2] };
    let names: Vec<&str> = journeys.iter().map(|(name, _, _)| *name).collect();
    let mut rate = Table::new("bulk", "Bulk TCP", "Gbit/s", Better::More, ("direction, streams", &names));
    // Both figures come of one run.
    let costs: Vec<RefCell<Vec<f64>>> = (0..places.len() * names.len()).map(|_| RefCell::default()).collect();
    let mut cells = Vec::new();
    for (row, (ground, _)) in places.iter().enumerate() {
        for (column, &(_, way, streams)) in journeys.iter().enumerate() {
            let cost = &costs[row * names.len() + column];
            let to = ground.socket(BULK);
            cells.push(Cell::new(ground.contender.name(), column, move || {
                let address = to.ip().to_string();
                let bulk = load::bulk(&ground.client, &address, to.port(), way, streams, effort.programs);
                cost.borrow_mut().push(bulk.cpu);
                bulk.gbits
            }));
        }
    }
    // Contenders take turns within a journey, close in time.
    cells.sort_by_key(|cell| cell.column);
    fill(&mut rate, effort, cells, "not measured");
    let title = "Bulk TCP: CPU time of all ends and the host";
    let mut cost = Table::new("bulk_cpu", title, "CPU s/Gbit", Better::Less, ("direction, streams", &names));
    for (row, (ground, _)) in places.iter().enumerate() {
        let cells = (0..names.len())
            .map(|column| Found::found(costs[row * names.len() + column].borrow().iter().copied()));
        cost.push(ground.contender.name(), cells.collect());
    }
    let bars: Vec<Bar> = names
        .iter()
        .map(|name| {
            let claim = format!("bulk TCP {name}, netd / routed");
            Bar::new(&claim, Comparison::AtLeast(1.0), rate.ratio("netd", "routed", name))
        })
        .collect();
    Outcome { tables: vec![rate, cost], bars, notes: Vec::new() }
}
