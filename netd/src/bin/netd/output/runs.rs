//! Detached runs as text.

use netd::report::{Container, KeptRun, Run, RunStatus};
use serde::{Serialize, Serializer};

use super::format::{bytes, facts, or_dash, table, visible};
use super::text::Text;

/// How much of a command a table shows, characters.
const COMMAND: usize = 24;

/// Containers, and the runs whose containers are gone. In JSON they are one array; only runs have the key `run`.
#[derive(Clone, Debug)]
pub(crate) struct AllContainers {
    /// The containers.
    pub(crate) containers: Vec<Container>,
    /// Runs that have ended.
    pub(crate) ended: Vec<KeptRun>,
}

impl Serialize for AllContainers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum One<'a> {
            Container(&'a Container),
            Run(&'a KeptRun),
        }
        let runs = self.ended.iter().map(One::Run);
        serializer.collect_seq(self.containers.iter().map(One::Container).chain(runs))
    }
}

impl Text for AllContainers {
    fn text(&self) -> String {
        let mut text = self.containers.text();
        if !self.ended.is_empty() {
            text.push('\n');
            text += &table(
                "ENDED RUN\tEXIT STATUS\tENDED\tCOMMAND",
                self.ended.iter().map(|KeptRun { name, run }| {
                    let ended = or_dash(run.ended.map(|time| format!("{time:.0}")));
                    format!("{name}\t{}\t{ended}\t{}", exit(run), cut(&command(run), COMMAND))
                }),
            );
        }
        text
    }
}

impl Text for KeptRun {
    fn text(&self) -> String {
        let Self { name, run } = self;
        let mut lines = vec![
            ("name", name.clone()),
            ("status", status(run).to_owned()),
            ("command", command(run)),
            ("started", format!("{:.0}", run.started)),
            ("ended", or_dash(run.ended.map(|time| format!("{time:.0}")))),
            ("exit status", exit(run)),
        ];
        if let Some(problem) = &run.problem {
            lines.push(("problem", problem.clone()));
        }
        if run.dropped_bytes > 0 {
            lines.push(("output lost", bytes(run.dropped_bytes)));
        }
        lines.push(("output", format!("netd logs {name}")));
        facts(&lines)
    }
}

const fn status(run: &Run) -> &'static str {
    match (run.status, run.ended) {
        (RunStatus::Running, _) => "running",
        (RunStatus::Ended, Some(_)) => "ended",
        (RunStatus::Ended, None) => "ended with its supervisor, which was killed",
    }
}

/// How a command has ended: `3`, or `137 (SIGKILL)`. A dash if that is not known.
fn exit(run: &Run) -> String {
    let signal = run.signal.as_ref().map_or_else(String::new, |signal| format!(" ({signal})"));
    or_dash(run.exit_status) + &signal
}

/// A command as one would type it, on one line.
fn command(run: &Run) -> String {
    let words = run.command.iter().map(|word| {
        let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            return word.clone();
        }
        format!("'{}'", visible(&word.replace('\'', r"'\''")))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The beginning of a text that is too long.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
