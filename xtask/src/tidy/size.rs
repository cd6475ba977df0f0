//! The length limits of files and functions, and the longest ones.

use std::collections::BTreeMap;

use super::source::{Function, Source};

/// Files and functions above the limit.
pub(crate) fn too_long(
    sources: &BTreeMap<String, Source>,
    file_lines: usize,
    function_lines: usize,
) -> Vec<String> {
    let mut long = Vec::new();
    for (file, source) in sources {
        if source.lines > file_lines {
            long.push(format!("{file}: {} lines; a file has at most {file_lines}", source.lines));
        }
        for Function { name, line, lines } in &source.functions {
            if *lines > function_lines {
                long.push(format!(
                    "{file}:{line}: fn {name} has {lines} lines; a function has at most {function_lines}"
                ));
            }
        }
    }
    long
}

/// The longest file and function, as text.
pub(crate) fn longest(sources: &BTreeMap<String, Source>) -> String {
    let file = sources.iter().max_by_key(|(_, source)| source.lines);
    let functions = sources
        .iter()
        .flat_map(|(file, source)| source.functions.iter().map(move |function| (file, function)));
    let function = functions.max_by_key(|(_, function)| function.lines);
    match (file, function) {
        (Some((file, source)), Some((place, function))) => format!(
            "longest file {file} ({} lines), longest function {} in {place} ({} lines)",
            source.lines, function.name, function.lines
        ),
        _ => "no code".to_owned(),
    }
}
