//! Making the instance what files ask for, all or nothing.
//!
//! All that is made is one resource, recorded at once and ready at once: if a step fails or the command is killed, all of it
//! is withdrawn.

use std::collections::HashMap;

use netd_common::flow::Handle;

use super::container::{Attached, Connected, proven_namespace};
use super::lifecycle::Resource;
use super::network::Bridged;
use super::publication::Published;
use super::transaction::Transaction;
use crate::desired::read_facts;
use crate::error::{Error, Result};
use crate::model::report::Change;
use crate::model::{Container, Desired, Lifecycle, Publication, Sandbox, Setting, State};
use crate::netns::Netns;
use crate::plan::desired::{Objects, Plan, Values, plan};
use crate::plan::unpublish::with_drained;

/// Many things as one.
#[derive(Default)]
struct Many {
    networks: Vec<Bridged>,
    containers: Vec<Attached>,
    interfaces: Vec<Connected>,
    publications: Published,
}

impl Many {
    /// Things that are recorded.
    fn of(objects: &Objects) -> Self {
        let connected = |(container, interface): &(_, _)| Connected {
            container: Clone::clone(container),
            interface: Clone::clone(interface),
            namespace: None,
        };
        Self {
            networks: objects.networks.iter().cloned().map(Bridged).collect(),
            containers: objects.containers.iter().cloned().map(Attached::of).collect(),
            interfaces: objects.interfaces.iter().map(connected).collect(),
            publications: Published::of(objects.publications.clone()),
        }
    }
}

impl Resource for Many {
    fn record(&self, state: &mut State) {
        self.networks.iter().for_each(|one| one.record(state));
        self.containers.iter().for_each(|one| one.record(state));
        self.interfaces.iter().for_each(|one| one.record(state));
        self.publications.record(state);
    }

    fn mark(&self, state: &mut State, lifecycle: Lifecycle) {
        self.networks.iter().for_each(|one| one.mark(state, lifecycle));
        self.containers.iter().for_each(|one| one.mark(state, lifecycle));
        self.interfaces.iter().for_each(|one| one.mark(state, lifecycle));
        self.publications.mark(state, lifecycle);
    }

    async fn apply(&self, transaction: &mut Transaction) -> Result<()> {
        for one in &self.networks {
            one.apply(transaction).await?;
        }
        for one in &self.containers {
            one.apply(transaction).await?;
        }
        for one in &self.interfaces {
            one.apply(transaction).await?;
        }
        self.publications.apply(transaction).await
    }

    async fn withdraw(&self, transaction: &mut Transaction) -> Result<()> {
        let mut errors = Vec::new();
        errors.extend(self.publications.withdraw(transaction).await.err());
        let interfaces = transaction.withdraw_each(&self.interfaces).await;
        let containers = transaction.withdraw_each(&self.containers).await;
        let networks = transaction.withdraw_each(&self.networks).await;
        let outcomes = interfaces.into_iter().chain(containers).chain(networks);
        errors.extend(outcomes.filter_map(Result::err));
        Error::all(errors)
    }

    fn forget(&self, state: &mut State) {
        self.publications.forget(state);
        self.interfaces.iter().for_each(|one| one.forget(state));
        self.containers.iter().for_each(|one| one.forget(state));
        self.networks.iter().for_each(|one| one.forget(state));
    }
}

impl Transaction {
    /// Makes the instance what files ask for, all or nothing, and changes only what differs. With `prune`, what earlier files asked
    /// for and these do not is removed. Returns the changes.
    pub async fn apply(&mut self, desired: &Desired, prune: bool) -> Result<Vec<Change>> {
        self.observed.read_listeners(self.host())?;
        let connections =
            self.dataplane.as_ref().map(|dataplane| dataplane.tables.max_connections()).transpose()?;
        let state = &self.store.state;
        let facts =
            read_facts(self.host(), &self.netlink, &self.instance, connections, state, desired).await?;
        let plan = plan(self.view(), desired, &facts, prune)
            .map_err(|error| self.observed.listeners().name_process(error))?;
        self.store.state.go_on_from(&plan.numbers);
        let before = plan.values.before(&self.store.state);
        if let Err(error) = self.turn(&plan.values).await {
            self.turn_back(&before).await;
            return Err(error);
        }
        if let Err(error) = self.exchange(&plan).await {
            self.turn_back(&before).await;
            return Err(error);
        }
        if !plan.last.is_empty() {
            let gone = self.with_drained(&plan.last);
            self.unmake(&Many::of(&gone)).await?;
        }
        Ok(plan.changes)
    }

    /// Removes what is in the way, and makes what is new; or neither.
    async fn exchange(&mut self, plan: &Plan) -> Result<()> {
        if !plan.first.is_empty() {
            let gone = self.with_drained(&plan.first);
            if let Err(error) = self.unmake(&Many::of(&gone)).await {
                self.put_back(&plan.first).await;
                return Err(error);
            }
        }
        if plan.new.is_empty() {
            return Ok(());
        }
        let outcome = match self.ready_to_make(&plan.new, &plan.replaced) {
            Ok(new) => self.make(&new).await,
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            self.put_back(&plan.first).await;
        }
        outcome
    }

