//! The records: what this instance has made, and how far it has come.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use netd_common::flow::Handle;
use serde::{Deserialize, Serialize};

use crate::spec::{Access, GatewayMode, IfName, Mac, Name, PortRange, Protocol};

/// How far something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being made; if no command is at work, one died over it.
    Adding,
    /// Whole.
    Ready,
    /// Of a publication: another one has its ports, and only its connections are left.
    Draining,
    /// Being taken away.
    Removing,
}

/// A network of the user's, or `bridge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: Name,
    /// How far it has come.
    pub phase: Phase,
    /// Its number in the tables; never zero.
    pub number: u32,
    /// Its bridge.
    pub bridge: IfName,
    /// The bridge's MAC address: proof, with the name, that the interface is the one that netd made.
    pub mac: Mac,
    /// Its subnets: one of IPv4, and one of IPv6 if it has that.
    pub subnets: Vec<Subnet>,
    /// MTU, bytes; none: that of the default route's interface.
    pub mtu: u32,
    /// No way out and no published ports.
    pub internal: bool,
    /// Whether containers on it reach each other directly.
    pub icc: bool,
    /// Whether containers' connections to outside leave in the host's name.
    pub masquerade: bool,
    /// The interfaces by which published ports are reached by the containers' own addresses as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<IfName>,
}

/// A network in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its addresses.
    pub net: IpNet,
    /// The bridge's; in [`GatewayMode::Isolated`] kept free, and nobody's.
    pub gateway: IpAddr,
    /// What the gateway does for the containers.
    #[serde(default)]
    pub mode: GatewayMode,
    /// In whose name connections leave; if none, in that of the interface they leave by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snat: Option<IpAddr>,
}

impl Network {
    /// Its subnet in the family of `address`.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.gateway.is_ipv4() == address.is_ipv4())
    }

    /// The subnets on which the host has an address.
    pub fn gated(&self) -> impl Iterator<Item = &Subnet> {
        self.subnets.iter().filter(|subnet| subnet.mode != GatewayMode::Isolated)
    }
}

/// How a container is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attachment {
    /// In the host's own namespace.
    Host,
    /// In a namespace with nothing but loopback.
    None,
    /// On a bridge network.
    Bridge(Box<Link>),
}

/// A container's veth pair and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The host's end.
    pub host_interface: IfName,
    /// The host's end's MAC address: proof, with the name, that the interface is the one that netd made.
    pub host_mac: Mac,
    /// The container's end's MAC address.
    pub mac: Mac,
    /// The container's addresses: one in each subnet of its network.
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Slot of its row in the tables.
    pub slot: u16,
    /// Which owner of the slot it is.
    pub generation: u16,
}

impl Link {
    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }
}

/// A process: its number, and when it started, since numbers are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process number.
    pub pid: i32,
    /// Start time, clock ticks after boot (`starttime` of proc(5)).
    pub start: u64,
}

/// The network namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// The host's own.
    Host,
    /// Another one.
    Namespace {
        /// Where it is found: an absolute path. It may lead to another namespace by now: a process below /proc may have ended,
        /// and a name may have been given again.
        path: PathBuf,
        /// Its cookie, which no other namespace of this boot has. It proves that the namespace at the path is the recorded one.
        cookie: u64,
        /// Whether netd made it.
        made: bool,
    },
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: Name,
    /// How far it has come.
    pub phase: Phase,
    /// The network it is on: a record's, or `host` or `none`.
    pub network: Name,
    /// Its network namespace.
    pub sandbox: Sandbox,
    /// How it is attached.
    pub attachment: Attachment,
    /// For `netd run`: the process that takes it down when its command ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

impl Container {
    /// Its veth pair and address, if it has one.
    pub fn link(&self) -> Option<&Link> {
        match &self.attachment {
            Attachment::Bridge(link) => Some(link),
            Attachment::Host | Attachment::None => None,
        }
    }
}

/// How ports are published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Who may use them; empty if all, or if the instance's lists say.
    #[serde(default, skip_serializing_if = "Access::is_empty")]
    pub access: Access,
    /// The one interface that their clients come in by; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<IfName>,
}

