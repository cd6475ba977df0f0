//! Networks.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::host::Host;
use crate::error::{Error, Result};
use crate::ipam;
use crate::link::{Family, Sysctl};
use crate::spec::{GatewayMode, GatewayModes, IfName, Mac, Name, gateway_of, parse_subnet};
use crate::store::{Network, Phase, Subnet, folder_key};

/// Names of the networks that always exist.
pub(super) const BRIDGE: &str = "bridge";
pub(super) const HOST: &str = "host";
pub(super) const NONE: &str = "none";

/// A network to be made.
#[derive(Clone, Debug)]
pub struct NetworkRequest {
    /// Its name.
    pub name: Name,
    /// Its subnets as typed.
    pub subnets: Vec<String>,
    /// Its gateways.
    pub gateways: Vec<IpAddr>,
    /// Its bridge's name.
    pub bridge: Option<IfName>,
    /// MTU, bytes.
    pub mtu: Option<u32>,
    /// Whether it is to have IPv6.
    pub ipv6: bool,
    /// No way out and no published ports.
    pub internal: bool,
    /// Whether containers on it reach each other directly.
    pub icc: bool,
    /// Whether containers' connections leave in the host's name.
    pub masquerade: bool,
    /// In whose name, one address for each family at most.
    pub snat: Vec<IpAddr>,
    /// What lies between its containers and the outside.
    pub modes: GatewayModes,
    /// The interfaces by which published ports are reached by the containers' own addresses as well.
    pub trusted: Vec<IfName>,
}

impl Host {
    /// Makes a network.
    pub async fn create_network(&mut self, request: NetworkRequest) -> Result<Name> {
        let name = request.name.clone();
        if is_predefined(&name) {
            return Err(Error::conflict(format!(
                "network {name} exists already: bridge, host and none always do"
            )));
        }
        if self.store.state.networks.contains_key(&name) {
            return Err(Error::conflict(format!("network {name} exists already"))
                .hint(format!("`netd network inspect {name}` shows it")));
        }
        let network = self.plan_network(request).await?;
        self.build_network(network).await?;
        Ok(name)
    }

    /// The network of this name, `bridge` made on first use.
    pub(super) async fn network_for_use(&mut self, name: &Name) -> Result<Network> {
        if name.as_str() == BRIDGE && !self.store.state.networks.contains_key(name) {
            let bridge = self.free_bridge_name().await?;
            let request = NetworkRequest {
                name: name.clone(),
                subnets: Vec::new(),
                gateways: Vec::new(),
                bridge: Some(bridge),
                mtu: None,
                ipv6: false,
                internal: false,
                icc: true,
                masquerade: true,
                snat: Vec::new(),
                modes: GatewayModes::default(),
                trusted: Vec::new(),
            };
            let network = self.plan_network(request).await?;
            self.build_network(network).await?;
        }
        self.store.state.networks.get(name).cloned().ok_or_else(|| no_network(name))
    }

    /// Index of a network's bridge.
    pub(super) async fn bridge_of(&self, network: &Network) -> Result<u32> {
        let bridge = self.netlink.interface(&network.bridge).await?;
        bridge.map(|bridge| bridge.index).ok_or_else(|| {
            Error::not_found(format!("bridge {} of network {} is gone", network.bridge, network.name)).hint(
                format!("remove the network and make it anew: netd network rm --force {}", network.name),
            )
        })
    }

    /// netd0, or the next that is free: another instance may share this namespace.
    async fn free_bridge_name(&self) -> Result<IfName> {
        for number in 0..u32::MAX {
            let name: IfName = format!("netd{number}").parse()?;
            if self.netlink.interface(&name).await?.is_none() {
                return Ok(name);
            }
        }
        Err(Error::conflict("no name is free for a bridge"))
    }

