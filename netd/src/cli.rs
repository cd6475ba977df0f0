//! The words of the command line. No logic: what they mean is said in `command`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::styling::AnsiColor;
use clap::builder::{PossibleValuesParser, Styles, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use netd_common::abi::capacity;

use crate::error::Error;
use crate::spec::{
    Access, IfName, Mac, ModeSpec, Name, PortSpec, Protocol, Source, Target, TimeoutSpec, UnpublishSpec,
    XdpMode,
};

/// What `--max-connections` may be.
const FEWEST: i64 = capacity::FEWEST_CONNECTIONS as i64;
const MOST: i64 = capacity::MOST_CONNECTIONS as i64;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Parses with `FromStr` and shows the error's hint as well.
fn word<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.hint_text() {
        Some(hint) => format!("{}\nhint: {hint}", error.chain()),
        None => error.chain(),
    })
}

/// Publishes container ports with eBPF instead of iptables.
///
/// Run it as root in the network namespace that is to be the host. There is no daemon: every command works on the state
/// in the kernel directly, and traffic flows while no netd runs.
#[derive(Debug, Parser)]
#[command(name = "netd", version, styles = STYLES, max_term_width = 100, propagate_version = true, after_help = "\
Examples:
  netd run -p 8080:80 -- nginx -g 'daemon off;'    a web server behind a published port, gone when it ends
  netd container add web -p 8080:80                the same in two steps, for a container that stays
  netd container exec web -- nginx
  netd publish 127.0.0.1:5432:5432 db              one more port of a running container, for the host only
  netd ports                                       who has which port, and what passed
  netd --xdp auto publish 9090:80 192.0.2.10       on to another host, from card to card without the stack
  netd down                                        everything gone, the host as before")]
pub struct Cli {
    /// Where this instance keeps its state; instances with different folders do not know each other
    #[arg(long, global = true, env = "NETD_STATE_DIR", value_name = "DIR", default_value = "/run/netd")]
    pub state_dir: PathBuf,
    /// Print results as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Attach to this interface instead of those that hold the host's routes (may be given more than once)
    #[arg(long, global = true, value_name = "IF", value_parser = word::<IfName>)]
    pub uplink: Vec<IfName>,
    /// For how many connections to make room when netd is first used, at 516 bytes each; 131072 if not said
    #[arg(long, global = true, env = "NETD_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(FEWEST..=MOST))]
    #[arg(long_help = "\
For how many IPv4 connections to make room when netd is first used; 131072 if not said. When all of it is
taken, the connection that was still for longest makes way for a new one. There is room for a quarter as
many IPv6 connections, and in tables of their own for a quarter as many young ones and an eighth of IPv6.
All of it is allocated at once: 516 bytes for each N, so 65 MiB by default and half a GiB for a million.
Tables that there are keep their size: `netd down` first.")]
    pub max_connections: Option<u32>,
    /// Let uplinks drop what is refused, and forward what goes on to other hosts, before the stack sees it: auto on network
    /// cards that can and have no other XDP program, native on every uplink or not at all; later commands keep to it. On a veth
    /// it costs TCP its segmentation offload, and wants the peer's checksums complete (ethtool -K PEER tx off gro on)
    #[arg(long, global = true, value_name = "MODE",
        value_parser = PossibleValuesParser::new(XdpMode::NAMES).try_map(|mode| word::<XdpMode>(&mode)))]
    pub xdp: Option<XdpMode>,
    /// Say more on stderr; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Nouns and verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Networks: bridge, host and none, and yours
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Containers: network namespaces attached to a network
    #[command(subcommand)]
    Container(ContainerCommand),
    /// Run a command in a container of its own, and take everything down when it ends
    #[command(after_help = "\
Examples:
  netd run -p 8080:80 -- nginx -g 'daemon off;'
  netd run --name web -p 127.0.0.1:8080:80 -d -- python3 -m http.server 80
  netd run --network none -- ip address")]
    Run(Run),
    /// Publish ports (or ranges) of a container or of another host: all of them or none
    #[command(after_help = "\
