//! Containers: namespaces, names and addresses of interfaces.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netd_common::flow::Handle;

use super::network::KIND as BRIDGE_KIND;
use super::{View, ipam, mac_of};
use crate::error::{ContainerError, HostError, PublicationError, Result};
use crate::model::{
    Container, ContainerRequest, FoundEnd, IfName, Interface, InterfaceRequest, Lifecycle, Link, Mac, Name,
    Network, NetworkMode, Sandbox, digest,
};

/// The kind of a veth's end, as `ip link` shows it.
pub(crate) const KIND: &str = "veth";

/// What the names of the host's ends that netd makes begin with; eight digits follow.
const MADE_PREFIX: &str = "veth";

/// Refuses what contradicts itself or the records, before a namespace is made or opened.
pub(crate) fn check(view: View<'_>, request: &ContainerRequest) -> Result<()> {
    let name = request.name.to_string();
    if view.state.containers.contains_key(&request.name) {
        return Err(ContainerError::Exists { name }.into());
    }
    if let Some(key) = &request.key
        && let Some(other) = view.state.container_of(key)
    {
        let container = other.name.to_string();
        return Err(ContainerError::KeyTaken { key: key.to_string(), container }.into());
    }
    let network = match &request.network {
        NetworkMode::Interfaces(_) => return Ok(()),
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    if !request.ports.is_empty() {
        return Err(ContainerError::NoPorts { network: network.to_owned() }.into());
    }
    if matches!(request.network, NetworkMode::Host) && request.sandbox.is_some() {
        return Err(ContainerError::HostWithNamespace.into());
    }
    Ok(())
}

/// Refuses a namespace that is the host itself, whose cookie is `host`, or that a container with interfaces has.
pub(crate) fn check_sandbox(view: View<'_>, sandbox: &Sandbox, host: u64) -> Result<()> {
    let Sandbox::Namespace { path, cookie, .. } = sandbox else { return Ok(()) };
    if *cookie == host {
        return Err(ContainerError::HostNamespace { path: path.clone() }.into());
    }
    let has_it = |other: &&Container| {
        !other.interfaces.is_empty()
            && matches!(&other.sandbox, Sandbox::Namespace { cookie: held, .. } if held == cookie)
    };
    match view.state.containers.values().find(has_it) {
        Some(other) => {
            let container = other.name.to_string();
            Err(ContainerError::NamespaceTaken { path: path.clone(), container }.into())
        }
        None => Ok(()),
    }
}

/// What a new interface of a container is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewInterface<'a> {
    /// The instance, which goes into the name of the host's end.
    pub instance: &'a str,
    /// The container's name.
    pub container: &'a Name,
    /// The interfaces that it has already, or is to have.
    pub others: &'a [Interface],
    /// Whether ports are to be published on it.
    pub publishes: bool,
    /// The handle of its row.
    pub handle: Handle,
    /// The container's end, if the pair is to be adopted.
    pub found: Option<&'a FoundEnd>,
}

/// The record of an interface.
pub(crate) fn interface(
    view: View<'_>,
    new: NewInterface<'_>,
    request: &InterfaceRequest,
) -> Result<Interface> {
    let NewInterface { instance, container, others, publishes, handle, found } = new;
    let network = view.state.network(&request.network)?;
    if network.internal && publishes {
        return Err(PublicationError::Internal { network: network.name.to_string() }.into());
    }
    if others.iter().any(|other| other.name == request.name) {
        let (container, interface) = (container.to_string(), request.name.to_string());
        return Err(ContainerError::InterfaceTwice { container, interface }.into());
    }
    if others.iter().any(|other| other.network == network.name) {
        let (container, network) = (container.to_string(), network.name.to_string());
        return Err(ContainerError::NetworkTwice { container, network }.into());
    }
    let addresses = addresses(view, network, found, request)?;
    let gateways = gateways(network, others, request)?;
    let adopted = request.adopt.as_ref().map(|name| adopted(view, name)).transpose()?;
    let digest = digest(format!("{instance}/{container}/{}", request.name).as_bytes());
    let (host, host_mac) = match adopted {
        Some((link, mac)) => (link.name.parse()?, mac),
        None => (made_name(&digest)?, made_mac(&digest)),
    };
    let made_of = || default_mac(&addresses);
    Ok(Interface {
        name: request.name.clone(),
        network: network.name.clone(),
        lifecycle: Lifecycle::Adding,
        host,
        host_mac,
        adopted: adopted.is_some(),
        mac: found.map(|end| end.mac).or(request.mac).unwrap_or_else(made_of),
        addresses,
        allowed: request.allowed.iter().map(IpNet::trunc).collect(),
        gateways: if adopted.is_some() { Vec::new() } else { gateways },
        mtu: adopted.map_or(network.mtu, |(link, _)| link.mtu),
        slot: handle.slot(),
        generation: handle.generation(),
    })
}

