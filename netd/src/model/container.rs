//! Containers: what is asked for, and what is recorded.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use netd_common::flow::Handle;
use serde::{Deserialize, Serialize};

use super::lifecycle::Lifecycle;
use super::name::{IfName, Mac, Name, OwnerKey};
use super::network::{HOST, NONE};
use super::port::PortSpec;
use super::publication::Policy;
use crate::error::Result;

/// A container to be attached.
#[derive(Clone, Debug)]
pub struct ContainerRequest {
    /// Its name.
    pub name: Name,
    /// The key that its owner knows it by.
    pub key: Option<OwnerKey>,
    /// The namespace to attach: an absolute path; a namespace is made if none.
    pub sandbox: Option<PathBuf>,
    /// What it is attached to.
    pub network: NetworkMode,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Who may use them, and by which interface.
    pub policy: Policy,
    /// The process whose end ends the container.
    pub run: Option<Process>,
}

/// Ports to be published for a container that somebody else has made.
#[derive(Clone, Debug)]
pub struct OwnerRequest {
    /// The key that its owner knows it by.
    pub key: OwnerKey,
    /// Its name in reports; a number is added if another container has it.
    pub name: Name,
    /// Its namespace.
    pub netns: PathBuf,
    /// Its interface, whose other end is on the host.
    pub inner: IfName,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Who may use them, and by which interface.
    pub policy: Policy,
}

/// What a container is attached to.
#[derive(Clone, Debug)]
pub enum NetworkMode {
    /// The host's own namespace.
    Host,
    /// Nothing: its namespace has only loopback.
    None,
    /// Networks, by an interface each; at least one.
    Interfaces(Vec<InterfaceRequest>),
}

impl NetworkMode {
    /// What a network's name means: one of the built-in modes, or an interface made by `interface` on that network.
    pub fn of(network: &Name, interface: impl FnOnce(Name) -> Result<InterfaceRequest>) -> Result<Self> {
        Ok(match network.as_str() {
            HOST => Self::Host,
            NONE => Self::None,
            _ => Self::Interfaces(vec![interface(network.clone())?]),
        })
    }
}

/// An interface that a container is to have.
#[derive(Clone, Debug)]
pub struct InterfaceRequest {
    /// Its name in the container.
    pub name: IfName,
    /// The network that it is on.
    pub network: Name,
    /// Its addresses, at most one for each subnet; the lowest free ones are chosen for those that are missing.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address; made of its IPv4 address if none.
    pub mac: Option<Mac>,
    /// Its default gateways, at most one for each subnet; those of the network if none.
    pub gateways: Option<Vec<IpAddr>>,
    /// Further addresses and prefixes that the container may use, as for a failover address or a subnet behind it.
    pub allowed: Vec<IpNet>,
    /// The host's end, if somebody else has made the veth pair and brought it up: netd then takes name, addresses and MAC
    /// address of the container's end as they are, and never removes the pair.
    pub adopt: Option<IfName>,
}

impl InterfaceRequest {
    /// An interface with everything chosen.
    pub const fn new(name: IfName, network: Name) -> Self {
        Self {
            name,
            network,
            addresses: Vec::new(),
            mac: None,
            gateways: None,
            allowed: Vec::new(),
            adopt: None,
        }
    }
}

/// The container's end of a pair that is to be adopted, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundEnd {
    /// Its name.
    pub name: IfName,
    /// Its MAC address.
    pub mac: Mac,
    /// Its addresses that mean something beyond the link.
    pub addresses: Vec<IpAddr>,
    /// Its index in the container.
    pub index: u32,
    /// The index of its other end, in that one's namespace.
    pub peer: Option<u32>,
}

/// A process: its number, and when it started, since numbers are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
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
        /// Where it is found. It may not lead there any more: a process below /proc may end, a name may be given anew.
        path: PathBuf,
        /// Its cookie, which no other namespace of this boot has: proof that what is at the path is the recorded one.
        cookie: u64,
        /// Whether netd made it.
        made: bool,
    },
}

/// A container's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: Name,
    /// The key that its owner knows it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<OwnerKey>,
    /// How far it has come.
    pub lifecycle: Lifecycle,
    /// Its network namespace.
    pub sandbox: Sandbox,
    /// Its interfaces, in the order in which they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// For `run`: the process whose end ends the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Process>,
    /// Whether a file asks for it: it is removed once no file does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub applied: bool,
}

impl Container {
    /// The interface that its published ports lead to: its first one.
    pub fn primary(&self) -> Option<&Interface> {
        self.interfaces.first()
    }

    /// Whether one of its interfaces is on this network.
    pub fn is_on(&self, network: &str) -> bool {
        self.interfaces.iter().any(|interface| interface.network.as_str() == network)
            || self.interfaces.is_empty() && self.network() == network
    }

    /// The name of its first network: `host` or `none` if it has no interface.
    pub fn network(&self) -> &str {
        match (&self.sandbox, self.primary()) {
            (Sandbox::Host, _) => HOST,
            (_, None) => NONE,
            (_, Some(interface)) => interface.network.as_str(),
        }
    }

    /// The path of its namespace; none if that is the host's.
    pub fn path(&self) -> Option<&Path> {
        match &self.sandbox {
            Sandbox::Host => None,
            Sandbox::Namespace { path, .. } => Some(path),
        }
    }
}

/// An interface of a container: a veth pair, its addresses, its row in the BPF tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the container.
    pub name: IfName,
    /// The network that it is on.
    pub network: Name,
    /// How far it has come. A container may get one later.
    pub lifecycle: Lifecycle,
    /// The name of the host's end.
    pub host: IfName,
    /// The host's end's MAC address. With the name it proves that the interface is the recorded one.
    pub host_mac: Mac,
    /// Whether somebody else made the pair.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The container's end's MAC address.
    pub mac: Mac,
    /// Its addresses: one in each subnet of its network.
    pub addresses: Vec<IpAddr>,
    /// Further addresses and prefixes that the container may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<IpNet>,
    /// Where its default routes lead; none if it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Slot of its row in the BPF tables.
    pub slot: u16,
    /// The slot's generation.
    pub generation: u16,
}

impl Interface {
    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }
}
