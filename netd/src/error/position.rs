//! Where something stands in a file.

use std::fmt;
use std::sync::Arc;

/// A place in a file: `netd.toml:3:8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file, as the caller names it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
