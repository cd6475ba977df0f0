//! The report of a benchmark: as text, JSON, Markdown and pictures.
//!
//! Pure: figures in, text out. A table has a row for each contender and a column for each value of one parameter. A
//! cell holds the figure of every round, so that readers of the JSON can compute their own statistics. Rounds are
//! interleaved: contenders take turns within a round, and ratios are made within a round.

pub mod markdown;
mod measured;
mod number;
mod shown;
pub mod svg;
pub mod text;

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use measured::Measured;
pub use number::number;

/// The contender that the others are compared with.
pub const SUBJECT: &str = "netd";

/// All of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version, the tools and the machine.
    pub about: About,
    /// The figures.
    pub tables: Vec<Table>,
    /// The bars that they have to clear.
    pub bars: Vec<Bar>,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// The circumstances of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The day, as 2026-11-26.
    pub date: String,
    /// The commit that was built.
    pub commit: String,
    /// The processor's model.
    pub cpu: String,
    /// How many of them the machine has.
    pub cores: usize,
    /// The machine's memory, with its unit.
    pub memory: String,
    /// The kernel's release.
    pub kernel: String,
    /// Tools that took part, with their versions.
    pub versions: BTreeMap<String, String>,
    /// How often everything was measured.
    pub rounds: usize,
    /// Whether the rounds were cut short.
    pub quick: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The command that repeats the run.
    pub command: String,
}

/// One measurement of all contenders, under one parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its name for programs and files: `udp_in`.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// What the figures count.
    pub unit: String,
    /// Whether more or less is better.
    pub better: Better,
    /// What varies from column to column.
    pub parameter: Parameter,
    /// A row for each contender.
    pub rows: Vec<Row>,
}

/// Whether more or less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More, for example packets a second.
    More,
    /// Less, for example nanoseconds a packet.
    Less,
}

/// What varies from column to column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// What it is: `flows`. Empty if nothing varies.
    pub name: String,
    /// Its values as people write them. Line charts place numbers (`1,000`) by their size.
    pub values: Vec<String>,
}

/// The figures of one contender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The contender's name. [`SUBJECT`] is compared with all others.
    pub contender: String,
    /// One cell for each value of the parameter.
    pub cells: Vec<Cell>,
}

/// A figure, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// Measured.
    Found(Measured),
    /// Not measured, or makes no sense.
    Without {
        /// The reason, shown in a footnote.
        why: String,
    },
}

/// A bar that a figure has to clear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// What is compared, for example "packets/s to a container, 1 flow, netd ÷ iptables".
    pub claim: String,
    /// How high it is.
    pub asked: Comparison,
    /// The figure. Without one the bar is neither held nor missed.
    pub found: Cell,
}

/// The condition for a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// The result for a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The median clears it.
    Held,
    /// The median does not.
    Missed,
    /// There is no figure.
    Unmeasured,
}

impl Report {
    /// The table of that name.
    pub fn table(&self, id: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.id == id)
    }

    /// How many bars have this result.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.bars.iter().filter(|bar| bar.verdict() == verdict).count()
    }

    /// Writes all of it as JSON, every round's figures included.
    pub fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}

impl Table {
    /// A table without rows.
    pub fn new(id: &str, title: &str, unit: &str, better: Better, parameter: (&str, &[&str])) -> Self {
        let (name, values) = parameter;
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            unit: unit.to_owned(),
            better,
            parameter: Parameter { name: name.to_owned(), values },
            rows: Vec::new(),
        }
    }

    /// Adds a contender.
    pub fn push(&mut self, contender: &str, cells: Vec<Cell>) {
        self.rows.push(Row { contender: contender.to_owned(), cells });
    }

    /// A contender's figure for a value of the parameter.
    pub fn cell(&self, contender: &str, value: &str) -> Cell {
        let column = self.parameter.values.iter().position(|known| known == value);
        let row = self.rows.iter().find(|row| row.contender == contender);
        row.zip(column)
            .and_then(|(row, column)| row.cells.get(column).cloned())
            .unwrap_or_else(|| Cell::without("not measured"))
    }

    /// The ratio of one contender's figure to another's, for a value of the parameter.
    pub fn ratio(&self, one: &str, other: &str, value: &str) -> Cell {
        self.cell(one, value).ratio(&self.cell(other, value))
    }

    /// The subject's ratio to every other contender.
    pub fn ratios(&self) -> Vec<Row> {
        let Some(subject) = self.rows.iter().find(|row| row.contender == SUBJECT) else { return Vec::new() };
        let others = self.rows.iter().filter(|row| row.contender != SUBJECT);
        others
            .map(|other| Row {
                contender: format!("{SUBJECT} ÷ {}", other.contender),
                cells: subject.cells.iter().zip(&other.cells).map(|(a, b)| a.ratio(b)).collect(),
            })
            .collect()
    }

    /// The unit, and whether more or less is better.
    fn measure(&self) -> String {
        let better = match self.better {
            Better::More => "more is better",
            Better::Less => "less is better",
        };
        format!("{}, {better}", self.unit)
    }
}

