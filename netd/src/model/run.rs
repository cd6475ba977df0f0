//! Detached runs: how their command was started, how it ended, and what it has written.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is kept of a detached run besides its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// When it was started.
    pub started: Timestamp,
    /// How it has ended.
    pub end: Option<RunEnd>,
    /// What has failed.
    pub problem: Option<String>,
    /// How many bytes of output could not be written, and are lost.
    pub dropped_bytes: u64,
}

/// How a command has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunEnd {
    /// When.
    pub at: Timestamp,
    /// Its exit status as shells return it: 128 plus the signal's number for a process that was killed.
    pub exit_status: Option<u8>,
    /// The signal that has killed it.
    pub signal: Option<String>,
}

/// Where a process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a run's output, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLine {
    /// When netd read it.
    pub time: Timestamp,
    /// Where it was written.
    pub stream: Stream,
    /// Its bytes, without the newline.
    pub text: Vec<u8>,
    /// Whether a newline follows. If not, the line goes on with the stream's next piece, or the stream has ended.
    pub is_whole: bool,
}
