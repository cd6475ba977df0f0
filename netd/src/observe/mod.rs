//! A snapshot of the host, one for each transaction, refreshed only where the transaction has changed the host.

mod inner;
mod listeners;
mod local_ports;
mod process;

use std::cell::OnceCell;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Result;
use crate::link::{Family, Netlink, Sysctl, ipsec_policies};
use crate::model::{Address, IfName, IpsecPolicy, Link, Route};
use crate::netns::Netns;
pub(crate) use inner::found_end;
#[cfg(test)]
pub(crate) use listeners::Listener;
pub(crate) use listeners::Listeners;
pub(crate) use local_ports::LocalPorts;
pub use process::this_process;
pub(crate) use process::{is_alive, kernel_release, present_cookies};

/// A snapshot of the host.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Its interfaces.
    pub links: Vec<Link>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Prefixes all of whose addresses are the host's, by local routes (`ip route add local`).
    pub local_prefixes: Vec<IpNet>,
    /// The broadcast addresses of its IPv4 networks.
    pub broadcasts: Vec<IpAddr>,
    /// Whether programs may bind IPv4 addresses that the host does not have (`net.ipv4.ip_nonlocal_bind`), and IPv6 ones.
    pub nonlocal_bind: [bool; 2],
    /// Its IPsec policies.
    pub ipsec: Vec<IpsecPolicy>,
    /// Whether the kernel has IPv6.
    pub has_ipv6: bool,
    /// The ports that the kernel gives to sockets.
    pub local_ports: LocalPorts,
    pub(crate) listeners: OnceCell<Listeners>,
}

impl Observed {
    /// Reads everything from the kernel except sockets, which are read when they are needed.
    pub(crate) async fn read(netns: &Netns, netlink: &Netlink) -> Result<Self> {
        let nonlocal = |family| Sysctl::global(family, "ip_nonlocal_bind").is(netns, "1");
        let mut observed = Self {
            local_ports: LocalPorts::read(netns)?,
            has_ipv6: netns.run(|| Sysctl::interface(Family::V6, "all", "forwarding").exists())?,
            ipsec: ipsec_policies(netns)?,
            nonlocal_bind: [nonlocal(Family::V4)?, nonlocal(Family::V6)?],
            ..Self::default()
        };
        observed.refresh(netlink).await?;
        Ok(observed)
    }

    /// Reads again what changes with an interface.
    pub(crate) async fn refresh(&mut self, netlink: &Netlink) -> Result<()> {
        self.links = netlink.interfaces().await?;
        self.addresses = netlink.addresses().await?;
        let routes = netlink.routes().await?;
        self.routes = routes.unicast;
        self.local_prefixes = routes.local;
        self.broadcasts = routes.broadcast;
        Ok(())
    }

    /// This snapshot without an interface, its addresses and the routes that lead out by it, and without sockets.
    pub(crate) fn without(&self, index: u32) -> Self {
        let links = self.links.iter().filter(|link| link.index != index);
        let addresses = self.addresses.iter().filter(|address| address.interface != index);
        let routes = self.routes.iter().filter(|route| !route.interfaces.contains(&index));
        Self {
            links: links.cloned().collect(),
            addresses: addresses.copied().collect(),
            routes: routes.cloned().collect(),
            local_prefixes: self.local_prefixes.clone(),
            broadcasts: self.broadcasts.clone(),
            ipsec: self.ipsec.clone(),
            local_ports: self.local_ports.clone(),
            listeners: OnceCell::new(),
            ..*self
        }
    }

    /// Reads the listening sockets, if that has not been done.
    pub(crate) fn read_listeners(&self, netns: &Netns) -> Result<()> {
        if self.listeners.get().is_none() {
            let _set = self.listeners.set(Listeners::read(netns)?);
        }
        Ok(())
    }

    /// This snapshot with these sockets.
    #[cfg(test)]
    pub(crate) fn with_listeners(self, sockets: Vec<Listener>) -> Self {
        Self { listeners: OnceCell::from(Listeners::new(sockets)), ..self }
    }

    /// The listening sockets; none before [`Self::read_listeners`].
    pub(crate) fn listeners(&self) -> &Listeners {
        static NONE: Listeners = Listeners::NONE;
        self.listeners.get().unwrap_or(&NONE)
    }

    /// The interface of this name.
    pub(crate) fn link(&self, name: &IfName) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name.as_str())
    }

    /// The interface of this index.
    pub(crate) fn link_at(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The host's addresses that are valid beyond their link.
    pub(crate) fn own_addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().filter(|address| address.global).map(Address::ip).collect()
    }

    /// All of the host's own addresses, as prefixes.
    pub(crate) fn locals(&self) -> impl Iterator<Item = IpNet> {
        self.addresses
            .iter()
            .map(|address| IpNet::from(address.ip()))
            .chain(self.local_prefixes.iter().copied())
    }

    /// MTU of the default route's interface, of the preferred one if there are several; 1500 without a default route.
    pub(crate) fn default_mtu(&self) -> u32 {
        const ETHERNET: u32 = 1500;
        let routes = self.routes.iter().filter(|route| route.main && route.destination.prefix_len() == 0);
        let best = routes.min_by_key(|route| route.metric);
        let index = best.and_then(|route| route.interfaces.first());
        index.and_then(|index| self.link_at(*index)).map_or(ETHERNET, |link| link.mtu)
    }
}
