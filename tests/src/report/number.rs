//! Numbers in readable form.

/// A measured number with three or four digits and thousands separators: `0.423`, `2.36`, `17.8`, `1,630`, `211,300`.
/// Whole numbers below 10,000 are not rounded.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if value.fract().abs() <= f64::EPSILON => 0,
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let unit = if size >= 10_000.0 { 10_f64.powf(size.log10().floor() - 3.0) } else { 1.0 };
    let rounded = if unit > 1.0 { (value / unit).round() * unit } else { value };
    separated(&format!("{rounded:.decimals$}"))
}

/// The same with all digits, for figures that do not vary, such as a size in bytes.
pub(super) fn exact(value: f64) -> String {
    if value.fract().abs() <= f64::EPSILON { separated(&format!("{value:.0}")) } else { number(value) }
}

/// Puts commas between thousands.
fn separated(digits: &str) -> String {
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let (sign, whole) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut text = sign.to_owned();
    for (place, digit) in whole.char_indices() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// Parses a number with or without separators.
pub(super) fn parse(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok().filter(|value: &f64| value.is_finite())
}
