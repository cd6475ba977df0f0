//! `netd completions`, `netd schema` and `netd man`: what is made of the definition of the command line.

use std::io;

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

/// Prints the manual: a page for netd, and one for each of its commands.
pub(super) fn manual() -> Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut text = String::new();
    pages(&command, &mut text).doing(|| "write the manual page".into())?;
    raw(&text)
}

fn pages(command: &clap::Command, text: &mut String) -> io::Result<()> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    text.push_str(&notes_as_written(&String::from_utf8_lossy(&page)));
    command.get_subcommands().filter(|inner| !inner.is_hide_set()).try_for_each(|inner| pages(inner, text))
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
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let mut text = String::new();
        pages(&command, &mut text).unwrap();
        for name in ["netd", "netd\\-run", "netd\\-network\\-create", "netd\\-man"] {
            assert!(text.contains(&format!("\n{name} \\- ")), "{name}");
        }
        for hidden in ["netd\\-supervise", "netd\\-become"] {
            assert!(!text.contains(hidden), "{hidden}");
        }
        assert_eq!(text.matches(".nf\n").count(), text.matches(".fi\n").count());
        assert!(!text.contains(".SH EXTRA"), "notes would be filled like prose");
    }
}
