//! Contenders take turns: every round measures each of them once, so that what the machine does meanwhile befalls all alike.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// What is measured of one contender: a figure, or several that come of one run.
pub(crate) struct Cell<'a, T = f64> {
    /// The contender, as tables name it.
    pub(crate) row: String,
    /// The parameter's value.
    pub(crate) column: usize,
    /// Measures it once.
    pub(crate) measure: Box<dyn FnMut() -> T + 'a>,
}

impl<'a, T> Cell<'a, T> {
    /// What `measure` says.
    pub(crate) fn new(row: impl Into<String>, column: usize, measure: impl FnMut() -> T + 'a) -> Self {
        Self { row: row.into(), column, measure: Box::new(measure) }
    }
}

/// Measures every cell once a round; returns each one's samples.
pub(crate) fn interleave<T>(what: &str, rounds: usize, cells: &mut [Cell<'_, T>]) -> Vec<Vec<T>> {
    let start = Instant::now();
    let mut samples: Vec<Vec<T>> = cells.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        for (number, cell) in cells.iter_mut().enumerate() {
            progress(&format!("{what}: round {} of {rounds}, {}", round + 1, cell.row));
            samples[number].push((cell.measure)());
        }
    }
    progress("");
    say(&format!("{what}: {:.0} s", start.elapsed().as_secs_f64()));
    samples
}

/// Shows what is being done in a line that the next one replaces; on a terminal only.
pub(crate) fn progress(what: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{what}");
        let _ = stderr.flush();
    }
}

/// Says what has been done.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