impl Terms {
    /// As a publication has them.
    pub fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }
}

/// A published port, or an equal-length range of them. Kept small: a command may read tens of thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// How far it has come.
    pub phase: Phase,
    /// Its place in the order in which they were made; never zero.
    pub number: u64,
    /// Protocol.
    pub proto: Protocol,
    /// The one host address it is on, or an unspecified one for all of a family; all if none.
    pub host_ip: Option<IpAddr>,
    /// How it is published, if not for everybody.
    pub terms: Option<Arc<Terms>>,
    /// First host port.
    pub host_port: u16,
    /// Last host port.
    pub host_port_end: u16,
    /// What it leads to.
    pub target: Target,
    /// The target's port for the first host port.
    pub target_port: u16,
    /// Slot of its row in the tables.
    pub slot: u16,
    /// Which owner of the slot it is.
    pub generation: u16,
}

/// What a publication leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A container.
    Container(Name),
    /// A host beyond this one.
    Remote(Remote),
}

impl Target {
    /// Whether it is the container of this name.
    pub fn is(&self, container: &Name) -> bool {
        matches!(self, Self::Container(name) if name == container)
    }

    /// The host beyond this one, if it is one.
    pub const fn remote(&self) -> Option<&Remote> {
        match self {
            Self::Container(_) => None,
            Self::Remote(remote) => Some(remote),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => name.fmt(f),
            Self::Remote(remote) => remote.address.fmt(f),
        }
    }
}

/// A host beyond this one that a publication leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Remote {
    /// Its address.
    pub address: IpAddr,
    /// Whether it sees the clients' own addresses.
    pub keep_source: bool,
    /// Slot of its row in the tables.
    pub slot: u16,
    /// Which owner of the slot it is.
    pub generation: u16,
}

impl Remote {
    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }
}

impl Publication {
    /// As it is written for `-p`.
    pub fn spec(&self) -> String {
        let ports =
            |first, last| PortRange::new(first, last).map_or_else(String::new, |range| range.to_string());
        let address = match self.host_ip {
            None => String::new(),
            Some(IpAddr::V4(address)) => format!("{address}:"),
            Some(IpAddr::V6(address)) => format!("[{address}]:"),
        };
        let host = ports(self.host_port, self.host_port_end);
        format!("{address}{host}:{}/{}", ports(self.target_port, self.target_port_end()), self.proto)
    }

    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }

    /// Who may use it.
    pub fn access(&self) -> &Access {
        static EVERYBODY: Access = Access { allow: Vec::new(), deny: Vec::new() };
        self.terms.as_ref().map_or(&EVERYBODY, |terms| &terms.access)
    }

    /// The one interface that its clients come in by; any if none.
    pub fn interface(&self) -> Option<&IfName> {
        self.terms.as_ref()?.interface.as_ref()
    }

    /// Whether the two want a host port in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.shares(other.proto, other.host_ip, other.host_ports())
    }

    /// Whether it has one of these ports.
    pub fn shares(&self, proto: Protocol, host_ip: Option<IpAddr>, ports: RangeInclusive<u16>) -> bool {
        self.proto == proto
            && self.host_port <= *ports.end()
            && *ports.start() <= self.host_port_end
            && meet(self.host_ip, host_ip)
    }

    /// Its host ports.
    pub const fn host_ports(&self) -> RangeInclusive<u16> {
        self.host_port..=self.host_port_end
    }

    /// The target's.
    pub const fn target_ports(&self) -> RangeInclusive<u16> {
        self.target_port..=self.target_port_end()
    }

    /// Whether its ports are another's by now.
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Whether its ports are some: from the first host port to the last, and as many of the target's.
    pub(super) fn has_ports(&self) -> bool {
        let room = u32::from(u16::MAX - self.target_port) + 1;
        self.target_port != 0
            && PortRange::new(self.host_port, self.host_port_end).is_some_and(|host| host.count() <= room)
    }

    /// The target's port for the last host port.
    pub const fn target_port_end(&self) -> u16 {
        self.target_port.saturating_add(self.host_port_end - self.host_port)
    }
}

/// Whether two publications have a host address in common.
pub fn meet(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    one == other || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
}
