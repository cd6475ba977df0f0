//! Putting right what differs from the records.

use std::collections::HashSet;

use ipnet::IpNet;
use netd_common::flow::Handle;

use super::container::proven_namespace;
use super::lifecycle::Resource as _;
use super::network::forwarding;
use super::publication::Published;
use super::transaction::Transaction;
use crate::check::{Facts, differences};
use crate::dataplane::{AttachedProgram, HookPoint};
use crate::error::{Error, Result};
use crate::link::{Family, Sysctl, delete_filter};
use crate::model::report::{Difference, Repaired};
use crate::model::{Container, IfName, Interface, Lifecycle, Network, Publication};
use crate::plan::container::{host_end, is_host_end_of};
use crate::session::Session;
use crate::settings::Settings;

/// How often a repair looks again: what depends on a bridge is seen only once that is there.
const ROUNDS: usize = 3;

/// How much a repair does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For a process that looks again and again: what costs much for each container, and nobody but the user can put right, is not
    /// looked at.
    Following,
    /// Everything is looked at.
    Whole,
}

impl Transaction {
    /// Compares the records with the kernel and puts right what differs. A step that fails does not stop the others.
    pub async fn repair(settings: &Settings, effort: Effort) -> Result<(Repaired, Session)> {
        let mut transaction = match effort {
            Effort::Whole => Self::locked(settings).await?,
            Effort::Following => Self::locked_to_follow(settings).await?,
        };
        let leftovers = transaction.clear_leftovers().await.err();
        let mut errors = Vec::new();
        let (mut found, mut left): (Vec<Difference>, Vec<Difference>) = Default::default();
        for _round in 0..ROUNDS {
            let before = std::mem::replace(&mut left, transaction.differences(effort).await?);
            if left == before || !left.iter().any(Difference::is_repairable) {
                break;
            }
            // Those of the last round count.
            errors = transaction.put_right(&left).await.err().into_iter().collect();
            for one in &left {
                if !found.contains(one) {
                    found.push(one.clone());
                }
            }
            transaction.observe().await?;
        }
        errors.extend(leftovers);
        errors.extend(transaction.end_drained().await.err());
        // Addresses, routes and switches are no differences: the tables are written anew.
        errors.extend(transaction.follow().await.err());
        if !found.is_empty() {
            left = transaction.differences(effort).await?;
        }
        let session = transaction.finish()?;
        Error::all(errors)?;
        found.retain(|one| !left.contains(one));
        Ok((Repaired { repaired: found, left }, session))
    }

    async fn differences(&self, effort: Effort) -> Result<Vec<Difference>> {
        let dataplane = self.dataplane.as_ref();
        let (state, is_thorough) = (&self.store.state, effort == Effort::Whole);
        let facts =
            Facts::read(self.host(), &self.netlink, dataplane, state, &self.observed, is_thorough).await?;
        Ok(differences(self.view(), &facts))
    }

