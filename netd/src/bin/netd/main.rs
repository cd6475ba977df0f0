//! The netd command: parses the command line, carries it out, and turns an error into text or JSON and an exit status.

mod cli;
mod command;
mod front;
mod hints;
mod output;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::Cli;
use crate::cli::usage::{self, Usage};
use crate::output::Output;

/// Exit status of a request that failed.
const FAILED: u8 = 1;
/// Exit status of wrong usage.
const USAGE: u8 = 2;
/// The first descriptor behind standard input, output and error.
const FIRST_INHERITED: std::os::fd::RawFd = 3;

fn main() -> ExitCode {
    // Commands in containers get standard input, output and error only, as with Podman. Otherwise the supervisor of a
    // detached run would keep the caller's files, and with them its locks.
    close_fds::set_fds_cloexec(FIRST_INHERITED, &[]);
    if let Some(status) = std::env::args_os().next().and_then(|program| front::act(&program)) {
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(explain(&error)),
    };
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    output::log(level);
    let output = Output::new(cli.json);
    match command::execute(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            output.fail_with(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// Prints help and version to stdout, and explains wrong usage like every other failure.
fn explain(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        // Whoever should read it has gone.
        let _gone = error.print();
        return 0;
    }
    let words: Vec<_> = std::env::args_os().collect();
    let json = words.iter().any(|word| word == "--json");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        // The help says what is missing.
        let _gone = error.print();
        return USAGE;
    }
    let Usage { message, hint } = usage::explain(error, &words);
    Output::new(json).fail("usage", &message, Some(&hint));
    USAGE
}