Examples:
  netd publish 8080:80 web                 on every address of the host
  netd publish 127.0.0.1:8080:80 web       for the host only
  netd publish 53:53/udp dns
  netd publish 80:80 443:443 443:443/udp web       several at once
  netd publish --from ports.txt web        many at once, as the file lists them
  seq -f %.0f:80 20000 29999 | netd publish --from - web
  netd publish 80 web                      on a free port, which is printed
  netd publish 8000-8010:80 web            on the first free port of the range
  netd publish 30000-30099:30000-30099 game
  netd publish 8080:80 192.0.2.10          on to another host, in this host's name
  netd publish 8080:80 192.0.2.10 --keep-source    … in the clients' own, if its answers come back this way
  netd publish 8080:80 web --interface eth1        for clients that come in by eth1
  netd publish --replace 8080:80 web2      new connections to web2; those to web go on until they end
  netd publish --replace --cut 8080:80 web2        … and those to web end now
  netd publish 5432:5432 db --allow 192.0.2.0/24 --deny 192.0.2.13")]
    Publish(Publish),
    /// Take published ports back
    #[command(after_help = "\
Examples:
  netd unpublish 8080                      as published: a host port …
  netd unpublish 53/udp 127.0.0.1:8080:80  … or the whole specification
  netd unpublish --from ports.txt
  netd unpublish --container web
  netd unpublish --all")]
    Unpublish(Unpublish),
    /// Show or change who may use the ports that were published without lists of their own
    #[command(after_help = "\
Examples:
  netd access --allow 192.0.2.0/24         closed unless allowed
  netd access --deny 198.51.100.0/24       open but for these
  netd access --open                       open to all, as at first
  netd access                              what holds now")]
    Access {
        /// The new lists
        #[command(flatten)]
        lists: AccessOptions,
        /// Let everybody in
        #[arg(long, conflicts_with_all = ["allow", "deny"])]
        open: bool,
    },
    /// List published ports with what passed
    #[command(visible_alias = "ls")]
    Ports {
        /// Only those of this container
        #[arg(long, value_name = "NAME", value_parser = word::<Name>)]
        container: Option<Name>,
    },
    /// List connections, as conntrack does: who began it and who answers, how far it has come, what passed
    #[command(after_help = "\
Examples:
  netd flows
  netd flows --container web --proto tcp
  netd --json flows --port 8080 | jq length")]
    Flows {
        /// Only those of this container
        #[arg(long, value_name = "NAME", value_parser = word::<Name>)]
        container: Option<Name>,
        /// Only those of this protocol
        #[arg(long, value_name = "tcp|udp|sctp", value_parser = word::<Protocol>)]
        proto: Option<Protocol>,
        /// Only those with this port at any end
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
    },
    /// Show or change how long connections may be idle before they are forgotten, by how far they have come
    #[command(after_help = "\
Examples:
  netd timeouts                            what holds now, and why
  netd timeouts two_way=10m one_way=30s    for connections that there are and those to come
  netd timeouts established=1d
  netd timeouts --reset                    as at first

The names are those of `netd flows`; a number without a unit is seconds.")]
    Timeouts {
        /// A phase and its new timeout
        #[arg(value_name = "PHASE=DURATION", value_parser = word::<TimeoutSpec>)]
        changes: Vec<TimeoutSpec>,
        /// Let the defaults hold again
        #[arg(long, conflicts_with = "changes")]
        reset: bool,
    },
    /// Show what is attached where, how full the tables are, and what was dropped
    Status,
    /// Print what the programs report: one dropped packet a second for each reason
    #[command(after_help = "Example:\n  netd log -f | grep direct_access")]
    Log {
        /// Go on until interrupted
        #[arg(short, long)]
        follow: bool,
    },
    /// Detach and remove everything that this instance made
    Down {
        /// Also what is left of namespaces that are gone
        #[arg(long)]
        all: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  netd completions bash > /etc/bash_completion.d/netd")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  netd man | man -l -")]
    Man,
    /// Internal: take a run's command through its life
    #[command(hide = true)]
    Supervise(Supervise),
    /// Internal: become a run's command
    #[command(hide = true)]
    Become(Become),
}

/// What can be done with networks.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Make a network
    #[command(after_help = "\
Examples:
  netd network create backend
  netd network create lab --subnet 10.20.0.0/24 --gateway 10.20.0.254 --bridge lab0 --mtu 1400
  netd network create both --ipv6
  netd network create shop --snat-address 198.51.100.7
  netd network create vault --internal
  netd network create sealed --internal --gateway-mode isolated
  netd network create own --subnet 2001:db8:6::/64 --gateway-mode ipv6=routed
  netd network create lan --trusted-interface eth1

