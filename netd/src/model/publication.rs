//! Publications: what is asked for, and what is recorded.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use netd_common::flow::Handle;
use serde::{Deserialize, Serialize};

use super::access::Access;
use super::lifecycle::Lifecycle;
use super::name::{IfName, Name};
use super::port::{PortRange, PortSpec, Protocol, meet};
use super::target::TargetSpec;

/// Ports to be published.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// What they lead to.
    pub target: TargetSpec,
    /// The ports.
    pub ports: Vec<PortSpec>,
    /// Who may use them, and by which interface.
    pub policy: Policy,
    /// Whether a target that is no container sees the clients' own addresses.
    pub keep_source: bool,
    /// What becomes of a publication that has the ports already; it is a conflict if none.
    pub replace: Option<Replace>,
}

/// What becomes of the connections of a publication that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// They go on until they end.
    Drain,
    /// They end at once.
    Cut,
}

/// Who may use published ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The lists of sources; if they are empty, the lists of the instance count.
    #[serde(default, skip_serializing_if = "Access::is_empty")]
    pub access: Access,
    /// The one interface that clients come in by; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<IfName>,
}

impl Policy {
    /// As a publication has it: none if it says nothing.
    pub fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }
}

/// The record of a published port, or of a range that leads to a range of the same length. Kept small: a command may read
/// tens of thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// How far it has come.
    pub lifecycle: Lifecycle,
    /// Its place in the order in which they were made; never zero.
    pub number: u64,
    /// Protocol.
    pub proto: Protocol,
    /// The one host address it is on, or an unspecified one for all of a family; all if none.
    pub host_ip: Option<IpAddr>,
    /// Who may use it, if not everybody.
    pub policy: Option<Arc<Policy>>,
    /// First host port.
    pub host_port: u16,
    /// Last host port.
    pub host_port_end: u16,
    /// What it leads to.
    pub targets: Arc<TargetSet>,
    /// The target's port for the first host port.
    pub target_port: u16,
    /// Slot of its row in the BPF tables.
    pub slot: u16,
    /// The slot's generation.
    pub generation: u16,
    /// Whether a file asks for it: it is removed once no file does.
    pub applied: bool,
}

/// A set of targets, shared by all publications that lead to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSet {
    /// Its number; never zero.
    pub id: u32,
    /// Its members: one, until there is a way to choose among several.
    pub members: [Target; 1],
}

impl TargetSet {
    /// The one member.
    pub const fn target(&self) -> &Target {
        let [target] = &self.members;
        target
    }
}

/// What a publication leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Remote {
    /// Its address.
    pub address: IpAddr,
    /// Whether it sees the clients' own addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_source: bool,
    /// Slot of its row in the BPF tables.
    pub slot: u16,
    /// The slot's generation.
    pub generation: u16,
}

impl Remote {
    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }
}

impl Publication {
    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }

    /// What it leads to.
    pub fn target(&self) -> &Target {
        self.targets.target()
    }

    /// Who may use it.
    pub fn access(&self) -> &Access {
        static EVERYBODY: Access = Access { allow: Vec::new(), deny: Vec::new() };
        self.policy.as_ref().map_or(&EVERYBODY, |policy| &policy.access)
    }

    /// The one interface that its clients come in by; any if none.
    pub fn interface(&self) -> Option<&IfName> {
        self.policy.as_ref()?.interface.as_ref()
    }

    /// Whether both want a host port in common.
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

    /// The target's ports.
    pub const fn target_ports(&self) -> RangeInclusive<u16> {
        self.target_port..=self.target_port_end()
    }

    /// Whether another publication has its ports by now.
    pub fn is_draining(&self) -> bool {
        self.lifecycle == Lifecycle::Draining
    }

    /// Whether its ports make sense: none is zero, and the target has as many as the host.
    pub fn has_ports(&self) -> bool {
        let room = u32::from(u16::MAX - self.target_port) + 1;
        self.target_port != 0
            && PortRange::new(self.host_port, self.host_port_end).is_some_and(|host| host.count() <= room)
    }

    /// The target's port for the last host port.
    pub const fn target_port_end(&self) -> u16 {
        self.target_port.saturating_add(self.host_port_end - self.host_port)
    }

    /// As it is written for `-p`: `127.0.0.1:8080:80/tcp`.
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
}
