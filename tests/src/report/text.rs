//! The report on a terminal.

use std::io::{self, Write};

use tabwriter::{Alignment, TabWriter};

use super::shown::{self, Line, Lines, Shown};
use super::{About, Bar, Cell, Report, SUBJECT, Table, Verdict};

/// The maximum width. A table of up to five columns fits.
pub const WIDTH: usize = 110;

/// Writes the report, in colours if asked to.
pub fn write(out: &mut dyn Write, report: &Report, colours: bool) -> io::Result<()> {
    about(out, &report.about)?;
    for table in &report.tables {
        writeln!(out)?;
        write_table(out, table, colours)?;
    }
    if !report.bars.is_empty() {
        writeln!(out)?;
        bars(out, report, colours)?;
    }
    for note in &report.notes {
        writeln!(out)?;
        paragraph(out, note)?;
    }
    Ok(())
}

fn about(out: &mut dyn Write, about: &About) -> io::Result<()> {
    paragraph(out, &about.run())?;
    paragraph(out, &about.machine())?;
    if !about.versions.is_empty() {
        paragraph(out, &about.tools())?;
    }
    paragraph(out, Report::LEGEND)
}

/// Writes one table: contenders, ratios, and the reasons for missing figures.
pub fn write_table(out: &mut dyn Write, table: &Table, colours: bool) -> io::Result<()> {
    paragraph(out, &paint(colours, BOLD, &format!("{} ({})", table.title, table.measure())))?;
    let lines = Lines::of(table);
    let all = || lines.contenders.iter().chain(&lines.ratios);
    let names = all().map(|line| line.name.chars().count());
    // All columns but the first are aligned right.
    let width = names.chain([table.parameter.name.chars().count()]).max().unwrap_or(0);
    let mut columns = TabWriter::new(Vec::new()).padding(2).alignment(Alignment::Right);
    write!(columns, "{:<width$}\t", table.parameter.name)?;
    for value in &table.parameter.values {
        // The heading is above the figure, not above its spread.
        write!(columns, "{value}{:5}\t", "")?;
    }
    for Line { name, cells } in all() {
        write!(columns, "\n{name:<width$}\t")?;
        for cell in cells {
            match cell {
                Shown::Figure { value, spread } => write!(columns, "{value}{spread:>5}\t"),
                Shown::Footnote(number) => write!(columns, "–{:>5}\t", format!("[{number}]")),
            }?;
        }
    }
    writeln!(columns)?;
    let columns = columns.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
    let columns = String::from_utf8_lossy(&columns);
    // Without a parameter there is no heading.
    for line in columns.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let is_subject = line.split_whitespace().next() == Some(SUBJECT) && !line.contains('÷');
        writeln!(out, "  {}", paint(colours && is_subject, BOLD, line))?;
    }
    for (number, why) in lines.footnotes() {
        paragraph(out, &format!("  [{number}] {why}"))?;
    }
    Ok(())
}

fn bars(out: &mut dyn Write, report: &Report, colours: bool) -> io::Result<()> {
    let held = format!("Bars: {} of {} held", report.count(Verdict::Held), report.bars.len());
    writeln!(out, "{}", paint(colours, BOLD, &held))?;
    for bar in &report.bars {
        let (mark, colour) = match bar.verdict() {
            Verdict::Held => ("✓", GREEN),
            Verdict::Missed => ("✗", RED),
            Verdict::Unmeasured => ("–", YELLOW),
        };
        paragraph(out, &format!("  {} {}", paint(colours, colour, mark), bar.claim))?;
        let word = paint(colours, colour, bar.word());
        paragraph(out, &format!("      asked {}, found {}: {word}", bar.asked, found(bar)))?;
    }
    Ok(())
}

fn found(bar: &Bar) -> String {
    match &bar.found {
        Cell::Found(measured) => {
            format!("{} {}", shown::value(measured), shown::spread(measured)).trim_end().to_owned()
        }
        Cell::Without { why } => format!("nothing ({why})"),
    }
}

/// Wraps text; all lines are indented like the first.
fn paragraph(out: &mut dyn Write, text: &str) -> io::Result<()> {
    let indent = text.len() - text.trim_start().len();
    let mut line = " ".repeat(indent);
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            line = " ".repeat(indent);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    writeln!(out, "{line}")
}

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

fn paint(colours: bool, colour: &str, text: &str) -> String {
    if colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}
