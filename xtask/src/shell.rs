//! Running commands, and printing what is done.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Prints what is being done.
pub(crate) fn say(what: &str) {
    use std::io::IsTerminal as _;
    let (green, plain) = if std::io::stderr().is_terminal() { ("\x1b[1;32m", "\x1b[0m") } else { ("", "") };
    eprintln!("{green}xtask:{plain} {what}");
}

/// Runs a command. Fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// What a command prints. None if it fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
