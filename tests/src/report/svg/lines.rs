//! Line charts: how a figure changes with the parameter. Each line has its name at its end.

use svg::Document;
use svg::node::element::{Group, Path};

use super::ink;
use super::paper::{TOP, WIDTH, axis, count, figure, finish, frame, is_subject, line, round, text, width};
use super::scale::Scale;
use crate::report::{Row, SUBJECT, Table, number, shown};

const HEIGHT: f64 = 400.0;
const BOTTOM: f64 = HEIGHT - 52.0;
/// Distance between the names of two lines.
const NAME: f64 = 17.0;
/// Distance of the outermost points from the frame.
const MARGIN: f64 = 22.0;

/// Draws a table as lines. If the parameter's values are ascending numbers, their axis is logarithmic, with 0 separate;
/// `scale` is that of the figures.
pub fn lines(table: &Table, scale: Scale) -> String {
    let names = table.rows.iter().map(|row| width(&row.contender)).fold(40.0, f64::max);
    let (left, right) = (72.0, WIDTH - names - 118.0);
    let axis = axis(table, scale, (BOTTOM, TOP + 8.0));
    let (places, gap) = places(&table.parameter.values);
    let places: Vec<f64> =
        places.into_iter().map(|place| left + MARGIN + place * (right - left - 2.0 * MARGIN)).collect();
    let mut picture = frame(table, HEIGHT);
    for tick in axis.ticks() {
        let y = axis.at(tick);
        picture = picture
            .add(line((left, y), (right, y), "grid"))
            .add(text(&number(tick), left - 8.0, y + 4.0).set("class", "faint end"));
    }
    for (value, &x) in table.parameter.values.iter().zip(&places) {
        picture = picture
            .add(line((x, BOTTOM), (x, BOTTOM + 5.0), "axis"))
            .add(text(value, x, BOTTOM + 20.0).set("class", "faint middle"));
    }
    picture = picture
        .add(line((left, BOTTOM), (right, BOTTOM), "axis"))
        .add(
            text(&table.parameter.name, f64::midpoint(left, right), HEIGHT - 12.0)
                .set("class", "faint middle"),
        )
        .add(unit(&table.unit, scale));
    if let (true, [zero, first, ..]) = (gap, &places[..]) {
        picture = broken(picture, f64::midpoint(*zero, *first));
    }
    let at = |figure: f64| axis.at(figure);
    // The subject's line is drawn last, over the others.
    let mut order: Vec<usize> = (0..table.rows.len()).collect();
    order.sort_by_key(|place| table.rows[*place].contender == SUBJECT);
    for place in order {
        picture = picture.add(curve(&table.rows[place], place, &places, &at));
    }
    finish(&names_of(picture, table, &places, right, &at))
}

/// The positions of a parameter's values, from 0 to 1, and whether a gap separates 0.
fn places(values: &[String]) -> (Vec<f64>, bool) {
    let numbers: Option<Vec<f64>> = values.iter().map(|value| number::parse(value)).collect();
    let numbers =
        numbers.filter(|all| all.is_sorted_by(|one, next| one < next) && all.iter().all(|one| *one >= 0.0));
    let (mut places, gap): (Vec<f64>, bool) = match numbers.as_deref() {
        Some([zero, rest @ ..]) if *zero <= 0.0 && !rest.is_empty() => {
            let logs: Vec<f64> = rest.iter().map(|number| number.log10()).collect();
            (std::iter::once(logs[0] - 0.7).chain(logs.iter().copied()).collect(), true)
        }
        Some(all) if all.iter().all(|one| *one > 0.0) => {
            (all.iter().map(|number| number.log10()).collect(), false)
        }
        _ => ((0..values.len()).map(count).collect(), false),
    };
    let first = places.first().copied().unwrap_or(0.0);
    let length = places.last().copied().unwrap_or(0.0) - first;
    for place in &mut places {
        *place = if length > 0.0 { (*place - first) / length } else { 0.5 };
    }
    (places, gap)
}

/// The unit, along the axis.
fn unit(unit: &str, scale: Scale) -> svg::node::element::Text {
    let words = match scale {
        Scale::Linear => unit.to_owned(),
        Scale::Log => format!("{unit} (logarithmic)"),
    };
    let middle = f64::midpoint(TOP, BOTTOM);
    text(&words, 0.0, 0.0)
        .set("class", "faint middle")
        .set("transform", format!("translate(18 {middle:.0}) rotate(-90)"))
}

/// Marks the gap between 0 and the rest of the axis.
fn broken(picture: Document, x: f64) -> Document {
    [-3.0, 3.0].into_iter().fold(picture, |picture, shift| {
        picture.add(line((x + shift - 3.0, BOTTOM + 6.0), (x + shift + 3.0, BOTTOM - 6.0), "axis"))
    })
}

