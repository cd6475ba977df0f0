//! Carries out `netd apply` and `netd save`.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use netd::{Desired, DesiredFile, Doing as _, Error, Result, Session, Settings};

use super::change::change;
use super::instance::DIFFERS;
use crate::cli::Apply;
use crate::output::{Applied, Output};

/// What is applied if no file is named.
const FILE: &str = "/etc/netd/netd.toml";
/// The folder of further ones.
const FOLDER: &str = "/etc/netd/netd.d";

pub(super) async fn apply(settings: &Settings, output: Output, typed: Apply) -> Result<u8> {
    let files = files(&typed.files)?;
    if files.is_empty() {
        output.print_or(&Applied::default(), || format!("there is no {FILE} and no {FOLDER}/*.toml\n"))?;
        return Ok(0);
    }
    let desired = Desired::parse(&files)?;
    let prune = !typed.keep;
    let changes = if typed.dry_run {
        Session::open(settings)?.changes(&desired, prune).await?
    } else {
        change(settings, async |host| host.apply(&desired, prune).await).await?.0
    };
    let differs = !changes.is_empty();
    output.print(&Applied { changes, dry_run: typed.dry_run })?;
    Ok(if differs && typed.exit_code { DIFFERS } else { 0 })
}

/// The files that are named, or those that are there by default.
fn files(named: &[PathBuf]) -> Result<Vec<DesiredFile>> {
    let mut files = Vec::new();
    if named.is_empty() {
        if Path::new(FILE).exists() {
            files.push(read(Path::new(FILE))?);
        }
        if Path::new(FOLDER).exists() {
            files.extend(folder(Path::new(FOLDER))?);
        }
        return Ok(files);
    }
    for path in named {
        if path.is_dir() {
            let inside = folder(path)?;
            if inside.is_empty() {
                return Err(Error::malformed(format!("there is no *.toml in {}", path.display())));
            }
            files.extend(inside);
        } else {
            files.push(read(path)?);
        }
    }
    Ok(files)
}

/// All `*.toml` in a folder, in the order of their names' bytes. Hidden files do not count.
fn folder(folder: &Path) -> Result<Vec<DesiredFile>> {
    let what = || format!("read {}", folder.display());
    let entries = fs::read_dir(folder).doing(what)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().doing(what)?;
    let is_hidden =
        |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "toml") && !is_hidden(path));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<DesiredFile> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).doing(|| "read standard input".into())?;
        return Ok(DesiredFile { name: "standard input".to_owned(), text });
    }
    let text = fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    Ok(DesiredFile { name: path.display().to_string(), text })
}

pub(super) async fn save(settings: &Settings, output: Output, file: Option<&Path>) -> Result<()> {
    let saved = Session::open(settings)?.saved().await?;
    let text = saved.toml()?;
    let Some(path) = file else {
        return output.print_or(&saved, || text);
    };
    // A reader finds the old file or the new one.
    let staging = path.with_added_extension("new");
    let what = || format!("write {}", path.display());
    let written = fs::File::create(&staging).and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&staging, path)).doing(what).inspect_err(|_failed| {
        let _absent = fs::remove_file(&staging);
    })
}
