//! `netd network`: its words.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use netd::{IfName, Mac, ModeSpec, Name};

use super::value;

/// The commands for networks.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Create a network
    #[command(after_help = "\
Examples:
  netd network create backend
  netd network create lab --subnet 10.20.0.0/24 --gateway 10.20.0.254 \\
      --bridge lab0 --mtu 1400
  netd network create both --ipv6
  netd network create shop --snat-address 198.51.100.7
  netd network create vault --internal
  netd network create sealed --internal --gateway-mode isolated
  netd network create own --subnet 2001:db8:6::/64 --gateway-mode ipv6=routed
  netd network create lan --trusted-interface eth1
  netd network create pods --adopt cni0 --unmanaged

Gateway modes, as in Docker:
  nat              Ports are published on the host, outgoing connections are
                   masqueraded, and container addresses are not reachable from
                   outside.
  nat-unprotected  Like nat, but all ports of container addresses are reachable
                   from outside.
  routed           No NAT: published ports are reachable from outside by the
                   container's address and port, and ping works. Host ports are
                   not used.
  isolated         The host has no address on the network (needs --internal).")]
    Create(NetworkCreate),
    /// List networks
    #[command(visible_alias = "list")]
    Ls,
    /// Show a network and its containers
    Inspect {
        /// The network
        name: Name,
    },
    /// Attach a container to another network
    #[command(after_help = "Example:\n  netd network connect backend web --interface eth1")]
    Connect(NetworkConnect),
    /// Detach a container from a network
    Disconnect {
        /// The network
        network: Name,
        /// The container
        container: Name,
    },
    /// Remove a network
    #[command(visible_alias = "remove")]
    Rm {
        /// The network
        name: Name,
        /// Also remove its containers and the published ports that need it
        #[arg(long, short)]
        force: bool,
    },
}

/// Another interface for a container.
#[derive(Debug, Args)]
pub(crate) struct NetworkConnect {
    /// The network
    pub(crate) network: Name,
    /// The container
    pub(crate) container: Name,
    /// Name of the interface in the container
    #[arg(long, value_name = "IFACE", default_value = "eth1")]
    pub(crate) interface: IfName,
    /// Address of the container, at most one IPv4 and one IPv6 [default: the lowest free]
    #[arg(long, value_name = "IP", value_parser = value::address)]
    pub(crate) ip: Vec<IpAddr>,
    /// MAC address of the container [default: 02:42 and its IPv4 address]
    #[arg(long, value_name = "MAC")]
    pub(crate) mac: Option<Mac>,
    /// Another address or prefix that the container may use (repeatable)
    #[arg(long, value_name = "IP[/LEN]", value_parser = value::prefix)]
    pub(crate) allowed_address: Vec<IpNet>,
}

/// A network to be created.
#[derive(Debug, Args)]
pub(crate) struct NetworkCreate {
    /// Name of the network
    pub(crate) name: Name,
    /// Subnet, at most one IPv4 and one IPv6 [default: the first free IPv4 pool of Docker]
    #[arg(long, value_name = "CIDR", value_parser = value::subnet)]
    pub(crate) subnet: Vec<IpNet>,
    /// Address of the host on the network [default: the first of the subnet]
    #[arg(long, value_name = "IP", value_parser = value::address)]
    pub(crate) gateway: Vec<IpAddr>,
    /// Name of the bridge interface
    #[arg(long, value_name = "IFACE")]
    pub(crate) bridge: Option<IfName>,
    /// Use this existing bridge and its addresses; netd never removes it
    #[arg(long, value_name = "IFACE", conflicts_with_all = ["bridge", "mtu"])]
    pub(crate) adopt: Option<IfName>,
    /// Somebody else routes the adopted bridge: publish ports of its containers and leave all else alone
    #[arg(long, requires = "adopt")]
    pub(crate) unmanaged: bool,
    /// MTU in bytes [default: MTU of the default route's interface]
    #[arg(long, value_name = "N", value_parser = value::mtu)]
    pub(crate) mtu: Option<u32>,
    /// Enable IPv6; without an IPv6 --subnet, a random unique local one is chosen
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// No connections to or from outside, and no published ports
    #[arg(long)]
    pub(crate) internal: bool,
    /// Containers reach each other only through published ports
    #[arg(long)]
    pub(crate) no_icc: bool,
    /// Outgoing connections keep the container's source address
    #[arg(long)]
    pub(crate) no_masquerade: bool,
    /// Source address of outgoing connections [default: address of the outgoing interface]
    #[arg(long, value_name = "IP", value_parser = value::address, conflicts_with = "no_masquerade")]
    pub(crate) snat_address: Vec<IpAddr>,
    /// Gateway mode, for both families or as ipv4=MODE or ipv6=MODE [default: nat]
    #[arg(long, value_name = "MODE")]
    pub(crate) gateway_mode: Vec<ModeSpec>,
    /// Clients that arrive on this interface may also use container addresses for published ports
    #[arg(long, value_name = "IFACE")]
    pub(crate) trusted_interface: Vec<IfName>,
}
