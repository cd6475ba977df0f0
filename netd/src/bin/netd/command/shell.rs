//! `netd completions`, `netd schema` and `netd man`: what is made of the definition of the command line.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_mangen::Man;
use netd::{Doing as _, Result};

use crate::cli::Cli;
use crate::output::raw;

/// Prints the completion script for a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "netd", &mut script);
    raw(&String::from_utf8_lossy(&script))
}

/// Prints the JSON Schema of the files that `netd apply` takes.
pub(super) fn schema() -> Result<()> {
    let schema = serde_json::to_string_pretty(&netd::schema()).doing(|| "write JSON".into())?;
    raw(&(schema + "\n"))
}

/// Prints the manual: a page for netd, and one for each of its commands. Or writes each page to a file of `folder`.
pub(super) fn manual(folder: Option<&Path>) -> Result<()> {
    let pages = pages().doing(|| "write the manual".into())?;
    let Some(folder) = folder else {
        return raw(&pages.into_iter().map(|page| page.text).collect::<String>());
    };
    fs::create_dir_all(folder).doing(|| format!("create {}", folder.display()))?;
    for Page { file, text } in pages {
        let path = folder.join(file);
        fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A page of the manual.
struct Page {
    /// The name of its file, for example netd-run.1.
    file: String,
    text: String,
}

/// All pages.
fn pages() -> io::Result<Vec<Page>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add_pages(command, &mut pages)?;
    Ok(pages)
}

/// Adds the pages of a command and of those below it.
fn add_pages(command: clap::Command, pages: &mut Vec<Page>) -> io::Result<()> {
    let inner: Vec<_> = command.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
    let page = Man::new(command);
    let mut text = Vec::new();
    page.render(&mut text)?;
    pages.push(Page { file: page.get_filename(), text: notes_as_written(&String::from_utf8_lossy(&text)) });
    inner.into_iter().try_for_each(|one| add_pages(one, pages))
}

/// A page whose notes and examples keep their lines.
fn notes_as_written(page: &str) -> String {
    let Some((before, notes)) = page.split_once("\n.SH EXTRA\n") else { return page.to_owned() };
    let (notes, after) = match notes.find("\n.SH ") {
        Some(end) => notes.split_at(end + 1),
        None => (notes, ""),
    };
    format!("{before}\n.SH NOTES\n.nf\n{}\n.fi\n{after}", notes.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_that_is_shipped_is_that_of_the_files() {
        let schema = serde_json::to_string_pretty(&netd::schema()).unwrap() + "\n";
        expect_test::expect_file!["../../../../../docs/netd.schema.json"].assert_eq(&schema);
    }

    #[test]
    fn the_manual_has_a_page_for_each_command() {
        let pages = pages().unwrap();
        for name in ["netd", "netd-run", "netd-network-create", "netd-man"] {
            let page = pages.iter().find(|page| page.file == format!("{name}.1")).unwrap();
            assert!(page.text.contains(&format!("\n{} \\- ", name.replace('-', "\\-"))), "{name}");
        }
        for hidden in ["netd-supervise.1", "netd-become.1"] {
            assert!(!pages.iter().any(|page| page.file == hidden), "{hidden}");
        }
        let text: String = pages.iter().map(|page| page.text.as_str()).collect();
        assert_eq!(text.matches(".nf\n").count(), text.matches(".fi\n").count());
        assert!(!text.contains(".SH EXTRA"), "notes would be filled like prose");
    }
}
