//! Containers: a namespace, a veth pair, an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use netd_common::abi::FamilyRows as _;
use netd_common::abi::{self, EndpointRow, network_flag};
use netd_common::flow::Zone;
use netd_common::wire::bytes::{Address as _, Ipv4, Ipv6};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::host::{Host, is_alive};
use super::network::{HOST, NONE, gateways_for};
use crate::dataplane::HookPoint;
use crate::error::{Error, Result};
use crate::ipam;
use crate::link::{Family, Netlink, Sysctl, Veth};
use crate::netns::Netns;
use crate::spec::{GatewayMode, Mac, Name, PortSpec};
use crate::store::{
    Attachment, Container, Link, Network, Owner, Phase, Publication, Sandbox, Subnet, Target, Terms,
    folder_key,
};

/// The container's end of its veth pair.
pub(super) const INTERFACE: &str = "eth0";

/// A container to be attached.
#[derive(Clone, Debug)]
pub struct ContainerRequest {
    /// Its name.
    pub name: Name,
    /// The network.
    pub network: Name,
    /// The namespace to attach; made if none.
    pub sandbox: Option<PathBuf>,
    /// Its address.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// How.
    pub terms: Terms,
    /// The process to be taken down with.
    pub owner: Option<Owner>,
}

impl Host {
    /// Attaches a container and publishes its ports, all or nothing.
    pub async fn add_container(&mut self, request: ContainerRequest) -> Result<Name> {
        let name = request.name.clone();
        if self.store.state.containers.contains_key(&name) {
            return Err(Error::conflict(format!("container {name} exists already"))
                .hint(format!("`netd container rm {name}` removes it")));
        }
        let sandbox = match &request.sandbox {
            Some(path) => Some(Netns::open(path)?),
            None => {
                let path = Netns::named(name.as_str());
                if path.exists() && request.network.as_str() != HOST {
                    return Err(Error::conflict(format!(
                        "network namespace {} is there already",
                        path.display()
                    ))
                    .hint(format!("attach it with --netns {}, or choose another name", path.display())));
                }
                None
            }
        };
        if let Some(sandbox) = &sandbox {
            self.check_sandbox(sandbox)?;
        }
        let bridged = ![HOST, NONE].contains(&request.network.as_str());
        if !bridged {
            let network = &request.network;
            if !request.ports.is_empty() {
                return Err(Error::invalid(format!("network {network} has no ports to publish")).hint(
                    if network.as_str() == HOST {
                        "leave -p out: what a program on the host network listens on is reachable as it is"
                    } else {
                        "leave -p out, or use a bridge network"
                    },
                ));
            }
            if !request.addresses.is_empty() || request.mac.is_some() {
                return Err(Error::invalid(format!(
                    "on network {network} there is no interface to give an address to"
                )));
            }
            if network.as_str() == HOST && sandbox.is_some() {
                return Err(Error::invalid("a container on network host has no namespace of its own"));
            }
        }
        // Everything that can be known to fail is asked before anything is made, the network `bridge` included.
        let link = if bridged { Some(self.plan_link(&request).await?) } else { None };
        // A namespace that netd makes has no name until its cookie is recorded.
        let fresh =
            if sandbox.is_none() && request.network.as_str() != HOST { Some(Netns::create()?) } else { None };
        let recorded = match (&sandbox, &fresh) {
            (Some(given), _) => {
                Sandbox::Namespace { path: given.path().to_owned(), cookie: given.cookie()?, made: false }
            }
            (None, Some(fresh)) => {
                Sandbox::Namespace { path: Netns::named(name.as_str()), cookie: fresh.cookie()?, made: true }
            }
            (None, None) => Sandbox::Host,
        };
        let container = Container {
            name: name.clone(),
            phase: Phase::Adding,
            sandbox: recorded,
            attachment: match link {
                Some(link) => Attachment::Bridge(Box::new(link)),
                None if request.network.as_str() == HOST => Attachment::Host,
                None => Attachment::None,
            },
            network: request.network,
            owner: request.owner,
        };
        let target = Target::Container(name.clone());
        let publications = self.plan_ports(&target, &request.ports, &request.terms, &HashMap::new()).await?;
        self.build_container(container, sandbox.or(fresh), publications).await?;
        Ok(name)
    }

