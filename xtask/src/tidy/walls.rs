//! Compares the code with the tables in `rules`.

use std::collections::BTreeMap;

use super::graph::{Edge, Graph, Outside};
use super::modules::Modules;
use super::rules::{Only, Wall, What};
use super::source::{Kind, Source, Token};

/// Whether a file is in a room.
pub(crate) fn is_in(file: &str, room: &str) -> bool {
    if room.ends_with('/') { file.starts_with(room) } else { file == room }
}

/// Whether a file is in one of the rooms.
pub(crate) fn is_in_any(file: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| is_in(file, room))
}

/// Rooms in rules that do not exist.
pub(crate) fn missing_rooms(sources: &BTreeMap<String, Source>, rooms: &[&str]) -> Vec<String> {
    let exists = |room: &str| sources.keys().any(|file| is_in(file, room));
    let mut missing: Vec<String> = rooms
        .iter()
        .filter(|room| !exists(room))
        .map(|room| format!("xtask/src/tidy/rules.rs: a rule names the room {room}, which does not exist"))
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// Every room in a rule.
pub(crate) fn rooms_of(only: &[Only], walls: &[Wall]) -> Vec<&'static str> {
    let mut rooms: Vec<&str> = only.iter().flat_map(|rule| rule.rooms).copied().collect();
    for rule in only {
        if let What::Room(used) = rule.what {
            rooms.extend(used);
        }
    }
    for wall in walls {
        rooms.push(wall.room);
        rooms.extend(wall.never.iter().filter(|name| is_room(name)));
    }
    rooms
}

/// Rooms have a slash; paths of crates have none.
fn is_room(name: &str) -> bool {
    name.contains('/')
}

/// Imports that break a wall.
pub(crate) fn broken_walls(graph: &Graph, walls: &[Wall]) -> Vec<String> {
    let mut broken = Vec::new();
    for Wall { room, never, why } in walls {
        for Edge { from, to, line, path } in &graph.edges {
            if is_in(from, room) && never.iter().any(|other| is_room(other) && is_in(to, other)) {
                broken.push(format!(
                    "{from}:{line}: `{path}` is defined in {to}, which {room} must not import ({why})"
                ));
            }
        }
        for Outside { from, line, path } in &graph.outside {
            if is_in(from, room) && never.iter().any(|other| !is_room(other) && is_below(path, other)) {
                broken.push(format!("{from}:{line}: {room} must not import `{path}` ({why})"));
            }
        }
    }
    broken
}

/// Whether a path is this one, is below it, or imports it with a `*`.
fn is_below(path: &str, base: &str) -> bool {
    let begins = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    begins(path, base) || path.strip_suffix("::*").is_some_and(|all| begins(base, all))
}

/// Uses outside the permitted rooms; files in `exempt` may use everything.
pub(crate) fn out_of_their_rooms(
    modules: &Modules<'_>,
    graph: &Graph,
    only: &[Only],
    exempt: &[&str],
) -> Vec<String> {
    let mut broken = Vec::new();
    for Only { what, rooms, why } in only {
        let mut used: BTreeMap<&str, Vec<(usize, String)>> = BTreeMap::new();
        for (file, line, said) in uses(modules, graph, what) {
            if !is_in_any(file, exempt) && !is_in_any(file, rooms) {
                used.entry(file).or_default().push((line, said));
            }
        }
        // One line for each file, since a file often has many such uses.
        broken.extend(used.into_iter().filter_map(|(file, mut places)| {
            places.sort();
            let (line, said) = places.first()?;
            let more = match places.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            Some(format!("{file}:{line}: `{said}`{more} must not be used here ({why})"))
        }));
    }
    broken
}

/// Every place where something is used: file, line, and how it is written.
fn uses<'a>(modules: &'a Modules<'_>, graph: &'a Graph, what: &What) -> Vec<(&'a str, usize, String)> {
    let mut found = Vec::new();
    if let What::Path(bases) = what {
        let used = graph.outside.iter().filter(|used| bases.iter().any(|base| is_below(&used.path, base)));
        found.extend(used.map(|Outside { from, line, path }| (from.as_str(), *line, path.clone())));
        return found;
    }
    if let What::Room(rooms) = what {
        let used = graph.edges.iter().filter(|edge| is_in_any(&edge.to, rooms));
        found.extend(used.map(|Edge { from, line, path, .. }| (from.as_str(), *line, path.clone())));
        return found;
    }
    for (_, module) in modules.iter() {
        let file = module.file.as_str();
        for import in &module.scope.imports {
            if let (What::Word(words), Some(last)) = (what, import.path.last())
                && is_one_of(words, last)
            {
                found.push((file, import.line, last.clone()));
            }
        }
        let mut tokens = module.scope.tokens.iter().peekable();
        while let Some(Token { kind, line }) = tokens.next() {
            let is_called = tokens.peek().is_some_and(|next| next.kind == Kind::Sign('!'));
            match (what, kind) {
                (What::Word(words), Kind::Word(word)) if is_one_of(words, word) => {
                    found.push((file, *line, word.clone()));
                }
                (What::Text(texts), Kind::Text(text)) if texts.iter().any(|part| text.contains(part)) => {
                    found.push((file, *line, text.clone()));
                }
                (What::Macro(names), Kind::Word(word)) if is_called && names.contains(&word.as_str()) => {
                    found.push((file, *line, format!("{word}!")));
                }
                _ => {}
            }
        }
    }
    found
}

fn is_one_of(words: &[&str], word: &str) -> bool {
    words.iter().any(|one| one.strip_suffix('*').map_or(*one == word, |begin| word.starts_with(begin)))
}

/// Modules of a library that are public but should not be.
pub(crate) fn open_door(sources: &BTreeMap<String, Source>, door: (&str, &[&str])) -> Vec<String> {
    let (file, public) = door;
    let declared = sources.get(file).into_iter().flat_map(|source| &source.scope.files);
    declared
        .filter(|module| module.is_public && !public.contains(&module.name.as_str()))
        .map(|module| {
            format!(
                "{file}:{}: module {} must not be public: the door is what {file} re-exports",
                module.line, module.name
            )
        })
        .collect()
}
