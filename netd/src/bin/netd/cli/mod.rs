//! The command line: commands, options and their help. What a command does is in `command`.

mod container;
mod network;
mod publish;
mod run;
pub(crate) mod usage;
mod value;

use std::path::PathBuf;

use clap::builder::styling::AnsiColor;
use clap::builder::{PossibleValuesParser, Styles, TypedValueParser as _};
use clap::{Parser, Subcommand};
use netd::{IfName, Name, Protocol, Quota, TimeoutSpec, XdpMode};

pub(crate) use self::container::{AttachOptions, ContainerAdd, ContainerCommand};
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
/// Run netd as root in the network namespace of the host. There is no daemon: each
/// command changes the state in the kernel, and traffic flows while no netd process
/// runs.
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
  netd --xdp auto publish 9090:80 192.0.2.10
      Forward a port to another host, with XDP if the network card supports it
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
    /// Print results and errors as JSON on stdout
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Use this interface as an uplink, instead of all interfaces that hold routes (repeatable)
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "IFACE")]
    pub(crate) uplink: Vec<IfName>,
    /// Maximum number of tracked connections, fixed at first use (577 bytes each; default 131072)
    #[arg(long, global = true, help_heading = GLOBAL, env = "NETD_MAX_CONNECTIONS", value_name = "N",
        value_parser = value::connections)]
    #[arg(long_help = "\
Maximum number of tracked IPv4 connections, fixed at first use (default 131072)

When the table is full, new connections are refused. IPv6 has a quarter of this number. \
Connections without a reply are in separate tables: a quarter of this number for IPv4, an eighth for IPv6. \
The memory is allocated at once: 577 bytes a connection, 72 MiB by default. \
To change the number later, run 'netd down' first.")]
    pub(crate) max_connections: Option<u32>,
    /// XDP on the uplinks: off, auto (where the network card supports it) or native (all or fail)
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "MODE",
        value_parser = PossibleValuesParser::new(XdpMode::NAMES).try_map(|mode| mode.parse::<XdpMode>()))]
    #[arg(long_help = "\
Attach an XDP program to the uplinks; kept by later commands

The program drops unwanted packets early, and forwards packets to other hosts without the network stack. \
'auto' uses it on network cards whose driver supports XDP and that have no other XDP program. \
'native' uses it on every uplink, or fails. \
On a veth, XDP turns off TCP segmentation offload and needs complete checksums from the peer \
(ethtool -K PEER tx off gro on).")]
    pub(crate) xdp: Option<XdpMode>,
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
#[expect(clippy::large_enum_variant, reason = "there is one, for the life of the process")]
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
    /// Print the manual: a page for netd and one for each command
    #[command(after_help = "\
Examples:
  netd man | man -l -
  netd man > /usr/local/share/man/man1/netd.1")]
    Man,
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
    #[command(visible_alias = "ls")]
    Ports {
        /// Only ports of this container
        #[arg(long, value_name = "NAME")]
        container: Option<Name>,
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
    /// Show attached programs, table usage and dropped packets
    Status,
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
    /// Whether the command only shows something.
    pub(crate) fn only_shows(&self) -> bool {
        match self {
            Self::Ports { .. } | Self::Flows { .. } | Self::Status | Self::Log { .. } => true,
            Self::Network(command) => {
                matches!(command, NetworkCommand::Ls | NetworkCommand::Inspect { .. })
            }
            Self::Container(command) => {
                matches!(
                    command,
                    ContainerCommand::Ls | ContainerCommand::Inspect { .. } | ContainerCommand::Exec { .. }
                )
            }
            Self::Access { lists, open } => !open && lists.allow.is_empty() && lists.deny.is_empty(),
            Self::Quota { quota } => quota.is_none(),
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
