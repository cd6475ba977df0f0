//! The lines of a table, for text and Markdown.

use super::{Cell, Measured, Row, Table, number};

/// All lines of a table, and its footnotes.
pub(super) struct Lines {
    pub(super) contenders: Vec<Line>,
    pub(super) ratios: Vec<Line>,
    pub(super) reasons: Vec<String>,
}

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) cells: Vec<Shown>,
}

/// The content of a cell.
pub(super) enum Shown {
    /// A figure and its spread, which may be empty.
    Figure { value: String, spread: String },
    /// The number of a footnote.
    Footnote(usize),
}

impl Lines {
    pub(super) fn of(table: &Table) -> Self {
        let mut reasons = Vec::new();
        let mut show =
            |rows: &[Row]| -> Vec<Line> { rows.iter().map(|row| line(row, &mut reasons)).collect() };
        let contenders = show(&table.rows);
        let mut ratios = table.ratios();
        ratios.retain(|row| row.cells.iter().any(|cell| cell.measured().is_some()));
        let ratios = show(&ratios);
        Self { contenders, ratios, reasons }
    }

    /// The footnotes, numbered from 1.
    pub(super) fn footnotes(&self) -> impl Iterator<Item = (usize, &str)> {
        self.reasons.iter().enumerate().map(|(place, why)| (place + 1, why.as_str()))
    }
}

fn line(row: &Row, reasons: &mut Vec<String>) -> Line {
    let cells = row
        .cells
        .iter()
        .map(|cell| match cell {
            Cell::Found(measured) => Shown::Figure { value: value(measured), spread: spread(measured) },
            Cell::Without { why } => {
                let place = reasons.iter().position(|known| known == why).unwrap_or_else(|| {
                    reasons.push(why.clone());
                    reasons.len() - 1
                });
                Shown::Footnote(place + 1)
            }
        })
        .collect();
    Line { name: row.contender.clone(), cells }
}

/// The median.
pub(super) fn value(measured: &Measured) -> String {
    if measured.spread() > 0.0 { number::number(measured.median()) } else { number::exact(measured.median()) }
}

/// The spread; empty if the figure does not vary.
pub(super) fn spread(measured: &Measured) -> String {
    let spread = measured.spread();
    if spread > 0.0 { format!("±{:.0}%", spread * 100.0) } else { String::new() }
}
