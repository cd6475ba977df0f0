//! Networks: subnets, gateways, bridges.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::ipam::{self, Held};
use super::{View, mac_of};
use crate::error::{Error, HostError, NetworkError, Result};
use crate::model::{
    BRIDGE, GatewayMode, GatewayModes, IfName, Lifecycle, Link, Name, Network, NetworkRequest, Subnet,
    check_subnet, digest, gateway_of, is_predefined,
};
use crate::observe::Observed;

/// The kind of a bridge, as `ip link` shows it.
pub(crate) const KIND: &str = "bridge";

/// The record of the network that is asked for.
pub(crate) fn network(view: View<'_>, request: NetworkRequest) -> Result<Network> {
    let name = &request.name;
    if view.state.networks.contains_key(name) {
        return Err(NetworkError::Exists { name: name.to_string(), predefined: is_predefined(name) }.into());
    }
    let adopted = request.adopt.then(|| adopted_bridge(view, &request)).transpose()?;
    let subnets = subnets(view, &request, adopted)?;
    check_modes(&request, &subnets)?;
    let bridge = match &request.bridge {
        Some(bridge) => bridge.clone(),
        None if name.as_str() == BRIDGE => free_bridge_name(view.observed)?,
        None => bridge_name(name)?,
    };
    if adopted.is_none() && view.observed.link(&bridge).is_some() {
        return Err(HostError::InterfaceExists { name: bridge.to_string(), peer: None }.into());
    }
    let mtu = request.mtu.or(adopted.map(|bridge| bridge.mtu));
    Ok(Network {
        lifecycle: Lifecycle::Adding,
        number: view.state.network_number(),
        bridge,
        mac: match adopted.and_then(|bridge| bridge.mac) {
            Some(mac) => mac,
            None => mac_of(subnets.iter().map(|subnet| subnet.gateway)),
        },
        adopted: request.adopt,
        unmanaged: request.unmanaged,
        transient: request.transient,
        applied: false,
        forwarding_set: Vec::new(),
        subnets,
        mtu: mtu.unwrap_or_else(|| view.observed.default_mtu()),
        internal: request.internal,
        icc: request.icc,
        masquerade: request.masquerade,
        trusted: request.trusted,
        name: request.name,
    })
}

/// The record of network `bridge` before its first use.
pub(crate) fn default_network(view: View<'_>) -> Result<Network> {
    network(view, NetworkRequest::new(BRIDGE.parse()?))
}

/// The name of the bridge of a network that is asked for without one.
pub(crate) fn default_bridge(name: &Name) -> Option<IfName> {
    if name.as_str() == BRIDGE { "netd0".parse().ok() } else { bridge_name(name).ok() }
}

/// Refuses terms that contradict each other or the host, for a network with these subnets.
pub(crate) fn check_terms(view: View<'_>, request: &NetworkRequest, subnets: &[Subnet]) -> Result<()> {
    check_snat(view, request)?;
    let has_one =
        |address: &&IpAddr| subnets.iter().any(|subnet| subnet.gateway.is_ipv4() == address.is_ipv4());
    if let Some(address) = request.snat.iter().find(|address| !has_one(address)) {
        return Err(NetworkError::ExtraSnat { address: *address }.into());
    }
    check_modes(request, subnets)
}

/// Whether an interface is the recorded bridge: kind and MAC address agree, of an adopted one kind and name. The kernel changes the
/// MAC address of a bridge whose maker has not set one, with its ports.
pub(crate) fn is_bridge_of(network: &Network, link: &Link) -> bool {
    let is_it =
        if network.adopted { link.name == network.bridge.as_str() } else { link.mac == Some(network.mac) };
    is_it && link.kind.as_deref() == Some(KIND)
}

/// Whether netd has made this bridge, which has these addresses: its MAC address is made of one of them.
pub(crate) fn is_made_bridge(link: &Link, addresses: Vec<IpAddr>) -> bool {
    link.kind.as_deref() == Some(KIND) && !addresses.is_empty() && link.mac == Some(mac_of(addresses))
}