    /// Checks a request against the host; changes nothing.
    async fn plan_network(&mut self, request: NetworkRequest) -> Result<Network> {
        let subnets = self.plan_subnets(&request).await?;
        check_modes(&request, &subnets)?;
        let bridge = match request.bridge {
            Some(bridge) => bridge,
            None => default_bridge_name(&request.name)?,
        };
        if self.netlink.interface(&bridge).await?.is_some() {
            return Err(Error::conflict(format!("an interface {bridge} is there already"))
                .hint("choose another name with --bridge"));
        }
        for name in &request.trusted {
            if !self.netlink.interface(name).await?.is_some_and(|interface| interface.ethernet) {
                tracing::warn!(
                    "{name} is no Ethernet interface of this host now; it is trusted when it is one"
                );
            }
        }
        let mtu = match request.mtu {
            Some(mtu) => mtu,
            None => self.default_mtu().await?,
        };
        Ok(Network {
            name: request.name,
            phase: Phase::Adding,
            number: self.store.state.network_number(),
            bridge,
            mac: Mac::local(mac_of(&subnets)),
            subnets,
            mtu,
            internal: request.internal,
            icc: request.icc,
            masquerade: request.masquerade,
            trusted: request.trusted,
        })
    }

    /// Chooses a subnet of each family that is asked for, and its gateway.
    async fn plan_subnets(&self, request: &NetworkRequest) -> Result<Vec<Subnet>> {
        let in_use = self.subnets_in_use().await?;
        let wished: Vec<IpNet> =
            request.subnets.iter().map(|text| parse_subnet(text)).collect::<Result<_>>()?;
        for subnet in &wished {
            if let Some(holder) = ipam::overlap(*subnet, &in_use) {
                return Err(Error::conflict(format!("subnet {subnet} overlaps {holder}"))
                    .hint("choose another with --subnet, or leave it out to get a free one"));
            }
        }
        let four: Vec<IpNet> = wished.iter().copied().filter(|subnet| subnet.addr().is_ipv4()).collect();
        let six: Vec<IpNet> = wished.iter().copied().filter(|subnet| subnet.addr().is_ipv6()).collect();
        let mut nets = match four.as_slice() {
            [] => vec![ipam::free_subnet(&in_use)?],
            [one] => vec![*one],
            _ => return Err(Error::invalid("a network has one IPv4 subnet").hint("give one of them")),
        };
        match six.as_slice() {
            [] if request.ipv6 => nets.push(ipam::free_subnet6(&in_use)?),
            [] => {}
            [one] => nets.push(*one),
            _ => return Err(Error::invalid("a network has one IPv6 subnet").hint("give one of them")),
        }
        let own = self.own_addresses().await?;
        if let Some(address) = request.snat.iter().find(|address| !own.contains(address)) {
            return Err(Error::invalid(format!("--snat-address {address} is not an address of this host"))
                .hint("answers would not come back; `ip address` lists the host's"));
        }
        let mut snat = request.snat.clone();
        let mut gateways = request.gateways.clone();
        let mut subnets = Vec::new();
        for net in nets {
            let place = gateways.iter().position(|gateway| gateway.is_ipv4() == net.addr().is_ipv4());
            let gateway = gateway_of(net, place.map(|place| gateways.remove(place)))?;
            let place = snat.iter().position(|address| address.is_ipv4() == net.addr().is_ipv4());
            let mode = request.modes.of(net.addr());
            subnets.push(Subnet { net, gateway, mode, snat: place.map(|place| snat.remove(place)) });
        }
        if let Some(address) = snat.first() {
            return Err(Error::invalid(format!("--snat-address {address} is one too many, or of no subnet"))
                .hint("a network has one for each of its subnets"));
        }
        if let Some(gateway) = gateways.first() {
            return Err(Error::invalid(format!("gateway {gateway} is one too many, or of no subnet"))
                .hint("a network has one gateway for each of its subnets"));
        }
        Ok(subnets)
    }

    /// The host's routes and addresses, with what holds them in words.
    async fn subnets_in_use(&self) -> Result<Vec<(IpNet, String)>> {
        let interfaces = self.netlink.interfaces().await?;
        let name_of = |index: u32| {
            interfaces
                .iter()
                .find(|interface| interface.index == index)
                .map_or_else(|| format!("interface {index}"), |interface| interface.name.clone())
        };
        let mut in_use = Vec::new();
        for network in self.store.state.networks.values() {
            for Subnet { net, .. } in &network.subnets {
                in_use.push((*net, format!("{net} of network {}", network.name)));
            }
        }
        for route in self.netlink.routes().await? {
            let by = route.interfaces.first().map_or_else(|| "nothing".to_owned(), |index| name_of(*index));
            in_use.push((route.destination, format!("the host's route {} by {by}", route.destination)));
        }
        for address in self.netlink.addresses().await? {
            let words = format!("the host's address {} on {}", address.net, name_of(address.interface));
            in_use.push((address.net, words));
        }
        Ok(in_use)
    }

