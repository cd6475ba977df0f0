//! The comparison itself: records, a snapshot of the host and what was read besides. Pure.

use netd_common::flow::Handle;

use super::facts::{Facts, Hooked, Programs};
use crate::dataplane::HookPoint;
use crate::model::report::Difference;
use crate::model::{Container, Interface, Lifecycle, Link, Network, Subnet};
use crate::plan::container::{host_end, renamed_end};
use crate::plan::network::is_bridge_of;
use crate::plan::uplink::uplinks;
use crate::plan::{View, rows};

/// Where the kernel differs from the records, what others depend on first.
pub(crate) fn differences(view: View<'_>, facts: &Facts) -> Vec<Difference> {
    let mut found = Vec::new();
    for uplink in view.state.preferences.uplinks.iter().filter(|name| view.observed.link(name).is_none()) {
        found.push(Difference::UplinkGone { uplink: uplink.to_string() });
    }
    let is_ready = |network: &&Network| network.lifecycle == Lifecycle::Ready;
    for network in view.state.networks.values().filter(is_ready) {
        found.extend(of_network(view, facts, network));
    }
    for container in view.state.containers.values().filter(|one| one.lifecycle == Lifecycle::Ready) {
        found.extend(of_container(view, facts, container));
    }
    match &facts.programs {
        Some(programs) => {
            found.extend(of_hooks(view, programs));
            found.extend(of_rows(view, programs));
        }
        None if !view.state.networks.is_empty() => found.push(Difference::ProgramsGone),
        None => {}
    }
    found
}

fn of_network(view: View<'_>, facts: &Facts, network: &Network) -> Vec<Difference> {
    let mut found = Vec::new();
    let (name, bridge) = (network.name.to_string(), network.bridge.to_string());
    let Some(link) = view.observed.link(&network.bridge).filter(|link| is_bridge_of(network, link)) else {
        let now = view.observed.links.iter().find(|link| is_bridge_of(network, link));
        return vec![match now.map(|link| link.name.clone()) {
            Some(now) => Difference::BridgeRenamed { network: name, bridge, now },
            None => Difference::BridgeGone { network: name, bridge, adopted: network.adopted },
        }];
    };
    // The user cares for an adopted bridge.
    if !network.adopted {
        if !link.up {
            found.push(Difference::BridgeDown { network: name.clone(), bridge: bridge.clone() });
        }
        for Subnet { net, gateway, .. } in network.gated() {
            let is_there = view.observed.addresses.iter().any(|one| {
                one.interface == link.index
                    && one.net.addr() == *gateway
                    && one.net.prefix_len() == net.prefix_len()
            });
            if let (false, Ok(address)) = (is_there, ipnet::IpNet::new(*gateway, net.prefix_len())) {
                let (network, bridge) = (name.clone(), bridge.clone());
                found.push(Difference::GatewayGone { network, bridge, address });
            }
        }
    }
    let [four, six] = facts.forwarding.get(&network.bridge).copied().unwrap_or_default();
    for (family, is_on) in [("ipv4", four), ("ipv6", six)] {
        if is_on == Some(false) {
            let (network, bridge) = (name.clone(), bridge.clone());
            found.push(Difference::ForwardingOff { network, bridge, family });
        }
    }
    found
}

fn of_container(view: View<'_>, facts: &Facts, container: &Container) -> Vec<Difference> {
    let name = container.name.to_string();
    let mut found = Vec::new();
    let is_lost = facts.lost.contains(&container.name);
    if let (true, Some(path)) = (is_lost, container.path()) {
        found.push(Difference::NamespaceGone { container: name.clone(), path: path.to_owned() });
    }
    for interface in container.interfaces.iter().filter(|one| one.lifecycle == Lifecycle::Ready) {
        let host_interface = interface.host.to_string();
        let container = name.clone();
        let Some(link) = host_end(view, interface) else {
            let now = renamed_end(view, interface);
            match now.map(|link| link.name.clone()) {
                Some(now) => found.push(Difference::InterfaceRenamed { container, host_interface, now }),
                // It has gone with its namespace.
                None if is_lost => {}
                None => {
                    let interface = interface.name.to_string();
                    found.push(Difference::InterfaceGone { container, interface, host_interface });
                }
            }
            continue;
        };
        if interface.adopted {
            continue;
        }
        if !link.up {
            let host_interface = host_interface.clone();
            found.push(Difference::InterfaceDown { container: container.clone(), host_interface });
        }
        if let Some((network, bridge)) = bridge_of(view, interface)
            && link.master != Some(bridge.index)
        {
            let bridge = network.bridge.to_string();
            found.push(Difference::NotABridgePort { container, host_interface, bridge });
        }
    }
    found
}

