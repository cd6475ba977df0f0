//! Publications in the BPF tables, and the targets that are no containers.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use netd_common::flow::Handle;

use super::lifecycle::Resource;
use super::transaction::Transaction;
use crate::dataplane::{self, PublishedPorts};
use crate::error::{ContainerError, Error, Result};
use crate::model::{
    BRIDGE, Lifecycle, Name, Policy, PortSpec, Ports, Publication, PublishRequest, Remote, Replace, State,
    Taken, Target, UnpublishSpec,
};
use crate::plan::container::check_interface;
use crate::plan::network::bridge_of;
use crate::plan::publish::{self as plan, Wanted};
use crate::plan::remote::{self, Meant};
use crate::plan::shared::sharing;
use crate::plan::{rows, unpublish};
use crate::settings::Settings;

/// Publications as something that netd makes, some of them on the ports of others.
#[derive(Default)]
pub(super) struct Published {
    new: Vec<Publication>,
    /// The publications whose ports are taken over, by the handles of those that take them.
    replaced: HashMap<Handle, Publication>,
}

impl Published {
    /// Publications on ports that nobody has.
    pub(super) fn of(new: Vec<Publication>) -> Self {
        Self { new, replaced: HashMap::new() }
    }

    /// Publications of which some take over the ports of others.
    pub(super) const fn replacing(new: Vec<Publication>, replaced: HashMap<Handle, Publication>) -> Self {
        Self { new, replaced }
    }
}

impl Resource for Published {
    fn record(&self, state: &mut State) {
        state.publications.extend(self.new.iter().cloned());
    }

    fn mark(&self, state: &mut State, lifecycle: Lifecycle) {
        let mut marks: HashMap<Handle, Lifecycle> =
            self.new.iter().map(|one| (one.handle(), lifecycle)).collect();
        let olds = self.replaced.values().map(Publication::handle);
        match lifecycle {
            Lifecycle::Ready => marks.extend(olds.map(|old| (old, Lifecycle::Draining))),
            // They get their ports back.
            Lifecycle::Removing => marks.extend(olds.map(|old| (old, Lifecycle::Ready))),
            _ => {}
        }
        for one in &mut state.publications {
            if let Some(lifecycle) = marks.get(&one.handle()) {
                one.lifecycle = *lifecycle;
            }
        }
    }

    async fn apply(&self, transaction: &mut Transaction) -> Result<()> {
        if self.new.is_empty() {
            return Ok(());
        }
        transaction.raise_remotes(&self.new)?;
        let tables = &transaction.dataplane()?.tables;
        let mut fresh = Vec::new();
        for publication in &self.new {
            let row = transaction.row(publication)?;
            // Nobody is let in before it is said who may.
            tables.set_access(publication.handle(), publication.access())?;
            match self.replaced.get(&publication.handle()) {
                None => fresh.push((publication.handle(), row)),
                Some(old) => tables.take_over(publication.handle(), &row, old.handle())?,
            }
        }
        tables.publish(&fresh)?;
        // A new row is not marked.
        let all = transaction.store.state.publications.iter();
        let mut shared =
            sharing(all, &self.new).into_iter().filter(|(_, is_shared)| is_shared.contains(&true));
        shared.try_for_each(|(one, is_shared)| tables.set_shared(one.handle(), is_shared))
    }

    async fn withdraw(&self, transaction: &mut Transaction) -> Result<()> {
        let mut errors = Vec::new();
        errors.extend(transaction.hand_back(&self.new).err());
        errors.extend(transaction.lower_publications(&self.new).err());
        Error::all(errors)
    }

    fn forget(&self, state: &mut State) {
        let handles: HashSet<_> = self.new.iter().map(Publication::handle).collect();
        state.publications.retain(|one| !handles.contains(&one.handle()));
    }
}