Gateway modes:
  nat              ports are published on the host, containers leave in its name, and their own
                   addresses are reached by nobody outside
  nat-unprotected  the same, but whoever routes to the subnet reaches every port of a container
  routed           no translation: whoever routes to the subnet reaches published ports by the
                   container's own address and port, and may ping; the host's ports are left alone
  isolated         for --internal: the host has no address on the network either")]
    Create(NetworkCreate),
    /// List networks
    #[command(visible_alias = "list")]
    Ls,
    /// Show a network and who is on it
    Inspect {
        /// The network
        #[arg(value_parser = word::<Name>)]
        name: Name,
    },
    /// Remove a network
    #[command(visible_alias = "remove")]
    Rm {
        /// The network
        #[arg(value_parser = word::<Name>)]
        name: Name,
        /// With the containers on it
        #[arg(long, short)]
        force: bool,
    },
}

/// A network to be made.
#[derive(Debug, Args)]
pub struct NetworkCreate {
    /// Its name
    #[arg(value_parser = word::<Name>)]
    pub name: Name,
    /// Its subnet, one of each family at most; without an IPv4 one, the first of Docker's default pools that no route of the
    /// host touches
    #[arg(long, value_name = "CIDR")]
    pub subnet: Vec<String>,
    /// The host's address on it; without one, the first of the subnet
    #[arg(long, value_name = "IP")]
    pub gateway: Vec<IpAddr>,
    /// Name of its bridge interface
    #[arg(long, value_name = "IFNAME", value_parser = word::<IfName>)]
    pub bridge: Option<IfName>,
    /// MTU, bytes; without one, that of the default route's interface
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(68..=65535))]
    pub mtu: Option<u32>,
    /// Give it an IPv6 subnet as well; without one in --subnet, a unique local one is drawn
    #[arg(long)]
    pub ipv6: bool,
    /// No way out and no published ports
    #[arg(long)]
    pub internal: bool,
    /// Containers on it reach each other only through published ports
    #[arg(long)]
    pub no_icc: bool,
    /// Containers' own addresses are shown to the outside
    #[arg(long)]
    pub no_masquerade: bool,
    /// The host's address in whose name connections leave; without one, that of the interface they leave by
    #[arg(long, value_name = "IP", conflicts_with = "no_masquerade")]
    pub snat_address: Vec<IpAddr>,
    /// What lies between its containers and the outside, in both families or in one
    #[arg(long, value_name = "[ipv4=|ipv6=]MODE", value_parser = word::<ModeSpec>)]
    pub gateway_mode: Vec<ModeSpec>,
    /// Whoever comes in by this interface reaches published ports by the container's own address as well
    #[arg(long, value_name = "IF", value_parser = word::<IfName>)]
    pub trusted_interface: Vec<IfName>,
}

/// What can be done with containers.
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// Attach a namespace to a network; without one, make /run/netns/NAME
    #[command(after_help = "\
Examples:
  netd container add web -p 8080:80
  netd container add db --network backend --ip 172.18.0.10
  netd container add app --pid 4711 -p 127.0.0.1:9000:9000/udp")]
    Add(ContainerAdd),
    /// Run a command in a container's namespace
    #[command(after_help = "Example:\n  netd container exec web -- ip address")]
    Exec {
        /// The container
        #[arg(value_parser = word::<Name>)]
        name: Name,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
        command: Vec<std::ffi::OsString>,
    },
    /// List containers
    #[command(visible_alias = "list")]
    Ls,
    /// Show a container: sandbox, address, gateway, MAC address, interfaces, ports
    Inspect {
        /// The container
        #[arg(value_parser = word::<Name>)]
        name: Name,
    },
    /// Detach a container and take its ports back
    #[command(visible_alias = "remove")]
    Rm {
        /// The containers
        #[arg(required = true, value_parser = word::<Name>)]
        names: Vec<Name>,
    },
}

/// A container to be attached.
#[derive(Debug, Args)]
pub struct ContainerAdd {
    /// Its name
    #[arg(value_parser = word::<Name>)]
    pub name: Name,
    /// The network
    #[arg(long, value_name = "NET", default_value = "bridge", value_parser = word::<Name>)]
    pub network: Name,
    /// The namespace to attach, by path
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    pub netns: Option<PathBuf>,
    /// The namespace to attach, by a process in it
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// How it is attached
    #[command(flatten)]
    pub attach: AttachOptions,
}