/// The bridge of a network, which somebody may have removed.
pub(crate) fn bridge_of<'a>(observed: &'a Observed, network: &Network) -> Result<&'a Link> {
    Ok(observed.link(&network.bridge).ok_or_else(|| NetworkError::BridgeGone {
        name: network.name.to_string(),
        bridge: network.bridge.to_string(),
    })?)
}

/// The bridge that a network is to adopt.
fn adopted_bridge<'a>(view: View<'a>, request: &NetworkRequest) -> Result<&'a Link> {
    let Some(name) = &request.bridge else {
        return Err(HostError::NoInterface { name: String::new() }.into());
    };
    let link = view.observed.link(name).ok_or_else(|| HostError::NoInterface { name: name.to_string() })?;
    if let Some(other) = view.state.networks.values().find(|network| network.bridge == *name) {
        let (bridge, network) = (name.to_string(), other.name.to_string());
        return Err(NetworkError::BridgeTaken { bridge, network }.into());
    }
    if link.kind.as_deref() != Some(KIND) || link.mac.is_none() {
        return Err(NetworkError::NotABridge { interface: name.to_string() }.into());
    }
    Ok(link)
}

/// netd0, or the next that is free: another instance may share this host.
fn free_bridge_name(observed: &Observed) -> Result<IfName> {
    for number in 0..u32::MAX {
        let name: IfName = format!("netd{number}").parse()?;
        if observed.link(&name).is_none() {
            return Ok(name);
        }
    }
    Err(HostError::NoBridgeName.into())
}

/// br- and the network's name, if that is short enough for an interface; else br- and a digest of it.
fn bridge_name(name: &Name) -> Result<IfName> {
    let plain = format!("br-{name}");
    if plain.len() <= 15 {
        plain.parse()
    } else {
        let digest: String = digest(name.as_str().as_bytes()).chars().take(12).collect();
        format!("br-{digest}").parse()
    }
}

/// A subnet of each family that is asked for, with its gateway.
fn subnets(view: View<'_>, request: &NetworkRequest, adopted: Option<&Link>) -> Result<Vec<Subnet>> {
    let on_bridge = adopted.map_or(Vec::new(), |bridge| addresses_of(view.observed, bridge));
    let mut wished = request.subnets.clone();
    let mut gateways = request.gateways.clone();
    if let (true, Some(_)) = (wished.is_empty(), adopted) {
        wished = on_bridge.iter().map(IpNet::trunc).collect();
    }
    for net in &wished {
        let own = on_bridge.iter().find(|own| own.trunc() == *net).map(IpNet::addr);
        let has_one = gateways.iter().any(|gateway| gateway.is_ipv4() == net.addr().is_ipv4());
        gateways.extend(own.filter(|_| !has_one));
    }
    let in_use = in_use(view, adopted);
    let nets = if wished.is_empty() && request.unmanaged {
        // Its containers have addresses, whatever the bridge has.
        Vec::new()
    } else {
        nets(&wished, request.ipv6, &in_use)?
    };
    check_snat(view, request)?;
    let mut snat = request.snat.clone();
    let mut subnets = Vec::new();
    for net in nets {
        subnets.push(Subnet {
            net,
            gateway: gateway_of(net, take_of_family(&mut gateways, net.addr()))?,
            mode: request.modes.of(net.addr()),
            snat: take_of_family(&mut snat, net.addr()),
        });
    }
    if let Some(address) = snat.first() {
        return Err(NetworkError::ExtraSnat { address: *address }.into());
    }
    if let Some(gateway) = gateways.first() {
        return Err(NetworkError::ExtraGateway { gateway: *gateway }.into());
    }
    Ok(subnets)
}

fn check_snat(view: View<'_>, request: &NetworkRequest) -> Result<()> {
    let own = view.observed.own_addresses();
    match request.snat.iter().find(|address| !own.contains(address)) {
        Some(address) => Err(NetworkError::SnatNotOwn { address: *address }.into()),
        None => Ok(()),
    }
}

/// The networks of the addresses that a bridge has, one of each family at most.
fn addresses_of(observed: &Observed, bridge: &Link) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = Vec::new();
    for address in observed.addresses.iter().filter(|one| one.interface == bridge.index && one.global) {
        if !nets.iter().any(|net| net.addr().is_ipv4() == address.ip().is_ipv4()) {
            nets.push(address.net);
        }
    }
    nets
}

