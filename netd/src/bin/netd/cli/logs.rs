//! `netd logs`: its words.

use clap::Args;
use jiff::Timestamp;
use netd::Name;

use super::value;

/// A run whose output is asked for.
#[derive(Debug, Args)]
#[command(after_help = "\
What the command printed on stdout is printed on stdout, and stderr on stderr.
The newest 5 to 10 MiB of each run are kept, and with them how it has ended:
'netd container inspect NAME' shows that. A later run of the same name replaces
it, and 'netd container rm NAME' removes it. Something is kept of the last 32
runs that have ended.

Examples:
  netd logs web
  netd logs -f --tail 20 web
  netd logs -t --since 10m web
  netd --json logs web | jq -r 'select(.stream == \"stderr\").text'")]
pub(crate) struct Logs {
    /// The run's container
    pub(crate) name: Name,
    /// Wait for further lines, until the run ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only so many of the last lines, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", value_parser = value::tail)]
    pub(crate) tail: value::Tail,
    /// Only lines since a time (2026-01-31T12:00:00Z), or for a duration (10m)
    #[arg(long, value_name = "TIME", value_parser = value::since)]
    pub(crate) since: Option<Timestamp>,
    /// Print the time of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
}
