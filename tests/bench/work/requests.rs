//! Requests and responses at a fixed rate.

use netd_tests::report::{Bar, Better, Cell as Found, Comparison, Table};

use super::{Effort, Outcome, grounds};
use crate::ground::{Contender, ECHO};
use crate::latency::{self, Latency};
use crate::rounds::{self, Cell};

/// Requests a second. Not a multiple of the timer interrupts a second (250 or 1,000): otherwise, for a whole
/// connection, either some percent of the requests would meet an interrupt, or none.
const LOAD: f64 = 9_973.0;

pub(crate) fn measure(effort: Effort) -> Outcome {
    let effort = effort.for_programs();
    let contenders =
        [Contender::Wire, Contender::Routed, Contender::Iptables, Contender::Nft, Contender::Netd];
    let places = grounds(&contenders, effort);
    let mut cells: Vec<Cell<'_, Latency>> = places
        .iter()
        .map(|(name, ground)| {
            let address = ground.socket(ECHO);
            let (client, server, seconds) = (&ground.client, &ground.container, effort.programs);
            Cell::new(name, 0, move || latency::ask(client, server, address, ECHO.target, LOAD, seconds))
        })
        .collect();
    let samples = rounds::interleave("latency", effort.rounds, &mut cells);
    let mut table = Table::new(
        "latency",
        "A request and its answer, 64 bytes each, TCP, 9,973 a second",
        "µs",
        Better::Less,
        ("percentile", &["50", "99", "99.9"]),
    );
    for ((name, _), samples) in places.iter().zip(&samples) {
        let part = |which: fn(&Latency) -> f64| Found::found(samples.iter().map(which));
        table.push(name, vec![part(|took| took.p50), part(|took| took.p99), part(|took| took.p999)]);
    }
    let bars = ["50", "99"].map(|share| {
        let claim = format!("latency, percentile {share}, netd / routed");
        Bar::new(&claim, Comparison::AtMost(1.0), table.ratio("netd", "routed", share))
    });
    let all: Vec<f64> = samples.iter().flatten().map(|took| took.left_out).collect();
    let note = format!(
        "Of the requests {:.2} % met a pause of a CPU and are left out.",
        all.iter().sum::<f64>() / all.len() as f64 * 100.0
    );
    Outcome { tables: vec![table], bars: bars.into(), notes: vec![note] }
}