    /// Goes on after a failure and reports every one.
    async fn put_right(&mut self, found: &[Difference]) -> Result<()> {
        let mut errors = Vec::new();
        let (mut hooks, mut rows) = (false, HashSet::new());
        for difference in found {
            let outcome = match difference {
                Difference::ProgramsGone => self.restore().await,
                Difference::BridgeGone { network, adopted: false, .. } => {
                    self.with_network(network, async |this, network| {
                        this.make_bridge(network).await?;
                        // What follows needs its index.
                        this.observe().await
                    })
                    .await
                }
                Difference::BridgeRenamed { network, now, .. } => self.rename_bridge(network, now),
                Difference::BridgeDown { bridge, .. } => self.set_up(bridge).await,
                Difference::GatewayGone { bridge, address, .. } => match self.index(bridge) {
                    Some(index) => self.give_gateway(bridge, index, *address).await,
                    None => Ok(()),
                },
                Difference::ForwardingOff { network, family, .. } => {
                    let family = if *family == "ipv4" { Family::V4 } else { Family::V6 };
                    self.with_network(network, async |this, network| {
                        if network.adopted {
                            // It is switched off again with the network.
                            return this.switch_forwarding(network);
                        }
                        forwarding(family, network).set(this.host(), "1")
                    })
                    .await
                }
                Difference::InterfaceGone { container, interface, .. } => {
                    self.make_interface_again(container, interface).await
                }
                Difference::InterfaceRenamed { host_interface, now, .. } => {
                    self.rename_interface(host_interface, now)
                }
                Difference::InterfaceDown { host_interface, .. } => self.set_up(host_interface).await,
                Difference::NotABridgePort { host_interface, .. } => self.join_bridge(host_interface).await,
                Difference::AttachedTwice { on, .. } => self.drop_copies(on).await,
                Difference::InterfaceRow { container, interface } => self.write_row(container, interface),
                Difference::NotAttached { .. } => {
                    hooks = true;
                    Ok(())
                }
                Difference::PublicationRow { publication, .. } => {
                    rows.insert(publication.as_str());
                    Ok(())
                }
                _ => Ok(()),
            };
            errors.extend(outcome.err());
        }
        if hooks {
            errors.extend(self.attach_all().await.err());
        }
        if !rows.is_empty() {
            let is_meant = |one: &&Publication| rows.contains(one.spec().as_str());
            let all: Vec<_> = self.store.state.publications.iter().filter(is_meant).cloned().collect();
            errors.extend(self.publish_again(all).await.err());
        }
        Error::all(errors)
    }

    /// Loads the programs and writes everything that the tables should hold, before a program is on an uplink. Connections that
    /// the tables had are made again by their next packets, where that is possible.
    pub(super) async fn restore(&mut self) -> Result<()> {
        self.load_dataplane()?;
        for network in self.store.state.networks.values() {
            self.put_subnets(network)?;
        }
        self.dataplane()?.tables.set_access(Handle::NONE, &self.store.state.access)?;
        self.attach_containers()?;
        self.publish_again(self.store.state.publications.clone()).await?;
        self.follow_host().await
    }

    async fn give_gateway(&self, bridge: &str, index: u32, address: IpNet) -> Result<()> {
        if address.addr().is_ipv6() {
            Sysctl::set_ipv6(bridge, self.host(), true)?;
        }
        self.netlink.add_address(index, address.addr(), address.prefix_len()).await
    }

    /// Writes publications. Those that drain have no connections left.
    async fn publish_again(&mut self, all: Vec<Publication>) -> Result<()> {
        let (draining, all): (Vec<_>, Vec<_>) = all.into_iter().partition(Publication::is_draining);
        if !draining.is_empty() {
            self.unmake(&Published::of(draining)).await?;
        }
        Published::of(all).apply(self).await
    }

    /// Puts every program on its hook.
    async fn attach_all(&mut self) -> Result<()> {
        self.forget_lost_filters().await?;
        self.follow().await?;
        self.attach_containers()
    }

    /// The same for every interface.
    pub(super) fn attach_containers(&self) -> Result<()> {
        let mut errors = Vec::new();
        for (_, interface) in self.store.state.interfaces() {
            errors.extend(self.guard_again(interface).err());
        }
        Error::all(errors)
    }

    /// Writes the row of an interface, if it is there, and attaches its program.
    pub(super) fn guard_again(&self, interface: &Interface) -> Result<()> {
        let network = self.store.state.networks.get(&interface.network);
        let (Some(link), Some(network)) = (host_end(self.view(), interface), network) else { return Ok(()) };
        self.guard(interface, network, link.index)
    }

    fn write_row(&self, container: &str, interface: &str) -> Result<()> {
        match self.recorded(container, interface) {
            Some((_, interface)) => self.guard_again(&interface),
            None => Ok(()),
        }
    }

