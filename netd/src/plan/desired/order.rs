//! What goes first, and what may not go.

use super::planner::{Plan, Planner};
use super::{container, network};
use crate::error::{NetworkError, Result};
use crate::model::{Container, Network, Publication, Taken};

impl Planner<'_> {
    /// Refuses to remove a network that somebody else needs.
    pub(super) fn check_gone(&self) -> Result<()> {
        for network in &self.gone.networks {
            let name = network.name.as_str();
            if self.after.networks.contains_key(&network.name) {
                continue;
            }
            let left = self.after.containers.values().filter(|container| container.is_on(name));
            let containers: Vec<String> = left.map(|container| container.name.to_string()).collect();
            if !containers.is_empty() {
                return Err(NetworkError::HasContainers { name: name.to_owned(), containers }.into());
            }
        }
        Ok(())
    }

    /// Which of what is removed is in the way of what is made.
    pub(super) fn order(&mut self) {
        let Plan { new, first, last, replaced, .. } = &mut self.plan;
        let gone = std::mem::take(&mut self.gone);
        let is_blocked = |old: &Network| new.networks.iter().any(|new| network::is_in_the_way(old, new));
        (first.networks, last.networks) = gone.networks.into_iter().partition(is_blocked);
        let is_blocked = |old: &Container| {
            first.networks.iter().any(|network| old.is_on(network.name.as_str()))
                || container::is_in_the_way(old, new)
        };
        (first.containers, last.containers) = gone.containers.into_iter().partition(is_blocked);
        // The new one has the name or the addresses of the old one, or the old network is about to go.
        first.interfaces = gone.interfaces;
        let mut wanted = Taken::default();
        for one in new.publications.iter().filter(|one| !replaced.contains_key(&one.handle())) {
            wanted.insert(one.proto, one.host_ip, one.host_ports());
        }
        let is_blocked = |old: &Publication| wanted.has_any(old.proto, old.host_ip, &old.host_ports());
        (first.publications, last.publications) = gone.publications.into_iter().partition(is_blocked);
        // What has gone with its container cannot be taken over.
        replaced.retain(|_, old| !first.containers.iter().any(|container| old.target().is(&container.name)));
    }
}
