//! Carries out `netd logs`.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use netd::{OutputLine, Result, Session, Settings, Stream};

use crate::cli::Logs;
use crate::output::{LinePrinter, Output};

/// How often to look for further lines.
const STEP: Duration = Duration::from_millis(100);

pub(super) fn execute(settings: &Settings, output: Output, request: &Logs) -> Result<()> {
    let runs = Session::runs(settings)?;
    let mut written = runs.output(&request.name)?;
    let mut printer = LinePrinter::new(output.is_json(), request.timestamps);
    let mut tail = request.tail.0.map(Tail::new);
    // A run that prints faster than this one can show would be followed for ever.
    let until = if request.follow { Timestamp::MAX } else { Timestamp::now() };
    loop {
        // Asked first: what was printed before the end is then read.
        let is_over = written.is_over()?;
        while let Some(line) = written.next_line()?.filter(|line| line.time <= until) {
            if request.since.is_some_and(|since| line.time < since) {
                continue;
            }
            match &mut tail {
                Some(tail) => tail.push(line),
                None if printer.print(&line)? => {}
                None => return Ok(()),
            }
        }
        for line in tail.take().into_iter().flat_map(|tail| tail.lines) {
            if !printer.print(&line.0)? {
                return Ok(());
            }
        }
        if !printer.flush()? {
            return Ok(());
        }
        if is_over || !request.follow {
            break;
        }
        std::thread::sleep(STEP);
    }
    let lost = runs.find(&request.name)?.map_or(0, |kept| kept.run.dropped_bytes);
    if lost > 0 {
        tracing::warn!("{lost} bytes of output are lost: they could not be written to the disk");
    }
    Ok(())
}

/// The last lines. A long line has several pieces.
struct Tail {
    most: usize,
    /// Each piece, and whether a line begins with it.
    lines: VecDeque<(OutputLine, bool)>,
    /// How many of them are a line's beginning.
    begun: usize,
    /// Whether the last piece of standard output and of standard error goes on.
    goes_on: [bool; 2],
}

impl Tail {
    const fn new(most: usize) -> Self {
        Self { most, lines: VecDeque::new(), begun: 0, goes_on: [false; 2] }
    }

    fn push(&mut self, line: OutputLine) {
        let goes_on = &mut self.goes_on[usize::from(line.stream == Stream::Stderr)];
        let begins = !std::mem::replace(goes_on, !line.is_whole);
        self.begun += usize::from(begins);
        self.lines.push_back((line, begins));
        // The rest of a line goes with its beginning.
        while let Some((_, begins)) = self.lines.front()
            && (self.begun > self.most || !begins)
        {
            self.begun -= usize::from(*begins);
            self.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_with_all_their_pieces() {
        let mut all = Vec::new();
        for (text, stream, is_whole) in [
            ("1", Stream::Stdout, true),
            ("2a", Stream::Stdout, false),
            ("2b", Stream::Stdout, true),
            ("3a", Stream::Stderr, false),
            ("4", Stream::Stdout, true),
            ("3b", Stream::Stderr, true),
        ] {
            let text = text.as_bytes().to_vec();
            all.push(OutputLine { time: Timestamp::UNIX_EPOCH, stream, text, is_whole });
        }
        for (most, expected) in
            [(0, ""), (1, "4 3b"), (2, "3a 4 3b"), (3, "2a 2b 3a 4 3b"), (9, "1 2a 2b 3a 4 3b")]
        {
            let mut tail = Tail::new(most);
            all.iter().cloned().for_each(|line| tail.push(line));
            let kept: Vec<_> =
                tail.lines.iter().map(|(line, _)| String::from_utf8_lossy(&line.text).into_owned()).collect();
            assert_eq!(kept.join(" "), expected, "{most}");
        }
    }
}