    /// Forgets filters that somebody has removed, so that they are added again.
    async fn forget_lost_filters(&self) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        for program in dataplane.attachments()?.into_iter().filter(AttachedProgram::is_filter) {
            let Some((point, index)) = program.place else { continue };
            let filters = match self.observed.link_at(index) {
                Some(_) => self.netlink.filters(index, point == HookPoint::Bridge).await?,
                None => Vec::new(),
            };
            let ours = dataplane.program_id(point)?;
            if !filters.iter().any(|filter| filter.program() == Some(ours)) {
                dataplane.forget_filter(point, index, &program.on)?;
            }
        }
        Ok(())
    }

    /// Removes all filters of netd's on an interface but the first.
    async fn drop_copies(&self, interface: &str) -> Result<()> {
        let Some(index) = self.index(interface) else { return Ok(()) };
        for egress in [false, true] {
            let filters = self.netlink.filters(index, egress).await?;
            for point in HookPoint::TC {
                let ours = self.dataplane()?.program_id(point)?;
                let mut copies = filters.iter().filter(|filter| filter.program() == Some(ours)).skip(1);
                copies.try_for_each(|copy| delete_filter(self.host(), copy))?;
            }
        }
        Ok(())
    }

    async fn make_interface_again(&mut self, container: &str, interface: &str) -> Result<()> {
        let Some((container, interface)) = self.recorded(container, interface) else { return Ok(()) };
        if interface.adopted {
            return Ok(());
        }
        match proven_namespace(&container)? {
            Some(namespace) => {
                let made = self.raise_interface(&interface, &namespace).await;
                if made.is_err()
                    && let Some(link) = self.netlink.interface(&interface.host).await?
                    && is_host_end_of(&interface, &link)
                {
                    // Half of it would look like the whole.
                    self.netlink.delete(link.index).await?;
                }
                made
            }
            None => Ok(()),
        }
    }

    async fn join_bridge(&self, host_interface: &str) -> Result<()> {
        let state = &self.store.state;
        let found = state.interfaces().find(|(_, one)| one.host.as_str() == host_interface);
        let Some((_, interface)) = found else { return Ok(()) };
        let Some(network) = state.networks.get(&interface.network) else { return Ok(()) };
        let (Some(index), Some(bridge)) = (self.index(host_interface), self.index(network.bridge.as_str()))
        else {
            return Ok(());
        };
        self.netlink.set_master(index, bridge).await?;
        if network.icc { Ok(()) } else { self.netlink.isolate_port(index).await }
    }

    fn rename_bridge(&mut self, network: &str, now: &str) -> Result<()> {
        let now: IfName = now.parse()?;
        let networks = self.store.state.networks.values_mut();
        for network in networks.filter(|one| one.name.as_str() == network) {
            network.bridge = now.clone();
        }
        self.store.save()
    }

    fn rename_interface(&mut self, host_interface: &str, now: &str) -> Result<()> {
        let now: IfName = now.parse()?;
        let interfaces = self.store.state.containers.values_mut().flat_map(|one| &mut one.interfaces);
        for interface in interfaces.filter(|one| one.host.as_str() == host_interface) {
            interface.host = now.clone();
        }
        self.store.save()
    }

    async fn set_up(&self, interface: &str) -> Result<()> {
        match self.index(interface) {
            Some(index) => self.netlink.set_up(index).await,
            None => Ok(()),
        }
    }

    /// The index of an interface.
    fn index(&self, name: &str) -> Option<u32> {
        self.observed.links.iter().find(|link| link.name == name).map(|link| link.index)
    }

    async fn with_network(
        &mut self,
        name: &str,
        act: impl AsyncFnOnce(&mut Self, &Network) -> Result<()>,
    ) -> Result<()> {
        let found = self.store.state.networks.values().find(|network| network.name.as_str() == name);
        match found.cloned() {
            Some(network) => act(self, &network).await,
            None => Ok(()),
        }
    }

    fn recorded(&self, container: &str, interface: &str) -> Option<(Container, Interface)> {
        let mut interfaces = self.store.state.interfaces();
        let (container, interface) = interfaces.find(|(one, its)| {
            one.name.as_str() == container
                && its.name.as_str() == interface
                && one.lifecycle == Lifecycle::Ready
        })?;
        Some((container.clone(), interface.clone()))
    }
}
