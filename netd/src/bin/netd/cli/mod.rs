//! The command line: commands, options and their help. What a command does is in `command`.

mod apply;
mod container;
mod logs;
mod network;
mod publish;
mod run;
pub(crate) mod usage;
mod value;

use std::path::PathBuf;

use clap::builder::styling::AnsiColor;
use clap::builder::{FalseyValueParser, Styles};
use clap::{Parser, Subcommand};
use netd::{Name, Protocol, Quota, Setting, SettingName, TimeoutSpec};

pub(crate) use self::apply::Apply;
pub(crate) use self::container::{AttachOptions, ContainerAdd, ContainerCommand};
pub(crate) use self::logs::Logs;
pub(crate) use self::network::{NetworkCommand, NetworkConnect, NetworkCreate};
pub(crate) use self::publish::{AccessOptions, Publish, PublishOptions, Unpublish};
pub(crate) use self::run::{Become, Run, Supervise};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Where help lists the options that every command has.
const GLOBAL: &str = "Global options";

/// Publish container ports with eBPF instead of iptables
///
/// Run netd as root in the network namespace of the host. Each command changes the
/// state in the kernel, and traffic flows while no netd process runs. One small
/// process follows changes of the host, see 'netd serve'.
#[derive(Debug, Parser)]
#[command(name = "netd", version, styles = STYLES, max_term_width = 80, propagate_version = true, after_help = "\
Examples:
  netd run -p 8080:80 -- nginx -g 'daemon off;'
      Run a web server with a published port; remove everything when it ends
  netd container add web -p 8080:80
  netd container exec web -- nginx
      The same in two steps, for a container that stays
  netd publish 127.0.0.1:5432:5432 db
      Publish one more port of a container, for the host itself only
  netd publish 9090:80 192.0.2.10
      Forward a port to another host
  netd apply /etc/netd/netd.toml
      Make the host what a file asks for
  netd ports
      List published ports and their traffic
  netd down
      Remove everything that netd made

Exit status: 0 on success, 1 on failure, 2 on wrong usage. 'run' and 'container
exec' return the exit status of their command.")]
pub(crate) struct Cli {
    /// Directory for the state; each directory is an instance of its own
    #[arg(long, global = true, help_heading = GLOBAL, env = "NETD_STATE_DIR", value_name = "DIR", default_value = "/run/netd")]
    pub(crate) state_dir: PathBuf,
    /// Directory for the output of detached runs; each instance has one of its own there
    #[arg(long, global = true, help_heading = GLOBAL, env = "NETD_LOG_DIR", value_name = "DIR", default_value = "/var/log/netd")]
    pub(crate) log_dir: PathBuf,
    /// Print results and errors as JSON on stdout
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Do not start the process that follows changes of the host (see 'netd serve')
    #[arg(long, global = true, help_heading = GLOBAL, env = "NETD_NO_SERVE", value_parser = FalseyValueParser::new())]
    pub(crate) no_serve: bool,
    /// Print more on stderr; -vv prints debug messages
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print only errors on stderr
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// The command
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Whatever needs root and a host
    #[command(flatten)]
    Host(HostCommand),
    /// Print the completion script for a shell
    #[command(after_help = "\
Examples:
  netd completions bash > /etc/bash_completion.d/netd
  netd completions zsh > /usr/local/share/zsh/site-functions/_netd
  netd completions fish > /etc/fish/completions/netd.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of the files of 'netd apply'
    #[command(after_help = "Example:\n  netd schema > /etc/netd/netd.schema.json")]
    Schema,
    /// Print the manual: a page for netd and one for each command
    #[command(after_help = "\
Examples:
  netd man | man -l -
  netd man --dir /usr/local/share/man/man1")]
    Man {
        /// Write each page to a file in this folder instead, for example netd-run.1
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// The commands that work on an instance.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Manage networks (bridge, host and none are built in)
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Manage containers: network namespaces that are attached to networks
    #[command(subcommand)]
    Container(ContainerCommand),
    /// Run a command in a new container, and remove the container when it ends
    Run(Run),
    /// Show what a detached run has printed, also after its end
    Logs(Logs),
    /// Publish ports of a container or of another host
    Publish(Publish),
    /// Stop publishing ports
    Unpublish(Unpublish),
    /// Show or set the default access lists of published ports
    #[command(after_help = "\
Examples:
  netd access                        Show the lists
  netd access --allow 192.0.2.0/24   Allow only this subnet
  netd access --deny 198.51.100.0/24 Allow everybody except this subnet
  netd access --open                 Allow everybody (the default)

The lists apply to ports that were published without --allow and --deny.")]
    Access {
        /// The new lists
        #[command(flatten)]
        lists: AccessOptions,
        /// Remove the lists: allow everybody
        #[arg(long, conflicts_with_all = ["allow", "deny"])]
        open: bool,
    },
    /// List published ports and their traffic
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  netd ports
  netd ports --active   FLOWS shows active and all connections: 3/1205

Without --active it costs the same for any number of connections. Then what a
connection has carried in its last seconds may be missing while it goes on."
    )]
    Ports {
        /// Only ports of this container
        #[arg(long, value_name = "NAME")]
        container: Option<Name>,
        /// Count active connections (with a packet in the last two minutes), which looks at all connections
        #[arg(long)]
        active: bool,
    },
    /// List tracked connections
    #[command(after_help = "\
