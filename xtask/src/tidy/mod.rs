//! The project's own rules, which the compiler does not check: `cargo xtask tidy`.
//!
//! | file | owns |
//! |---|---|
//! | `source` | one file, parsed |
//! | `modules` | the modules of all crates, and what a path leads to |
//! | `graph` | which file needs which, and circles |
//! | `rules` | the tables: who may import whom, what may be used where |
//! | `walls` | holds the code against them |
//! | `size` | how long files and functions may be |
//! | `abi` | the number of the contract |
//! | `text` | first lines, marks of unfinished work, manifests |
//! | `ledger` | the ledger of RFCs |

mod abi;
mod graph;
mod ledger;
mod modules;
mod rules;
mod size;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod walls;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use self::graph::{Edge, Graph};
use self::modules::{Crate, Modules};
use self::source::Source;
use crate::build::root;
use crate::shell::{cargo, output_of, say};

/// Every package of the workspace is in one of these.
const FOLDERS: [&str; 6] = ["fuzz", "netd", "netd-common", "netd-ebpf", "tests", "xtask"];

/// Checks every source file and manifest.
pub(crate) fn tidy() -> Result<()> {
    let root = root();
    let mut texts = BTreeMap::new();
    for folder in FOLDERS {
        collect(&root, Path::new(folder), &mut texts)?;
    }
    let (manifests, sources): (BTreeMap<_, _>, BTreeMap<_, _>) =
        texts.into_iter().partition(|(name, _)| name.ends_with("Cargo.toml"));
    let mut broken = Vec::new();
    for (name, text) in &manifests {
        broken.extend(text::check_manifest(name, text));
    }
    for (name, text) in &sources {
        broken.extend(text::check_source(name, text));
    }
    let sources = parse(&sources)?;
    broken.extend(check_code(&sources, &crates(&root)?)?);
    broken.extend(ledger::check(&root)?);
    broken.extend(abi::check()?);
    if !broken.is_empty() {
        bail!("house rules are broken:\n  {}", broken.join("\n  "));
    }
    say(&format!("tidy: {} files keep the house rules; {}", sources.len(), size::longest(&sources)));
    Ok(())
}

/// Reads the source files and manifests below a folder.
fn collect(root: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) -> Result<()> {
    let place = root.join(folder);
    for entry in fs::read_dir(&place).with_context(|| format!("read {}", place.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, texts)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") || path.ends_with("Cargo.toml") {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("read {}", entry.path().display()))?;
            texts.insert(path.to_string_lossy().into_owned(), text);
        }
    }
    Ok(())
}

fn parse(texts: &BTreeMap<String, String>) -> Result<BTreeMap<String, Source>> {
    texts
        .iter()
        .map(|(name, text)| Ok((name.clone(), Source::parse(text).with_context(|| name.clone())?)))
        .collect()
}

/// The crates of the workspace, as cargo knows them.
fn crates(root: &Path) -> Result<Vec<Crate>> {
    let words = ["metadata", "--no-deps", "--format-version=1", "--offline"];
    let text = output_of(cargo().args(words).current_dir(root)).context("cargo metadata failed")?;
    let metadata: Value = serde_json::from_str(&text).context("read what cargo metadata says")?;
    let workspace = metadata["workspace_root"].as_str().context("no workspace")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| {
            let file = Path::new(target["src_path"].as_str().context("a target without a file")?);
            let is_library = target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"lib".into()));
            let name = target["name"].as_str().filter(|_| is_library).map(|name| name.replace('-', "_"));
            let file = file.strip_prefix(workspace).context("a target outside the workspace")?;
            Ok(Crate { name, root: file.to_string_lossy().into_owned() })
        })
        .collect()
}

/// The broken rules in the code of these crates.
fn check_code(sources: &BTreeMap<String, Source>, crates: &[Crate]) -> Result<Vec<String>> {
    let modules = Modules::of(sources, crates)?;
    let graph = Graph::of(&modules);
    let mut broken = walls::missing_rooms(sources, &walls::rooms_of(rules::ONLY, rules::WALLS));
    broken.extend(modules.unreached().map(|file| format!("{file}: no crate has this file")));
    broken.extend(graph.circles().iter().map(|circle| describe(circle)));
    broken.extend(walls::broken_walls(&graph, rules::WALLS));
    broken.extend(walls::out_of_their_rooms(&modules, &graph, rules::ONLY, rules::OUTSIDE));
    broken.extend(walls::open_door(sources, rules::DOOR));
    broken.extend(size::too_long(sources, rules::FILE_LINES, rules::FUNCTION_LINES));
    Ok(broken)
}

/// A circle as text: one import on each line.
fn describe(circle: &[&Edge]) -> String {
    let edges = circle
        .iter()
        .map(|Edge { from, to, line, path }| format!("\n    {from}:{line} needs {to} for `{path}`"));
    format!("a circle of {} files:{}", circle.len(), edges.collect::<String>())
}
