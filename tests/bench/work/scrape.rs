//! The time of a scrape and of what is looked at by hand, which must not depend on the number of connections.

use std::process::Stdio;
use std::time::{Duration, Instant};

use netd_tests::netns::Process;
use netd_tests::report::{Bar, Better, Cell as Found, Comparison, Table};
use netd_tests::wait_for;

use super::small::Place;
use super::{Effort, Outcome, number};
use crate::ground::{Contender, Ground, Terms};
use crate::rounds::{self, Cell, progress};

/// Where the metrics are, in the host.
const SETTING: &str = "metrics=127.0.0.1:9191";
const URL: &str = "http://127.0.0.1:9191/metrics";

/// The time of a scrape, as curl measures it, milliseconds.
fn scrape(ground: &Ground) -> f64 {
    let said = ground
        .host
        .sh(&format!("curl --silent --fail --output /dev/null --write-out '%{{time_total}}' {URL}"));
    said.trim().parse::<f64>().expect("a number of seconds") * 1e3
}

/// The time of a command whose output nobody reads, milliseconds.
fn command(ground: &Ground, word: &str) -> f64 {
    let start = Instant::now();
    let status = ground.netd(&[word]).stdout(Stdio::null()).status().expect("netd starts");
    assert!(status.success(), "netd {word}: {status}");
    start.elapsed().as_secs_f64() * 1e3
}

pub(crate) fn measure(effort: Effort) -> Outcome {
    let (ports, flows) = if effort.large { (50_000, 1_000_000) } else { (1_000, 20_000) };
    let sizes = [(0, 0), (0, flows), (ports, 0), (ports, flows)];
    let names = sizes.map(|(ports, flows)| format!("{} ports, {} connections", number(ports), number(flows)));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let title = "Time to read netd's counters";
    let mut table = Table::new("scrape", title, "ms", Better::Less, ("host", &names));
    let rows = ["scrape", "netd ports", "netd status"];
    let mut cells = rows.map(|_| Vec::new());
    for (column, (ports, flows)) in sizes.into_iter().enumerate() {
        let connections = flows + flows / 10;
        let terms = Terms { before: ports, connections, netd: &[SETTING], ..Terms::default() };
        let place = Place::new(Contender::Netd, terms);
        place.establish(flows);
        assert!(place.rows() >= 2 * u64::from(flows), "connections are missing");
        let ground = &place.ground;
        let mut serve = ground.netd(&["--quiet", "serve"]);
        let _serve = Process::new(serve.stdout(Stdio::null()).stderr(Stdio::null()));
        let answers =
            || ground.host.try_sh(&format!("curl --silent --fail --output /dev/null {URL}")).status.success();
        wait_for("the first scrape", Duration::from_mins(1), answers);
        let [first, second, third] = rows;
        let mut reads = [
            Cell::new(first, column, || scrape(ground)),
            Cell::new(second, column, || command(ground, "ports")),
            Cell::new(third, column, || command(ground, "status")),
        ];
        let samples = rounds::interleave("scrape", effort.rounds, &mut reads);
        for (cells, samples) in cells.iter_mut().zip(samples) {
            cells.push(Found::found(samples));
        }
    }
    for (row, cells) in rows.into_iter().zip(cells) {
        table.push(row, cells);
    }
    progress("");
    let mut bars = Vec::new();
    if effort.large
        && let Some(last) = names.last()
    {
        let what = format!("scrape of {last}, ms");
        bars.push(Bar::new(&what, Comparison::AtMost(200.0), table.cell("scrape", last)));
    }
    Outcome { tables: vec![table], bars, notes: Vec::new() }
}
