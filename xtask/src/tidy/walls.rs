//! Holds the code against the tables in `rules`.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Edge, Graph, Outside};
use super::modules::Modules;
use super::rules::{Only, Wall, What};
use super::source::{Kind, Source, Token};

/// Whether a file is in a room.
pub(crate) fn is_in(file: &str, room: &str) -> bool {
    if room.ends_with('/') { file.starts_with(room) } else { file == room }
}

/// Whether one of the rooms has a file.
pub(crate) fn is_in_any(file: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| is_in(file, room))
}

/// Rooms that rules name and that do not exist.
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

/// Every room that a rule names.
pub(crate) fn rooms_of(only: &[Only], walls: &[Wall]) -> Vec<&'static str> {
    let mut rooms: Vec<&str> = only.iter().flat_map(|rule| rule.rooms).copied().collect();
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

/// What breaks the walls.
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

/// Whether a path is this one or below it, or brings it in with a `*`.
fn is_below(path: &str, base: &str) -> bool {
    let begins = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    begins(path, base) || path.strip_suffix("::*").is_some_and(|all| begins(base, all))
}

/// What is used outside its rooms; files in `exempt` may use everything.
pub(crate) fn out_of_their_rooms(
    modules: &Modules<'_>,
    graph: &Graph,
    only: &[Only],
    exempt: &[&str],
) -> Vec<String> {
    let mut broken = Vec::new();
    for Only { what, rooms, why } in only {
        let may = |file: &str| is_in_any(file, exempt) || is_in_any(file, rooms);
        let mut complain = |file: &str, line: usize, said: &str| {
            broken.push(format!("{file}:{line}: `{said}` must not be used here ({why})"));
        };
        if let What::Path(bases) = what {
            // One line a file: a library that is used in the wrong place is used often.
            let mut told = BTreeSet::new();
            for Outside { from, line, path } in graph.outside.iter().filter(|used| !may(&used.from)) {
                if bases.iter().any(|base| is_below(path, base)) && told.insert(from) {
                    complain(from, *line, path);
                }
            }
            continue;
        }
        for (_, module) in modules.iter().filter(|(_, module)| !may(&module.file)) {
            let file = &module.file;
            for import in &module.scope.imports {
                if let (What::Word(words), Some(last)) = (what, import.path.last())
                    && is_one_of(words, last)
                {
                    complain(file, import.line, last);
                }
            }
            for (at, Token { kind, line }) in module.scope.tokens.iter().enumerate() {
                match (what, kind) {
                    (What::Word(words), Kind::Word(word)) if is_one_of(words, word) => {
                        complain(file, *line, word);
                    }
                    (What::Text(texts), Kind::Text(text)) if texts.iter().any(|part| text.contains(part)) => {
                        complain(file, *line, text);
                    }
                    (What::Macro(names), Kind::Word(word))
                        if names.contains(&word.as_str())
                            && module
                                .scope
                                .tokens
                                .get(at + 1)
                                .is_some_and(|next| next.kind == Kind::Sign('!')) =>
                    {
                        complain(file, *line, &format!("{word}!"));
                    }
                    _ => {}
                }
            }
        }
    }
    broken
}

fn is_one_of(words: &[&str], word: &str) -> bool {
    words.iter().any(|one| one.strip_suffix('*').map_or(*one == word, |begin| word.starts_with(begin)))
}

/// Modules of a library that other crates can see though they are not meant to.
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
