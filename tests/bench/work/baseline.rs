//! Compares the netd under test with another one, in turns within one run, to see whether a change costs speed.

use std::path::Path;
use std::sync::OnceLock;

use netd_tests::report::{Bar, Better, Cell as Found, Comparison, SUBJECT, Table};

use super::{Effort, Outcome, Work, connections, numbers, small, values};
use crate::ground::{Contender, HTTP, Terms};
use crate::rounds::{self, Cell};

/// The name of the other netd in tables.
const BEFORE: &str = "netd before";
/// The smallest share of its speed that is accepted.
const ENOUGH: f64 = 0.98;
/// How often new hosts are made, if there is time: the place of the tables in memory makes some instances faster than
/// others.
const SETS: usize = 4;

static BINARY: OnceLock<&'static Path> = OnceLock::new();

/// The kinds of work.
pub(crate) fn compare_with(binary: &Path) -> Vec<(&'static str, Work)> {
    let binary = binary.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    // Leaked, since it is needed until the end of the run.
    BINARY.set(Box::leak(binary.into_boxed_path())).expect("there is one other netd");
    vec![("small", packets), ("connections", new_connections)]
}

/// Both versions: the one under test, and the other.
fn both() -> [(&'static str, Terms); 2] {
    [(SUBJECT, None), (BEFORE, BINARY.get().copied())]
        .map(|(name, binary)| (name, Terms { binary, ..Terms::default() }))
}

/// Small packets of established connections, into the container and out of it.
fn packets(effort: Effort) -> Outcome {
    let sizes: &[u32] = if effort.large { &[1, 10_000] } else { &[1] };
    let names = numbers(sizes);
    let names = values(&names);
    let ways =
        [("small_in", "Smallest packets to a container"), ("small_out", "Smallest packets from a container")];
    let mut tables = ways.map(|(id, title)| Samples::new(id, title, "kpps", ("flows", &names)));
    for _set in 0..sets(effort) {
        let places =
            both().map(|(name, terms)| (name, small::Place::named(name, Contender::Netd, terms, false)));
        for (table, is_inward) in tables.iter_mut().zip([true, false]) {
            let mut cells = Vec::new();
            for (column, flows) in sizes.iter().enumerate() {
                for (name, place) in &places {
                    cells.push(Cell::new(*name, column, place.packets(is_inward, *flows, effort)));
                }
            }
            table.fill(effort, cells);
        }
    }
    outcome(tables)
}

/// New connections to a web server.
fn new_connections(effort: Effort) -> Outcome {
    let title = "New HTTP connections";
    let mut table = Samples::new("connections", title, "connections/s", ("ports published before", &["0"]));
    for _set in 0..sets(effort) {
        let places = both().map(|(name, terms)| (name, connections::Place::on(Contender::Netd, terms)));
        let cells = places.iter().map(|(name, place)| Cell::new(*name, 0, move || place.rate(HTTP, effort)));
        table.fill(effort, cells.collect());
    }
    outcome([table])
}

fn sets(effort: Effort) -> usize {
    if effort.large { SETS } else { 1 }
}

/// A table whose figures come from several sets of hosts.
struct Samples {
    table: Table,
    /// The figures of the netd under test and of the other one, by column.
    found: [Vec<Vec<f64>>; 2],
}

impl Samples {
    fn new(id: &str, title: &str, unit: &str, parameter: (&str, &[&str])) -> Self {
        let columns = vec![Vec::new(); parameter.1.len()];
        Self {
            table: Table::new(id, title, unit, Better::More, parameter),
            found: [columns.clone(), columns],
        }
    }

    /// Adds the rounds of one set of hosts.
    fn fill(&mut self, effort: Effort, mut cells: Vec<Cell<'_>>) {
        let rounds = effort.for_programs().rounds;
        let samples = rounds::interleave(&self.table.title, rounds, &mut cells);
        for (cell, samples) in cells.iter().zip(samples) {
            self.found[usize::from(cell.row != SUBJECT)][cell.column].extend(samples);
        }
    }
}

/// The tables, and a bar for each of their columns.
fn outcome(all: impl IntoIterator<Item = Samples>) -> Outcome {
    let mut outcome = Outcome::default();
    for Samples { mut table, found } in all {
        for (name, columns) in [SUBJECT, BEFORE].into_iter().zip(found) {
            table.push(name, columns.into_iter().map(Found::found).collect());
        }
        for value in &table.parameter.values {
            let claim = format!("{}, {}: {value}, {SUBJECT} / {BEFORE}", table.title, table.parameter.name);
            let ratio = table.ratio(SUBJECT, BEFORE, value);
            outcome.bars.push(Bar::new(&claim, Comparison::AtLeast(ENOUGH), ratio));
        }
        outcome.tables.push(table);
    }
    outcome
}