impl Cell {
    /// The figures of all rounds, in their order. A round without a finite figure makes the cell one without.
    pub fn found(samples: impl IntoIterator<Item = f64>) -> Self {
        Measured::new(samples).map_or_else(|| Self::without("no round gave a figure"), Self::Found)
    }

    /// No figure, for this reason.
    pub fn without(why: &str) -> Self {
        Self::Without { why: why.to_owned() }
    }

    /// The figure, if there is one.
    pub const fn measured(&self) -> Option<&Measured> {
        match self {
            Self::Found(measured) => Some(measured),
            Self::Without { .. } => None,
        }
    }

    /// The ratio to another cell.
    pub fn ratio(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Found(one), Self::Found(other)) => {
                one.ratio(other).map_or_else(|| Self::without("the rounds cannot be paired"), Self::Found)
            }
            (Self::Without { why }, _) | (_, Self::Without { why }) => Self::without(why),
        }
    }
}

impl Bar {
    /// A bar and the figure that it was held against.
    pub fn new(claim: &str, asked: Comparison, found: Cell) -> Self {
        Self { claim: claim.to_owned(), asked, found }
    }

    /// Judges by the median.
    pub fn verdict(&self) -> Verdict {
        match self.found.measured() {
            None => Verdict::Unmeasured,
            Some(found) if self.asked.admits(found.median()) => Verdict::Held,
            Some(_) => Verdict::Missed,
        }
    }

    /// Whether single rounds disagree with the median.
    pub fn is_close(&self) -> bool {
        self.found
            .measured()
            .is_some_and(|found| self.asked.admits(found.min()) != self.asked.admits(found.max()))
    }

    /// The verdict in words.
    fn word(&self) -> &'static str {
        match (self.verdict(), self.is_close()) {
            (Verdict::Held, false) => "held",
            (Verdict::Held, true) => "held, not in every round",
            (Verdict::Missed, false) => "missed",
            (Verdict::Missed, true) => "missed, not in every round",
            (Verdict::Unmeasured, _) => "not measured",
        }
    }
}

impl Comparison {
    /// Whether a figure is enough.
    pub fn admits(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bar) => figure >= bar,
            Self::AtMost(bar) => figure <= bar,
        }
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bar) => write!(formatter, "≥ {}", number(*bar)),
            Self::AtMost(bar) => write!(formatter, "≤ {}", number(*bar)),
        }
    }
}

impl Report {
    /// What a cell shows.
    const LEGEND: &str = "Figures are medians of all rounds, ± half of what lies between the lowest and the highest \
                          round; ratios are made within each round.";
}

impl About {
    /// Date, commit and number of rounds.
    fn run(&self) -> String {
        let quick = if self.quick { ", cut short for a quick look" } else { "" };
        format!(
            "{} of commit {} on {}: {} rounds or more in {:.0} s{quick}",
            self.command, self.commit, self.date, self.rounds, self.seconds
        )
    }

    /// The machine.
    fn machine(&self) -> String {
        format!("{}, {} cores, {}, Linux {}", self.cpu, self.cores, self.memory, self.kernel)
    }

    /// The tools.
    fn tools(&self) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        versions.join(", ")
    }
}
