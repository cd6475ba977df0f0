//! Rules about the text of a file, which need no parser.

/// Marks of unfinished work, written so that this file does not contain them.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// The broken rules in a source file's text.
pub(crate) fn check_source(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if !text.starts_with("//!") {
        broken.push(format!("{name}: the first line does not say what the file owns"));
    }
    for (number, line) in text.lines().enumerate() {
        for mark in UNFINISHED.iter().filter(|mark| line.contains(**mark)) {
            broken.push(format!("{name}:{}: {mark}", number + 1));
        }
    }
    broken
}

/// The broken rules in a package's manifest.
pub(crate) fn check_manifest(name: &str, text: &str) -> Vec<String> {
    if text.contains("[lints]\nworkspace = true") {
        return Vec::new();
    }
    vec![format!("{name}: the workspace's lints are not inherited")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_starts_with_its_description_and_has_no_unfinished_marks() {
        assert!(check_source("a.rs", "//! a\n").is_empty());
        assert_eq!(check_source("a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(
            check_source("a.rs", concat!("//! a\n// TO", "DO: more\n")),
            [concat!("a.rs:2: TO", "DO")]
        );
    }

    #[test]
    fn a_package_inherits_the_lints() {
        assert!(check_manifest("Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n").is_empty());
        assert_eq!(check_manifest("Cargo.toml", "[package]\n").len(), 1);
    }
}