/// What `add` and `run` have in common.
#[derive(Clone, Debug, Default, Args)]
pub struct AttachOptions {
    /// Its address, one of each family at most; without one, the lowest free
    #[arg(long, value_name = "IP")]
    pub ip: Vec<IpAddr>,
    /// Its MAC address; without one, 02:42 and its address
    #[arg(long, value_name = "MAC", value_parser = word::<Mac>)]
    pub mac: Option<Mac>,
    /// What to publish, as for `docker run -p`
    #[arg(help = "Publish a port: [HOSTIP:][HOSTPORT[-END]]:PORT[-END][/tcp|udp|sctp]", short, long, value_name = "SPEC", value_parser = word::<PortSpec>)]
    pub publish: Vec<PortSpec>,
    /// How it is published
    #[command(flatten)]
    pub terms: PublishOptions,
}

/// How ports are published.
#[derive(Clone, Debug, Default, Args)]
pub struct PublishOptions {
    /// Who may use them
    #[command(flatten)]
    pub access: AccessOptions,
    /// Let only clients in that come in by this interface; neither the host itself nor containers
    #[arg(long, value_name = "IF", value_parser = word::<IfName>)]
    pub interface: Option<IfName>,
}

/// Who may use published ports.
#[derive(Clone, Debug, Default, Args)]
pub struct AccessOptions {
    /// Let only these sources in; of several that hold an address the longest prefix counts (may be given more than once)
    #[arg(long, value_name = "CIDR", value_parser = word::<Source>)]
    pub allow: Vec<Source>,
    /// Keep these sources out (may be given more than once)
    #[arg(long, value_name = "CIDR", value_parser = word::<Source>)]
    pub deny: Vec<Source>,
}

impl AccessOptions {
    /// The lists, if they do not contradict themselves.
    pub fn lists(&self) -> Result<Access, Error> {
        Access::new(self.allow.clone(), self.deny.clone())
    }
}

/// A command to be run in a container of its own.
#[derive(Debug, Args)]
pub struct Run {
    /// Name of the container; without one, run- and a number
    #[arg(long, value_parser = word::<Name>)]
    pub name: Option<Name>,
    /// The network
    #[arg(long, value_name = "NET", default_value = "bridge", value_parser = word::<Name>)]
    pub network: Name,
    /// How it is attached
    #[command(flatten)]
    pub attach: AttachOptions,
    /// Leave it running in the background and print its name
    #[arg(short, long)]
    pub detach: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// A run, for the process that takes it through its life.
#[derive(Debug, Args)]
pub struct Supervise {
    /// The process to die with, unless detached
    #[arg(long)]
    pub parent: i32,
    /// The run
    #[command(flatten)]
    pub run: Run,
}

/// A run's command, for the process that becomes it.
#[derive(Debug, Args)]
pub struct Become {
    /// The process to die with
    #[arg(long)]
    pub parent: i32,
    /// The namespace to enter
    #[arg(long)]
    pub sandbox: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// A publication to be made.
#[derive(Debug, Args)]
pub struct Publish {
    /// What to publish, as for `docker run -p`
    #[arg(help = "[HOSTIP:][HOSTPORT[-END]]:PORT[-END][/tcp|udp|sctp], one or more", value_name = "SPEC", required_unless_present = "from", value_parser = word::<PortSpec>)]
    pub specs: Vec<PortSpec>,
    /// The container, or the address of a host that this one reaches
    #[arg(required = true, value_parser = word::<Target>)]
    pub target: Target,
    /// Publish what this file lists as well, or standard input for -; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// How it is published
    #[command(flatten)]
    pub terms: PublishOptions,
    /// Let a host that is no container see the clients' own addresses; its answers must come back by this host
    #[arg(long)]
    pub keep_source: bool,
    /// Take the ports over from the publication that has them, if one has; its connections go on until they end
    #[arg(long)]
    pub replace: bool,
    /// With --replace: cut the old connections at once
    #[arg(long, requires = "replace")]
    pub cut: bool,
}

/// Publications to be taken back.
#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = true)]
pub struct Unpublish {
    /// What to take back, as it was published
    #[arg(help = "[HOSTIP:]HOSTPORT[-END][:PORT[-END]][/tcp|udp|sctp]", value_name = "SPEC", value_parser = word::<UnpublishSpec>, group = "which")]
    pub specs: Vec<UnpublishSpec>,
    /// What this file lists as well, or standard input for -; # begins a comment
    #[arg(long, value_name = "FILE", conflicts_with_all = ["container", "all"], group = "which")]
    pub from: Option<PathBuf>,
    /// All of this container
    #[arg(long, value_name = "NAME", value_parser = word::<Name>, conflicts_with = "specs", group = "which")]
    pub container: Option<Name>,
    /// All of this instance
    #[arg(long, conflicts_with_all = ["specs", "container"], group = "which")]
    pub all: bool,
}