    /// Makes again what was in the way of something that could not be made. A namespace that was removed is made anew, and empty.
    async fn put_back(&mut self, objects: &Objects) {
        if objects.is_empty() {
            return;
        }
        let mut objects = objects.clone();
        for network in &mut objects.networks {
            network.lifecycle = Lifecycle::Adding;
            network.forwarding_set.clear();
        }
        for container in &mut objects.containers {
            container.lifecycle = Lifecycle::Adding;
            container.interfaces.iter_mut().for_each(|one| one.lifecycle = Lifecycle::Adding);
        }
        objects.interfaces.iter_mut().for_each(|(_, one)| one.lifecycle = Lifecycle::Adding);
        objects.publications.iter_mut().for_each(|one| one.lifecycle = Lifecycle::Adding);
        let made = match self.ready_to_make(&objects, &HashMap::new()) {
            Ok(objects) => self.make(&objects).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            tracing::warn!("what was removed could not be put back: {}", error.chain());
        }
    }

    /// Things with their namespaces, which are made or opened.
    fn ready_to_make(&self, objects: &Objects, replaced: &HashMap<Handle, Publication>) -> Result<Many> {
        let mut many = Many {
            networks: objects.networks.iter().cloned().map(Bridged).collect(),
            publications: Published::replacing(objects.publications.clone(), replaced.clone()),
            ..Many::default()
        };
        for container in &objects.containers {
            let mut container: Container = container.clone();
            let namespace = match &mut container.sandbox {
                Sandbox::Host => None,
                Sandbox::Namespace { path, cookie, made } => {
                    let namespace = if *made { Netns::create()? } else { Netns::open(path)? };
                    *cookie = namespace.cookie()?;
                    Some(namespace)
                }
            };
            many.containers.push(Attached::in_namespace(container, namespace));
        }
        for (name, interface) in &objects.interfaces {
            let namespace = proven_namespace(self.store.state.container(name)?)?;
            let (container, interface) = (name.clone(), interface.clone());
            many.interfaces.push(Connected { container, interface, namespace });
        }
        Ok(many)
    }

    /// The same, with the publications that had the ports of theirs before.
    fn with_drained(&self, objects: &Objects) -> Objects {
        Objects { publications: with_drained(&self.store.state, &objects.publications), ..objects.clone() }
    }

    /// Gives everything that stays these values.
    async fn turn(&mut self, to: &Values) -> Result<()> {
        let changed = |setting: &Setting| !self.store.state.preferences.all().contains(setting);
        let settings: Vec<Setting> = to.preferences.all().into_iter().filter(changed).collect();
        if !settings.is_empty() {
            self.set(&settings).await?;
        }
        self.set_quota(to.quota)?;
        self.set_timeouts(&to.timeouts)?;
        if self.store.state.access != to.access {
            self.set_access(&to.access).await?;
        }
        self.change_records(to)
    }

    async fn turn_back(&mut self, to: &Values) {
        if let Err(error) = self.turn(to).await {
            tracing::warn!("rollback failed: {}", error.chain());
        }
    }

    /// Changes records of things that stay, and their rows.
    fn change_records(&mut self, to: &Values) -> Result<()> {
        let before = to.before(&self.store.state);
        if before == *to && to.marked.is_empty() {
            return Ok(());
        }
        let state = &mut self.store.state;
        state.applied.clone_from(&to.applied);
        state.networks.extend(to.networks.iter().map(|one| (one.name.clone(), one.clone())));
        state.containers.extend(to.containers.iter().map(|one| (one.name.clone(), one.clone())));
        let marked: HashMap<Handle, bool> = to.marked.iter().copied().collect();
        for one in &mut state.publications {
            one.applied = marked.get(&one.handle()).copied().unwrap_or(one.applied);
        }
        self.store.save()?;
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        for (_, own) in self.store.state.interfaces() {
            let is_of = |one: &&Container| one.interfaces.iter().any(|other| other.handle() == own.handle());
            let changed = before.containers.iter().find(is_of);
            let old = changed.iter().flat_map(|one| &one.interfaces).find(|one| one.handle() == own.handle());
            if let Some(old) = old {
                let gone: Vec<_> =
                    old.allowed.iter().filter(|net| !own.allowed.contains(net)).copied().collect();
                dataplane.tables.forget_addresses(own.handle(), &gone)?;
            }
            if changed.is_some() || to.networks.iter().any(|network| network.name == own.network) {
                self.guard_again(own)?;
            }
        }
        if to.networks.is_empty() { Ok(()) } else { self.follow_interfaces() }
    }
}
