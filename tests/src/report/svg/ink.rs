//! Colours: one for each contender in every picture, from the palette of Okabe and Ito, which colour-blind people can
//! distinguish.
//!
//! Each has a tone for light pages and one for dark ones, since no tone has enough contrast on both.

/// A contender's colour.
struct Ink {
    contender: &'static str,
    light: &'static str,
    dark: &'static str,
}

/// netd's is the strongest. The last one is for contenders that are not listed; only their name and mark distinguish
/// them.
const INKS: [Ink; 7] = [
    Ink { contender: "wire", light: "#8b9198", dark: "#7d868f" },
    Ink { contender: "routed", light: "#009e73", dark: "#2fb58d" },
    Ink { contender: "iptables", light: "#c88800", dark: "#e69f00" },
    Ink { contender: "nft", light: "#c2699e", dark: "#d98fba" },
    Ink { contender: "docker-proxy", light: "#d55e00", dark: "#e5733a" },
    Ink { contender: "netd", light: "#0072b2", dark: "#3d9fe0" },
    Ink { contender: "", light: "#3f97cc", dark: "#9fd3f5" },
];

/// Colours of text and lines, by class, for light and dark pages.
const WORDS: [(&str, &str, &str); 3] =
    [("text", "#1f2328", "#e6edf3"), (".faint", "#59636e", "#9198a1"), (".ink", "#1f2328", "#e6edf3")];

/// The class of a contender's colour.
pub(super) fn class(contender: &str) -> String {
    format!("c{}", INKS.iter().position(|ink| ink.contender == contender).unwrap_or(INKS.len() - 1))
}

/// The style sheet, without custom properties, which some viewers do not support.
pub(super) fn style() -> String {
    const SHAPES: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;\
font-variant-numeric:tabular-nums}.heading{font-size:16px;font-weight:600}.strong{font-weight:700}\
.faint{font-weight:400}.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#808890;stroke-opacity:.28}\
.axis{stroke:#808890}.whisker{stroke-width:1.2}.curve{stroke-width:2}.subject{stroke-width:3}.thin{stroke-width:1.2}";
    let colours = |dark: bool| {
        let pick = |light: &'static str, dark_one: &'static str| if dark { dark_one } else { light };
        let words = WORDS.iter().map(|(class, light, dark)| format!("{class}{{fill:{}}}", pick(light, dark)));
        let lines = [format!(".whisker{{stroke:{}}}", pick(WORDS[0].1, WORDS[0].2))];
        let inks = INKS.iter().enumerate().map(|(place, ink)| {
            let colour = pick(ink.light, ink.dark);
            format!(".c{place}{{fill:{colour}}}.c{place}.curve{{fill:none;stroke:{colour}}}")
        });
        words.chain(lines).chain(inks).collect::<String>()
    };
    format!("{SHAPES}{}@media (prefers-color-scheme:dark){{{}}}", colours(false), colours(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, as WCAG 2.2 defines it.
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        let linear =
            |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
        0.2126 * linear(part(1)) + 0.7152 * linear(part(3)) + 0.0722 * linear(part(5))
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one) + 0.05, luminance(other) + 0.05);
        (one / other).max(other / one)
    }

    /// The background colours of GitHub.
    const LIGHT: &str = "#ffffff";
    const DARK: &str = "#0d1117";

    #[test]
    fn every_colour_has_enough_contrast() {
        for ink in INKS {
            assert!(contrast(ink.light, LIGHT) >= 3.0, "{}: {}", ink.light, contrast(ink.light, LIGHT));
            assert!(contrast(ink.dark, DARK) >= 4.5, "{}: {}", ink.dark, contrast(ink.dark, DARK));
        }
        for (class, light, dark) in WORDS {
            assert!(contrast(light, LIGHT) >= 4.5 && contrast(dark, DARK) >= 4.5, "{class}");
        }
    }
}