    /// Refuses a namespace that is the host itself or is attached already.
    fn check_sandbox(&self, sandbox: &Netns) -> Result<()> {
        if sandbox.is(&self.netns)? {
            return Err(Error::invalid(format!("{} is the host's own namespace", sandbox.path().display()))
                .hint("use --network host for a container that shares it"));
        }
        let wanted = sandbox.cookie()?;
        for other in self.store.state.containers.values().filter(|other| other.link().is_some()) {
            if matches!(other.sandbox, Sandbox::Namespace { cookie, .. } if cookie == wanted) {
                return Err(Error::conflict(format!(
                    "{} is attached already, as container {}",
                    sandbox.path().display(),
                    other.name
                )));
            }
        }
        Ok(())
    }

    /// Works out addresses and names.
    async fn plan_link(&mut self, request: &ContainerRequest) -> Result<Link> {
        let network = self.network_for_use(&request.network).await?;
        if network.internal && !request.ports.is_empty() {
            return Err(Error::invalid(format!(
                "network {} is internal: nothing on it can be published",
                network.name
            )));
        }
        let mut taken = Vec::new();
        for other in self.store.state.containers.values().filter(|other| other.network == network.name) {
            for address in other.link().map_or(&[][..], |link| &link.addresses) {
                taken.push((*address, other.name.to_string()));
            }
        }
        let mut wished = request.addresses.clone();
        let mut addresses = Vec::new();
        for Subnet { net, gateway, .. } in &network.subnets {
            let place = wished.iter().position(|address| address.is_ipv4() == gateway.is_ipv4());
            let wish = place.map(|place| wished.remove(place));
            addresses.push(ipam::address(*net, *gateway, &taken, wish)?);
        }
        if let Some(address) = wished.first() {
            return Err(Error::invalid(format!(
                "address {address} is one too many, or of a family that network {} does not have",
                network.name
            ))
            .hint("a container has one address in each subnet of its network"));
        }
        let handle = self.store.state.endpoint_slot()?;
        let key = folder_key(format!("{}/{}", self.store.instance, request.name).as_ref());
        let [a, b, c, d, ..] = key.as_bytes() else {
            return Err(Error::invalid(format!("no interface name can be made of '{}'", request.name)));
        };
        Ok(Link {
            host_interface: format!("veth{}", &key[..8]).parse()?,
            host_mac: Mac::local([*a, *b, *c, *d]),
            mac: request.mac.unwrap_or(Mac::local(mac_of(&addresses))),
            addresses,
            mtu: network.mtu,
            slot: handle.slot(),
            generation: handle.generation(),
        })
    }

    /// Makes what the records describe; takes it away again if a step fails.
    async fn build_container(
        &mut self,
        container: Container,
        sandbox: Option<Netns>,
        publications: Vec<Publication>,
    ) -> Result<()> {
        let name = container.name.clone();
        self.store.state.containers.insert(name.clone(), container.clone());
        self.store.state.publications.extend(publications.iter().cloned());
        self.store.save()?;
        let mut made = match sandbox {
            Some(sandbox) => self.raise_container(&container, sandbox).await,
            None => Ok(()),
        };
        if made.is_ok() {
            let fresh: Vec<_> = publications.iter().map(|one| (one, None)).collect();
            made = self.raise(&fresh).await;
        }
        if made.is_ok() {
            made = self.finish_container(&name);
        }
        if let Err(error) = made {
            if let Err(second) = self.tear_down_container(&name).await {
                tracing::warn!("undoing: {}", second.chain());
            }
            return Err(error);
        }
        Ok(())
    }