/// One address in each subnet of the network.
fn addresses(
    view: View<'_>,
    network: &Network,
    found: Option<&FoundEnd>,
    request: &InterfaceRequest,
) -> Result<Vec<IpAddr>> {
    let on_it = view.state.interfaces().filter(|(_, other)| other.network == network.name);
    let taken: Vec<(IpAddr, String)> = on_it
        .flat_map(|(container, other)| {
            other.addresses.iter().map(|address| (*address, container.name.to_string()))
        })
        .collect();
    let mut wished = request.addresses.clone();
    let found = found.map_or(&[][..], |end| end.addresses.as_slice());
    if network.unmanaged && !found.is_empty() {
        // Whoever routes it may give addresses of any subnet. The first of each family is the one that ports lead to.
        let first = |is_ipv4| found.iter().find(|address| address.is_ipv4() == is_ipv4).copied();
        return Ok([true, false].into_iter().filter_map(first).collect());
    }
    let mut addresses = Vec::new();
    for subnet in &network.subnets {
        let place = wished.iter().position(|address| address.is_ipv4() == subnet.gateway.is_ipv4());
        let wish = place.map(|place| wished.remove(place));
        let present = found.iter().find(|address| subnet.net.contains(*address)).copied();
        addresses.push(ipam::address(subnet.net, subnet.gateway, &taken, wish.or(present))?);
    }
    match wished.first() {
        Some(address) => {
            let (address, network) = (*address, network.name.to_string());
            Err(ContainerError::ExtraAddress { address, network }.into())
        }
        None => Ok(addresses),
    }
}

/// Where the default routes lead: of a container's interfaces the first one that has gateways has them.
fn gateways(network: &Network, others: &[Interface], request: &InterfaceRequest) -> Result<Vec<IpAddr>> {
    let wished = match &request.gateways {
        Some(gateways) => gateways.clone(),
        None => network.gateways().collect(),
    };
    let is_near =
        |gateway: &IpAddr| network.subnet_of(*gateway).is_some_and(|subnet| subnet.net.contains(gateway));
    if let Some(gateway) = wished.iter().find(|gateway| !is_near(gateway)) {
        return Err(
            ContainerError::BadGateway { gateway: *gateway, network: network.name.to_string() }.into()
        );
    }
    let is_first = others.iter().all(|other| other.gateways.is_empty());
    Ok(if is_first { wished } else { Vec::new() })
}

/// The host's end of a pair that is to be adopted.
fn adopted<'a>(view: View<'a>, name: &IfName) -> Result<(&'a Link, Mac)> {
    let interface = name.to_string();
    let Some(link) = view.observed.link(name) else {
        return Err(HostError::NoInterface { name: interface }.into());
    };
    if let Some((other, _)) = view.state.interfaces().find(|(_, other)| other.host == *name) {
        return Err(ContainerError::InterfaceTaken { interface, container: other.name.to_string() }.into());
    }
    match link.mac.filter(|_| link.kind.as_deref() == Some(KIND)) {
        Some(mac) => Ok((link, mac)),
        None => Err(ContainerError::NotAdoptable { interface }.into()),
    }
}

