//! Horizontal bars: a group for each value of the parameter, a named bar for each contender.

use svg::Document;
use svg::node::element::Rectangle;

use super::ink;
use super::paper::{TOP, WIDTH, axis, count, figure, finish, frame, is_subject, line, round, text, width};
use super::scale::Scale;
use crate::report::{Cell, Measured, Table, number, shown};

const BAR: f64 = 15.0;
const PITCH: f64 = 20.0;
const GROUP_HEADING: f64 = 22.0;
const GROUP_GAP: f64 = 12.0;
/// Height below the bars, for the axis, its numbers and its name.
const BOTTOM: f64 = 50.0;
/// Width after the longest bar, for its figure.
const FIGURE: f64 = 104.0;

/// Draws a table as bars.
pub fn bars(table: &Table, scale: Scale) -> String {
    let values = &table.parameter.values;
    let names = table.rows.iter().map(|row| width(&row.contender)).fold(40.0, f64::max);
    let left = 16.0 + names + 8.0;
    let axis = axis(table, scale, (left, WIDTH - FIGURE));
    let heading = if table.parameter.name.is_empty() { 0.0 } else { GROUP_HEADING };
    let group = heading + count(table.rows.len()) * PITCH;
    let bottom = TOP + count(values.len()) * (group + GROUP_GAP) - GROUP_GAP + 4.0;
    let mut picture = frame(table, bottom + BOTTOM);
    for tick in axis.ticks() {
        picture = picture.add(text(&number(tick), axis.at(tick), bottom + 17.0).set("class", "faint middle"));
    }
    let middle = f64::midpoint(left, WIDTH - FIGURE);
    let name = match scale {
        Scale::Linear => table.unit.clone(),
        Scale::Log => format!("{} (logarithmic)", table.unit),
    };
    picture = picture.add(text(&name, middle, bottom + 37.0).set("class", "faint middle"));
    for (column, value) in values.iter().enumerate() {
        let top = TOP + count(column) * (group + GROUP_GAP);
        if heading > 0.0 {
            let words = format!("{}: {value}", table.parameter.name);
            picture = picture.add(text(&words, 16.0, top + 15.0).set("class", "strong"));
        }
        let (from, to) = (top + heading - 3.0, top + group + 1.0);
        for tick in axis.ticks() {
            picture = picture.add(line((axis.at(tick), from), (axis.at(tick), to), "grid"));
        }
        for (place, row) in table.rows.iter().enumerate() {
            let y = top + heading + count(place) * PITCH;
            let class = if is_subject(&row.contender) { "end strong" } else { "end" };
            let base = y + BAR - 3.0;
            picture = picture.add(text(&row.contender, left - 8.0, base).set("class", class));
            picture = match row.cells.get(column) {
                Some(Cell::Found(found)) => {
                    bar(picture, &row.contender, found, (left, y), |figure| axis.at(figure))
                }
                Some(Cell::Without { why }) => picture
                    .add(text(&format!("– {}", short(why, left)), left + 6.0, base).set("class", "faint")),
                None => picture,
            };
        }
        picture = picture.add(line((left, from), (left, to), "axis"));
    }
    finish(&picture)
}

/// A bar, its whisker and its figure.
fn bar(
    picture: Document,
    contender: &str,
    found: &Measured,
    (left, y): (f64, f64),
    at: impl Fn(f64) -> f64,
) -> Document {
    let end = at(found.median());
    let mut picture = picture.add(
        Rectangle::new()
            .set("x", round(left))
            .set("y", round(y))
            .set("width", round((end - left).max(1.0)))
            .set("height", BAR)
            .set("class", ink::class(contender)),
    );
    let (low, high) = (at(found.min()), at(found.max()));
    // A whisker shorter than its caps would not be visible.
    let has_whisker = high - low > 3.0;
    if has_whisker {
        let middle = y + BAR / 2.0;
        picture = picture.add(line((low, middle), (high, middle), "whisker"));
        for x in [low, high] {
            picture = picture.add(line((x, middle - 3.5), (x, middle + 3.5), "whisker"));
        }
    }
    let behind = end.max(high) + 7.0;
    let (value, spread) = (shown::value(found), shown::spread(found));
    picture.add(figure(&value, &spread, behind, y + BAR - 3.0, is_subject(contender)))
}

/// A reason, shortened to the available width.
fn short(why: &str, left: f64) -> String {
    if left + width(why) < WIDTH - 30.0 {
        return why.to_owned();
    }
    let room = why
        .char_indices()
        .map(|(place, _)| place)
        .take_while(|place| left + width(&why[..*place]) < WIDTH - 44.0);
    format!("{}…", why[..room.last().unwrap_or(0)].trim_end())
}