impl Transaction {
    /// Publishes ports, all or nothing. Returns the records.
    pub async fn publish(&mut self, request: &PublishRequest) -> Result<Vec<Publication>> {
        let PublishRequest { target, ports, policy, keep_source, replace } = request;
        let target = match remote::target(self.view(), target, *keep_source)? {
            Meant::Known(target) => target,
            Meant::NewRemote(address) => self.new_remote(address, *keep_source).await?,
        };
        ports.iter().try_for_each(|port| remote::check_family(port, &target))?;
        if let Target::Container(name) = &target {
            check_interface(self.view(), self.store.state.container(name)?)?;
        }
        let old = if replace.is_some() { plan::replaced(self.view(), ports)? } else { HashMap::new() };
        let new = self.new_publications(&target, ports, policy, &old)?;
        if target.remote().is_some() {
            // The routing table is asked as if packets came in by its bridge.
            self.ensure_network(&BRIDGE.parse()?).await?;
        }
        let replaced = new.iter().zip(ports);
        let replaced =
            replaced.filter_map(|(new, port)| Some((new.handle(), old.get(port)?.clone()))).collect();
        let published = Published { new, replaced };
        self.make(&published).await?;
        if *replace == Some(Replace::Cut) {
            self.unmake(&Published::of(published.replaced.into_values().collect())).await?;
        }
        Ok(published.new)
    }

    /// Unpublishes what these specifications name, all or nothing. Returns it.
    pub async fn unpublish(&mut self, specs: &[UnpublishSpec]) -> Result<Vec<Publication>> {
        let found = unpublish::named(&self.store.state, specs)?;
        self.unpublish_whole(found).await
    }

    /// Unpublishes everything, of one container if it is given. Returns it.
    pub async fn unpublish_all(&mut self, container: Option<&Name>) -> Result<Vec<Publication>> {
        let all = match container {
            Some(name) => {
                self.store.state.container(name)?;
                self.store.state.publications_of(name)
            }
            None => self.store.state.publications.clone(),
        };
        self.unpublish_whole(all).await
    }

    /// Unpublishes these, and what is left of those that had their ports before.
    async fn unpublish_whole(&mut self, found: Vec<Publication>) -> Result<Vec<Publication>> {
        let all = unpublish::with_drained(&self.store.state, &found);
        self.unmake(&Published::of(all)).await?;
        Ok(found)
    }

    /// Removes the publications whose ports others have by now and whose connections have all ended. With many connections that
    /// is left to the follower, which looks without the lock.
    pub(super) async fn end_drained(&mut self) -> Result<()> {
        /// How many connections are looked at under the lock: some milliseconds.
        const FEW: u64 = 20_000;
        let draining = self.store.state.draining();
        let Some(dataplane) = self.dataplane.as_ref().filter(|_| !draining.is_empty()) else { return Ok(()) };
        if dataplane.tables.connection_count()? > FEW {
            return Ok(());
        }
        let busy = dataplane.tables.busy(&draining)?;
        self.end_publications(&draining.difference(&busy).copied().collect()).await
    }

    /// Removes those of these publications that still drain.
    pub(super) async fn end_publications(&mut self, ended: &HashSet<Handle>) -> Result<()> {
        let is_over = |one: &&Publication| one.is_draining() && ended.contains(&one.handle());
        let over: Vec<_> = self.store.state.publications.iter().filter(is_over).cloned().collect();
        if over.is_empty() { Ok(()) } else { self.unmake(&Published::of(over)).await }
    }

    /// Removes publications that were found to have no connections left.
    pub async fn end_drains(settings: &Settings, ended: &HashSet<Handle>) -> Result<()> {
        let mut transaction = Self::locked(settings).await?;
        let outcome = transaction.end_publications(ended).await;
        let finished = transaction.finish();
        outcome.and(finished.map(|_session| ()))
    }

