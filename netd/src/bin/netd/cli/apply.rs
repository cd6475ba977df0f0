//! `netd apply` and `netd save`: their words.

use std::path::PathBuf;

use clap::Args;

/// Files to be applied.
#[derive(Debug, Args)]
#[command(after_help = "\
A file is TOML with the words of the other commands:
  [[network]]
  name = \"web\"
  subnets = [\"10.5.0.0/24\"]

  [[container]]
  name = \"shop\"
  networks = [\"web\"]

  [[publish]]
  to = \"shop\"
  ports = [\"8080:80\", \"9000-9100:9000-9100/udp\"]

Several files are one desired state: lists add up. Without FILE, that is
/etc/netd/netd.toml and /etc/netd/netd.d/*.toml; nothing happens if there is none.

What is missing is made, what differs is changed, and what an earlier apply has
made and the files no longer ask for is removed. What commands have made stays,
unless a file names it. Either all of this happens or nothing. Published ports
that stay are not interrupted.

Examples:
  netd apply web.toml
  netd apply --dry-run web.toml   Show what would change
  netd apply /etc/netd/netd.d     All *.toml in a folder
  netd save | netd apply -        Manage by files what commands have made
  netd apply --keep more.toml     Remove nothing

Exit status: 0 on success, also of --dry-run; with --exit-code 3 if something
differs.")]
pub(crate) struct Apply {
    /// File, folder, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Only show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: exit status 3 if something would change
    #[arg(long, requires = "dry_run")]
    pub(crate) exit_code: bool,
    /// Do not remove what an earlier apply has made and the files do not ask for
    #[arg(long)]
    pub(crate) keep: bool,
}