/// The host's end of a container's veth pair that was found in `netns`, and the bridge that it is a port of.
pub(crate) fn host_end_behind(view: View<'_>, found: &FoundEnd, netns: &Path) -> Result<(IfName, IfName)> {
    let (path, interface) = (netns.to_owned(), found.name.to_string());
    let link_at = |index: Option<u32>| index.and_then(|index| view.observed.link_at(index));
    let is_end = |link: &&Link| link.kind.as_deref() == Some(KIND) && link.below == Some(found.index);
    let Some(host) = link_at(found.peer).filter(is_end) else {
        return Err(ContainerError::NoHostEnd { path, interface }.into());
    };
    match link_at(host.master).filter(|link| link.kind.as_deref() == Some(BRIDGE_KIND)) {
        Some(bridge) => Ok((host.name.parse()?, bridge.name.parse()?)),
        None => Err(ContainerError::NoBridgePort { path, interface, host: host.name.clone() }.into()),
    }
}

/// This name, or the first that is free of those with a number behind it.
pub(crate) fn free_name(view: View<'_>, name: &Name) -> Result<Name> {
    let names = &view.state.containers;
    let (mut free, mut number) = (name.clone(), 1_u32);
    while names.contains_key(&free) {
        number += 1;
        free = format!("{name}-{number}").parse()?;
    }
    Ok(free)
}

/// Refuses a container whose first interface is gone: nothing would reach its ports.
pub(crate) fn check_interface(view: View<'_>, container: &Container) -> Result<()> {
    let Some(interface) = container.primary() else { return Ok(()) };
    let link = view.observed.link(&interface.host);
    if link.is_some_and(|link| is_host_end_of(interface, link)) {
        return Ok(());
    }
    let (container, interface) = (container.name.to_string(), interface.host.to_string());
    Err(ContainerError::LostInterface { container, interface }.into())
}

/// Whether a link is the recorded host's end of an interface: name, kind and MAC address agree.
pub(crate) fn is_host_end_of(interface: &Interface, link: &Link) -> bool {
    link.mac == Some(interface.host_mac) && link.kind.as_deref() == Some(KIND)
}

/// The host's end of an interface, if it is there by its recorded name.
pub(crate) fn host_end<'a>(view: View<'a>, interface: &Interface) -> Option<&'a Link> {
    view.observed.link(&interface.host).filter(|link| is_host_end_of(interface, link))
}

/// The host's end of an interface by another name. Its MAC address alone does not prove it: a link that a record names is not it.
pub(crate) fn renamed_end<'a>(view: View<'a>, interface: &Interface) -> Option<&'a Link> {
    let is_named = |link: &Link| view.state.interfaces().any(|(_, one)| one.host.as_str() == link.name);
    view.observed.links.iter().find(|link| is_host_end_of(interface, link) && !is_named(link))
}

/// The MAC address of an interface that is asked for without one.
pub(crate) fn default_mac(addresses: &[IpAddr]) -> Mac {
    mac_of(addresses.iter().copied())
}

/// Whether netd has made this veth pair: both its name and its MAC address are made of the same digest.
pub(crate) fn is_made_veth(link: &Link) -> bool {
    let digest = link.name.strip_prefix(MADE_PREFIX).unwrap_or_default();
    link.kind.as_deref() == Some(KIND) && digest.len() == 8 && link.mac == Some(made_mac(digest))
}

fn made_name(digest: &str) -> Result<IfName> {
    format!("{MADE_PREFIX}{}", digest.chars().take(8).collect::<String>()).parse()
}

