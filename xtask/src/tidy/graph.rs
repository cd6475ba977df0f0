//! Which file needs which, by imports and by paths in the code, and the circles among them.
//!
//! A file needs the file that *defines* what it names. A re-export is followed to the definition, so a parent module
//! may declare and re-export its children. `mod x;` and `use a::module;` alone need nothing; `module::item` needs the
//! item's file, and `use x::*` the file of x itself.
//!
//! A circle is a group of files that need each other, so that none can be moved or tested alone. A parent that
//! re-exports a child and defines something that the child imports is also a circle: the definition belongs in another
//! file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::modules::{ModuleId, Modules, Place};

/// One file needs another.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    /// The file that needs the other one.
    pub(crate) from: String,
    /// The file that is needed.
    pub(crate) to: String,
    /// The line that names it.
    pub(crate) line: usize,
    /// The path that names it.
    pub(crate) path: String,
}

/// A file names something of another crate.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    /// The file.
    pub(crate) from: String,
    /// The line.
    pub(crate) line: usize,
    /// Its whole path, with `*` at its end for everything below it.
    pub(crate) path: String,
}

/// The needs of all files.
#[derive(Default)]
pub(crate) struct Graph {
    /// Needs of our own files, one for each place.
    pub(crate) edges: Vec<Edge>,
    /// Needs of other crates.
    pub(crate) outside: Vec<Outside>,
}

impl Graph {
    /// Collects what every module names.
    pub(crate) fn of(modules: &Modules<'_>) -> Self {
        let mut graph = Self::default();
        for (id, module) in modules.iter() {
            for import in &module.scope.imports {
                graph.add(modules, id, &import.path, import.line, import.is_glob, false);
            }
            for named in module.scope.paths() {
                graph.add(modules, id, &named.path, named.line, false, true);
            }
            for (name, line) in module.scope.macro_calls() {
                if let Some(file) = modules.macro_elsewhere(id, name) {
                    graph.edge(&module.file, file, line, format!("{name}!"));
                }
            }
        }
        graph
    }

    fn add(
        &mut self,
        modules: &Modules<'_>,
        from: ModuleId,
        path: &[String],
        line: usize,
        is_glob: bool,
        is_code: bool,
    ) {
        let file = modules.file_of(from);
        let star = if is_glob { "::*" } else { "" };
        let written = || path.join("::") + star;
        match modules.resolve(from, path) {
            Place::Item(id) => self.edge(file, modules.file_of(id), line, written()),
            Place::Module(id) if is_glob || is_code => {
                self.edge(file, modules.file_of(id), line, written());
            }
            Place::Module(_) => {}
            Place::Outside(path) => {
                self.outside.push(Outside { from: file.to_owned(), line, path: path.join("::") + star });
            }
        }
    }

    fn edge(&mut self, from: &str, to: &str, line: usize, path: String) {
        if from != to {
            self.edges.push(Edge { from: from.to_owned(), to: to.to_owned(), line, path });
        }
    }

    /// The shortest circle of each file that is in one, without duplicates: the edges in order.
    pub(crate) fn circles(&self) -> Vec<Vec<&Edge>> {
        let mut needs: BTreeMap<&str, BTreeMap<&str, &Edge>> = BTreeMap::new();
        for edge in &self.edges {
            needs.entry(&edge.from).or_default().entry(&edge.to).or_insert(edge);
        }
        let mut known: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
        let mut circles = Vec::new();
        for file in needs.keys() {
            let Some(circle) = shortest(&needs, file) else { continue };
            if known.insert(circle.iter().map(|edge| edge.from.as_str()).collect()) {
                circles.push(circle);
            }
        }
        circles.sort_by_key(Vec::len);
        circles
    }
}

/// The shortest path from a file back to itself.
fn shortest<'a>(needs: &BTreeMap<&str, BTreeMap<&'a str, &'a Edge>>, start: &str) -> Option<Vec<&'a Edge>> {
    let mut by: BTreeMap<&str, &Edge> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(file) = waiting.pop_front() {
        for (next, edge) in needs.get(file).into_iter().flatten() {
            if by.contains_key(next) {
                continue;
            }
            by.insert(next, edge);
            if *next == start {
                let mut circle = vec![*edge];
                while let Some(first) = circle.first().filter(|first| first.from != start) {
                    circle.insert(0, by[first.from.as_str()]);
                }
                return Some(circle);
            }
            waiting.push_back(next);
        }
    }
    None
}