    /// The records of publications that are asked for.
    pub(super) fn new_publications(
        &mut self,
        target: &Target,
        specs: &[PortSpec],
        policy: &Policy,
        replaced: &HashMap<PortSpec, Publication>,
    ) -> Result<Vec<Publication>> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        self.observed.read_listeners(self.host())?;
        let places = self.store.state.places(specs.len())?;
        let wanted = Wanted { target, specs, policy, replaced };
        plan::publications(self.view(), wanted, &places)
            .map_err(|error| self.observed.listeners().name_process(error))
    }

    async fn new_remote(&mut self, address: IpAddr, keep_source: bool) -> Result<Target> {
        let index = self.netlink.interface_towards(address).await?;
        remote::check_route(self.view(), address, index)?;
        let handle = self.store.state.endpoint_slot()?;
        let (slot, generation) = (handle.slot(), handle.generation());
        Ok(Target::Remote(Remote { address, keep_source, slot, generation }))
    }

    /// Writes the rows of targets that are no containers.
    fn raise_remotes(&self, publications: &[Publication]) -> Result<()> {
        let remotes: HashSet<&Remote> =
            publications.iter().filter_map(|publication| publication.target().remote()).collect();
        for remote in remotes {
            let network = self.store.state.network(&BRIDGE.parse()?)?;
            let bridge = bridge_of(&self.observed, network)?.index;
            self.dataplane()?.tables.put_endpoint(&rows::remote(remote, network, bridge))?;
        }
        Ok(())
    }

    /// Gives ports that publications were taking over, when somebody stopped them, back to those that have them.
    fn hand_back(&self, half: &[Publication]) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let mut taken = Taken::default();
        for one in half.iter().filter(|one| !one.is_draining()) {
            taken.insert(one.proto, one.host_ip, one.host_ports());
        }
        let has_them = |one: &&Publication| {
            one.lifecycle == Lifecycle::Ready && taken.has_any(one.proto, one.host_ip, &one.host_ports())
        };
        for kept in self.store.state.publications.iter().filter(has_them) {
            let row = self.row(kept)?;
            for half in half.iter().filter(|half| !half.is_draining() && half.overlaps(kept)) {
                dataplane.tables.take_over(kept.handle(), &row, half.handle())?;
            }
        }
        Ok(())
    }

    /// Takes publications out of the tables, and targets that nothing else leads to. Absent rows are fine.
    pub(super) fn lower_publications(&self, publications: &[Publication]) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let tables = &dataplane.tables;
        let mut errors = Vec::new();
        let rows: Result<Vec<_>> =
            publications.iter().map(|one| Ok((one.handle(), self.row(one)?))).collect();
        errors.extend(rows.and_then(|rows| tables.unpublish(&rows)).err());
        for publication in publications {
            errors.extend(tables.forget_access(publication.handle(), publication.access()).err());
        }
        let gone: HashSet<Handle> = publications.iter().map(Publication::handle).collect();
        let left = || self.store.state.publications.iter().filter(|one| !gone.contains(&one.handle()));
        let mut remotes: HashSet<Handle> =
            publications.iter().filter_map(|one| one.target().remote()).map(Remote::handle).collect();
        if !remotes.is_empty() {
            for remote in left().filter_map(|one| one.target().remote()) {
                remotes.remove(&remote.handle());
            }
        }
        errors.extend(remotes.into_iter().filter_map(|remote| tables.remove_endpoint(remote).err()));
        errors.extend(self.restore_targets(publications, &left().collect::<Vec<_>>()).err());
        for (one, is_shared) in sharing(left(), publications) {
            errors.extend(tables.set_shared(one.handle(), is_shared).err());
        }
        Error::all(errors)
    }

    /// Lets the ports of targets lead to what is still published of them.
    fn restore_targets(&self, gone: &[Publication], left: &[&Publication]) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let whose = |one: &Publication| (one.proto, one.targets.id);
        let mut by_target: HashMap<_, Ports> = HashMap::new();
        for one in gone {
            by_target.entry(whose(one)).or_default().insert(one.target_ports());
        }
        let shares = |one: &&&Publication| {
            by_target.get(&whose(one)).is_some_and(|ports| ports.holds_any(one.target_ports()))
        };
        let rows: Result<Vec<_>> =
            left.iter().filter(shares).map(|one| Ok((one.handle(), self.row(one)?))).collect();
        dataplane.tables.put_targets(&rows?)
    }

    /// What the tables are told of a publication.
    pub(super) fn row(&self, publication: &Publication) -> Result<PublishedPorts> {
        let target = publication.target();
        let endpoint = self
            .store
            .state
            .endpoint(target)
            .ok_or_else(|| ContainerError::NotFound { name: target.to_string() })?;
        let index =
            |link: Option<&crate::model::Link>| link.map_or(dataplane::NO_INTERFACE, |link| link.index);
        Ok(PublishedPorts {
            protocol: publication.proto.number(),
            host_address: publication.host_ip,
            host_port: publication.host_port,
            host_port_end: publication.host_port_end,
            target_port: publication.target_port,
            interface: publication.interface().map(|name| index(self.observed.link(name))),
            endpoint,
        })
    }
}
