//! The netd command: parse, carry out, turn an error into text or JSON and an exit status.

mod cli;
mod command;
mod output;

use std::process::ExitCode;

use crate::cli::Cli;
use crate::output::Output;
use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use tracing_subscriber::filter::LevelFilter;

/// The request could not be carried out.
const FAILED: u8 = 1;
/// The words make no request.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&error)),
    };
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let output = Output::new(cli.json);
    match command::execute(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            output.fail_with(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// Help and version go to stdout; a value that cannot be is told like every other failure; the rest in clap's words.
fn usage(error: &clap::Error) -> u8 {
    let json = std::env::args_os().any(|word| word == "--json");
    let value = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    if error.kind() == ErrorKind::ValueValidation
        && let Some(given) = value(ContextKind::InvalidValue)
        && let Some(cause) = std::error::Error::source(error)
    {
        let cause = cause.to_string();
        let (why, hint) = match cause.split_once("\nhint: ") {
            Some((why, hint)) => (why.to_owned(), Some(hint.to_owned())),
            None => (cause, None),
        };
        let place = value(ContextKind::InvalidArg).map_or_else(String::new, |place| format!(" for {place}"));
        let message =
            if why.contains(&given) { format!("{why}{place}") } else { format!("'{given}'{place}: {why}") };
        Output::new(json).fail("usage", &message, hint.as_deref().or(Some("--help explains it")));
        return USAGE;
    }
    if json && error.use_stderr() {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Output::new(json).fail("usage", message, Some("--help explains it"));
        return USAGE;
    }
    match error.print() {
        Ok(()) if !error.use_stderr() => 0,
        _ => USAGE,
    }
}