    fn finish_container(&mut self, name: &Name) -> Result<()> {
        if let Some(container) = self.store.state.containers.get_mut(name) {
            container.phase = Phase::Ready;
        }
        for publication in
            self.store.state.publications.iter_mut().filter(|publication| publication.target.is(name))
        {
            publication.phase = Phase::Ready;
        }
        self.store.save()
    }

    async fn raise_container(&mut self, container: &Container, sandbox: Netns) -> Result<()> {
        let sandbox = match &container.sandbox {
            Sandbox::Namespace { path, made: true, .. } => sandbox.mount(path)?,
            Sandbox::Namespace { .. } | Sandbox::Host => sandbox,
        };
        let inside = Netlink::open(&sandbox)?;
        for interface in
            inside.interfaces().await?.iter().filter(|interface| interface.loopback && !interface.up)
        {
            inside.set_up(interface.index).await?;
        }
        let Some(link) = container.link() else { return Ok(()) };
        if inside.interface(&INTERFACE.parse()?).await?.is_some() {
            return Err(Error::conflict(format!(
                "{} has an interface {INTERFACE} already",
                sandbox.path().display()
            ))
            .hint("a container is attached by one interface of that name"));
        }
        let Some(network) = self.store.state.networks.get(&container.network).cloned() else {
            return Err(super::network::no_network(&container.network));
        };
        let index = self.raise_host_end(link, &network, &sandbox).await?;
        raise_inner_end(link, &network, &sandbox, &inside).await?;
        if self.netlink.wait_running(index).await? {
            let Some(inner) = inside.interface(&INTERFACE.parse()?).await? else { return Ok(()) };
            inside.set_mac(inner.index, link.mac).await?;
        }
        Ok(())
    }

    /// Makes the pair and brings the host's end up, guarded: the program sits on it before it can carry a packet.
    async fn raise_host_end(&mut self, link: &Link, network: &Network, sandbox: &Netns) -> Result<u32> {
        self.ensure_dataplane().await?;
        let bridge = self.bridge_of(network).await?;
        let veth = Veth {
            name: &link.host_interface,
            mac: link.host_mac,
            peer_name: INTERFACE,
            peer_mac: link.mac,
            peer_netns: sandbox,
            mtu: link.mtu,
        };
        let index = self.netlink.create_veth(&veth).await?;
        if index > Zone::MAX_IFINDEX {
            return Err(Error::unsupported(format!(
                "interface index {index} is beyond what a flow's key can hold"
            )));
        }
        let dataplane = self.dataplane()?;
        let places = places(link, network);
        let flag = |is_on: bool, flag: u32| if is_on { flag } else { 0 };
        dataplane.tables.put_endpoint(&EndpointRow {
            handle: link.handle(),
            ifindex: index,
            mtu: link.mtu,
            ethernet: EndpointRow::ethernet(link.mac.bytes(), network.mac.bytes()),
            bridge,
            network: network.number,
            flags: flag(!network.icc, network_flag::NO_ICC)
                | flag(network.internal, network_flag::INTERNAL)
                | flag(!network.masquerade, network_flag::NO_MASQUERADE)
                | flag(!masquerades6(network), network_flag::NO_MASQUERADE6)
                | network.subnets.iter().fold(0, |flags, subnet| flags | mode_flags(subnet)),
            subnet4: places.0,
            subnet6: places.1,
        })?;
        dataplane.attach(HookPoint::Container, index, link.host_interface.as_str())?;
        Sysctl::set_ipv6(link.host_interface.as_str(), &self.netns, false)?;
        self.netlink.set_master(index, bridge).await?;
        if !network.icc {
            self.netlink.isolate_port(index).await?;
        }
        self.netlink.set_up(index).await?;
        Ok(index)
    }

