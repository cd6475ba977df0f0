//! The parts of text output: tables, lists of facts, numbers with units.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;

use tabwriter::TabWriter;

/// Lines of cells (separated by tabs) as columns.
pub(super) fn table(header: &str, rows: impl IntoIterator<Item = String>) -> String {
    let mut writer = TabWriter::new(Vec::new()).padding(2);
    let mut text = header.to_owned();
    for row in rows {
        text.push('\n');
        text.push_str(&row);
    }
    text.push('\n');
    let written = writer.write_all(text.as_bytes()).and_then(|()| writer.flush());
    let columns =
        written.ok().and_then(|()| writer.into_inner().ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(columns) = columns else { return text };
    columns.lines().fold(String::new(), |mut all, line| {
        all.push_str(line.trim_end());
        all.push('\n');
        all
    })
}

/// Aligned `name: value` lines.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    facts.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string does not fail.
        let _ok = writeln!(text, "{:width$}{value}", format!("{name}:"));
        text
    })
}

/// A text with control characters written out: what the user typed may hold some, and must not steer the terminal.
pub(super) fn visible(message: &str) -> String {
    message.chars().fold(String::new(), |text, c| {
        if c.is_control() {
            text + &c.escape_default().to_string()
        } else {
            text + c.encode_utf8(&mut [0; 4])
        }
    })
}

/// A dash for none.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Separated by commas; a dash for none.
pub(super) fn join<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// One port, or the first and the last.
pub(super) fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// An address as it is written before a port.
pub(super) fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A number of bytes in powers of 1000, with three or four digits.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let (mut tenths, mut unit) = (count / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{}{}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&""))
}

/// yes or no.
pub(super) fn yes(flag: bool) -> String {
    if flag { "yes".to_owned() } else { "no".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_or_four_digits() {
        for (count, text) in
            [(0, "0B"), (999, "999B"), (1000, "1.0kB"), (123_456, "123.4kB"), (1_073_741_824, "1.0GB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(table("A\tB", ["long\tx".to_owned()]), "A     B\nlong  x\n");
    }
}
