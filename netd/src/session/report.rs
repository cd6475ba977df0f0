//! Networks and containers.

use std::net::IpAddr;

use netd_common::flow::Handle;

use super::status::table_fill;
use super::{Session, proven};
use crate::error::{NetworkError, Result};
use crate::link::Netlink;
use crate::model::report::{
    Address, ByFamily, Container, InOut, Interface, Member, Network, Port, TableFill,
};
use crate::model::{self, BRIDGE, Count, HOST, NONE, Name, Sandbox, is_predefined};

impl Session {
    /// Networks, the predefined ones first, with how many containers are on each.
    pub fn report_networks(&self) -> Vec<Network<usize>> {
        let state = &self.state;
        let on = |name: &str| state.containers.values().filter(|container| container.is_on(name)).count();
        let mut networks = Vec::new();
        match state.networks.values().find(|network| network.name.as_str() == BRIDGE) {
            Some(bridge) => networks.push(described(bridge, on(BRIDGE))),
            None => networks.push(predefined(BRIDGE, "bridge", on(BRIDGE))),
        }
        networks.push(predefined(HOST, "host", on(HOST)));
        networks.push(predefined(NONE, "null", on(NONE)));
        for network in state.networks.values().filter(|network| !is_predefined(&network.name)) {
            networks.push(described(network, on(network.name.as_str())));
        }
        networks
    }

    /// One network with its containers.
    pub fn report_network(&self, name: &Name) -> Result<Network<Vec<Member>>> {
        let members: Vec<Member> = self
            .state
            .containers
            .values()
            .filter(|container| container.is_on(name.as_str()))
            .map(|container| member(container, name))
            .collect();
        match self.state.networks.get(name) {
            Some(network) => Ok(described(network, members)),
            None if name.as_str() == NONE => Ok(predefined(NONE, "null", members)),
            None if is_predefined(name) => Ok(predefined(name.as_str(), name.as_str(), members)),
            None => Err(NetworkError::NotFound { name: name.to_string() }.into()),
        }
    }

    /// Every container.
    pub async fn report_containers(&self) -> Result<Vec<Container>> {
        let mut reports = Vec::new();
        let ports = self.report_ports(None, false)?;
        for container in self.state.containers.values() {
            let own = ports.iter().filter(|port| port.target == container.name.as_str()).cloned().collect();
            reports.push(self.describe(container, own).await);
        }
        Ok(reports)
    }

    /// One container.
    pub async fn report_container(&self, name: &Name) -> Result<Container> {
        let container = self.state.container(name)?;
        Ok(self.describe(container, self.report_ports(Some(name), false)?).await)
    }

    async fn describe(&self, container: &model::Container, ports: Vec<Port>) -> Container {
        let interfaces: Vec<Interface> =
            container.interfaces.iter().map(|interface| self.interface(interface)).collect();
        let first = interfaces.first().cloned();
        let counters = inner_counters(container).await.unwrap_or_default();
        let sandbox = match &container.sandbox {
            Sandbox::Host => self.settings.host.path(),
            Sandbox::Namespace { path, .. } => path,
        };
        Container {
            name: container.name.to_string(),
            network: container.network().to_owned(),
            key: container.key.as_ref().map(ToString::to_string),
            sandbox: sandbox.display().to_string(),
            interface: first.as_ref().map(|one| one.name.clone()),
            host_interface: first.as_ref().map(|one| one.host_interface.clone()),
            mac: first.as_ref().map(|one| one.mac.clone()),
            mtu: first.as_ref().map(|one| one.mtu),
            addresses: first.map_or_else(Vec::new, |one| one.addresses),
            interfaces,
            ports,
            flows: self.usage(container).unwrap_or_default(),
            counters,
        }
    }

    /// The container's connections in the flow tables; none if they cannot be read.
    fn usage(&self, container: &model::Container) -> Option<Vec<TableFill>> {
        let handles: Vec<Handle> = container.interfaces.iter().map(model::Interface::handle).collect();
        let mut tables = self.dataplane.as_ref()?.tables.usage(&[handles]).ok()?;
        Some(tables.pop()?.iter().map(table_fill).collect())
    }

    fn interface(&self, interface: &model::Interface) -> Interface {
        let network = self.state.networks.get(&interface.network);
        let address = |address: &IpAddr| {
            let subnet = network.and_then(|network| network.subnet_of(*address));
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let gateways = interface.gateways.iter();
            Address {
                ip: *address,
                prefix_len: subnet.map_or(longest, |subnet| subnet.net.prefix_len()),
                gateway: gateways.copied().find(|gateway| gateway.is_ipv4() == address.is_ipv4()),
            }
        };
        Interface {
            name: interface.name.to_string(),
            network: interface.network.to_string(),
            host_interface: interface.host.to_string(),
            mac: interface.mac.to_string(),
            mtu: interface.mtu,
            addresses: interface.addresses.iter().map(address).collect(),
            allowed_addresses: interface.allowed.clone(),
            adopted: interface.adopted,
        }
    }
}

/// A container as its network shows it.
fn member(container: &model::Container, network: &Name) -> Member {
    let interface = container.interfaces.iter().find(|one| one.network == *network);
    Member {
        name: container.name.to_string(),
        addresses: interface
            .map_or_else(Vec::new, |one| one.addresses.iter().map(ToString::to_string).collect()),
        mac: interface.map(|one| one.mac.to_string()),
    }
}

/// What the container's ends counted, all together: packets that a program redirects into the container bypass the host's
/// ends. None if its namespace is gone.
async fn inner_counters(container: &model::Container) -> Option<InOut<Count>> {
    let inside = Netlink::open(&proven(container).ok()??).ok()?;
    let mut sum: InOut<Count> = InOut::default();
    for interface in &container.interfaces {
        let inner = inside.interface(&interface.name).await.ok()??;
        sum.inward.add(inner.received);
        sum.out.add(inner.sent);
    }
    Some(sum)
}

fn described<Members>(network: &model::Network, containers: Members) -> Network<Members> {
    let mode = |family: fn(&IpAddr) -> bool| {
        network.subnets.iter().find(|subnet| family(&subnet.gateway)).map(|subnet| subnet.mode.name())
    };
    Network {
        name: network.name.to_string(),
        driver: "bridge",
        bridge: Some(network.bridge.to_string()),
        subnets: network.subnets.iter().map(|subnet| subnet.net.to_string()).collect(),
        gateways: network.gated().map(|subnet| subnet.gateway).collect(),
        mtu: Some(network.mtu),
        unmanaged: network.unmanaged,
        internal: network.internal,
        icc: network.icc,
        masquerade: network.masquerade,
        gateway_mode: ByFamily { ipv4: mode(IpAddr::is_ipv4), ipv6: mode(IpAddr::is_ipv6) },
        trusted_interfaces: network.trusted.iter().map(ToString::to_string).collect(),
        containers,
    }
}

/// A network that exists without a record: host, none, and bridge before its first use.
fn predefined<Members>(name: &str, driver: &str, containers: Members) -> Network<Members> {
    Network {
        name: name.to_owned(),
        driver: match driver {
            HOST => "host",
            BRIDGE => "bridge",
            _ => "null",
        },
        bridge: None,
        subnets: Vec::new(),
        gateways: Vec::new(),
        mtu: None,
        unmanaged: false,
        internal: name == NONE,
        icc: name != NONE,
        masquerade: name == BRIDGE,
        gateway_mode: ByFamily::default(),
        trusted_interfaces: Vec::new(),
        containers,
    }
}
