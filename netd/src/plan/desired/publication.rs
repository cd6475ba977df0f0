//! Publications.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::planner::Planner;
use super::setting::access_changes;
use crate::error::Result;
use crate::model::{
    At, Change, Desired, DesiredPublication, HostPorts, IfName, Name, PortSpec, Protocol, Publication,
    Remote, State, Target, TargetSet, TargetSpec, ValueChange, sources,
};
use crate::plan::View;
use crate::plan::container::check_interface as check_first;
use crate::plan::publish::{Planning, Terms, check_interface};
use crate::plan::remote::{self, Meant};

/// What tells a publication from others: protocol, host address, host ports.
type Key = (Protocol, Option<IpAddr>, u16, u16);

/// A publication that is to be made.
struct Fresh<'a> {
    terms: Terms,
    spec: &'a At<PortSpec>,
    /// The one that has its ports.
    replaced: Option<Publication>,
}

impl Planner<'_> {
    /// Plans all publications.
    pub(super) fn publications(&mut self) -> Result<()> {
        let (desired, state) = (self.desired, self.view.state);
        let present: HashMap<Key, &Publication> =
            state.publications.iter().filter(|one| !one.is_draining()).map(|one| (key(one), one)).collect();
        let asked: HashSet<Key> = asked_for(desired).collect();
        let gone: HashSet<Name> = self.gone.containers.iter().map(|one| one.name.clone()).collect();
        let is_gone = |one: &Publication| gone.iter().any(|container| one.target().is(container));
        let mut kept = Vec::new();
        for one in state.publications.iter().filter(|one| !one.is_draining() && !asked.contains(&key(one))) {
            if is_gone(one) || self.prune && one.applied {
                self.plan.changes.push(Change::removed("publish", &one.spec()));
                self.gone.publications.push(one.clone());
            } else {
                kept.push(one.clone());
            }
        }
        let targets = self.targets()?;
        let mut fresh = Vec::new();
        for (publication, terms) in desired.publications.iter().zip(&targets) {
            for spec in &publication.ports {
                spec.check(remote::check_family(&spec.value, terms.targets.target()))?;
                let present = key_of(&spec.value).and_then(|key| present.get(&key).copied());
                let differences = present.map(|one| differences(one, terms, &spec.value));
                match (present, differences) {
                    (Some(one), Some(differences)) if differences.is_empty() && !is_gone(one) => {
                        if !one.applied {
                            self.plan.values.marked.push((one.handle(), true));
                        }
                        kept.push(one.clone());
                    }
                    (Some(one), Some(differences)) => {
                        self.plan.changes.push(Change::changed("publish", &one.spec(), differences));
                        fresh.push(Fresh { terms: terms.clone(), spec, replaced: Some(one.clone()) });
                    }
                    _ => {
                        let values = vec![("to", terms.targets.target().to_string())];
                        self.plan.changes.push(Change::added("publish", &spec.value, values));
                        fresh.push(Fresh { terms: terms.clone(), spec, replaced: None });
                    }
                }
            }
        }
        self.after.publications = kept;
        self.place(&fresh)
    }

    /// Gives new publications their rows, and refuses ports that somebody else has.
    fn place(&mut self, fresh: &[Fresh<'_>]) -> Result<()> {
        let places = self.full.places(fresh.len())?;
        let mut planning = Planning::new(View { state: &self.after, observed: self.view.observed });
        for (Fresh { terms, spec, replaced }, place) in fresh.iter().zip(places) {
            spec.check(planning.add(terms, &spec.value, place, replaced.is_some()))?;
        }
        let new = planning.planned;
        let old =
            new.iter().zip(fresh).filter_map(|(new, fresh)| Some((new.handle(), fresh.replaced.clone()?)));
        self.plan.replaced.extend(old);
        self.plan.new.publications = new;
        Ok(())
    }

    /// What each group of publications has in common.
    fn targets(&mut self) -> Result<Vec<Terms>> {
        let (desired, state) = (self.desired, self.view.state);
        let mut remotes: HashMap<(IpAddr, bool), Remote> = HashMap::new();
        let mut sets: HashMap<Target, Arc<TargetSet>> = HashMap::new();
        let mut last = 0;
        for one in &state.publications {
            last = last.max(one.targets.id);
            if let Some(remote) = one.target().remote() {
                remotes.insert((remote.address, remote.keep_source), *remote);
            }
            sets.entry(one.target().clone()).or_insert_with(|| Arc::clone(&one.targets));
        }
        let meant = self.meant()?;
        let mut missing = Vec::new();
        for (meant, asked) in meant.iter().zip(&desired.publications) {
            if let Meant::NewRemote(address) = meant {
                let whose = (*address, asked.keep_source);
                if !remotes.contains_key(&whose) && !missing.contains(&whose) {
                    let index = self.facts.routes.get(address).copied().flatten();
                    asked.target.check(remote::check_route(self.at_the_end(), *address, index))?;
                    missing.push(whose);
                }
            }
        }
        if meant.iter().any(|one| !matches!(one, Meant::Known(Target::Container(_)))) {
            self.ensure_bridge()?;
        }
        let handles = self.full.endpoint_slots(missing.len())?;
        for ((address, keep_source), handle) in missing.into_iter().zip(handles) {
            let (slot, generation) = (handle.slot(), handle.generation());
            remotes.insert((address, keep_source), Remote { address, keep_source, slot, generation });
        }
        let mut all = Vec::new();
        for (meant, asked) in meant.into_iter().zip(&desired.publications) {
            let target = match meant {
                Meant::Known(target) => target,
                Meant::NewRemote(address) => match remotes.get(&(address, asked.keep_source)) {
                    Some(remote) => Target::Remote(*remote),
                    None => continue,
                },
            };
            let targets = sets.entry(target.clone()).or_insert_with(|| {
                last = last.saturating_add(1);
                Arc::new(TargetSet { id: last, members: [target] })
            });
            let targets = Arc::clone(targets);
            all.push(Terms { targets, policy: asked.policy.clone().shared(), applied: true });
        }
        Ok(all)
    }

    /// What the targets mean once everything is there.
    fn meant(&self) -> Result<Vec<Meant>> {
        // The records of other hosts are looked up elsewhere, for all targets at once.
        let mut state: State = self.after.clone();
        state.publications.clear();
        let view = View { state: &state, ..self.at_the_end() };
        let mut known: HashMap<(&TargetSpec, bool), Meant> = HashMap::new();
        let mut interfaces: HashSet<&IfName> = HashSet::new();
        let mut all = Vec::new();
        for DesiredPublication { target, policy, keep_source, .. } in &self.desired.publications {
            if let Some(interface) = &policy.interface
                && interfaces.insert(interface)
            {
                target.check(check_interface(view, Some(interface)))?;
            }
            let meant = match known.get(&(&target.value, *keep_source)) {
                Some(meant) => meant.clone(),
                None => {
                    let meant = target.check(remote::target(view, &target.value, *keep_source))?;
                    if let Meant::Known(Target::Container(name)) = &meant
                        && let Some(present) = self.view.state.containers.get(name)
                    {
                        target.check(check_first(self.view, present))?;
                    }
                    known.insert((&target.value, *keep_source), meant.clone());
                    meant
                }
            };
            all.push(meant);
        }
        Ok(all)
    }
}

