//! What a publication leads to: a container, or a host beyond this one.

use std::net::IpAddr;

use super::View;
use super::uplink::uplinks;
use crate::error::{PublicationError, Result};
use crate::model::{Container, Name, PortSpec, Remote, Sandbox, Target, TargetSpec};

/// What a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// This target.
    Known(Target),
    /// A host that nothing is published for yet: it needs a route, a check with [`check_route`] and a row.
    NewRemote(IpAddr),
}

/// What a request means by its target.
pub(crate) fn target(view: View<'_>, wanted: &TargetSpec, keep_source: bool) -> Result<Meant> {
    let address = match wanted {
        TargetSpec::Container(name) => return container(view, name, keep_source).map(Meant::Known),
        TargetSpec::Address(address) => *address,
    };
    let has_it = |container: &&Container| {
        container.name.as_str() == address.to_string()
            || container.interfaces.iter().any(|interface| interface.addresses.contains(&address))
    };
    if let Some(found) = view.state.containers.values().find(has_it) {
        return container(view, &found.name, keep_source).map(Meant::Known);
    }
    check_address(view, address)?;
    let mut known = view.state.publications.iter().filter_map(|one| one.target().remote());
    let known: Option<&Remote> =
        known.find(|known| known.address == address && known.keep_source == keep_source);
    Ok(known.map_or(Meant::NewRemote(address), |known| Meant::Known(Target::Remote(*known))))
}

/// A container as a target, if it has ports to publish.
fn container(view: View<'_>, name: &Name, keep_source: bool) -> Result<Target> {
    let container = view.state.container(name)?;
    let Some(interface) = container.primary().filter(|_| container.sandbox != Sandbox::Host) else {
        let (network, container) = (container.network().to_owned(), name.to_string());
        return Err(PublicationError::NoPorts { container, network }.into());
    };
    if view.state.networks.get(&interface.network).is_some_and(|network| network.internal) {
        return Err(PublicationError::Internal { network: interface.network.to_string() }.into());
    }
    if keep_source {
        return Err(PublicationError::KeepSource { container: name.to_string() }.into());
    }
    Ok(Target::Container(name.clone()))
}

/// Refuses an address that no other host can have.
fn check_address(view: View<'_>, address: IpAddr) -> Result<()> {
    let (broadcast, link_local) = match address {
        IpAddr::V4(four) => (four.is_broadcast(), false),
        IpAddr::V6(six) => (six.to_ipv4_mapped().is_some(), six.is_unicast_link_local()),
    };
    if address.is_unspecified() || address.is_multicast() || broadcast || link_local {
        return Err(PublicationError::NotUnicast { address }.into());
    }
    if address.is_loopback() || view.observed.addresses.iter().any(|own| own.ip() == address) {
        return Err(PublicationError::TargetIsHost { address }.into());
    }
    let mut networks = view.state.networks.values();
    match networks.find(|network| network.subnets.iter().any(|subnet| subnet.net.contains(&address))) {
        Some(network) => {
            Err(PublicationError::NoContainerHas { address, network: network.name.to_string() }.into())
        }
        None => Ok(()),
    }
}

/// Refuses a host that no uplink leads to: `index` is the interface that the route to it leads out by.
pub(crate) fn check_route(view: View<'_>, address: IpAddr, index: Option<u32>) -> Result<()> {
    if uplinks(view).iter().any(|uplink| uplink.is_readable() && Some(uplink.index) == index) {
        return Ok(());
    }
    let interface = index.and_then(|index| view.observed.link_at(index)).map(|link| link.name.clone());
    Err(PublicationError::NoUplink { address, interface }.into())
}

/// Refuses a target that no client of the host address could speak to.
pub(crate) fn check_family(spec: &PortSpec, target: &Target) -> Result<()> {
    match (spec.host_ip, target.remote()) {
        (Some(host), Some(remote)) if host.is_ipv4() != remote.address.is_ipv4() => {
            Err(PublicationError::Families { spec: spec.to_string(), host, target: remote.address }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::model::{Address, State};
    use crate::observe::Observed;

    #[test]
    fn a_target_beyond_the_host_is_one_other_hosts_address() {
        let own = Address { interface: 2, net: "192.0.2.1/24".parse().unwrap(), global: true };
        let observed = Observed { addresses: vec![own], ..Observed::default() };
        let state = State::default();
        let view = View { state: &state, observed: &observed };
        let meant = |text: &str| target(view, &text.parse().unwrap(), false);
        assert_eq!(meant("198.51.100.7").unwrap(), Meant::NewRemote("198.51.100.7".parse().unwrap()));
        for odd in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "fe80::1", "::ffff:192.0.2.7"] {
            assert!(
                matches!(meant(odd), Err(Error::Publication(PublicationError::NotUnicast { .. }))),
                "{odd}"
            );
        }
        for own in ["127.0.0.1", "::1", "192.0.2.1"] {
            assert!(
                matches!(meant(own), Err(Error::Publication(PublicationError::TargetIsHost { .. }))),
                "{own}"
            );
        }
        assert!(matches!(meant("nobody"), Err(Error::Container(_))));
    }

    #[test]
    fn host_address_and_target_are_of_one_family() {
        let remote =
            Remote { address: "2001:db8::7".parse().unwrap(), keep_source: false, slot: 1, generation: 1 };
        let target = Target::Remote(remote);
        for (spec, is_fine) in [("8080:80", true), ("[::1]:8080:80", true), ("127.0.0.1:8080:80", false)] {
            assert_eq!(check_family(&spec.parse().unwrap(), &target).is_ok(), is_fine, "{spec}");
        }
    }
}
