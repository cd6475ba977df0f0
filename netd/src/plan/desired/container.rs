//! Containers and their interfaces.

use std::path::PathBuf;

use netd_common::flow::Handle;

use super::network::list;
use super::planner::{Objects, Planner};
use crate::error::{ContainerError, Result};
use crate::model::{
    At, BRIDGE, Change, Container, ContainerRequest, DesiredContainer, DesiredNetworks, HOST, IfName,
    Interface, InterfaceRequest, Lifecycle, NONE, Name, NetworkMode, Policy, Sandbox, ValueChange,
};
use crate::plan::container::{self as plan, NewInterface};
use crate::plan::named_namespace;

impl Planner<'_> {
    /// Plans what is removed of containers, and what differs of those that stay, except new interfaces.
    pub(super) fn compare_containers(&mut self) -> Result<()> {
        let (desired, state) = (self.desired, self.view.state);
        let is_asked_for = |name: &Name| desired.containers.iter().any(|one| one.name.value == *name);
        for container in state.containers.values() {
            if self.prune && container.applied && !is_asked_for(&container.name) {
                self.plan.changes.push(Change::removed("container", &container.name));
                self.after.containers.remove(&container.name);
                self.gone.containers.push(container.clone());
            }
        }
        for wanted in &desired.containers {
            if let Some(present) = state.containers.get(&wanted.name.value) {
                self.compare_container(present, wanted)?;
            }
        }
        Ok(())
    }

    fn compare_container(&mut self, present: &Container, wanted: &DesiredContainer) -> Result<()> {
        wanted.name.check(fixed(present, wanted))?;
        let mut record = Container { key: wanted.key.clone(), applied: true, ..present.clone() };
        let key = |container: &Container| container.key.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut differences: Vec<ValueChange> =
            ValueChange::of("key", key(present), key(&record)).into_iter().collect();
        let interfaces = wanted.networks.interfaces();
        for (number, own) in present.interfaces.iter().enumerate() {
            let asked = interfaces.iter().find(|one| one.value.name == own.name);
            let changes = match asked {
                Some(asked) => link_changes(own, &asked.value),
                None => {
                    ValueChange::of(format!("network {}", own.network), own.name.to_string(), String::new())
                        .into_iter()
                        .collect()
                }
            };
            if changes.is_empty() {
                let allowed = |nets: &[ipnet::IpNet]| {
                    let mut nets: Vec<_> = nets.iter().map(ipnet::IpNet::trunc).collect();
                    nets.sort_unstable();
                    nets.dedup();
                    nets
                };
                let asked = asked.map_or(&[][..], |asked| asked.value.allowed.as_slice());
                if allowed(&own.allowed) != allowed(asked) {
                    let what = format!("allowed addresses of {}", own.name);
                    differences.extend(ValueChange::of(what, list(&own.allowed), list(asked)));
                    if let Some(own) = record.interfaces.get_mut(number) {
                        own.allowed = allowed(asked);
                    }
                }
                continue;
            }
            if number == 0
                && let Some(change) = changes.first()
            {
                // Its published ports lead there.
                let at = asked.map_or(&wanted.name.at, |asked| &asked.at);
                return Err(crate::error::Error::from(cannot(present, change)).at(at));
            }
            differences.extend(changes);
            self.gone.interfaces.push((present.name.clone(), own.clone()));
        }
        let is_gone = |one: &Interface| {
            let mut gone = self.gone.interfaces.iter();
            gone.any(|(container, other)| *container == present.name && other.name == one.name)
        };
        record.interfaces.retain(|one| !is_gone(one));
        let is_new =
            |one: &&At<InterfaceRequest>| !record.interfaces.iter().any(|own| own.name == one.value.name);
        for new in interfaces.iter().filter(is_new) {
            let is_replaced = present.interfaces.iter().any(|own| own.name == new.value.name);
            if !is_replaced {
                let what = format!("network {}", new.value.network);
                differences.extend(ValueChange::of(what, String::new(), new.value.name.to_string()));
            }
        }
        if !differences.is_empty() {
            self.plan.changes.push(Change::changed("container", &present.name, differences));
        }
        self.after.containers.insert(present.name.clone(), record.clone());
        let values = Container { interfaces: kept_links(present, &record), ..record };
        if values != *present {
            self.plan.values.containers.push(values);
        }
        Ok(())
    }

    /// Plans new containers, and new interfaces of those that stay.
    pub(super) fn containers(&mut self) -> Result<()> {
        let desired = self.desired;
        let mut new: Vec<(&DesiredContainer, &At<InterfaceRequest>)> = Vec::new();
        for wanted in &desired.containers {
            let present = self.after.containers.get(&wanted.name.value);
            let has =
                |name: &IfName| present.is_some_and(|one| one.interfaces.iter().any(|own| own.name == *name));
            new.extend(
                wanted
                    .networks
                    .interfaces()
                    .iter()
                    .filter(|one| !has(&one.value.name))
                    .map(|interface| (wanted, interface)),
            );
        }
        if new.iter().any(|(_, interface)| interface.value.network.as_str() == BRIDGE) {
            self.ensure_bridge()?;
        }
        let handles = self.full.endpoint_slots(new.len())?;
        for wanted in &desired.containers {
            if !self.after.containers.contains_key(&wanted.name.value) {
                let container = wanted.name.check(self.new_container(wanted))?;
                for state in [&mut self.full, &mut self.after] {
                    state.containers.insert(container.name.clone(), container.clone());
                }
            }
        }
        for ((wanted, request), handle) in new.into_iter().zip(handles) {
            let interface = request.check(self.new_interface(&wanted.name.value, &request.value, handle))?;
            for state in [&mut self.full, &mut self.after] {
                if let Some(container) = state.containers.get_mut(&wanted.name.value) {
                    container.interfaces.push(interface.clone());
                }
            }
            if self.view.state.containers.contains_key(&wanted.name.value) {
                self.plan.new.interfaces.push((wanted.name.value.clone(), interface));
            }
        }
        for wanted in &desired.containers {
            let name = &wanted.name.value;
            if let Some(made) = self.after.containers.get(name)
                && !self.view.state.containers.contains_key(name)
            {
                let mut values = vec![("network", networks(made))];
                let addresses = list(made.interfaces.iter().flat_map(|one| &one.addresses));
                if !addresses.is_empty() {
                    values.push(("ip", addresses));
                }
                self.plan.changes.push(Change::added("container", name, values));
                self.plan.new.containers.push(made.clone());
            }
        }
        Ok(())
    }

    /// The record of a new container, without interfaces. Its namespace is made later.
    fn new_container(&self, wanted: &DesiredContainer) -> Result<Container> {
        let name = &wanted.name.value;
        let netns = wanted.netns.as_ref().map(|path| path.value.clone());
        let request = ContainerRequest {
            name: name.clone(),
            key: wanted.key.clone(),
            sandbox: netns.clone(),
            network: match &wanted.networks {
                DesiredNetworks::Host => NetworkMode::Host,
                DesiredNetworks::None => NetworkMode::None,
                DesiredNetworks::Interfaces(_) => NetworkMode::Interfaces(Vec::new()),
            },
            ports: Vec::new(),
            policy: Policy::default(),
            run: None,
        };
        plan::check(self.at_the_end(), &request)?;
        let sandbox = match (&wanted.networks, netns) {
            (DesiredNetworks::Host, _) => Sandbox::Host,
            (_, Some(path)) => {
                let cookie = self.facts.namespaces.get(&path).copied().unwrap_or_default();
                Sandbox::Namespace { path, cookie, made: false }
            }
            (_, None) => {
                let path: PathBuf = named_namespace(name.as_str());
                if self.facts.occupied.contains(&path) {
                    return Err(ContainerError::NamespaceExists { path }.into());
                }
                Sandbox::Namespace { path, cookie: 0, made: true }
            }
        };
        if matches!(sandbox, Sandbox::Namespace { made: false, .. }) {
            plan::check_sandbox(self.at_the_end(), &sandbox, self.facts.host)?;
        }
        Ok(Container {
            name: name.clone(),
            key: wanted.key.clone(),
            lifecycle: Lifecycle::Adding,
            sandbox,
            interfaces: Vec::new(),
            run: None,
            applied: true,
        })
    }

    fn new_interface(
        &self,
        container: &Name,
        request: &InterfaceRequest,
        handle: Handle,
    ) -> Result<Interface> {
        let others = self.after.containers.get(container).map_or(&[][..], |one| one.interfaces.as_slice());
        let found = self.facts.ends.get(&(container.clone(), request.name.clone()));
        let instance = &self.facts.instance;
        let new = NewInterface { instance, container, others, publishes: false, handle, found };
        self.beside(|view| plan::interface(view, new, request))
    }
}

