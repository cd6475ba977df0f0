//! A strict reader of OpenMetrics text: what Prometheus would let pass, and what its conventions do not allow, is a failure too.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a series.
type Labels = BTreeMap<String, String>;

/// Metrics that were read.
#[derive(Debug, Default)]
pub struct Metrics {
    series: BTreeMap<(String, Labels), f64>,
}

/// A family, as far as it has been read.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    has_help: bool,
}

impl Family {
    /// What its series are called.
    fn series(&self) -> String {
        if self.kind == "counter" { format!("{}_total", self.name) } else { self.name.clone() }
    }
}

impl Metrics {
    /// Reads a text, all of whose names begin with `prefix`. Fails if a rule is broken.
    #[track_caller]
    pub fn read(text: &str, prefix: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
        let (mut metrics, mut families) = (Self::default(), BTreeSet::new());
        let mut family = Family::default();
        for line in body.split_inclusive('\n') {
            let line = line.strip_suffix('\n').expect("a whole line");
            let Some(about) = line.strip_prefix("# ") else {
                metrics.add(line, &family);
                continue;
            };
            let [what, name, rest] = *about.splitn(3, ' ').collect::<Vec<_>>() else { panic!("{line}") };
            if name != family.name {
                let is_new = families.insert(name.to_owned());
                assert!(is_new, "{name} is described twice");
                assert!(name.starts_with(prefix) && is_name(name), "{name} is not a good name");
                family = Family { name: name.to_owned(), ..Family::default() };
            }
            match what {
                "HELP" => {
                    assert!(rest.ends_with('.') && !family.has_help, "{line}");
                    family.has_help = true;
                }
                "TYPE" => {
                    assert!(["counter", "gauge"].contains(&rest) && family.kind.is_empty(), "{line}");
                    let reserved = ["_total", "_created", "_count", "_sum", "_bucket"];
                    assert!(!reserved.iter().any(|suffix| name.ends_with(suffix)), "{name}");
                    rest.clone_into(&mut family.kind);
                }
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
        }
        metrics
    }

    /// Adds a line with a sample of the family that was described last.
    fn add(&mut self, line: &str, family: &Family) {
        assert!(family.has_help && !family.kind.is_empty(), "not described before: {line}");
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels.strip_suffix('}').expect("the labels end"))),
            None => (series, Labels::new()),
        };
        assert_eq!(name, family.series(), "another family: {line}");
        let value: f64 = value.parse().expect("a number");
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let before = self.series.insert((name.to_owned(), labels), value);
        assert_eq!(before, None, "twice: {line}");
    }

    /// The value of the one series with this name and at least these labels. Fails if there is not exactly one.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.values(name, labels);
        let [value] = *found else { panic!("{name} {labels:?}: {found:?} in {self:#?}") };
        value
    }

    /// The values of all series with this name and at least these labels.
    pub fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let has = |of: &Labels| {
            labels.iter().all(|(label, value)| of.get(*label).is_some_and(|found| found == value))
        };
        let found = self.series.iter().filter(|((of, theirs), _)| of == name && has(theirs));
        found.map(|(_, value)| *value).collect()
    }
}

/// Lower case words joined by underscores: the metrics of netd need no more.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// `a="1",b="2"`.
fn read_labels(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    loop {
        let (name, rest) = text.split_once("=\"").expect("a label");
        let (mut value, mut end, mut chars) = (String::new(), None, rest.char_indices());
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = Some(at);
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, plain @ ('"' | '\\'))) => value.push(plain),
                    other => panic!("escaped {other:?} in {text}"),
                },
                _ => value.push(c),
            }
        }
        assert!(is_name(name) && !value.is_empty(), "{text}");
        assert_eq!(labels.insert(name.to_owned(), value), None, "{name} twice");
        let rest = &rest[end.expect("the value ends") + 1..];
        match rest.strip_prefix(',') {
            Some(next) => text = next,
            None => {
                assert_eq!(rest, "");
                return labels;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP x_a_bytes Bytes.\n# TYPE x_a_bytes counter\n# UNIT x_a_bytes bytes\n\
        x_a_bytes_total{p=\"a,b\\\"}\"} 1\nx_a_bytes_total 2\n# EOF\n";

    #[test]
    fn a_good_text_is_read() {
        let metrics = Metrics::read(GOOD, "x_");
        assert_eq!(metrics.values("x_a_bytes_total", &[("p", "a,b\"}")]), [1.0]);
        assert_eq!(metrics.values("x_a_bytes_total", &[]), [2.0, 1.0]);
    }

    #[test]
    fn a_text_that_breaks_a_rule_is_refused() {
        for (part, instead) in [
            ("# EOF\n", ""),
            ("# HELP x_a_bytes Bytes.\n", ""),
            ("# TYPE x_a_bytes counter\n", ""),
            ("UNIT x_a_bytes bytes", "UNIT x_a_bytes seconds"),
            ("x_a_bytes_total 2", "x_a_bytes 2"),
            ("x_a_bytes_total 2", "x_b_total 2"),
            ("x_a_bytes_total 2", "x_a_bytes_total{p=\"a,b\\\"}\"} 2"),
            ("x_a_bytes_total 2", "x_a_bytes_total -2"),
            ("x_a_bytes_total 2", "x_a_bytes_total{p=\"\"} 2"),
            ("counter", "histogram"),
        ] {
            let bad = GOOD.replace(part, instead);
            assert_ne!(bad, GOOD, "{part}");
            assert!(std::panic::catch_unwind(|| Metrics::read(&bad, "x_")).is_err(), "{bad}");
        }
        assert!(std::panic::catch_unwind(|| Metrics::read(GOOD, "y_")).is_err());
    }
}
