//! The kinds of work that are measured, one module for each.

pub(crate) mod baseline;
pub(crate) mod beyond;
pub(crate) mod commands;
pub(crate) mod connections;
pub(crate) mod masquerade;
pub(crate) mod memory;
pub(crate) mod publishing;
pub(crate) mod requests;
pub(crate) mod scrape;
pub(crate) mod small;
pub(crate) mod transfers;
pub(crate) mod unwanted;

use netd_tests::report::{Bar, Better, Cell as Found, Table};

use crate::ground::{Contender, Ground, Terms};
use crate::rounds::{self, Cell, progress};

/// How thoroughly it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// How often each figure is measured.
    pub(crate) rounds: usize,
    /// How long one measurement of packets takes, seconds.
    pub(crate) packets: f64,
    /// How long one measurement with real programs takes, seconds.
    pub(crate) programs: f64,
    /// Whether sizes that take long to set up are measured.
    pub(crate) large: bool,
}

impl Effort {
    /// More rounds for real programs, if there is time, since their speed depends on the scheduler.
    pub(crate) const fn for_programs(self) -> Self {
        self.times(3)
    }

    /// This many times as many rounds, if there is time.
    pub(crate) const fn times(self, times: usize) -> Self {
        Self { rounds: if self.large { times * self.rounds } else { self.rounds }, ..self }
    }
}

/// The grounds of some contenders with their names; if there is time, also those of iptables and netd with many ports.
pub(crate) fn grounds(contenders: &[Contender], effort: Effort) -> Vec<(String, Ground)> {
    progress("hosts");
    let mut grounds: Vec<(String, Ground)> = contenders
        .iter()
        .map(|contender| (contender.name().to_owned(), Ground::new(*contender, Terms::default())))
        .collect();
    if effort.large {
        for contender in [Contender::Iptables, Contender::Netd] {
            let ground = Ground::new(contender, Terms { before: 50_000, ..Terms::default() });
            grounds.push((format!("{}, 50,000 ports", contender.name()), ground));
        }
    }
    grounds
}

/// A kind of work: measures it.
pub(crate) type Work = fn(Effort) -> Outcome;

/// The result of a kind of work.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tables: Vec<Table>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) notes: Vec<String>,
}

/// Measures the cells in turn and puts their samples into the table, see [`put`].
pub(crate) fn fill(table: &mut Table, effort: Effort, mut cells: Vec<Cell<'_>>, why: &str) {
    let samples = rounds::interleave(&table.title, effort.rounds, &mut cells);
    put(table, &cells, &samples, |figure| *figure, why);
}

/// Puts one figure of each sample into the table, with a row for each contender in order of appearance. Cells without a
/// measurement get the reason `why`.
pub(crate) fn put<T>(
    table: &mut Table,
    cells: &[Cell<'_, T>],
    samples: &[Vec<T>],
    figure: impl Fn(&T) -> f64,
    why: &str,
) {
    let mut rows: Vec<&str> = Vec::new();
    for cell in cells {
        if !rows.contains(&cell.row.as_str()) {
            rows.push(&cell.row);
        }
    }
    for row in rows {
        let found = (0..table.parameter.values.len()).map(|column| {
            let measured =
                cells.iter().zip(samples).find(|(cell, _)| cell.row == row && cell.column == column);
            measured
                .map_or_else(|| Found::without(why), |(_, samples)| Found::found(samples.iter().map(&figure)))
        });
        table.push(row, found.collect());
    }
}

/// The cost of a packet above that of `floor`, ns, round by round; `table` is in thousands a second.
pub(crate) fn above(table: &Table, floor: &str, id: &str) -> Table {
    let values = values(&table.parameter.values);
    let title = format!("{}: cost of each above \"{floor}\"", table.title);
    let mut cost = Table::new(id, &title, "ns", Better::Less, (&table.parameter.name, &values));
    let Some(least) = table.rows.iter().find(|row| row.contender == floor) else { return cost };
    for row in table.rows.iter().filter(|row| row.contender != floor) {
        let cells = row.cells.iter().zip(&least.cells).map(|pair| match pair {
            (Found::Found(own), Found::Found(least)) => {
                let rounds = own.samples().iter().zip(least.samples());
                Found::found(rounds.map(|(own, least)| 1e6 / own - 1e6 / least))
            }
            (Found::Without { why }, _) | (_, Found::Without { why }) => Found::without(why),
        });
        cost.push(&row.contender, cells.collect());
    }
    cost
}

/// A number as text for a table.
pub(crate) fn number(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Numbers as text for a table.
pub(crate) fn numbers(all: &[u32]) -> Vec<String> {
    all.iter().map(|one| number(*one)).collect()
}

/// The parameter's values, in the form that a table takes.
pub(crate) fn values(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}
