//! Results and failures as text or JSON: the only room that writes to stdout.

mod changes;
mod container;
mod differences;
mod flows;
mod format;
mod logs;
mod metrics;
mod network;
mod ports;
mod runs;
mod settings;
mod status;
#[cfg(test)]
mod tests;
mod text;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use netd::{Doing as _, Error, Result};
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

pub(crate) use self::changes::Applied;
pub(crate) use self::differences::Differences;
use self::format::visible;
pub(crate) use self::logs::LinePrinter;
pub(crate) use self::metrics::OpenMetrics;
pub(crate) use self::ports::Published;
pub(crate) use self::runs::AllContainers;
pub(crate) use self::text::Text;
use crate::hints;

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// As JSON if `json`, else as text.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether they are printed as JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result.
    pub(crate) fn print<T: Text + Serialize>(self, result: &T) -> Result<()> {
        if self.json { json(result) } else { raw(&result.text()) }
    }

    /// Prints a result as JSON, or this text instead of it.
    pub(crate) fn print_or<T: Serialize>(self, result: &T, text: impl FnOnce() -> String) -> Result<()> {
        if self.json { json(result) } else { raw(&text()) }
    }

    /// Prints one result of many that come one by one: a line of text, or an object on a line of its own.
    pub(crate) fn line<T: Text + Serialize>(self, result: &T) -> Result<()> {
        if !self.json {
            return raw(&result.text());
        }
        raw(&(serde_json::to_string(result).doing(|| "write JSON".into())? + "\n"))
    }

    /// Prints a failure: one line on stderr and a hint, and with `--json` an object on stdout as well.
    pub(crate) fn fail(self, kind: &str, message: &str, hint: Option<&str>) {
        if self.json {
            let failure = Failure {
                error: FailureBody {
                    kind: kind.to_owned(),
                    message: message.to_owned(),
                    hint: hint.map(str::to_owned),
                },
            };
            // The exit status still tells a reader that is gone.
            let _gone = json(&failure);
        }
        let (red, plain) = if io::stderr().is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let mut text = format!("{red}error:{plain} {}\n", visible(message));
        for line in hint.iter().flat_map(|hint| hint.lines()) {
            // Writing to a string does not fail.
            let _ok = writeln!(text, "hint: {line}");
        }
        note(&text);
    }

    /// Prints a failure of the library.
    pub(crate) fn fail_with(self, error: &Error) {
        self.fail_hinting(error, hints::hint(error).as_deref());
    }

    /// Prints a failure with this hint.
    pub(crate) fn fail_hinting(self, error: &Error, hint: Option<&str>) {
        let kind = serde_json::to_value(error.kind()).ok();
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("system");
        self.fail(kind, &error.chain(), hint);
    }
}

/// A failure as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Failure {
    /// The failure.
    error: FailureBody,
}

/// What is told of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct FailureBody {
    /// `usage`, or a [`Kind`](netd::Kind).
    kind: String,
    /// The message with its causes.
    message: String,
    /// What to do.
    hint: Option<String>,
}

fn json<T: Serialize>(result: &T) -> Result<()> {
    raw(&(serde_json::to_string_pretty(result).doing(|| "write JSON".into())? + "\n"))
}

/// Prints text as it is. A reader that has gone away (`| head`) is no failure.
pub(crate) fn raw(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::system("write to stdout", error))
        }
        _ => Ok(()),
    }
}

/// Prints the engine's events of this level and above on stderr.
pub(crate) fn log(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Prints text on stderr.
pub(crate) fn note(text: &str) {
    // There is nobody else to tell.
    let _gone = io::stderr().write_all(text.as_bytes());
}
