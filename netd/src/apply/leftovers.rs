//! What a transaction finds to clear away: what a killed one left, runs whose process is gone, and adopted interfaces that
//! somebody has removed.

use std::collections::HashSet;

use netd_common::flow::Handle;

use super::container::{Attached, Connected};
use super::network::Bridged;
use super::publication::Published;
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::model::{Container, Interface, Lifecycle, Network, Publication, Sandbox};
use crate::observe::is_alive;
use crate::plan::container::{host_end, renamed_end};
use crate::plan::network::is_bridge_of;

impl Transaction {
    /// Withdraws all of it. Goes on after a failure and reports every one.
    pub(super) async fn clear_leftovers(&mut self) -> Result<()> {
        let mut errors = Vec::new();
        let is_over = |container: &&Container| {
            container.lifecycle != Lifecycle::Ready || container.run.is_some_and(|run| !is_alive(run))
        };
        let containers: Vec<Container> =
            self.store.state.containers.values().filter(is_over).cloned().collect();
        for container in &containers {
            tracing::warn!("container {} is incomplete or has lost its process; removing it", container.name);
        }
        errors.extend(self.remove_recorded(containers).await.err());
        errors.extend(self.clear_publications().await.err());
        errors.extend(self.sweep_interfaces().await.err());
        errors.extend(self.clear_networks().await.err());
        Error::all(errors)
    }

    /// Withdraws networks that nothing is left of, or no container.
    pub(super) async fn clear_networks(&mut self) -> Result<()> {
        let lost = self.store.state.networks.values().filter(|network| self.is_lost(network));
        let lost: Vec<Bridged> = lost.cloned().map(Bridged).collect();
        for Bridged(network) in lost.iter().filter(|Bridged(network)| !network.transient) {
            tracing::warn!("network {} is incomplete or has lost its bridge; removing it", network.name);
        }
        self.unmake_all(&lost).await
    }

    async fn clear_publications(&mut self) -> Result<()> {
        let is_half = |one: &&Publication| matches!(one.lifecycle, Lifecycle::Adding | Lifecycle::Removing);
        let half: Vec<Publication> = self.store.state.publications.iter().filter(is_half).cloned().collect();
        match half.as_slice() {
            [] => return Ok(()),
            [one] => tracing::warn!("a publication of {} is incomplete; removing it", one.target()),
            many => tracing::warn!("{} publications are incomplete; removing them", many.len()),
        }
        self.unmake(&Published::of(half)).await
    }

    /// Withdraws interfaces that are half made, and adopted ones that are gone, with the ports that lead to them; and containers
    /// of others that have no interface left.
    async fn sweep_interfaces(&mut self) -> Result<()> {
        let lost: Vec<(Container, Interface)> = self
            .store
            .state
            .interfaces()
            .filter(|(container, interface)| {
                container.lifecycle == Lifecycle::Ready
                    && (interface.lifecycle != Lifecycle::Ready || self.is_gone(interface))
            })
            .map(|(container, interface)| (container.clone(), interface.clone()))
            .collect();
        let mut errors = Vec::new();
        for (container, interface) in lost {
            tracing::warn!("interface {} of container {} is gone", interface.name, container.name);
            let ports = self.ports_of(interface.handle(), &container);
            if !ports.is_empty() {
                errors.extend(self.unmake(&Published::of(ports)).await.err());
            }
            let name = container.name.clone();
            errors
                .extend(self.unmake(&Connected { container: name, interface, namespace: None }).await.err());
            let left = self.store.state.containers.get(&container.name).cloned();
            let is_others = |left: &Container| {
                left.interfaces.is_empty() && matches!(left.sandbox, Sandbox::Namespace { made: false, .. })
            };
            if let Some(left) = left.filter(is_others) {
                errors.extend(self.unmake(&Attached::of(left)).await.err());
            }
        }
        Error::all(errors)
    }

    /// The publications that lead to this interface of a container.
    fn ports_of(&self, interface: Handle, container: &Container) -> Vec<Publication> {
        if container.primary().is_some_and(|primary| primary.handle() == interface) {
            self.store.state.publications_of(&container.name)
        } else {
            Vec::new()
        }
    }

    /// Whether somebody has removed an adopted interface. One that has another name is still there.
    fn is_gone(&self, interface: &Interface) -> bool {
        let view = self.view();
        interface.adopted && host_end(view, interface).or_else(|| renamed_end(view, interface)).is_none()
    }

    /// Whether a network is half made, or no container is on it and its adopted bridge is gone or it was made for containers only.
    fn is_lost(&self, network: &Network) -> bool {
        let link = self.observed.link(&network.bridge);
        let is_gone = network.adopted && !link.is_some_and(|link| is_bridge_of(network, link));
        let used: HashSet<&str> =
            self.store.state.interfaces().map(|(_, interface)| interface.network.as_str()).collect();
        network.lifecycle != Lifecycle::Ready
            || (is_gone || network.transient) && !used.contains(network.name.as_str())
    }
}
