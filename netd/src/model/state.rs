//! Everything that an instance has made, as records, and the numbers that are handed out to new ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use netd_common::abi::capacity;
use netd_common::flow::Handle;
use serde::{Deserialize, Serialize};

use super::access::Access;
use super::container::{Container, Interface};
use super::name::{Name, OwnerKey};
use super::network::Network;
use super::ports::Ports;
use super::publication::{Publication, Target, TargetSet};
use super::quota::Quota;
use super::setting::Preferences;
use super::timeout::Timeouts;
use crate::error::{ContainerError, NetworkError, PublicationError, Result};

/// Everything that an instance has made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Generation of the row handed out last.
    generation: u16,
    /// What the user has set.
    #[serde(flatten)]
    pub preferences: Preferences,
    /// Who may use the publications that have no lists of their own.
    #[serde(default)]
    pub access: Access,
    /// Idle timeouts that are not the defaults.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How much of the flow tables one container may have.
    #[serde(default, skip_serializing_if = "Quota::is_default")]
    pub quota: Quota,
    /// The settings that a file asks for: they are as by default once no file does.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub applied: BTreeSet<String>,
    /// Networks by name, `bridge` among them once it is used.
    pub networks: BTreeMap<Name, Network>,
    /// Containers by name.
    pub containers: BTreeMap<Name, Container>,
    /// Publications, oldest first.
    #[serde(skip)]
    pub publications: Vec<Publication>,
}

/// What a new publication gets: the handle of its row in the BPF tables, and its number in the order of making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The handle.
    pub handle: Handle,
    /// The number.
    pub number: u64,
}

impl State {
    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.preferences == Preferences::default()
            && self.access.is_empty()
            && self.timeouts.is_empty()
            && self.quota.is_default()
            && self.networks.is_empty()
            && self.containers.is_empty()
            && self.publications.is_empty()
    }

    /// The record of a container.
    pub fn container(&self, name: &Name) -> Result<&Container> {
        Ok(self.containers.get(name).ok_or_else(|| ContainerError::NotFound { name: name.to_string() })?)
    }

    /// The container that an owner knows by this key.
    pub fn container_of(&self, key: &OwnerKey) -> Option<&Container> {
        self.containers.values().find(|container| container.key.as_ref() == Some(key))
    }

    /// The record of a network.
    pub fn network(&self, name: &Name) -> Result<&Network> {
        Ok(self.networks.get(name).ok_or_else(|| NetworkError::NotFound { name: name.to_string() })?)
    }

    /// Every interface of every container, with its container.
    pub fn interfaces(&self) -> impl Iterator<Item = (&Container, &Interface)> {
        self.containers
            .values()
            .flat_map(|container| container.interfaces.iter().map(move |one| (container, one)))
    }

    /// The publications of a container.
    pub fn publications_of(&self, container: &Name) -> Vec<Publication> {
        self.publications.iter().filter(|one| one.target().is(container)).cloned().collect()
    }

    /// The publications that drain.
    pub fn draining(&self) -> HashSet<Handle> {
        self.publications.iter().filter(|one| one.is_draining()).map(Publication::handle).collect()
    }

    /// The handle of the row that a target has in the BPF tables; none if it has no interface.
    pub fn endpoint(&self, target: &Target) -> Option<Handle> {
        match target {
            Target::Container(name) => self.containers.get(name)?.primary().map(Interface::handle),
            Target::Remote(remote) => Some(remote.handle()),
        }
    }

    /// The set that has this target alone: one that is there, or a new one.
    pub fn targets(&self, target: &Target) -> Arc<TargetSet> {
        let present = self.publications.iter().find(|one| one.target() == target);
        present.map_or_else(
            || {
                let last = self.publications.iter().map(|one| one.targets.id).max().unwrap_or(0);
                Arc::new(TargetSet { id: last.saturating_add(1), members: [target.clone()] })
            },
            |one| Arc::clone(&one.targets),
        )
    }

    /// Free slots for the rows of containers' interfaces, or of targets that are no containers, and their generations.
    pub fn endpoint_slots(&mut self, count: usize) -> Result<Vec<Handle>> {
        let mut taken = Ports::default();
        for (_, interface) in self.interfaces() {
            taken.insert(interface.slot..=interface.slot);
        }
        for remote in self.publications.iter().filter_map(|one| one.target().remote()) {
            taken.insert(remote.slot..=remote.slot);
        }
        let slots = (0..=u16::MAX).take(capacity::ENDPOINTS as usize);
        let free: Vec<u16> = slots.filter(|slot| !taken.holds_any(*slot..=*slot)).take(count).collect();
        if free.len() < count {
            return Err(PublicationError::Full { what: "containers", capacity: capacity::ENDPOINTS }.into());
        }
        Ok(free.into_iter().map(|slot| self.hand_out(slot)).collect())
    }

    /// One of these.
    pub fn endpoint_slot(&mut self) -> Result<Handle> {
        let full = PublicationError::Full { what: "containers", capacity: capacity::ENDPOINTS };
        Ok(self.endpoint_slots(1)?.pop().ok_or(full)?)
    }

    /// Places for new publications.
    pub fn places(&mut self, count: usize) -> Result<Vec<Place>> {
        let mut taken = Ports::default();
        for publication in &self.publications {
            taken.insert(publication.slot..=publication.slot);
        }
        let slots: Vec<u16> =
            (0..=u16::MAX).filter(|slot| !taken.holds_any(*slot..=*slot)).take(count).collect();
        if slots.len() < count {
            return Err(
                PublicationError::Full { what: "publications", capacity: capacity::PUBLICATIONS }.into()
            );
        }
        let newest = self.publications.last().map_or(0, |publication| publication.number);
        Ok((newest.saturating_add(1)..)
            .zip(slots)
            .map(|(number, slot)| Place { handle: self.hand_out(slot), number })
            .collect())
    }

    /// A number that no network has.
    pub fn network_number(&self) -> u32 {
        let taken: Vec<u32> = self.networks.values().map(|network| network.number).collect();
        (1..=u32::MAX).find(|number| !taken.contains(number)).unwrap_or(u32::MAX)
    }

    /// Hands out numbers where another state, made of this one, has stopped.
    pub fn go_on_from(&mut self, other: &Self) {
        self.generation = other.generation;
    }

    fn hand_out(&mut self, slot: u16) -> Handle {
        let handle = Handle::new(slot, self.generation).next();
        self.generation = handle.generation();
        handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_never_handed_out_twice_in_the_same_generation() {
        let mut state = State::default();
        let first = state.places(2).unwrap();
        let second = state.places(2).unwrap();
        assert_eq!(first[0].handle.slot(), second[0].handle.slot());
        assert_ne!(first[0].handle, second[0].handle);
        assert_ne!(first[0].handle.generation(), first[1].handle.generation());
    }
}