/// Whether a container that is removed has what new ones need.
pub(super) fn is_in_the_way(old: &Container, new: &Objects) -> bool {
    let of_new = new.containers.iter().flat_map(|one| &one.interfaces);
    let mut interfaces = of_new.chain(new.interfaces.iter().map(|(_, interface)| interface));
    let shares = |one: &Interface, other: &Interface| {
        one.host == other.host
            || one.network == other.network && one.addresses.iter().any(|own| other.addresses.contains(own))
    };
    let has_same = |other: &Container| {
        let is_namespace = |sandbox: &Sandbox| match sandbox {
            Sandbox::Host => None,
            Sandbox::Namespace { path, .. } => Some(path.clone()),
        };
        other.key.is_some() && other.key == old.key
            || is_namespace(&old.sandbox).is_some()
                && is_namespace(&old.sandbox) == is_namespace(&other.sandbox)
    };
    new.containers.iter().any(has_same)
        || interfaces.any(|other| old.interfaces.iter().any(|own| shares(own, other)))
}

/// Refuses what would need a container to be made anew, which would end the connections of what runs in it.
fn fixed(present: &Container, wanted: &DesiredContainer) -> Result<()> {
    if present.run.is_some() {
        return Err(ContainerError::Run { name: present.name.to_string() }.into());
    }
    let path = |sandbox: &Sandbox| match sandbox {
        Sandbox::Host => HOST.to_owned(),
        Sandbox::Namespace { path, .. } => path.display().to_string(),
    };
    let asked = match (&wanted.networks, &wanted.netns) {
        (DesiredNetworks::Host, _) => HOST.to_owned(),
        (_, Some(netns)) => netns.value.display().to_string(),
        (_, None) => named_namespace(present.name.as_str()).display().to_string(),
    };
    match ValueChange::of("namespace", path(&present.sandbox), asked) {
        Some(change) => Err(cannot(present, &change).into()),
        None => Ok(()),
    }
}

