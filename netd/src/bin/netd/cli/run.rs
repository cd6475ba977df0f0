//! `netd run`: its words, and the two hidden commands that it consists of.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use netd::Name;

use super::container::AttachOptions;

/// A command to be run in a new container.
#[derive(Debug, Args)]
#[command(after_help = "\
The command gets standard input, output and error; other open files of the
caller are not passed on. The exit status is that of the command. What a
detached command prints is kept, and its exit status too: see 'netd logs'.

Examples:
  netd run -p 8080:80 -- nginx -g 'daemon off;'
  netd run --name web -p 127.0.0.1:8080:80 -d -- python3 -m http.server 80
  netd run --network none -- ip address")]
pub(crate) struct Run {
    /// Name of the container [default: run- and a number]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Network to attach to
    #[arg(long, value_name = "NETWORK", default_value = "bridge")]
    pub(crate) network: Name,
    /// How it is attached
    #[command(flatten)]
    pub(crate) attach: AttachOptions,
    /// Run in the background and print the container's name
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Accepted as in Docker; the container is always removed
    #[arg(long = "rm")]
    pub(crate) remove: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// A run, for its supervisor.
#[derive(Debug, Args)]
pub(crate) struct Supervise {
    /// The process to die with, unless detached
    #[arg(long)]
    pub(crate) parent: i32,
    /// The run
    #[command(flatten)]
    pub(crate) run: Run,
}

/// The command of a run, for the process that becomes it.
#[derive(Debug, Args)]
pub(crate) struct Become {
    /// The process to die with
    #[arg(long)]
    pub(crate) parent: i32,
    /// The namespace to enter
    #[arg(long)]
    pub(crate) sandbox: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}
