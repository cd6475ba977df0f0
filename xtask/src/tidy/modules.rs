//! The modules of all crates, and the resolution of paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::source::{Scope, Source};

/// A crate: its name for other crates, if they can import it, and its first file.
pub(crate) struct Crate {
    /// Its name in paths; none for binaries, tests and build scripts.
    pub(crate) name: Option<String>,
    /// Its first file.
    pub(crate) root: String,
}

/// A module by its number.
pub(crate) type ModuleId = usize;

/// A module in its crate.
pub(crate) struct Module<'a> {
    /// The file that contains it.
    pub(crate) file: String,
    /// Its content.
    pub(crate) scope: &'a Scope,
    /// The crate's first module.
    root: ModuleId,
    parent: Option<ModuleId>,
    children: BTreeMap<String, ModuleId>,
}

/// What a path resolves to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A module.
    Module(ModuleId),
    /// Something that this module defines.
    Item(ModuleId),
    /// Something of the standard library or of a crate that is not ours, or a name that nothing declares, like a type
    /// parameter.
    Outside(Vec<String>),
}

/// All modules of all crates.
pub(crate) struct Modules<'a> {
    sources: &'a BTreeMap<String, Source>,
    all: Vec<Module<'a>>,
    libraries: BTreeMap<String, ModuleId>,
    reached: BTreeSet<String>,
}

impl<'a> Modules<'a> {
    /// Follows the `mod` lines from each crate's first file.
    pub(crate) fn of(sources: &'a BTreeMap<String, Source>, crates: &[Crate]) -> Result<Self> {
        let mut modules =
            Self { sources, all: Vec::new(), libraries: BTreeMap::new(), reached: BTreeSet::new() };
        for Crate { name, root } in crates {
            let source = sources.get(root).with_context(|| format!("{root}: there is no such file"))?;
            let folder = parent_folder(root);
            let id = modules.add(root, &folder, &source.scope, None)?;
            if let Some(name) = name {
                modules.libraries.insert(name.clone(), id);
            }
        }
        Ok(modules)
    }

    /// Adds a module and those below it; `folder` is where the files of its children are.
    fn add(
        &mut self,
        file: &str,
        folder: &str,
        scope: &'a Scope,
        parent: Option<ModuleId>,
    ) -> Result<ModuleId> {
        let id = self.all.len();
        let root = parent.map_or(id, |parent| self.all[parent].root);
        self.reached.insert(file.to_owned());
        self.all.push(Module { file: file.to_owned(), scope, root, parent, children: BTreeMap::new() });
        for declared in &scope.files {
            let name = &declared.name;
            let (path, source) = self
                .file(folder, name)
                .with_context(|| format!("{file}:{}: there is no file for module {name}", declared.line))?;
            let child = self.add(&path, &format!("{folder}/{name}"), &source.scope, Some(id))?;
            self.all[id].children.insert(name.clone(), child);
        }
        for name in &scope.test_files {
            let (path, _) = self
                .file(folder, name)
                .with_context(|| format!("{file}: there is no file for module {name}"))?;
            self.reached.insert(path);
        }
        for (name, scope) in &scope.inline {
            let child = self.add(file, &format!("{folder}/{name}"), scope, Some(id))?;
            self.all[id].children.insert(name.clone(), child);
        }
        Ok(id)
    }

    fn file(&self, folder: &str, name: &str) -> Option<(String, &'a Source)> {
        [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
            .into_iter()
            .find_map(|path| self.sources.get(&path).map(|source| (path, source)))
    }

    /// Every module by its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ModuleId, &Module<'a>)> {
        self.all.iter().enumerate()
    }

    /// The file that contains a module.
    pub(crate) fn file_of(&self, id: ModuleId) -> &str {
        &self.all[id].file
    }

    /// Files that belong to no crate.
    pub(crate) fn unreached(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str).filter(|file| !self.reached.contains(*file))
    }

    /// The file with the definition of a macro that is called by its bare name: another one of the same crate.
    pub(crate) fn macro_elsewhere(&self, from: ModuleId, name: &str) -> Option<&str> {
        let here = &self.all[from];
        let mut others = self.all.iter().filter(|module| module.root == here.root);
        if here.scope.macros.contains(name) {
            return None;
        }
        others.find(|module| module.scope.macros.contains(name)).map(|module| module.file.as_str())
    }

    /// Resolves a path that a module contains. Re-exports are followed to the definition.
    pub(crate) fn resolve(&self, from: ModuleId, path: &[String]) -> Place {
        self.resolve_within(from, path, &mut Vec::new())
    }

    fn resolve_within(&self, from: ModuleId, path: &[String], open: &mut Vec<(ModuleId, String)>) -> Place {
        let Some((first, rest)) = path.split_first() else { return Place::Module(from) };
        let module = &self.all[from];
        let start = match first.as_str() {
            "crate" => Some(Place::Module(module.root)),
            "self" => Some(Place::Module(from)),
            "super" => module.parent.map(Place::Module),
            name => {
                self.find(from, name, open).or_else(|| self.libraries.get(name).copied().map(Place::Module))
            }
        };
        let Some(start) = start else { return Place::Outside(path.to_vec()) };
        self.walk(start, rest, open)
    }

    fn walk(&self, start: Place, rest: &[String], open: &mut Vec<(ModuleId, String)>) -> Place {
        let Some((next, behind)) = rest.split_first() else { return start };
        match start {
            Place::Item(_) => start,
            Place::Outside(mut path) => {
                path.extend(rest.iter().cloned());
                Place::Outside(path)
            }
            Place::Module(id) => {
                let place = match next.as_str() {
                    "self" => Some(Place::Module(id)),
                    "super" => self.all[id].parent.map(Place::Module),
                    name => self.find(id, name, open),
                };
                // An item that a macro defines is in no list; it belongs to the module.
                self.walk(place.unwrap_or(Place::Item(id)), behind, open)
            }
        }
    }

    /// What a name means inside a module. `open` holds the names that are being resolved, to end endless recursion: by
    /// `use log::log`, or by two modules that import everything of each other.
    fn find(&self, id: ModuleId, name: &str, open: &mut Vec<(ModuleId, String)>) -> Option<Place> {
        let module = &self.all[id];
        if let Some(child) = module.children.get(name) {
            return Some(Place::Module(*child));
        }
        if module.scope.items.contains(name) {
            return Some(Place::Item(id));
        }
        let question = (id, name.to_owned());
        if open.contains(&question) {
            return None;
        }
        open.push(question);
        let imports = &module.scope.imports;
        let named = imports.iter().find(|import| import.name.as_deref() == Some(name));
        let found = match named {
            Some(import) => Some(self.resolve_within(id, &import.path, open)),
            None => imports.iter().filter(|import| import.is_glob).find_map(|import| {
                match self.resolve_within(id, &import.path, open) {
                    Place::Module(all) if all != id => self.find(all, name, open),
                    _ => None,
                }
            }),
        };
        open.pop();
        found
    }
}

fn parent_folder(file: &str) -> String {
    Path::new(file).parent().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default()
}