fn cannot(container: &Container, change: &ValueChange) -> ContainerError {
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    ContainerError::Fixed {
        name: container.name.to_string(),
        what: change.what.clone(),
        from: or_none(&change.from),
        to: or_none(&change.to),
    }
}

/// What differs of an interface and needs another link. What is not asked for was chosen, and stays.
fn link_changes(own: &Interface, asked: &InterfaceRequest) -> Vec<ValueChange> {
    let mut found = Vec::new();
    let mut compare = |what: &str, from: String, to: String| {
        found.extend(ValueChange::of(format!("{what} of {}", own.name), from, to));
    };
    compare("network", own.network.to_string(), asked.network.to_string());
    for address in &asked.addresses {
        let present = own.addresses.iter().find(|one| one.is_ipv4() == address.is_ipv4());
        compare("ip", present.map(ToString::to_string).unwrap_or_default(), address.to_string());
    }
    if let Some(mac) = asked.mac {
        compare("mac", own.mac.to_string(), mac.to_string());
    }
    let adopted = if own.adopted { own.host.to_string() } else { String::new() };
    compare("adopt", adopted, asked.adopt.as_ref().map(ToString::to_string).unwrap_or_default());
    found
}

/// The interfaces of the present record, with the values of the new one.
fn kept_links(present: &Container, record: &Container) -> Vec<Interface> {
    let changed = |own: &Interface| record.interfaces.iter().find(|one| one.name == own.name).cloned();
    present.interfaces.iter().map(|own| changed(own).unwrap_or_else(|| own.clone())).collect()
}

fn networks(container: &Container) -> String {
    if container.interfaces.is_empty() {
        let is_host = matches!(container.sandbox, Sandbox::Host);
        return if is_host { HOST } else { NONE }.to_owned();
    }
    list(container.interfaces.iter().map(|interface| &interface.network))
}