/// The first address of a family, taken out of the list.
fn take_of_family(addresses: &mut Vec<IpAddr>, of: IpAddr) -> Option<IpAddr> {
    let place = addresses.iter().position(|address| address.is_ipv4() == of.is_ipv4())?;
    Some(addresses.remove(place))
}

/// One net of IPv4, and one of IPv6 if that is asked for: those that are wished for, or free ones.
fn nets(wished: &[IpNet], ipv6: bool, in_use: &[Held]) -> Result<Vec<IpNet>> {
    for subnet in wished {
        check_subnet(*subnet)?;
        if let Some(Held { net, holder }) = ipam::overlap(*subnet, in_use) {
            let (subnet, held, holder) = (*subnet, *net, holder.clone());
            return Err(NetworkError::Overlap { subnet, held, holder }.into());
        }
    }
    let of = |four: bool| -> Result<Option<IpNet>> {
        let mut own = wished.iter().filter(|net| net.addr().is_ipv4() == four);
        match (own.next(), own.next()) {
            (_, Some(_)) => Err(NetworkError::SubnetTwice { family: if four { 4 } else { 6 } }.into()),
            (one, None) => Ok(one.copied()),
        }
    };
    let four = of(true)?.map_or_else(|| ipam::free_subnet(in_use), Ok)?;
    let six = match of(false)? {
        None if ipv6 => Some(ipam::free_subnet6(in_use)?),
        six => six,
    };
    Ok([four].into_iter().chain(six).collect())
}

/// The subnets that networks, routes and addresses have, except those of an adopted bridge.
fn in_use(view: View<'_>, adopted: Option<&Link>) -> Vec<Held> {
    let observed = view.observed;
    let names: HashMap<u32, &str> =
        observed.links.iter().map(|link| (link.index, link.name.as_str())).collect();
    let name_of = |index: u32| {
        names.get(&index).map_or_else(|| format!("interface {index}"), |name| (*name).to_owned())
    };
    let is_adopted = |index: u32| adopted.is_some_and(|bridge| bridge.index == index);
    let networks = view.state.networks.values().flat_map(|network| {
        let holder = format!("network {}", network.name);
        network.subnets.iter().map(move |subnet| Held { net: subnet.net, holder: holder.clone() })
    });
    let routes = observed
        .routes
        .iter()
        .filter(|route| route.main && !route.interfaces.iter().any(|index| is_adopted(*index)));
    let routes = routes.map(|route| {
        let by = route.interfaces.first().map_or_else(|| "nothing".to_owned(), |index| name_of(*index));
        Held { net: route.destination, holder: format!("the host's route by {by}") }
    });
    let addresses = observed.addresses.iter().filter(|address| !is_adopted(address.interface));
    let addresses = addresses.map(|address| Held {
        net: address.net,
        holder: format!("the host's address on {}", name_of(address.interface)),
    });
    networks.chain(routes).chain(addresses).collect()
}

/// Refuses gateway modes and trusted interfaces that contradict what else is asked for.
fn check_modes(request: &NetworkRequest, subnets: &[Subnet]) -> Result<()> {
    let name = request.name.to_string();
    let is_there =
        |address: IpAddr| subnets.iter().any(|subnet| subnet.net.addr().is_ipv4() == address.is_ipv4());
    if request.modes.names_ipv6() && !is_there(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
        return Err(NetworkError::ModeWithoutIpv6 { name }.into());
    }
    if request.unmanaged {
        check_unmanaged(request)?;
    }
    if request.internal && !request.trusted.is_empty() {
        return Err(NetworkError::TrustedInternal { name }.into());
    }
    for subnet in subnets {
        check_mode(request, subnet)?;
    }
    Ok(())
}

/// Refuses what netd cannot do for a network that somebody else routes.
fn check_unmanaged(request: &NetworkRequest) -> Result<()> {
    let name = request.name.to_string();
    if !request.adopt {
        return Err(NetworkError::UnmanagedMade { name }.into());
    }
    let terms = [
        (request.internal, "internal"),
        (!request.icc, "isolation of its containers"),
        (!request.masquerade || !request.snat.is_empty(), "the source address of outgoing connections"),
        (request.modes != GatewayModes::default(), "the gateway mode"),
        (!request.trusted.is_empty(), "trusted interfaces"),
    ];
    match terms.into_iter().find(|(is_asked_for, _)| *is_asked_for) {
        Some((_, what)) => Err(NetworkError::UnmanagedTerms { name, what }.into()),
        None => Ok(()),
    }
}

