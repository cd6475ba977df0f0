//! What applying files has changed, as text.

use std::fmt::Write as _;

use netd::report::{Action, Change, ValueChange};
use serde::Serialize;

use super::text::Text;

/// A line of a terminal, columns.
const WIDTH: usize = 80;

/// What `netd apply` has changed, or would change.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Applied {
    /// The changes.
    pub(crate) changes: Vec<Change>,
    /// Whether nothing was changed.
    pub(crate) dry_run: bool,
}

impl Text for Applied {
    fn text(&self) -> String {
        if self.changes.is_empty() {
            return "nothing to change\n".to_owned();
        }
        self.changes.iter().fold(String::new(), |text, change| text + &line(change))
    }
}

/// A change as a line of `diff` shows it: on one line if there is room.
fn line(change: &Change) -> String {
    let sign = match change.action {
        Action::Add => '+',
        Action::Remove => '-',
        _ => '~',
    };
    let head = format!("{sign} {} {}", change.object, change.name);
    let values: Vec<String> = change.differences.iter().map(value).collect();
    let one_line = format!("{head}{}{}", if values.is_empty() { "" } else { ": " }, values.join("; "));
    if one_line.chars().count() <= WIDTH {
        return one_line + "\n";
    }
    values.iter().fold(head + "\n", |mut text, value| {
        // Writing to a string does not fail.
        let _ok = writeln!(text, "    {value}");
        text
    })
}

fn value(change: &ValueChange) -> String {
    let ValueChange { what, from, to } = change;
    match (from, to) {
        (None, Some(to)) => format!("{what} {to}"),
        (from, to) => {
            let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            format!("{what} {} -> {}", or_none(from), or_none(to))
        }
    }
}
