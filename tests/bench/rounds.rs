//! Contenders take turns: every round measures each of them once, so that what the machine does meanwhile befalls all alike.
//! Each round goes through them in another order, so that nobody always comes first or after the same one, which leaves the
//! machine with timers and memory to clean up.

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

/// All numbers below `count`, by a start and a stride that differ from round to round. A stride has no divisor in common with
/// `count`, so that it meets every number.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let divides_both =
        |stride: usize| (2..=stride).any(|part| stride.is_multiple_of(part) && count.is_multiple_of(part));
    let strides: Vec<usize> = (1..=count).filter(|stride| !divides_both(*stride)).collect();
    let stride = strides.get(round % strides.len().max(1)).copied().unwrap_or(1);
    (0..count).map(move |turn| (round + turn * stride) % count)
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