    /// Takes a container away: ports, row, program, veth, namespace, records. Absent parts are fine.
    pub(super) async fn tear_down_container(&mut self, name: &Name) -> Result<()> {
        let Some(container) = self.store.state.containers.get_mut(name) else { return Ok(()) };
        container.phase = Phase::Removing;
        let container = container.clone();
        self.store.save()?;
        let mut errors = Vec::new();
        if let Some(owner) = container.owner {
            end_run(&container, owner);
        }
        let ports: Vec<_> =
            self.store.state.publications.iter().filter(|port| port.target.is(name)).cloned().collect();
        errors.extend(self.lower_publications(&ports).err());
        if let Some(link) = container.link() {
            errors.extend(self.lower_link(link).await.err());
        }
        if let Sandbox::Namespace { path, cookie, made: true } = &container.sandbox {
            errors.extend(Netns::remove(path, *cookie).err());
        }
        if let Some(error) = Error::many(errors) {
            return Err(error);
        }
        self.store.state.containers.remove(name);
        self.store.state.publications.retain(|port| !port.target.is(name));
        self.store.save()
    }

    async fn lower_link(&self, link: &Link) -> Result<()> {
        let mut errors = Vec::new();
        if let Some(dataplane) = &self.dataplane {
            errors.extend(dataplane.tables.remove_endpoint(link.handle()).err());
        }
        match self.netlink.interface(&link.host_interface).await {
            Ok(Some(veth)) if veth.mac == Some(link.host_mac) && veth.kind.as_deref() == Some("veth") => {
                errors.extend(self.netlink.delete(veth.index).await.err());
            }
            // Not there (it goes with the container's namespace), or somebody else's by now.
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        if let Some(dataplane) = &self.dataplane {
            for (index, name) in dataplane.attached(HookPoint::Container)? {
                if name == link.host_interface.as_str() {
                    errors.extend(dataplane.detach(HookPoint::Container, index, &name).err());
                }
            }
        }
        Error::many(errors).map_or(Ok(()), Err)
    }

    /// Removes containers. Goes on after a failure and reports every one.
    pub async fn remove_containers(&mut self, names: &[Name]) -> Result<()> {
        if let Some(unknown) = names.iter().find(|name| !self.store.state.containers.contains_key(name)) {
            return Err(no_container(unknown));
        }
        let mut errors = Vec::new();
        for name in names {
            errors.extend(self.tear_down_container(name).await.err());
        }
        Error::many(errors).map_or(Ok(()), Err)
    }

    /// The record of a container.
    pub(super) fn container(&self, name: &Name) -> Result<&Container> {
        self.store.state.containers.get(name).ok_or_else(|| no_container(name))
    }

    /// The namespace of a container, for a command to run in; none for a container that shares the host's. An error if it
    /// is gone, or if another namespace is at its path by now.
    pub fn sandbox(&self, name: &Name) -> Result<Option<Netns>> {
        let Sandbox::Namespace { path, cookie, .. } = &self.container(name)?.sandbox else { return Ok(None) };
        Netns::proven(path, *cookie)?.map(Some).ok_or_else(|| {
            Error::not_found(format!(
                "the network namespace of container {name} is not at {} any more",
                path.display()
            ))
            .hint(format!("`netd container rm {name}` removes what is left of it"))
        })
    }
}

/// Ends what a run has started: everything in the namespace that was made for it, or, on the host network, the process
/// that takes the run through its life, which passes the word on.
fn end_run(container: &Container, owner: Owner) {
    // A process may end by itself meanwhile; what is gone is what is wanted.
    if let Sandbox::Namespace { path, cookie, made: true } = &container.sandbox {
        let proven = Netns::proven(path, *cookie).ok().flatten();
        let inside = proven.and_then(|sandbox| sandbox.processes().ok()).unwrap_or_default();
        for pid in inside {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    } else if is_alive(owner) && owner.pid != getpid().as_raw() {
        let _gone = kill(Pid::from_raw(owner.pid), Signal::SIGTERM);
    }
}

/// Gives the container's end its address and brings it up.
async fn raise_inner_end(link: &Link, network: &Network, sandbox: &Netns, inside: &Netlink) -> Result<()> {
    let Some(inner) = inside.interface(&INTERFACE.parse()?).await? else {
        return Err(Error::not_found(format!("{INTERFACE} vanished from {}", sandbox.path().display())));
    };
    Sysctl::interface(Family::V4, INTERFACE, "arp_notify").set(sandbox, "1")?;
    Sysctl::set_ipv6(INTERFACE, sandbox, link.addresses.iter().any(IpAddr::is_ipv6))?;
    for address in &link.addresses {
        let prefix_len = network.subnet_of(*address).map_or(0, |subnet| subnet.net.prefix_len());
        inside.add_address(inner.index, *address, prefix_len).await?;
    }
    inside.set_up(inner.index).await?;
    for gateway in gateways_for(network) {
        inside.add_default_route(gateway, inner.index).await?;
    }
    Ok(())
}

/// A container's place in each family, for its row.
fn places(link: &Link, network: &Network) -> (abi::Subnet<Ipv4>, abi::Subnet<Ipv6>) {
    let (mut four, mut six) = (abi::Subnet::default(), abi::Subnet::default());
    for (address, Subnet { net, gateway, snat, mode }) in link.addresses.iter().zip(&network.subnets) {
        let isolated = *mode == GatewayMode::Isolated;
        match (address, net, gateway) {
            (IpAddr::V4(address), IpNet::V4(net), IpAddr::V4(gateway)) => {
                let mask = net.netmask().into();
                let snat = snat.and_then(|snat| match snat {
                    IpAddr::V4(snat) => Some(snat.into()),
                    IpAddr::V6(_) => None,
                });
                let snat = snat.unwrap_or(Ipv4::UNSPECIFIED);
                let gateway = if isolated { Ipv4::UNSPECIFIED } else { (*gateway).into() };
                four = abi::Subnet::new((*address).into(), mask, gateway, snat);
            }
            (IpAddr::V6(address), IpNet::V6(net), IpAddr::V6(gateway)) => {
                let mask = net.netmask().into();
                let snat = snat.and_then(|snat| match snat {
                    IpAddr::V4(_) => None,
                    IpAddr::V6(snat) => Some(snat.into()),
                });
                let snat = snat.unwrap_or(Ipv6::UNSPECIFIED);
                let gateway = if isolated { Ipv6::UNSPECIFIED } else { (*gateway).into() };
                six = abi::Subnet::new((*address).into(), mask, gateway, snat);
            }
            _ => {}
        }
    }
    (four, six)
}

/// What a subnet's gateway mode is to the datapath.
fn mode_flags(subnet: &Subnet) -> u32 {
    let four = match subnet.mode {
        GatewayMode::Nat | GatewayMode::Isolated => 0,
        GatewayMode::NatUnprotected => network_flag::UNPROTECTED,
        GatewayMode::Routed => network_flag::ROUTED | network_flag::NO_MASQUERADE,
    };
    if subnet.gateway.is_ipv4() { Ipv4::flag(four) } else { Ipv6::flag(four) }
}

/// Whether IPv6 connections to outside leave in the host's name: those from addresses that mean nothing there, and those
/// that are given another.
fn masquerades6(network: &Network) -> bool {
    let is_local = |net: &IpNet| matches!(net.addr(), IpAddr::V6(address) if address.is_unique_local());
    let named = |subnet: &Subnet| subnet.snat.is_some_and(|snat| snat.is_ipv6());
    network.masquerade && network.subnets.iter().any(|subnet| is_local(&subnet.net) || named(subnet))
}

/// What a container's MAC address is made of: its IPv4 address.
fn mac_of(addresses: &[IpAddr]) -> [u8; 4] {
    addresses
        .iter()
        .find_map(|address| match address {
            IpAddr::V4(address) => Some(address.octets()),
            IpAddr::V6(_) => None,
        })
        .unwrap_or_default()
}

pub(super) fn no_container(name: &Name) -> Error {
    Error::not_found(format!("there is no container {name}")).hint("`netd container ls` lists them")
}
