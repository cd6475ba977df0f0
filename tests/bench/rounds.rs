//! Contenders take turns: every round measures each of them once, so that what the machine does meanwhile befalls all alike.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// One figure of one contender.
pub(crate) struct Cell<'a> {
    /// The contender, as tables name it.
    pub(crate) row: String,
    /// The parameter's value.
    pub(crate) column: usize,
    /// Measures it once.
    pub(crate) measure: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Cell<'a> {
    /// A figure.
    pub(crate) fn new(row: impl Into<String>, column: usize, measure: impl FnMut() -> f64 + 'a) -> Self {
        Self { row: row.into(), column, measure: Box::new(measure) }
    }
}

/// Measures every cell once a round; returns each one's samples.
pub(crate) fn interleave(what: &str, rounds: usize, cells: &mut [Cell<'_>]) -> Vec<Vec<f64>> {
    let start = Instant::now();
    let mut samples = vec![Vec::with_capacity(rounds); cells.len()];
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
