//! Uplinks: which interfaces lead outside, and which of them get the XDP program.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netd_common::abi::capacity;

use super::View;
use super::container::KIND as VETH;
use crate::error::{Error, HostError, Result};
use crate::model::{Address, IfName, Link, Route, XdpMode};
use crate::observe::Observed;

/// The interfaces that lead outside, as many as the tables have room for.
pub(crate) fn uplinks(view: View<'_>) -> Vec<Link> {
    let mut uplinks = all_uplinks(view);
    uplinks.truncate(capacity::UPLINKS as usize);
    uplinks
}

/// The interfaces that lead outside: those of the user's choice that exist, or those that hold routes and are no network's bridge,
/// the ones with a default route first. Bridges of unmanaged networks are among them in any case: most containers there are not
/// netd's, and are clients like those outside.
pub(crate) fn all_uplinks(view: View<'_>) -> Vec<Link> {
    let View { state, observed } = view;
    let chosen = &state.preferences.uplinks;
    if !chosen.is_empty() {
        let unmanaged = state.networks.values().filter(|network| network.unmanaged);
        let unmanaged = unmanaged.map(|network| &network.bridge).filter(|name| !chosen.contains(name));
        return chosen.iter().chain(unmanaged).filter_map(|name| observed.link(name)).cloned().collect();
    }
    let managed = state.networks.values().filter(|network| !network.unmanaged);
    let own: HashSet<&str> = managed.map(|network| network.bridge.as_str()).collect();
    let mut with_routes: HashSet<u32> = HashSet::new();
    let mut with_default: HashSet<u32> = HashSet::new();
    for route in &observed.routes {
        with_routes.extend(route.interfaces.iter());
        if route.destination.prefix_len() == 0 {
            with_default.extend(route.interfaces.iter());
        }
    }
    let leads_outside = |link: &&Link| {
        !link.loopback && !own.contains(link.name.as_str()) && with_routes.contains(&link.index)
    };
    let mut found: Vec<Link> = observed.links.iter().filter(leads_outside).cloned().collect();
    found.sort_by_key(|link| !with_default.contains(&link.index));
    found
}

/// Refuses uplinks that are not there, that lead nowhere, or that lead to netd's own containers.
pub(crate) fn check_chosen(chosen: &[IfName], view: View<'_>) -> Result<()> {
    let is_own = |name: &IfName| {
        view.state.networks.values().any(|network| network.bridge == *name && !network.unmanaged)
            || view.state.interfaces().any(|(_, interface)| interface.host == *name)
    };
    chosen.iter().try_for_each(|name| match view.observed.link(name) {
        None => Err(HostError::NoInterface { name: name.to_string() }.into()),
        Some(_) if is_own(name) => Err(HostError::OwnUplink { name: name.to_string() }.into()),
        Some(link) if link.loopback => Err(HostError::LoopbackUplink { name: name.to_string() }.into()),
        Some(_) => Ok(()),
    })
}

/// The source address of masqueraded connections that leave by an interface: its first address that means something beyond
/// the link, as the kernel's own masquerade chooses it (`inet_select_addr`).
pub(crate) fn source<A>(
    addresses: &[Address],
    interface: u32,
    family: impl Fn(IpAddr) -> Option<A>,
) -> Option<A> {
    let mut own = addresses.iter().filter(|address| address.interface == interface && address.global);
    own.find_map(|address| family(address.ip()))
}

/// The peers that the host's IPsec policies are for, and whether a policy demands more than to let their packets pass. netd's
/// connections with others bear addresses of the host, so policies for other addresses are for nothing that netd sends. Where
/// several policies name the same peers, the strictest counts.
pub(crate) fn ipsec_peers(observed: &Observed) -> BTreeMap<IpNet, bool> {
    let is_own = |net: &IpNet| observed.addresses.iter().any(|address| net.contains(&address.ip()));
    let mut peers = BTreeMap::new();
    for policy in observed.ipsec.iter().filter(|policy| is_own(&policy.local)) {
        *peers.entry(policy.remote).or_default() |= !policy.passes;
    }
    peers
}

/// The MTUs that routes of the main table have of their own, bytes, and zero for routes within these that have none: the longest
/// prefix decides. If there are too many of the latter, they are left out, and get the MTU of the route around them.
pub(crate) fn route_mtus(routes: &[Route]) -> BTreeMap<IpNet, u32> {
    let mut best: BTreeMap<IpNet, &Route> = BTreeMap::new();
    for route in routes.iter().filter(|route| route.main) {
        let known = best.entry(route.destination).or_insert(route);
        if route.metric < known.metric {
            *known = route;
        }
    }
    let mut mtus: BTreeMap<IpNet, u32> =
        best.iter().filter_map(|(net, route)| Some((*net, route.mtu?))).collect();
    let is_within = |net: &IpNet| mtus.keys().any(|around| around != net && around.contains(net));
    let within =
        best.iter().filter(|(net, route)| route.mtu.is_none() && is_within(net)).map(|(net, _)| (*net, 0));
    let room = (capacity::ROUTE_MTUS as usize).saturating_sub(mtus.len());
    let within: Vec<_> = within.take(room + 1).collect();
    if within.len() <= room {
        mtus.extend(within);
    }
    mtus
}