fn made_mac(digest: &str) -> Mac {
    match *digest.as_bytes() {
        [a, b, c, d, ..] => Mac::local([a, b, c, d]),
        _ => Mac::local([0; 4]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::model::{GatewayMode, Policy, State, Subnet};
    use crate::observe::Observed;

    fn network(name: &str, subnets: &[&str], internal: bool) -> Network {
        let subnet = |text: &&str| {
            let net: ipnet::IpNet = text.parse().unwrap();
            let gateway = crate::model::hosts(net).next().unwrap();
            Subnet { net, gateway, mode: GatewayMode::Nat, snat: None }
        };
        Network {
            name: name.parse().unwrap(),
            lifecycle: Lifecycle::Ready,
            number: 1,
            bridge: "br0".parse().unwrap(),
            mac: Mac::local([0; 4]),
            adopted: false,
            unmanaged: false,
            transient: false,
            applied: false,
            forwarding_set: Vec::new(),
            subnets: subnets.iter().map(subnet).collect(),
            mtu: 1400,
            internal,
            icc: true,
            masquerade: true,
            trusted: Vec::new(),
        }
    }

    /// Networks `front` (10.1.0.0/29), `dual` (10.2.0.0/29 and fd00::/64) and `back` (10.3.0.0/29, internal).
    fn state() -> State {
        let mut state = State::default();
        for network in [
            network("front", &["10.1.0.0/29"], false),
            network("dual", &["10.2.0.0/29", "fd00::/64"], false),
            network("back", &["10.3.0.0/29"], true),
        ] {
            state.networks.insert(network.name.clone(), network);
        }
        state
    }

    fn observed() -> Observed {
        let veth = Link {
            index: 7,
            name: "vethx".to_owned(),
            mac: Mac::new([2, 9, 9, 9, 9, 9]),
            mtu: 9000,
            kind: Some(KIND.to_owned()),
            ..Link::default()
        };
        let dummy =
            Link { index: 8, name: "dummy0".to_owned(), kind: Some("dummy".to_owned()), ..veth.clone() };
        Observed { links: vec![veth, dummy], ..Observed::default() }
    }

    fn plan(
        state: &State,
        others: &[Interface],
        found: Option<&FoundEnd>,
        request: &InterfaceRequest,
    ) -> Result<Interface> {
        let observed = observed();
        let view = View { state, observed: &observed };
        let container: Name = "web".parse().unwrap();
        let handle = Handle::new(4, 2);
        let new =
            NewInterface { instance: "1-a", container: &container, others, publishes: false, handle, found };
        interface(view, new, request)
    }

    fn request(name: &str, network: &str) -> InterfaceRequest {
        InterfaceRequest::new(name.parse().unwrap(), network.parse().unwrap())
    }

    #[test]
    fn what_is_not_asked_for_is_chosen() {
        let interface = plan(&state(), &[], None, &request("eth0", "dual")).unwrap();
        assert_eq!(interface.addresses, ["10.2.0.2", "fd00::2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(interface.gateways, ["10.2.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(interface.mac.to_string(), "02:42:0a:02:00:02");
        assert_eq!((interface.mtu, interface.slot, interface.generation), (1400, 4, 2));
        assert!(interface.host.as_str().starts_with("veth") && interface.host.as_str().len() == 12);
    }

    #[test]
    fn only_the_first_interface_with_a_gateway_has_the_default_route() {
        let state = state();
        let back = plan(&state, &[], None, &request("eth0", "back")).unwrap();
        assert!(back.gateways.is_empty(), "an internal network has none");
        let front = plan(&state, std::slice::from_ref(&back), None, &request("eth1", "front")).unwrap();
        assert_eq!(front.gateways.len(), 1);
        assert_ne!(front.host, back.host);
        let dual = plan(&state, &[back, front], None, &request("lan", "dual")).unwrap();
        assert!(dual.gateways.is_empty());
    }

    #[test]
    fn a_gateway_may_be_any_address_of_the_subnet() {
        let with = |gateway: &str| {
            let gateways = Some(vec![gateway.parse().unwrap()]);
            plan(&state(), &[], None, &InterfaceRequest { gateways, ..request("eth0", "front") })
        };
        assert_eq!(with("10.1.0.6").unwrap().gateways.len(), 1);
        assert!(matches!(with("10.9.0.1"), Err(Error::Container(ContainerError::BadGateway { .. }))));
    }

    #[test]
    fn an_adopted_interface_is_taken_as_it_is() {
        let found = FoundEnd {
            index: 2,
            peer: Some(3),
            name: "eth0".parse().unwrap(),
            mac: Mac::new([2, 8, 8, 8, 8, 8]).unwrap(),
            addresses: vec!["10.1.0.5".parse().unwrap()],
        };
        let adopt = |host: &str| {
            let adopt = Some(host.parse().unwrap());
            plan(&state(), &[], Some(&found), &InterfaceRequest { adopt, ..request("eth0", "front") })
        };
        let interface = adopt("vethx").unwrap();
        assert!(interface.adopted && interface.gateways.is_empty());
        assert_eq!((interface.host.as_str(), interface.mtu), ("vethx", 9000));
        assert_eq!(interface.host_mac.to_string(), "02:09:09:09:09:09");
        assert_eq!((interface.mac, interface.addresses), (found.mac, found.addresses.clone()));
        assert!(matches!(adopt("dummy0"), Err(Error::Container(ContainerError::NotAdoptable { .. }))));
        assert!(matches!(adopt("nosuch"), Err(Error::Host(HostError::NoInterface { .. }))));
    }

    #[test]
    fn what_is_taken_or_twice_is_refused() {
        let mut state = state();
        let one = plan(&state, &[], None, &request("eth0", "front")).unwrap();
        let others = [one.clone()];
        let twice = plan(&state, &others, None, &request("eth0", "dual"));
        assert!(matches!(twice, Err(Error::Container(ContainerError::InterfaceTwice { .. }))));
        let twice = plan(&state, &others, None, &request("eth1", "front"));
        assert!(matches!(twice, Err(Error::Container(ContainerError::NetworkTwice { .. }))));
        let container = Container {
            name: "db".parse().unwrap(),
            key: Some("key".parse().unwrap()),
            lifecycle: Lifecycle::Ready,
            sandbox: Sandbox::Namespace { path: "/run/netns/db".into(), cookie: 9, made: true },
            interfaces: vec![one.clone()],
            run: None,
            applied: false,
        };
        state.containers.insert(container.name.clone(), container);
        let wish = InterfaceRequest { addresses: one.addresses, ..request("eth0", "front") };
        let taken = plan(&state, &[], None, &wish);
        assert!(matches!(taken, Err(Error::Container(ContainerError::AddressTaken { .. }))));
        assert_eq!(plan(&state, &[], None, &request("eth0", "front")).unwrap().addresses.len(), 1);
        let observed = observed();
        let view = View { state: &state, observed: &observed };
        let at = |cookie| Sandbox::Namespace { path: "/proc/7/ns/net".into(), cookie, made: false };
        assert!(matches!(
            check_sandbox(view, &at(9), 1),
            Err(Error::Container(ContainerError::NamespaceTaken { .. }))
        ));
        assert!(matches!(
            check_sandbox(view, &at(1), 1),
            Err(Error::Container(ContainerError::HostNamespace { .. }))
        ));
        assert!(check_sandbox(view, &at(8), 1).is_ok());
        let request = |name: &str, key: &str| ContainerRequest {
            name: name.parse().unwrap(),
            key: Some(key.parse().unwrap()),
            sandbox: None,
            network: NetworkMode::None,
            ports: Vec::new(),
            policy: Policy::default(),
            run: None,
        };
        assert!(matches!(
            check(view, &request("db", "new")),
            Err(Error::Container(ContainerError::Exists { .. }))
        ));
        assert!(matches!(
            check(view, &request("x", "key")),
            Err(Error::Container(ContainerError::KeyTaken { .. }))
        ));
        assert!(check(view, &request("x", "new")).is_ok());
    }
}
