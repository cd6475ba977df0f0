//! What the host has, as the kernel describes it: interfaces, addresses, routes.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::count::Count;
use super::name::Mac;

/// An interface, as `ip link` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address, if it is a station's.
    pub mac: Option<Mac>,
    /// MTU, bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it can carry packets now.
    pub running: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// What its packets begin with.
    pub layer: LinkLayer,
    /// bridge, veth …; none for hardware.
    pub kind: Option<String>,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// The interface that it sits on, or a veth's other end.
    pub below: Option<u32>,
    /// Whether a device of a bus is behind it (`IFLA_PARENT_DEV_NAME`, kernel 5.14).
    pub hardware: bool,
    /// The XDP program that it has.
    pub xdp: Option<u32>,
    /// What it received.
    pub received: Count,
    /// What it sent.
    pub sent: Count,
}

/// What an interface's packets begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// The IP header: WireGuard, tun, PPP and other tunnels.
    Ip,
    /// A header that netd does not know.
    #[default]
    Other,
}

impl Link {
    /// Whether its packets begin with an Ethernet header.
    pub(crate) fn is_ethernet(&self) -> bool {
        self.layer == LinkLayer::Ethernet
    }

    /// Whether the programs can read its packets.
    pub(crate) fn is_readable(&self) -> bool {
        self.layer != LinkLayer::Other
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Index of the interface.
    pub interface: u32,
    /// The address and the length of its prefix.
    pub net: IpNet,
    /// Whether it means something beyond its link, and may be used now.
    pub global: bool,
}

/// A unicast route that leads beyond a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// Interfaces that it leads by; more than one if it has several next hops. Most routes of a host share few of these lists.
    pub interfaces: Arc<[u32]>,
    /// Its preference, the lowest first.
    pub metric: u32,
    /// The MTU of its own, bytes (`mtu`).
    pub mtu: Option<u32>,
    /// Whether it is in the main table.
    pub main: bool,
}

#[cfg(test)]
impl Route {
    /// A route of the main table by one interface.
    pub(crate) fn example(destination: &str, interface: u32) -> Self {
        let destination = destination.parse().unwrap();
        Self { destination, interfaces: [interface].into(), metric: 0, mtu: None, main: true }
    }
}

/// All routes of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    /// Unicast routes that lead beyond a link.
    pub unicast: Vec<Route>,
    /// Prefixes that are the host's own.
    pub local: Vec<IpNet>,
    /// The broadcast addresses of its networks.
    pub broadcast: Vec<IpAddr>,
}

/// An IPsec policy of the host: what must happen to packets between two prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpsecPolicy {
    /// The host's side.
    pub local: IpNet,
    /// The peers.
    pub remote: IpNet,
    /// Whether they pass unchanged; otherwise they must be encrypted, or are blocked.
    pub passes: bool,
}

impl Address {
    /// The address itself.
    pub(crate) fn ip(&self) -> IpAddr {
        self.net.addr()
    }
}