fn key(one: &Publication) -> Key {
    (one.proto, one.host_ip, one.host_port, one.host_port_end)
}

fn key_of(spec: &PortSpec) -> Option<Key> {
    match spec.host {
        HostPorts::Range(host) => Some((spec.proto, spec.host_ip, host.first(), host.last())),
        HostPorts::Any | HostPorts::FirstFree(_) => None,
    }
}

fn asked_for(desired: &Desired) -> impl Iterator<Item = Key> {
    let ports = desired.publications.iter().flat_map(|one| &one.ports);
    ports.filter_map(|port| key_of(&port.value))
}

/// What differs between a publication and what is asked for.
fn differences(present: &Publication, terms: &Terms, spec: &PortSpec) -> Vec<ValueChange> {
    let (before, after) = (present.target(), terms.targets.target());
    let keeps =
        |target: &Target| if target.remote().is_some_and(|one| one.keep_source) { "yes" } else { "no" };
    let policy = terms.policy.as_deref().cloned().unwrap_or_default();
    let name = |interface: Option<&IfName>| interface.map(ToString::to_string).unwrap_or_default();
    let mut found: Vec<ValueChange> = [
        ValueChange::of("to", before.to_string(), after.to_string()),
        ValueChange::of("port", present.target_port.to_string(), spec.target.first().to_string()),
        ValueChange::of("keep source", keeps(before).to_owned(), keeps(after).to_owned()),
        ValueChange::of("interface", name(present.interface()), name(policy.interface.as_ref())),
    ]
    .into_iter()
    .flatten()
    .collect();
    if sources(present.access()) != sources(&policy.access) {
        found.extend(access_changes(present.access(), &policy.access));
    }
    found
}
