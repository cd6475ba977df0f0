//! A transaction: opened with the lock, finished as a session.

use std::path::Path;

use netd_common::abi::capacity;
use netd_common::flow::Handle;

use crate::dataplane::Dataplane;
use crate::error::{Result, StateError};
use crate::link::Netlink;
use crate::model::{Access, Name, OwnerKey, Quota, Source, TimeoutSpec, Timeouts};
use crate::netns::Netns;
use crate::observe::Observed;
use crate::plan::View;
use crate::session::Session;
use crate::settings::{Settings, check_machine};
use crate::store::{Store, instance};

/// An instance, locked for one request: the only writer of records, host and BPF tables.
#[derive(Debug)]
pub struct Transaction {
    pub(super) settings: Settings,
    /// The cookie of the host.
    pub(super) cookie: u64,
    /// The instance's name, for its pins.
    pub(super) instance: String,
    pub(super) netlink: Netlink,
    pub(super) store: Store,
    pub(super) dataplane: Option<Dataplane>,
    pub(super) observed: Observed,
}

impl Transaction {
    /// Locks an instance, waiting for a transaction that is at work; repairs what a killed one left; follows what has changed
    /// on the host. Leaves no trace if netd was never used here. Needs a running tokio runtime.
    pub async fn open(settings: &Settings) -> Result<Self> {
        check_machine()?;
        let cookie = settings.host.cookie()?;
        let store = Store::open(&settings.state_dir, cookie)?;
        let instance = instance(&settings.state_dir, cookie)?;
        let dataplane = Dataplane::open(&instance, &settings.host, settings.tc)?;
        if let (Some(dataplane), Some(wanted)) = (&dataplane, settings.max_connections) {
            check_room(dataplane.tables.max_connections()?, wanted)?;
        }
        let mut transaction = Self::with(settings, cookie, store, instance, dataplane).await?;
        transaction.repair().await?;
        transaction.end_drained().await?;
        if transaction.dataplane.is_some() {
            transaction.follow_host().await?;
        }
        Ok(transaction)
    }

    /// Locks an instance to take it down: what cannot be understood of it is no obstacle.
    pub(super) async fn open_to_remove(settings: &Settings) -> Result<Self> {
        check_machine()?;
        let cookie = settings.host.cookie()?;
        let store = Store::open_to_remove(&settings.state_dir, cookie)?;
        let instance = instance(&settings.state_dir, cookie)?;
        // Tables of another version are not read, only removed.
        let dataplane = Dataplane::open(&instance, &settings.host, settings.tc).unwrap_or_default();
        Self::with(settings, cookie, store, instance, dataplane).await
    }

    async fn with(
        settings: &Settings,
        cookie: u64,
        store: Store,
        instance: String,
        dataplane: Option<Dataplane>,
    ) -> Result<Self> {
        let netlink = Netlink::open(&settings.host)?;
        let observed = Observed::read(&settings.host, &netlink).await?;
        Ok(Self { settings: settings.clone(), cookie, instance, netlink, store, dataplane, observed })
    }

    /// Ends the transaction and gives the lock back; a folder that holds nothing is removed again. The session shows what the
    /// transaction has left.
    pub fn finish(self) -> Result<Session> {
        let Self { settings, cookie, instance, mut store, dataplane, .. } = self;
        let state = std::mem::take(&mut store.state);
        if state.is_empty() && dataplane.is_none() {
            store.remove()?;
        }
        Ok(Session::of(settings, cookie, instance, state, dataplane))
    }

    /// The folder of this instance's state.
    pub fn folder(&self) -> &Path {
        self.store.folder()
    }

    /// The name of the container that an owner knows by this key.
    pub fn container_of(&self, key: &OwnerKey) -> Option<&Name> {
        self.store.state.container_of(key).map(|container| &container.name)
    }

    /// What plans are made from.
    pub(super) fn view(&self) -> View<'_> {
        View { state: &self.store.state, observed: &self.observed, uplinks: &self.settings.uplinks }
    }

    /// The host.
    pub(super) fn host(&self) -> &Netns {
        &self.settings.host
    }

    /// The programs and tables.
    pub(super) fn dataplane(&self) -> Result<&Dataplane> {
        Ok(self.dataplane.as_ref().ok_or(StateError::ProgramsGone)?)
    }

    /// Loads the programs if this is the first use.
    pub(super) async fn ensure_dataplane(&mut self) -> Result<()> {
        if self.dataplane.is_some() {
            return Ok(());
        }
        tracing::info!("loading the BPF programs");
        let room = self.settings.max_connections.unwrap_or(capacity::CONNECTIONS);
        let timeouts = &self.store.state.timeouts;
        let (host, tc) = (&self.settings.host, self.settings.tc);
        let seconds = |state| timeouts.seconds(state);
        let quota = self.store.state.quota;
        self.dataplane = Some(Dataplane::open_or_load(&self.instance, host, tc, room, quota, seconds)?);
        self.follow_host().await
    }

    /// Asks the kernel again for interfaces, addresses and routes, after the transaction has changed them.
    pub(super) async fn observe(&mut self) -> Result<()> {
        self.observed.refresh(&self.netlink).await
    }

    /// Changes idle timeouts, those of existing connections as well.
    pub fn change_timeouts(&mut self, changes: &[TimeoutSpec], reset: bool) -> Result<()> {
        let timeouts = &mut self.store.state.timeouts;
        let before = timeouts.clone();
        if reset {
            *timeouts = Timeouts::default();
        }
        for change in changes {
            timeouts.change(*change);
        }
        if *timeouts == before {
            return Ok(());
        }
        self.store.save()?;
        match &self.dataplane {
            Some(dataplane) => {
                dataplane.tables.set_timeouts(|state| self.store.state.timeouts.seconds(state))
            }
            // They are written when the programs are loaded.
            None => Ok(()),
        }
    }

    /// Sets how much of the flow tables one container may have. Existing connections go on.
    pub fn set_quota(&mut self, quota: Quota) -> Result<()> {
        if std::mem::replace(&mut self.store.state.quota, quota) == quota {
            return Ok(());
        }
        self.store.save()?;
        // It is written when the programs are loaded.
        self.dataplane.as_ref().map_or(Ok(()), |dataplane| dataplane.tables.set_quota(quota))
    }

    /// Changes who may use the publications that have no lists of their own. Existing connections go on.
    pub async fn set_access(&mut self, access: Access) -> Result<()> {
        self.ensure_dataplane().await?;
        let before = std::mem::replace(&mut self.store.state.access, access.clone());
        self.store.save()?;
        let tables = &self.dataplane()?.tables;
        tables.set_access(Handle::NONE, &access)?;
        if access.is_empty() {
            return tables.forget_access(Handle::NONE, &before);
        }
        let stays = [access.allow.as_slice(), access.deny.as_slice()].concat();
        let gone = |list: Vec<Source>| list.into_iter().filter(|source| !stays.contains(source)).collect();
        let old = Access { allow: gone(before.allow), deny: gone(before.deny) };
        tables.forget_rules(Handle::NONE, &old)
    }
}

/// Refuses to give existing tables another size: their connections would be lost.
fn check_room(present: u32, wanted: u32) -> Result<()> {
    if present == wanted { Ok(()) } else { Err(StateError::Capacity { present, wanted }.into()) }
}
