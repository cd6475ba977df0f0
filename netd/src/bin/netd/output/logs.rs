//! What a run has printed, on the streams where it was printed.

use std::io::{self, Write as _};

use jiff::Timestamp;
use netd::{Doing as _, Error, OutputLine, Result, Stream};
use serde::Serialize;

/// How much is printed at once, bytes.
const BLOCK: usize = 64 * 1024;

/// Prints lines, many at a time.
#[derive(Debug)]
pub(crate) struct LinePrinter {
    /// Whether each line is an object.
    json: bool,
    /// Whether each line begins with its time.
    timestamps: bool,
    /// What is not printed yet, and where it goes.
    pending: Vec<u8>,
    stream: Stream,
    /// Whether the last piece of standard output and of standard error goes on.
    goes_on: [bool; 2],
}

/// A line as JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    stream: Stream,
    /// Without the newline; bytes that are not UTF-8 are replaced.
    text: std::borrow::Cow<'a, str>,
    /// Whether the line goes on with the stream's next object, or had no newline at the end.
    partial: bool,
}

impl LinePrinter {
    /// Prints lines as objects, or as they are; with their times if `timestamps`.
    pub(crate) const fn new(json: bool, timestamps: bool) -> Self {
        Self { json, timestamps, pending: Vec::new(), stream: Stream::Stdout, goes_on: [false; 2] }
    }

    /// Takes a line. False if nobody reads any more.
    pub(crate) fn print(&mut self, line: &OutputLine) -> Result<bool> {
        let OutputLine { time, stream, text, is_whole } = line;
        let place = if self.json { Stream::Stdout } else { *stream };
        if (place != self.stream || self.pending.len() > BLOCK) && !self.flush()? {
            return Ok(false);
        }
        self.stream = place;
        let goes_on = &mut self.goes_on[usize::from(*stream == Stream::Stderr)];
        let continues = std::mem::replace(goes_on, !is_whole);
        if self.json {
            let text = String::from_utf8_lossy(text);
            let line = Line { time: *time, stream: *stream, text, partial: !is_whole };
            serde_json::to_writer(&mut self.pending, &line).doing(|| "write JSON".into())?;
            self.pending.push(b'\n');
            return Ok(true);
        }
        if self.timestamps && !continues {
            self.pending.extend_from_slice(format!("{time:.9} ").as_bytes());
        }
        self.pending.extend_from_slice(text);
        if *is_whole {
            self.pending.push(b'\n');
        }
        Ok(true)
    }

    /// Prints what it has taken. False if nobody reads any more (`| head`).
    pub(crate) fn flush(&mut self) -> Result<bool> {
        let (written, what) = match self.stream {
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                (out.write_all(&self.pending).and_then(|()| out.flush()), "write to stdout")
            }
            Stream::Stderr => (io::stderr().write_all(&self.pending), "write to stderr"),
        };
        self.pending.clear();
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Error::system(what, error)),
        }
    }
}