    /// Makes what a record describes; takes it away again if a step fails.
    async fn build_network(&mut self, network: Network) -> Result<()> {
        let name = network.name.clone();
        self.store.state.networks.insert(name.clone(), network.clone());
        self.store.save()?;
        let mut made = self.raise_network(&network).await;
        if made.is_ok() {
            made = self.finish_network(&name);
        }
        if let Err(error) = made {
            // The failure that began it is the one to tell; what undoing cannot undo the next command tries again.
            if let Err(second) = self.tear_down_network(&name).await {
                tracing::warn!("undoing: {}", second.chain());
            }
            return Err(error);
        }
        Ok(())
    }

    fn finish_network(&mut self, name: &Name) -> Result<()> {
        if let Some(network) = self.store.state.networks.get_mut(name) {
            network.phase = Phase::Ready;
        }
        self.store.save()
    }

    async fn raise_network(&mut self, network: &Network) -> Result<()> {
        self.ensure_dataplane().await?;
        let index = self.netlink.create_bridge(&network.bridge, network.mac, network.mtu).await?;
        let bridge = network.bridge.as_str();
        // The FIB answers BPF lookups only for an input interface that may forward. This is netd's own; the host's
        // global switch stays as it is.
        Sysctl::interface(Family::V4, bridge, "forwarding").set(&self.netns, "1")?;
        let has_ipv6 = network.gated().any(|subnet| subnet.gateway.is_ipv6());
        Sysctl::set_ipv6(bridge, &self.netns, has_ipv6)?;
        // Without IPv6 on the network its containers have IPv6 clients all the same, and published ports that lead to other
        // hosts have their ways asked for by it.
        let forwarding = Sysctl::interface(Family::V6, bridge, "forwarding");
        if has_ipv6 || self.netns.run(|| forwarding.exists())? {
            forwarding.set(&self.netns, "1")?;
        }
        for subnet in network.gated() {
            self.netlink.add_address(index, subnet.gateway, subnet.net.prefix_len()).await?;
        }
        self.netlink.set_up(index).await?;
        for subnet in &network.subnets {
            self.dataplane()?.tables.put_subnet(subnet.net, network.number)?;
        }
        // The gateway is an address of the host's from now on.
        self.follow().await
    }

    /// Takes a network away: rows, bridge, record. Absent parts are fine.
    pub(super) async fn tear_down_network(&mut self, name: &Name) -> Result<()> {
        let Some(network) = self.store.state.networks.get_mut(name) else { return Ok(()) };
        network.phase = Phase::Removing;
        let network = network.clone();
        self.store.save()?;
        let mut errors = Vec::new();
        match self.netlink.interface(&network.bridge).await {
            Ok(Some(bridge))
                if bridge.mac == Some(network.mac) && bridge.kind.as_deref() == Some("bridge") =>
            {
                errors.extend(self.netlink.delete(bridge.index).await.err());
            }
            // Not there, or somebody else's by now.
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        if let Some(dataplane) = &self.dataplane {
            for subnet in &network.subnets {
                errors.extend(dataplane.tables.remove_subnet(subnet.net).err());
            }
        }
        if let Some(error) = Error::many(errors) {
            return Err(error);
        }
        self.store.state.networks.remove(name);
        self.store.save()
    }

    /// Removes a network; with `force` the containers on it as well.
    pub async fn remove_network(&mut self, name: &Name, force: bool) -> Result<()> {
        if is_predefined(name) && (name.as_str() != BRIDGE || !self.store.state.networks.contains_key(name)) {
            return Err(Error::invalid(format!("network {name} always exists and cannot be removed")));
        }
        if !self.store.state.networks.contains_key(name) {
            return Err(no_network(name));
        }
        let members: Vec<Name> = self
            .store
            .state
            .containers
            .values()
            .filter(|container| container.network == *name)
            .map(|container| container.name.clone())
            .collect();
        if !members.is_empty() && !force {
            let list = members.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::conflict(format!("network {name} has containers: {list}"))
                .hint("remove them first, or use --force"));
        }
        let remotes = self.remotes_by(name);
        if let Some(remote) = remotes.first().filter(|_remote| !force) {
            return Err(Error::conflict(format!(
                "network {name} is needed by {}, published for {}",
                remote.spec(),
                remote.target
            ))
            .hint("unpublish it first, or use --force"));
        }
        let mut errors = Vec::new();
        errors.extend(self.take_back(&remotes).err());
        for member in members {
            errors.extend(self.tear_down_container(&member).await.err());
        }
        errors.extend(self.tear_down_network(name).await.err());
        Error::many(errors).map_or(Ok(()), Err)
    }
}