Each connection has two lines: the packets of its originator, and below them the
replies. Addresses and ports are those of the packets as they arrive at the host.

Examples:
  netd flows
  netd flows --container web --proto tcp
  netd --json flows --port 8080 | jq length")]
    Flows {
        /// Only connections of this container
        #[arg(long, value_name = "NAME")]
        container: Option<Name>,
        /// Only connections of this protocol: tcp, udp or sctp
        #[arg(long, value_name = "PROTO")]
        proto: Option<Protocol>,
        /// Only connections with this source or destination port
        #[arg(long, value_name = "PORT", value_parser = value::port)]
        port: Option<u16>,
    },
    /// Show or set the idle timeout of each connection state
    #[command(after_help = "\
Examples:
  netd timeouts                          Show the timeouts and their sources
  netd timeouts two_way=10m one_way=30s  Set two timeouts, open connections too
  netd timeouts established=1d
  netd timeouts --reset                  Restore the defaults

The states are those of 'netd flows'. The units are s, m, h and d; without a
unit, the number is in seconds.")]
    Timeouts {
        /// A state and its new timeout, for example two_way=10m
        #[arg(value_name = "STATE=DURATION")]
        changes: Vec<TimeoutSpec>,
        /// Restore the defaults
        #[arg(long, conflicts_with = "changes")]
        reset: bool,
    },
    /// Show or set how much of the flow tables one container may have
    #[command(after_help = "\
Examples:
  netd quota       Show the quota, and how full the tables are
  netd quota 50%   A container may have half of what the others leave
  netd quota 100%  No quota

A container may have this share of what the other containers leave free in a
table. So one container alone can have 80% of it by default, and there is always
room for another one. A connection counts for the container that opened it; one
from outside counts for its target. At its quota of established connections a
container gets no new ones. At its quota of unreplied ones its new connections
replace its old ones.")]
    Quota {
        /// The new quota, for example 50% (default 80%)
        #[arg(value_name = "PERCENT")]
        quota: Option<Quota>,
    },
    /// Make the host what files ask for; change only what differs
    Apply(Apply),
    /// Print a file for 'netd apply' that asks for what is there
    #[command(after_help = "\
Examples:
  netd save
  netd save /etc/netd/netd.toml

