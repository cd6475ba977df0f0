//! `netd container`: its words, and the options that it shares with `netd run`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use netd::{IfName, Mac, Name, OwnerKey, PortSpec};

use super::publish::PublishOptions;
use super::value;

/// The commands for containers.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// Attach a network namespace to a network
    #[command(after_help = "\
Without --netns and --pid, a new network namespace /run/netns/NAME is created.

Examples:
  netd container add web -p 8080:80
  netd container add db --network backend --ip 172.18.0.10
  netd container add app --pid 4711 -p 127.0.0.1:9000:9000/udp")]
    Add(Box<ContainerAdd>),
    /// Run a command in a container's network namespace
    #[command(after_help = "Example:\n  netd container exec web -- ip address")]
    Exec {
        /// The container
        name: Name,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// List containers
    #[command(visible_alias = "list")]
    Ls {
        /// Also list detached runs that have ended
        #[arg(short, long)]
        all: bool,
    },
    /// Show a container: namespace, addresses, interfaces, ports; or how a run has ended
    Inspect {
        /// The container
        name: Name,
    },
    /// Detach containers, unpublish their ports, end their runs and remove what is kept of these
    #[command(visible_alias = "remove")]
    Rm {
        /// The containers
        #[arg(required = true, value_name = "NAME")]
        names: Vec<Name>,
    },
}

/// A container to be added.
#[derive(Debug, Args)]
pub(crate) struct ContainerAdd {
    /// Name of the container
    pub(crate) name: Name,
    /// Network to attach to
    #[arg(long, value_name = "NETWORK", default_value = "bridge")]
    pub(crate) network: Name,
    /// Identifier that another program gives to the container, for example a runtime's container ID
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<OwnerKey>,
    /// Use an existing veth pair: this interface is its host end, eth0 in the container the other one
    #[arg(long, value_name = "IFACE")]
    pub(crate) adopt: Option<IfName>,
    /// Attach the network namespace at this path
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    pub(crate) netns: Option<PathBuf>,
    /// Attach the network namespace of this process
    #[arg(long, value_name = "PID", value_parser = value::process)]
    pub(crate) pid: Option<i32>,
    /// How it is attached
    #[command(flatten)]
    pub(crate) attach: AttachOptions,
}

/// The options that `container add` and `run` share.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AttachOptions {
    /// Address of the container, at most one IPv4 and one IPv6 [default: the lowest free]
    #[arg(long, value_name = "IP", value_parser = value::address)]
    pub(crate) ip: Vec<IpAddr>,
    /// MAC address of the container [default: 02:42 and its IPv4 address]
    #[arg(long, value_name = "MAC")]
    pub(crate) mac: Option<Mac>,
    /// Another address or prefix that the container may use, as for a failover address (repeatable)
    #[arg(long, value_name = "IP[/LEN]", value_parser = value::prefix)]
    pub(crate) allowed_address: Vec<IpNet>,
    /// Publish a port: [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp] (repeatable)
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<PortSpec>,
    /// How ports are published
    #[command(flatten)]
    pub(crate) terms: PublishOptions,
}
