//! The parts of pictures: the empty picture, text, lines and axes.
//!
//! Fonts are not known here, so the width of text is an upper estimate.

use svg::node::element::{Description, Element, Line, Style, Text, Title};
use svg::{Document, Node as _};

use super::ink;
use super::scale::{Axis, Scale};
use crate::report::{Cell, Measured, SUBJECT, Table, shown};

/// Width of every picture, in its own units and in pixels at full size: that of a README.
pub(super) const WIDTH: f64 = 800.0;
/// Height of the heading.
pub(super) const TOP: f64 = 62.0;
/// The largest average width of a character of the small size.
pub(super) const CHARACTER: f64 = 6.9;

/// The empty picture of a table: heading, description for screen readers, colours.
pub(super) fn frame(table: &Table, height: f64) -> Document {
    let legend = format!("{} · median of all rounds, whiskers from lowest to highest", table.measure());
    Document::new()
        .set("viewBox", format!("0 0 {WIDTH:.0} {height:.0}"))
        .set("width", WIDTH)
        .set("height", round(height))
        .set("role", "img")
        .set("aria-labelledby", "title description")
        .add(Title::new(table.title.as_str()).set("id", "title"))
        .add(Description::new().set("id", "description").add(svg::node::Text::new(description(table))))
        .add(Style::new(ink::style()))
        .add(text(&table.title, 16.0, 26.0).set("class", "heading"))
        .add(text(&legend, 16.0, 46.0).set("class", "faint"))
}

/// All figures as text, one sentence for each contender.
pub(super) fn description(table: &Table) -> String {
    let rows = table.rows.iter().map(|row| {
        let cells = table.parameter.values.iter().zip(&row.cells).map(|(value, cell)| {
            let figure = match cell {
                Cell::Found(found) => shown::value(found),
                Cell::Without { why } => why.clone(),
            };
            if value.is_empty() { figure } else { format!("{figure} at {value}") }
        });
        format!("{}: {}.", row.contender, cells.collect::<Vec<_>>().join(", "))
    });
    let by =
        if table.parameter.name.is_empty() { String::new() } else { format!(" by {}", table.parameter.name) };
    format!("In {}{by}. {}", table.measure(), rows.collect::<Vec<_>>().join(" "))
}

pub(super) fn text(words: &str, x: f64, y: f64) -> Text {
    Text::new(words).set("x", round(x)).set("y", round(y))
}

/// A figure followed by its spread.
pub(super) fn figure(words: &str, spread: &str, x: f64, y: f64, is_subject: bool) -> Text {
    let text = text(words, x, y).set("class", if is_subject { "strong" } else { "plain" });
    if spread.is_empty() {
        return text;
    }
    let mut part = Element::new("tspan");
    part.assign("class", "faint");
    part.assign("dx", 5);
    part.append(svg::node::Text::new(spread));
    text.add(part)
}

/// The finished file.
pub(super) fn finish(picture: &Document) -> String {
    // Viewers disagree whether the end of a line within a text is a space.
    format!("{picture}\n").replace("\n<tspan", "<tspan")
}

pub(super) fn line(from: (f64, f64), to: (f64, f64), class: &str) -> Line {
    Line::new()
        .set("x1", round(from.0))
        .set("y1", round(from.1))
        .set("x2", round(to.0))
        .set("y2", round(to.1))
        .set("class", class)
}

/// An axis that all figures of a table fit on.
pub(super) fn axis(table: &Table, scale: Scale, pixels: (f64, f64)) -> Axis {
    let found = || table.rows.iter().flat_map(|row| &row.cells).filter_map(Cell::measured);
    Axis::new(scale, found().map(Measured::min), found().map(Measured::max), pixels)
}

pub(super) fn is_subject(contender: &str) -> bool {
    contender == SUBJECT
}

/// More than a tenth of a pixel is not visible.
pub(super) fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// A count as a length.
pub(super) fn count(things: usize) -> f64 {
    f64::from(u32::try_from(things).unwrap_or(u32::MAX))
}

pub(super) fn width(words: &str) -> f64 {
    count(words.chars().count()) * CHARACTER
}