/// A contender's line, its points and their whiskers.
fn curve(row: &Row, place: usize, places: &[f64], at: &impl Fn(f64) -> f64) -> Group {
    let mut group = Group::new();
    let mut way = Vec::new();
    let mut is_apart = true;
    let points = row.cells.iter().zip(places).map(|(cell, x)| (cell.measured(), *x));
    for (found, x) in points.clone() {
        // A line is interrupted where a figure is missing.
        let Some(found) = found else {
            is_apart = true;
            continue;
        };
        let step = if is_apart { 'M' } else { 'L' };
        way.push(format!("{step}{x:.1} {:.1}", at(found.median())));
        is_apart = false;
    }
    let class = ink::class(&row.contender);
    let weight = if is_subject(&row.contender) { " subject" } else { "" };
    let whisker = format!("{class} curve thin");
    group = group.add(Path::new().set("d", way.concat()).set("class", format!("{class} curve{weight}")));
    for (found, x) in points.filter_map(|(found, x)| Some((found?, x))) {
        let (low, high) = (at(found.min()), at(found.max()));
        if low - high > 3.0 {
            group = group.add(line((x, low), (x, high), &whisker));
            for y in [low, high] {
                group = group.add(line((x - 3.5, y), (x + 3.5, y), &whisker));
            }
        }
        group = group.add(mark(place, x, at(found.median()), &class));
    }
    group
}

/// A contender's mark, which identifies it without its colour.
fn mark(place: usize, x: f64, y: f64, class: &str) -> Path {
    const SHAPES: [&str; 6] = [
        "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
        "m-4 -4h8v8h-8z",
        "m0 -5.5l5 9h-10z",
        "m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
        "m0 5.5l5 -9h-10z",
        "m-1.7 -5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
    ];
    let shape = SHAPES[place % SHAPES.len()];
    Path::new().set("d", format!("M{:.1} {:.1}{shape}", round(x), round(y))).set("class", class)
}

/// The mark, name and last figure of each line, as near to its end as the other names allow.
fn names_of(
    picture: Document,
    table: &Table,
    places: &[f64],
    right: f64,
    at: &impl Fn(f64) -> f64,
) -> Document {
    let last = |row: &Row| {
        let mut ends = row.cells.iter().zip(places).rev();
        ends.find_map(|(cell, x)| Some((cell.measured()?.clone(), *x)))
    };
    let mut ends: Vec<_> = table
        .rows
        .iter()
        .enumerate()
        .filter_map(|(place, row)| last(row).map(|(found, x)| (place, row, at(found.median()), x, found)))
        .collect();
    ends.sort_by(|one, other| one.2.total_cmp(&other.2));
    let heights = apart(&ends.iter().map(|end| end.2).collect::<Vec<_>>());
    ends.iter().zip(heights).fold(picture, |mut picture, ((place, row, y, x, found), height)| {
        let is_short = *x < right - MARGIN - 1.0;
        if is_short || (height - y).abs() > 4.0 {
            picture = picture.add(line((x + 8.0, *y), (right + 2.0, height), "grid"));
        }
        let (value, spread) =
            if is_short { Default::default() } else { (shown::value(found), shown::spread(found)) };
        let words = format!("{} {value}", row.contender);
        let name = figure(words.trim_end(), &spread, right + 21.0, height + 4.0, is_subject(&row.contender));
        picture.add(mark(*place, right + 10.0, height, &ink::class(&row.contender))).add(name)
    })
}

/// Moves heights (in order) as little as necessary, so that they do not overlap and are inside the picture.
fn apart(wanted: &[f64]) -> Vec<f64> {
    let mut heights: Vec<f64> = Vec::new();
    for want in wanted {
        let free = heights.last().map_or(TOP, |above| above + NAME);
        heights.push(want.max(free));
    }
    let mut free = BOTTOM;
    for height in heights.iter_mut().rev() {
        *height = height.min(free);
        free = *height - NAME;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending_values_are_placed_by_size_with_zero_apart() {
        let places =
            |values: &[&str]| places(&values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>());
        assert_eq!(places(&["1", "10", "1,000"]), (vec![0.0, 1.0 / 3.0, 1.0], false));
        let (with_zero, gap) = places(&["0", "10", "1,000"]);
        assert!(gap && with_zero[0].abs() < 1e-9 && with_zero[1] > 0.2 && (with_zero[2] - 1.0).abs() < 1e-9);
        assert_eq!(places(&["in", "out", "both"]), (vec![0.0, 0.5, 1.0], false));
        assert_eq!(places(&["7"]).0, [0.5]);
        assert_eq!(places(&["0"]).0, [0.5]);
        assert_eq!(places(&[]).0, [0.0; 0]);
    }

    #[test]
    fn names_do_not_overlap_and_stay_inside() {
        for wanted in [&[100.0, 100.5, 101.0][..], &[340.0, 345.0, 348.0], &[62.0, 62.0], &[100.0, 200.0]] {
            let heights = apart(wanted);
            assert!(heights.windows(2).all(|two| two[1] - two[0] >= NAME - 1e-9), "{heights:?}");
            assert!(heights.iter().all(|height| (TOP..=BOTTOM).contains(height)), "{heights:?}");
        }
        assert_eq!(apart(&[100.0, 200.0]), [100.0, 200.0]);
    }
}
