//! Contenders take turns: every round measures each of them once, so that other load on the machine affects all of
//! them. Each round has another order, since a contender may leave timers and memory to clean up for the next one.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// A measurement of one contender: one or several figures of the same run.
pub(crate) struct Cell<'a, T = f64> {
    /// The contender's name in tables.
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
        for number in order(cells.len(), round) {
            let cell = &mut cells[number];
            progress(&format!("{what}: round {} of {rounds}, {}", round + 1, cell.row));
            samples[number].push((cell.measure)());
        }
    }
    progress("");
    say(&format!("{what}: {:.0} s", start.elapsed().as_secs_f64()));
    samples
}

/// All numbers below `count`, with another start and stride in each round. The stride has no common divisor with
/// `count`, so every number occurs.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let divides_both =
        |stride: usize| (2..=stride).any(|part| stride.is_multiple_of(part) && count.is_multiple_of(part));
    let strides: Vec<usize> = (1..=count).filter(|stride| !divides_both(*stride)).collect();
    let stride = strides.get(round % strides.len().max(1)).copied().unwrap_or(1);
    (0..count).map(move |turn| (round + turn * stride) % count)
}

/// Shows the progress in a line that the next one replaces; on a terminal only.
pub(crate) fn progress(what: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{what}");
        let _ = stderr.flush();
    }
}

/// Prints what is done.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