/// The network of an interface and its bridge, if that is there by its recorded name.
fn bridge_of<'a>(view: View<'a>, interface: &Interface) -> Option<(&'a Network, &'a Link)> {
    let network = view.state.networks.get(&interface.network)?;
    let bridge = view.observed.link(&network.bridge).filter(|link| is_bridge_of(network, link))?;
    Some((network, bridge))
}

/// Where the programs should be: the hook of an interface, its index and its name.
fn places(view: View<'_>) -> Vec<(HookPoint, u32, String)> {
    let mut places = Vec::new();
    for uplink in uplinks(view) {
        places.extend(HookPoint::of(uplink.layer).map(|point| (point, uplink.index, uplink.name)));
    }
    let networks = view.state.networks.values().filter(|network| !network.unmanaged);
    let bridges = networks
        .filter_map(|network| view.observed.link(&network.bridge).filter(|link| is_bridge_of(network, link)));
    places.extend(bridges.map(|link| (HookPoint::Bridge, link.index, link.name.clone())));
    let ends = view.state.interfaces().filter_map(|(_, interface)| host_end(view, interface));
    places.extend(ends.map(|link| (HookPoint::Container, link.index, link.name.clone())));
    places
}

fn of_hooks(view: View<'_>, programs: &Programs) -> Vec<Difference> {
    let mut found = Vec::new();
    for (point, index, on) in places(view) {
        let hooked = programs.hooked.iter().find(|one| one.program.place == Some((point, index)));
        let program = point.program();
        match hooked {
            Some(Hooked { count: 1, before, .. }) => {
                if let Some(before) = before.clone() {
                    found.push(Difference::NotFirst { program, on, before });
                }
            }
            Some(Hooked { count: 2.., .. }) => found.push(Difference::AttachedTwice { program, on }),
            _ => found.push(Difference::NotAttached { program, on }),
        }
    }
    // Those on a cgroup, and the XDP program where it was attached.
    for Hooked { program, count, .. } in &programs.hooked {
        let is_left = program.place.is_none_or(|(point, _)| point == HookPoint::Xdp);
        if is_left && *count == 0 && program.on != "none" {
            found.push(Difference::NotAttached { program: program.program, on: program.on.clone() });
        }
    }
    found
}

fn of_rows(view: View<'_>, programs: &Programs) -> Vec<Difference> {
    let mut found = Vec::new();
    let is_ready = |one: &(&Container, &Interface)| one.1.lifecycle == Lifecycle::Ready;
    for (container, interface) in view.state.interfaces().filter(is_ready) {
        let (Some(link), Some((network, bridge))) = (host_end(view, interface), bridge_of(view, interface))
        else {
            continue;
        };
        let expected = rows::interface(interface, network, link.index, bridge.index);
        if programs.endpoints.get(&interface.handle()) != Some(&expected) {
            let (container, interface) = (container.name.to_string(), interface.name.to_string());
            found.push(Difference::InterfaceRow { container, interface });
        }
    }
    let is_absent = |handle: Handle| !programs.publications.contains(&handle);
    let is_there = |lifecycle| matches!(lifecycle, Lifecycle::Ready | Lifecycle::Draining);
    let all = view.state.publications.iter().filter(|one| is_there(one.lifecycle));
    for one in all.filter(|one| is_absent(one.handle())) {
        let (publication, target) = (one.spec(), one.target().to_string());
        found.push(Difference::PublicationRow { publication, target });
    }
    found
}
