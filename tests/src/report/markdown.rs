//! The report as a part of a Markdown file.

use std::fmt::{self, Write as _};

use anyhow::{Result, bail};

use super::shown::{self, Line, Lines, Shown};
use super::{Bar, Cell, Report, SUBJECT, Table, Verdict};

/// The line before the generated part.
pub const BEGIN: &str = "<!-- bench:begin -->";
/// The line after it.
pub const END: &str = "<!-- bench:end -->";

/// The report in Markdown; above a table stands its picture, where `picture` has a path for it.
pub fn body(report: &Report, picture: impl Fn(&Table) -> Option<String>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ok = write(&mut text, report, picture);
    text
}

fn write(text: &mut String, report: &Report, picture: impl Fn(&Table) -> Option<String>) -> fmt::Result {
    let about = &report.about;
    writeln!(text, "{}\n\n{}", plain(&about.run()), plain(&about.machine()))?;
    if !about.versions.is_empty() {
        writeln!(text, "{}", plain(&about.tools()))?;
    }
    writeln!(text, "{}", Report::LEGEND)?;
    if !report.bars.is_empty() {
        writeln!(text, "\n### Bars: {} of {} held\n", report.count(Verdict::Held), report.bars.len())?;
        writeln!(text, "| | asked | found | |\n|---|--:|--:|---|")?;
        for bar in &report.bars {
            writeln!(text, "| {} | {} | {} | {} |", plain(&bar.claim), bar.asked, found(bar), verdict(bar))?;
        }
    }
    for table in &report.tables {
        writeln!(text, "\n### {}\n", plain(&table.title))?;
        if let Some(path) = picture(table) {
            writeln!(text, "![{}]({path})\n", plain(&table.title).replace(['[', ']'], ""))?;
        }
        figures(text, table)?;
    }
    for note in &report.notes {
        writeln!(text, "\n{}", plain(note))?;
    }
    Ok(())
}

fn figures(text: &mut String, table: &Table) -> fmt::Result {
    let lines = Lines::of(table);
    write!(text, "In {}.\n\n| {} |", plain(&table.measure()), plain(&table.parameter.name))?;
    for value in &table.parameter.values {
        write!(text, " {} |", plain(value))?;
    }
    writeln!(text, "\n|---|{}", "--:|".repeat(table.parameter.values.len()))?;
    for Line { name, cells } in lines.contenders.iter().chain(&lines.ratios) {
        let bold = if name == SUBJECT { "**" } else { "" };
        write!(text, "| {bold}{}{bold} |", plain(name))?;
        for cell in cells {
            match cell {
                Shown::Figure { value, spread } if spread.is_empty() => {
                    write!(text, " {bold}{value}{bold} |")
                }
                Shown::Figure { value, spread } => write!(text, " {bold}{value}{bold} {spread} |"),
                Shown::Footnote(number) => write!(text, " – <sup>{number}</sup> |"),
            }?;
        }
        writeln!(text)?;
    }
    for (number, why) in lines.footnotes() {
        writeln!(text, "\n<sup>{number}</sup> {}", plain(why))?;
    }
    Ok(())
}

fn found(bar: &Bar) -> String {
    match &bar.found {
        Cell::Found(measured) => {
            format!("{} {}", shown::value(measured), shown::spread(measured)).trim_end().to_owned()
        }
        Cell::Without { why } => plain(why),
    }
}

fn verdict(bar: &Bar) -> String {
    match bar.verdict() {
        Verdict::Missed => format!("**{}**", bar.word()),
        Verdict::Held | Verdict::Unmeasured => bar.word().to_owned(),
    }
}

/// Escapes characters that would end a cell, a line or the generated part.
fn plain(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('|', "\\|");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Replaces the text between the two marks of a file by `body`.
///
/// Fails unless the file has each mark once, [`BEGIN`] first, so that no other text is overwritten.
pub fn splice(file: &str, body: &str) -> Result<String> {
    for mark in [BEGIN, END] {
        match file.matches(mark).count() {
            1 => {}
            count => bail!(
                "the file has the mark {mark} {count} times, not once: write it where the figures belong"
            ),
        }
    }
    let (before, rest) = file.split_once(BEGIN).unwrap_or_default();
    let Some((_, after)) = rest.split_once(END) else {
        bail!("the mark {END} stands before {BEGIN}: exchange them")
    };
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", body.trim()))
}
