//! Bulk TCP: one and many streams, in, out and both ways, and the CPU time.

use netd_tests::netns::Process;
use netd_tests::report::{Bar, Better, Comparison, Table};

use super::{Effort, Outcome, grounds, put};
use crate::ground::{BULK, Contender};
use crate::load::{self, Awake, Way};
use crate::rounds::{self, Cell};

const JOURNEYS: [(&str, Way, u32); 6] = [
    ("in, 1 stream", Way::In, 1),
    ("out, 1", Way::Out, 1),
    ("both, 1", Way::Both, 1),
    ("in, 8", Way::In, 8),
    ("out, 8", Way::Out, 8),
    ("both, 8", Way::Both, 8),
];

pub(crate) fn measure(effort: Effort) -> Outcome {
    let effort = effort.for_programs();
    let contenders =
        [Contender::Wire, Contender::Routed, Contender::Iptables, Contender::Nft, Contender::Netd];
    let places = grounds(&contenders, effort);
    let _servers: Vec<Process> =
        places.iter().map(|(_, ground)| load::iperf3(&ground.container, BULK.target)).collect();
    let _awake = Awake::new(&places[0].1.client);
    // A quick run leaves out many streams.
    let journeys: &[(&str, Way, u32)] = if effort.large { &JOURNEYS } else { &JOURNEYS[..2] };
    let names: Vec<&str> = journeys.iter().map(|(name, _, _)| *name).collect();
    let mut cells = Vec::new();
    for (column, &(_, way, streams)) in journeys.iter().enumerate() {
        for (name, ground) in &places {
            if ground.terms.before != 0 && streams != 1 {
                continue;
            }
            let to = ground.socket(BULK);
            let address = to.ip().to_string();
            cells.push(Cell::new(name, column, move || {
                let to = (address.as_str(), to.port());
                load::bulk(ground, &ground.client, to, way, streams, effort.programs)
            }));
        }
    }
    let samples = rounds::interleave("bulk TCP", effort.rounds, &mut cells);
    let parameter = ("direction, streams", names.as_slice());
    let mut rate = Table::new("bulk", "Bulk TCP", "Gbit/s", Better::More, parameter);
    put(&mut rate, &cells, &samples, |bulk| bulk.gbits, "not measured");
    let title = "Bulk TCP: CPU time of all ends and the host";
    let mut cost = Table::new("bulk_cpu", title, "CPU s/Gbit", Better::Less, parameter);
    put(&mut cost, &cells, &samples, |bulk| bulk.cpu, "not measured");
    let bars: Vec<Bar> = names
        .iter()
        .map(|name| {
            let claim = format!("bulk TCP {name}, netd / routed");
            Bar::new(&claim, Comparison::AtLeast(1.0), rate.ratio("netd", "routed", name))
        })
        .collect();
    Outcome { tables: vec![rate, cost], bars, notes: Vec::new() }
}