fn check_mode(request: &NetworkRequest, subnet: &Subnet) -> Result<()> {
    let name = request.name.to_string();
    let Subnet { net, mode, snat, .. } = *subnet;
    let gateway = request.gateways.iter().find(|gateway| gateway.is_ipv4() == net.addr().is_ipv4());
    let error: Error = match mode {
        GatewayMode::Isolated if !request.internal => NetworkError::IsolatedNotInternal { name }.into(),
        GatewayMode::Isolated if let Some(gateway) = gateway => {
            NetworkError::IsolatedGateway { subnet: net, gateway: *gateway }.into()
        }
        GatewayMode::Routed | GatewayMode::NatUnprotected if request.internal => {
            NetworkError::ModeInternal { mode: mode.name(), name }.into()
        }
        GatewayMode::Routed if let Some(address) = snat => NetworkError::RoutedSnat { address }.into(),
        _ => return Ok(()),
    };
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::model::{Address, LinkLayer, Mac, ModeSpec, Route, State};

    /// A host with eth0 (192.0.2.1/24, the default route, MTU 1450) and a bridge br0 (10.9.0.1/24).
    fn host() -> Observed {
        let link = |index, name: &str, kind: Option<&str>, mtu| Link {
            index,
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            mac: Mac::new([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
            layer: LinkLayer::Ethernet,
            mtu,
            ..Link::default()
        };
        let address = |interface, net: &str| Address { interface, net: net.parse().unwrap(), global: true };
        let route = Route::example;
        Observed {
            links: vec![link(2, "eth0", None, 1450), link(3, "br0", Some("bridge"), 1500)],
            addresses: vec![address(2, "192.0.2.1/24"), address(3, "10.9.0.1/24")],
            routes: vec![route("0.0.0.0/0", 2), route("192.0.2.0/24", 2), route("10.9.0.0/24", 3)],
            ..Observed::default()
        }
    }

    fn request(name: &str, change: impl FnOnce(&mut NetworkRequest)) -> NetworkRequest {
        let mut request = NetworkRequest::new(name.parse().unwrap());
        change(&mut request);
        request
    }

    fn planned(request: NetworkRequest) -> Result<Network> {
        let (state, observed) = (State::default(), host());
        network(View { state: &state, observed: &observed }, request)
    }

    fn modes(words: &[&str]) -> GatewayModes {
        let specs: Vec<ModeSpec> = words.iter().map(|word| word.parse().unwrap()).collect();
        GatewayModes::new(&specs).unwrap()
    }

    #[test]
    fn what_is_not_asked_for_is_chosen() {
        let network = planned(request("bridge", |_| ())).unwrap();
        assert_eq!(network.bridge.as_str(), "netd0");
        assert_eq!((network.mtu, network.number), (1450, 1));
        let [subnet] = network.subnets.as_slice() else { panic!("one subnet: {:?}", network.subnets) };
        assert_eq!(subnet.net.to_string(), "172.17.0.0/16");
        assert_eq!(subnet.gateway.to_string(), "172.17.0.1");
        assert_eq!(network.mac.to_string(), "02:42:ac:11:00:01");
        let network = planned(request("back", |request| request.ipv6 = true)).unwrap();
        assert_eq!((network.bridge.as_str(), network.subnets.len()), ("br-back", 2));
        let long = planned(request(&"x".repeat(255), |_| ())).unwrap();
        assert_eq!(long.bridge.as_str().len(), 15);
    }

    #[test]
    fn an_adopted_bridge_keeps_its_addresses() {
        let adopt = |bridge: &str| {
            planned(request("back", |request| {
                (request.bridge, request.adopt) = (Some(bridge.parse().unwrap()), true);
            }))
        };
        let network = adopt("br0").unwrap();
        let [subnet] = network.subnets.as_slice() else { panic!("one subnet: {:?}", network.subnets) };
        assert_eq!(
            (subnet.net.to_string(), subnet.gateway.to_string()),
            ("10.9.0.0/24".into(), "10.9.0.1".into())
        );
        assert!(network.adopted && network.mtu == 1500 && network.mac.to_string() == "02:00:00:00:00:03");
        assert!(matches!(adopt("eth0"), Err(Error::Network(NetworkError::NotABridge { .. }))));
        assert!(matches!(adopt("br7"), Err(Error::Host(HostError::NoInterface { .. }))));
    }

    #[test]
    fn an_unmanaged_network_leaves_everything_but_ports_to_its_owner() {
        let unmanaged = |change: fn(&mut NetworkRequest)| {
            planned(request("back", |request| {
                (request.bridge, request.adopt) = (Some("br0".parse().unwrap()), true);
                request.unmanaged = true;
                change(request);
            }))
        };
        assert!(unmanaged(|_| ()).unwrap().unmanaged);
        let terms: [fn(&mut NetworkRequest); 6] = [
            |r| r.internal = true,
            |r| r.icc = false,
            |r| r.masquerade = false,
            |r| r.snat = vec!["192.0.2.1".parse().unwrap()],
            |r| r.modes = modes(&["routed"]),
            |r| r.trusted = vec!["eth0".parse().unwrap()],
        ];
        for change in terms {
            let error = unmanaged(change).unwrap_err();
            assert!(
                matches!(error, Error::Network(NetworkError::UnmanagedTerms { .. })),
                "{}",
                error.chain()
            );
        }
        let made = unmanaged(|r| (r.bridge, r.adopt) = (None, false)).unwrap_err();
        assert!(matches!(made, Error::Network(NetworkError::UnmanagedMade { .. })), "{}", made.chain());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        type Change = fn(&mut NetworkRequest);
        let cases: [(&str, Change, Kind, &str); 12] = [
            (
                "a subnet in use",
                |r| r.subnets = vec!["10.0.0.0/8".parse().unwrap()],
                Kind::Conflict,
                "overlaps",
            ),
            (
                "host bits",
                |r| r.subnets = vec!["10.1.0.1/24".parse().unwrap()],
                Kind::Invalid,
                "host bits set",
            ),
            (
                "two IPv4 subnets",
                |r| r.subnets = vec!["10.1.0.0/24".parse().unwrap(), "10.2.0.0/24".parse().unwrap()],
                Kind::Invalid,
                "one IPv4 subnet",
            ),
            (
                "a foreign gateway",
                |r| r.gateways = vec!["10.1.0.1".parse().unwrap()],
                Kind::Invalid,
                "gateway",
            ),
            (
                "a gateway too many",
                |r| r.gateways = vec!["fd00::1".parse().unwrap()],
                Kind::Invalid,
                "there is no subnet for gateway",
            ),
            (
                "a bridge that exists",
                |r| r.bridge = Some("br0".parse().unwrap()),
                Kind::Conflict,
                "already exists",
            ),
            (
                "a foreign SNAT address",
                |r| r.snat = vec!["192.0.2.9".parse().unwrap()],
                Kind::Invalid,
                "not an address",
            ),
            ("isolated alone", |r| r.modes = modes(&["isolated"]), Kind::Invalid, "is not internal"),
            (
                "routed and internal",
                |r| (r.internal, r.modes) = (true, modes(&["routed"])),
                Kind::Invalid,
                "is internal",
            ),
            (
                "routed and SNAT",
                |r| (r.snat, r.modes) = (vec!["192.0.2.1".parse().unwrap()], modes(&["routed"])),
                Kind::Invalid,
                "keep the container's address",
            ),
            ("a mode of IPv6 alone", |r| r.modes = modes(&["ipv6=routed"]), Kind::Invalid, "no IPv6 subnet"),
            (
                "trusted and internal",
                |r| (r.internal, r.trusted) = (true, vec!["eth0".parse().unwrap()]),
                Kind::Invalid,
                "is internal",
            ),
        ];
        for (case, change, kind, text) in cases {
            let error = planned(request("back", change)).expect_err(case);
            assert_eq!(error.kind(), kind, "{case}");
            assert!(error.chain().contains(text), "{case}: {}", error.chain());
        }
    }
}
