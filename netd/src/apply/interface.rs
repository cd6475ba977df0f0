//! Interfaces of containers: a veth pair, guarded by the program on the host's end.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use netd_common::flow::Zone;

use super::transaction::Transaction;
use crate::dataplane::{Dataplane, HookPoint};
use crate::error::{ContainerError, Error, HostError, Result};
use crate::link::{Family, Netlink, Sysctl, Veth, end_sockets};
use crate::model::{IfName, Interface, Network};
use crate::netns::Netns;
use crate::plan::container::is_host_end_of;
use crate::plan::network::bridge_of;
use crate::plan::rows;

impl Transaction {
    /// Makes an interface, or takes over one that is to be adopted: writes its row and attaches the program.
    pub(super) async fn raise_interface(&mut self, interface: &Interface, namespace: &Netns) -> Result<()> {
        self.ensure_dataplane().await?;
        let network = self.store.state.network(&interface.network)?.clone();
        if interface.adopted {
            return self.adopt_interface(interface, &network).await;
        }
        let inside = Netlink::open(namespace)?;
        if inside.interface(&interface.name).await?.is_some() {
            let (path, interface) = (namespace.path().to_owned(), interface.name.to_string());
            return Err(ContainerError::InterfaceExists { path, interface }.into());
        }
        let index = self.raise_host_end(interface, &network, namespace).await?;
        raise_inner_end(interface, &network, namespace, &inside).await?;
        if self.netlink.wait_running(index).await? {
            let Some(inner) = inside.interface(&interface.name).await? else { return Ok(()) };
            inside.set_mac(inner.index, interface.mac).await?;
        }
        Ok(())
    }

    async fn adopt_interface(&self, interface: &Interface, network: &Network) -> Result<()> {
        let link = self.netlink.interface(&interface.host).await?;
        let Some(link) = link.filter(|link| is_host_end_of(interface, link)) else {
            let name = interface.host.to_string();
            return Err(HostError::InterfaceVanished { name }.into());
        };
        self.guard(interface, network, link.index)
    }

    /// Makes the pair and brings the host's end up: the program is on it before it can carry a packet.
    async fn raise_host_end(
        &self,
        interface: &Interface,
        network: &Network,
        namespace: &Netns,
    ) -> Result<u32> {
        let bridge = bridge_of(&self.observed, network)?.index;
        let veth = Veth {
            name: &interface.host,
            mac: interface.host_mac,
            peer_name: &interface.name,
            peer_mac: interface.mac,
            peer_netns: namespace,
            mtu: interface.mtu,
        };
        let index = self.netlink.create_veth(&veth).await?;
        self.guard(interface, network, index)?;
        Sysctl::set_ipv6(interface.host.as_str(), self.host(), false)?;
        self.netlink.set_master(index, bridge).await?;
        if !network.icc {
            self.netlink.isolate_port(index).await?;
        }
        self.netlink.set_up(index).await?;
        Ok(index)
    }

    /// Writes the row of an interface whose host's end has this index, and attaches the program.
    pub(super) fn guard(&self, interface: &Interface, network: &Network, index: u32) -> Result<()> {
        if index > Zone::MAX_IFINDEX {
            return Err(HostError::IndexTooLarge { index }.into());
        }
        let bridge = bridge_of(&self.observed, network)?.index;
        let dataplane = self.dataplane()?;
        dataplane.tables.allow_addresses(interface.handle(), &interface.allowed)?;
        dataplane.tables.put_endpoint(&rows::interface(interface, network, index, bridge))?;
        self.attach(HookPoint::Container, index, interface.host.as_str())
    }

    /// Takes interfaces away: their rows, the program, and the pairs that netd made. Absent parts are fine. Goes on after a failure
    /// and reports every one.
    pub(super) async fn lower_interfaces(&self, interfaces: &[&Interface]) -> Result<()> {
        let (mut made, mut errors) = (Vec::new(), Vec::new());
        for interface in interfaces {
            errors.extend(self.remove_rows(interface).err());
            if interface.adopted {
                continue;
            }
            match self.netlink.interface(&interface.host).await {
                Ok(Some(link)) if is_host_end_of(interface, &link) => made.push(link.index),
                // Not there (it goes with the container's namespace), or somebody else's by now.
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        errors.extend(self.netlink.delete_all(&made).await.err());
        let names: HashSet<&str> = interfaces.iter().map(|interface| interface.host.as_str()).collect();
        let is_other = |_, name: &str| !names.contains(name);
        errors.extend(self.detach_unless(HookPoint::Container, is_other).await.err());
        Error::all(errors)
    }

    /// Removes the rows of an interface, and ends the host's connections to it.
    fn remove_rows(&self, interface: &Interface) -> Result<()> {
        let mut errors = Vec::new();
        if let Some(dataplane) = &self.dataplane {
            errors.extend(dataplane.tables.remove_endpoint(interface.handle()).err());
            errors.extend(dataplane.tables.forget_addresses(interface.handle(), &interface.allowed).err());
            if let Err(error) = end_sockets_to(&interface.addresses, dataplane, self.host()) {
                tracing::warn!(
                    "connections of the host to {} were not ended: {}",
                    interface.name,
                    error.chain()
                );
            }
        }
        Error::all(errors)
    }
}

/// Ends the host's own connections to a container's addresses: whoever gets these addresses next must not get their packets.
fn end_sockets_to(addresses: &[IpAddr], dataplane: &Dataplane, host: &Netns) -> Result<()> {
    let sockets = dataplane.tables.sockets_to(addresses)?;
    if sockets.is_empty() {
        return Ok(());
    }
    let cookies = sockets.iter().map(|socket| socket.cookie).collect();
    end_sockets(host, &cookies, addresses)?;
    dataplane.tables.forget_sockets(&sockets)
}

/// Brings the loopback interface up.
pub(super) async fn raise_loopback(namespace: &Netns) -> Result<()> {
    let inside = Netlink::open(namespace)?;
    for link in inside.interfaces().await?.iter().filter(|link| link.loopback && !link.up) {
        inside.set_up(link.index).await?;
    }
    Ok(())
}

/// Gives the container's end its addresses and brings it up.
async fn raise_inner_end(
    interface: &Interface,
    network: &Network,
    namespace: &Netns,
    inside: &Netlink,
) -> Result<()> {
    let Some(inner) = inside.interface(&interface.name).await? else {
        return Err(gone(namespace.path(), &interface.name));
    };
    let name = interface.name.as_str();
    Sysctl::interface(Family::V4, name, "arp_notify").set(namespace, "1")?;
    Sysctl::set_ipv6(name, namespace, interface.addresses.iter().any(IpAddr::is_ipv6))?;
    for address in &interface.addresses {
        let prefix_len = network.subnet_of(*address).map_or(0, |subnet| subnet.net.prefix_len());
        inside.add_address(inner.index, *address, prefix_len).await?;
    }
    inside.set_up(inner.index).await?;
    for gateway in &interface.gateways {
        inside.add_default_route(*gateway, inner.index).await?;
    }
    Ok(())
}

/// An interface is not in a namespace.
pub(super) fn gone(path: &Path, interface: &IfName) -> Error {
    ContainerError::InterfaceGone { path: path.to_owned(), interface: interface.to_string() }.into()
}