/// Refuses gateway modes, and trust, that contradict what else is asked for.
fn check_modes(request: &NetworkRequest, subnets: &[Subnet]) -> Result<()> {
    let name = &request.name;
    let is_there =
        |address: &IpAddr| subnets.iter().any(|subnet| subnet.net.addr().is_ipv4() == address.is_ipv4());
    if request.modes.names_ipv6() && !is_there(&IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
        return Err(Error::invalid(format!("--gateway-mode ipv6=…: network {name} has no IPv6 subnet"))
            .hint("give it one with --ipv6 or --subnet"));
    }
    if request.internal && !request.trusted.is_empty() {
        return Err(Error::invalid(format!(
            "--trusted-interface: network {name} is internal: nobody is let in"
        ))
        .hint("leave out one of --internal and --trusted-interface"));
    }
    for Subnet { net, mode, snat, .. } in subnets {
        let gateway = request.gateways.iter().find(|gateway| gateway.is_ipv4() == net.addr().is_ipv4());
        match mode {
            GatewayMode::Isolated if !request.internal => {
                return Err(Error::invalid(format!("gateway mode isolated: network {name} is not internal"))
                    .hint("add --internal: without an address of the host's there is no way out"));
            }
            GatewayMode::Isolated if let Some(gateway) = gateway => {
                return Err(Error::invalid(format!(
                    "gateway mode isolated: {net} has no gateway, {gateway} neither"
                ))
                .hint("leave --gateway out"));
            }
            GatewayMode::Routed | GatewayMode::NatUnprotected if request.internal => {
                return Err(Error::invalid(format!(
                    "gateway mode {mode}: network {name} is internal: nobody is let in"
                ))
                .hint("an internal network's mode is nat or isolated"));
            }
            GatewayMode::Routed if let Some(address) = snat => {
                return Err(Error::invalid(format!(
                    "gateway mode routed: connections leave in the container's name, not in that of {address}"
                ))
                .hint("leave --snat-address out, or choose nat"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a network of this name always exists.
pub(super) fn is_predefined(name: &Name) -> bool {
    [BRIDGE, HOST, NONE].contains(&name.as_str())
}

pub(super) fn no_network(name: &Name) -> Error {
    Error::not_found(format!("there is no network {name}"))
        .hint("`netd network ls` lists them, `netd network create` makes one")
}

/// br- and the name, if that is short enough for an interface; else br- and a number made of it.
fn default_bridge_name(name: &Name) -> Result<IfName> {
    let plain = format!("br-{name}");
    if plain.len() <= 15 {
        plain.parse()
    } else {
        format!("br-{}", &folder_key(name.as_str().as_ref())[..12]).parse()
    }
}

/// The gateways that a container of this network is told.
pub(super) fn gateways_for(network: &Network) -> impl Iterator<Item = IpAddr> {
    network.subnets.iter().filter(|_subnet| !network.internal).map(|subnet| subnet.gateway)
}

/// What a bridge's MAC address is made of: its IPv4 address, as a container's is.
fn mac_of(subnets: &[Subnet]) -> [u8; 4] {
    subnets
        .iter()
        .find_map(|subnet| match subnet.gateway {
            IpAddr::V4(gateway) => Some(gateway.octets()),
            IpAddr::V6(_) => None,
        })
        .unwrap_or_default()
}