Values that netd chooses by itself are left out, except addresses. What a file
cannot ask for, such as containers of 'netd run', is named in comments.")]
    Save {
        /// Write to this file instead of standard output
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Change settings
    #[command(after_help = "\
Settings:
  uplinks          Interfaces to the outside, for example eth0,eth1. auto: all
                   interfaces that hold routes (the default)
  xdp              Uplinks with the XDP program, which drops denied packets early
                   and forwards packets to other hosts without the network stack.
                   off (the default); auto: network cards whose driver supports
                   XDP and that have no other XDP program; native: every uplink,
                   or the command fails
  max-connections  Tracked IPv4 connections, fixed at first use: 577 bytes each;
                   IPv6 has a quarter of the number. auto: 131072
  serve            on (the default): commands start 'netd serve'; off
  metrics          Where 'netd serve' answers scrapes. auto (the default): at a
                   Unix socket for root; ADDRESS:PORT: also at this loopback
                   address of the host, for every user; off: nowhere

Examples:
  netd set uplinks=eth0,eth1
  netd set xdp=auto serve=off
  netd set metrics=127.0.0.1:9191
  netd set uplinks=auto

On a veth, XDP turns off TCP segmentation offload and needs complete checksums
from the peer (ethtool -K PEER tx off gro on).")]
    Set {
        /// A setting and its new value, for example xdp=auto
        #[arg(required = true, value_name = "NAME=VALUE")]
        changes: Vec<Setting>,
    },
    /// Show settings
    #[command(after_help = "\
Examples:
  netd get
  netd get uplinks    Print this value only")]
    Get {
        /// Only this setting
        #[arg(value_name = "NAME")]
        name: Option<SettingName>,
    },
    /// Show attached programs, table usage and dropped packets
    Status,
    /// Print metrics once, as OpenMetrics text
    #[command(after_help = "\
Examples:
  netd metrics
  curl --unix-socket /run/netd/*/metrics.sock http://localhost/metrics
  netd set metrics=127.0.0.1:9191

'netd serve' answers scrapes: at the Unix socket metrics.sock in the instance's
folder of the state directory, and at an address of the host if it is set. This
command does not need it.")]
    Metrics,
    /// Compare the records with the kernel
    #[command(
        alias = "verify",
        after_help = "\
Examples:
  netd check
  netd --json check | jq '.[].kind'

It changes nothing. Exit status: 0 if nothing differs, 3 if something does."
    )]
    Check,
    /// Put right what differs from the records
    #[command(after_help = "\
Example:
  netd repair

'netd check' shows what it would put right. 'netd serve' does it within a second
of a change. Exit status: 0 if nothing differs any more, 3 if something does.")]
    Repair,
    /// Follow changes of the host, and put right what differs from the records
    #[command(after_help = "\
Examples:
  netd serve                 Stay until a signal comes, as a service does
  netd --no-serve publish …  Change something without starting this process

Commands start this process in the background when there is something to follow,
and it ends with the last thing that netd has made. 'netd serve' takes its place
and stays. Traffic does not need it. It
follows interfaces, addresses, routes, rules and switches: without it, netd takes
changes of these over with the next command that changes something. A process
that was killed is started again by such a command.")]
    Serve {
        /// Started by a command: leave its session, and end with the last thing that netd has made
        #[arg(long, hide = true)]
        background: bool,
    },
    /// Show samples of dropped packets (at most one a second per reason)
    #[command(after_help = "Example:\n  netd log -f | grep direct_access")]
    Log {
        /// Wait for further samples
        #[arg(short, long)]
        follow: bool,
    },
    /// Adapt to changes of the host, and remove what a killed command left
    #[command(after_help = "\
New uplinks get their programs, new host addresses are used, and containers whose
run has ended are removed. Every command that changes something does this first;
commands that only show something do not.")]
    Sync,
    /// Replace the programs of another netd by those of this one
    #[command(after_help = "\
Traffic goes on meanwhile, and all connections stay. Every command that changes
something does this first; after the installation of another version of netd, this
command does nothing else.")]
    Upgrade,
    /// Remove everything that this instance made
    Down {
        /// Also remove what is left of network namespaces that are gone
        #[arg(long)]
        all: bool,
    },
    /// Internal: attach the container of a run, wait for its command, remove the container
    #[command(hide = true)]
    Supervise(Supervise),
    /// Internal: become the command of a run
    #[command(hide = true)]
    Become(Become),
}

impl HostCommand {
    /// Whether the command may leave something to follow, and has ended its own part when it returns.
    pub(crate) fn may_leave_work(&self) -> bool {
        let is_process = matches!(
            self,
            Self::Run(_) | Self::Supervise(_) | Self::Become(_) | Self::Serve { .. } | Self::Down { .. }
        );
        !self.only_shows() && !is_process
    }

    /// Whether the command only shows something.
    pub(crate) fn only_shows(&self) -> bool {
        match self {
            Self::Ports { .. }
            | Self::Flows { .. }
            | Self::Get { .. }
            | Self::Status
            | Self::Metrics
            | Self::Check
            | Self::Save { .. }
            | Self::Log { .. }
            | Self::Logs(_) => true,
            Self::Network(command) => {
                matches!(command, NetworkCommand::Ls | NetworkCommand::Inspect { .. })
            }
            Self::Container(command) => {
                matches!(
                    command,
                    ContainerCommand::Ls { .. }
                        | ContainerCommand::Inspect { .. }
                        | ContainerCommand::Exec { .. }
                )
            }
            Self::Access { lists, open } => !open && lists.allow.is_empty() && lists.deny.is_empty(),
            Self::Quota { quota } => quota.is_none(),
            Self::Apply(apply) => apply.dry_run,
            Self::Timeouts { changes, reset } => !reset && changes.is_empty(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_eighty_columns() {
        fn check(command: &mut clap::Command) {
            for help in [command.render_help(), command.render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
                }
            }
            command.get_subcommands_mut().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&mut command);
    }
}
