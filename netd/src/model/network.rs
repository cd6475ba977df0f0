//! Networks: what is asked for, and what is recorded.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::gateway::{GatewayMode, GatewayModes};
use super::lifecycle::Lifecycle;
use super::name::{IfName, Mac, Name};

/// The name of the default network, made on first use.
pub(crate) const BRIDGE: &str = "bridge";
/// The name of the network that is the host's own namespace.
pub(crate) const HOST: &str = "host";
/// The name of the network that has only loopback.
pub(crate) const NONE: &str = "none";

/// A network to be made.
#[derive(Clone, Debug)]
pub struct NetworkRequest {
    /// Its name.
    pub name: Name,
    /// Its subnets, at most one of each family; free ones are chosen for those that are missing.
    pub subnets: Vec<IpNet>,
    /// Its gateways, at most one for each subnet; the first addresses if none.
    pub gateways: Vec<IpAddr>,
    /// The name of the bridge to make, or the bridge to adopt.
    pub bridge: Option<IfName>,
    /// Whether somebody else made [`Self::bridge`]: netd then uses it as it is, and never removes it.
    pub adopt: bool,
    /// Whether somebody else routes [`Self::bridge`], which must be adopted: netd then serves the containers' published ports, and
    /// leaves all their other packets alone.
    pub unmanaged: bool,
    /// Whether it is made for a container of a front end, and removed with the last container on it.
    pub transient: bool,
    /// MTU, bytes; that of the default route's interface if none.
    pub mtu: Option<u32>,
    /// Whether it has IPv6 although no IPv6 subnet is given.
    pub ipv6: bool,
    /// No way out and no published ports.
    pub internal: bool,
    /// Whether containers on it reach each other directly.
    pub icc: bool,
    /// Whether containers' connections to outside get an address of the host.
    pub masquerade: bool,
    /// That address, at most one for each family; that of the outgoing interface if none.
    pub snat: Vec<IpAddr>,
    /// What the gateway does, by family.
    pub modes: GatewayModes,
    /// Interfaces whose clients may also use the containers' own addresses for published ports.
    pub trusted: Vec<IfName>,
}

impl NetworkRequest {
    /// What an MTU may be, bytes: at least what IPv4 demands (RFC 791), at most what its length field holds.
    pub const MTU: RangeInclusive<u32> = 68..=65_535;

    /// A network of this name with nothing special about it.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            subnets: Vec::new(),
            gateways: Vec::new(),
            bridge: None,
            adopt: false,
            unmanaged: false,
            transient: false,
            mtu: None,
            ipv6: false,
            internal: false,
            icc: true,
            masquerade: true,
            snat: Vec::new(),
            modes: GatewayModes::default(),
            trusted: Vec::new(),
        }
    }
}

/// A network's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: Name,
    /// How far it has come.
    pub lifecycle: Lifecycle,
    /// Its number in the BPF tables; never zero.
    pub number: u32,
    /// Its bridge.
    pub bridge: IfName,
    /// The bridge's MAC address. With the name it proves that the interface is the recorded one.
    pub mac: Mac,
    /// Whether somebody else made the bridge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Whether somebody else routes it: netd serves published ports only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmanaged: bool,
    /// Whether it is removed with the last container on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
    /// Whether a file asks for it: it is removed once no file does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub applied: bool,
    /// Which families' forwarding netd has switched on on an adopted bridge: switched off again with the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwarding_set: Vec<u8>,
    /// Its subnets: one of IPv4, and one of IPv6 if it has that.
    pub subnets: Vec<Subnet>,
    /// MTU, bytes.
    pub mtu: u32,
    /// No way out and no published ports.
    pub internal: bool,
    /// Whether containers on it reach each other directly.
    pub icc: bool,
    /// Whether containers' connections to outside get an address of the host.
    pub masquerade: bool,
    /// Interfaces whose clients may also use the containers' own addresses for published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<IfName>,
}

/// A network in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its addresses.
    pub net: IpNet,
    /// The bridge's address; in [`GatewayMode::Isolated`] nobody has it.
    pub gateway: IpAddr,
    /// What the gateway does for the containers.
    #[serde(default)]
    pub mode: GatewayMode,
    /// The address that masqueraded connections get; that of the outgoing interface if none.
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

    /// The gateways that a container of this network is told: none if it is internal.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.subnets.iter().filter(|_subnet| !self.internal).map(|subnet| subnet.gateway)
    }
}

/// Whether a network of this name always exists.
pub(crate) fn is_predefined(name: &Name) -> bool {
    [BRIDGE, HOST, NONE].contains(&name.as_str())
}