/// Why an uplink has no XDP program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// XDP is off.
    Off,
    /// It cannot have the program, also if every uplink must.
    Impossible(HostError),
    /// It is a veth, where XDP costs TCP its segmentation offload.
    Veth,
    /// It is no network card.
    NoCard,
}

impl Obstacle {
    /// The failure of a request that wants the program on every uplink.
    pub(crate) fn into_error(self, uplink: &Link) -> Error {
        match self {
            Self::Impossible(error) => error.into(),
            other => HostError::XdpRefused { interface: uplink.name.clone(), why: other.to_string() }.into(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("it is off"),
            Self::Impossible(error) => error.fmt(f),
            Self::Veth => f.write_str("it is a veth, where XDP turns off TCP segmentation offload"),
            Self::NoCard => f.write_str("it is not a network card"),
        }
    }
}

/// Why an uplink cannot have the XDP program, or should not; `ours` is the program's number.
pub(crate) fn obstacle(mode: XdpMode, uplink: &Link, links: &[Link], ours: u32) -> Option<Obstacle> {
    let interface = uplink.name.clone();
    let is_vlan_on_it = |one: &&Link| one.below == Some(uplink.index) && one.kind.as_deref() == Some("vlan");
    if mode == XdpMode::Off {
        Some(Obstacle::Off)
    } else if let Some(program) = uplink.xdp.filter(|id| *id != ours) {
        Some(Obstacle::Impossible(HostError::ForeignXdp { interface, program }))
    } else if !uplink.is_ethernet() {
        Some(Obstacle::Impossible(HostError::XdpNotEthernet { interface }))
    } else if let Some(vlan) = links.iter().find(is_vlan_on_it) {
        let vlan = vlan.name.clone();
        Some(Obstacle::Impossible(HostError::XdpUnderVlan { interface, vlan }))
    } else if mode == XdpMode::Auto && uplink.kind.as_deref() == Some(VETH) {
        Some(Obstacle::Veth)
    } else if mode == XdpMode::Auto && !uplink.hardware {
        Some(Obstacle::NoCard)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LinkLayer;

    #[test]
    fn a_route_within_one_that_has_an_mtu_has_its_own() {
        let route = |net: &str, mtu, metric| Route {
            destination: net.parse().unwrap(),
            interfaces: [2].into(),
            metric,
            mtu,
            main: true,
        };
        let routes = [
            route("10.0.0.0/8", Some(1400), 0),
            route("10.1.0.0/16", None, 0),
            route("10.2.0.0/16", Some(1300), 5),
            route("10.2.0.0/16", None, 1),
            route("192.0.2.0/24", None, 0),
            Route { main: false, ..route("10.3.0.0/16", Some(1200), 0) },
        ];
        let mtus: Vec<_> = route_mtus(&routes).into_iter().map(|(net, mtu)| (net.to_string(), mtu)).collect();
        let expected = [("10.0.0.0/8", 1400), ("10.1.0.0/16", 0), ("10.2.0.0/16", 0)];
        assert_eq!(mtus, expected.map(|(net, mtu)| (net.to_owned(), mtu)));
    }

    fn why(mode: XdpMode, uplink: &Link, others: &[Link]) -> Option<String> {
        obstacle(mode, uplink, others, 7).map(|why| why.to_string())
    }

    #[test]
    fn a_card_has_the_stage_unless_something_is_in_its_way() {
        let card = Link {
            index: 2,
            name: "eth0".to_owned(),
            layer: LinkLayer::Ethernet,
            hardware: true,
            ..Link::default()
        };
        let veth = Link { hardware: false, kind: Some("veth".to_owned()), ..card.clone() };
        let bridge = Link { hardware: false, kind: Some("bridge".to_owned()), ..card.clone() };
        let ours = Link { xdp: Some(7), ..card.clone() };
        let theirs = Link { xdp: Some(8), ..card.clone() };
        let tunnel = Link { layer: LinkLayer::Ip, ..card.clone() };
        let vlan = Link { index: 3, below: Some(2), kind: Some("vlan".to_owned()), ..card.clone() };
        let peer = Link { index: 3, below: Some(2), ..veth.clone() };
        for mode in [XdpMode::Auto, XdpMode::Native] {
            assert_eq!(why(mode, &card, &[]), None);
            assert_eq!(why(mode, &ours, &[]), None);
            assert_eq!(why(mode, &card, std::slice::from_ref(&peer)), None, "no VLAN");
            assert!(why(mode, &theirs, &[]).is_some_and(|why| why.contains("program 8")));
            assert!(why(mode, &tunnel, &[]).is_some());
            assert!(why(mode, &card, std::slice::from_ref(&vlan)).is_some());
        }
        for soft in [&veth, &bridge] {
            assert!(why(XdpMode::Auto, soft, &[]).is_some());
            assert_eq!(why(XdpMode::Native, soft, &[]), None, "as the user wants it");
        }
        assert!(why(XdpMode::Off, &card, &[]).is_some());
    }
}
