//! A transaction: opened with the lock, finished as a session.

use std::path::Path;

use netd_common::flow::state::State;

use crate::dataplane::{self, Dataplane, Setup};
use crate::error::{Error, Result, StateError};
use crate::link::Netlink;
use crate::model::{Name, OwnerKey, ProgramsVersion};
use crate::netns::Netns;
use crate::observe::Observed;
use crate::plan::View;
use crate::runs::Runs;
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
    /// The versions of the programs that this transaction has replaced.
    replaced: Vec<ProgramsVersion>,
}

impl Transaction {
    /// Locks an instance, waiting for a transaction that is at work; clears away what a killed one left; follows what has changed
    /// on the host. Leaves no trace if netd was never used here. Needs a running tokio runtime.
    pub async fn open(settings: &Settings) -> Result<Self> {
        let mut transaction = Self::locked(settings).await?;
        transaction.clear_leftovers().await?;
        transaction.end_drained().await?;
        transaction.follow().await?;
        Ok(transaction)
    }

    /// As [`Self::open`], for a request that takes something away: what the host or the disk lacks is no obstacle.
    pub async fn open_to_take_away(settings: &Settings) -> Result<Self> {
        let mut transaction = Self::locked(settings).await?;
        let mut errors = Vec::new();
        errors.extend(transaction.clear_leftovers().await.err());
        errors.extend(transaction.end_drained().await.err());
        errors.extend(transaction.follow().await.err());
        if let Err(error) = Error::all(errors) {
            tracing::warn!("{}", error.chain());
        }
        Ok(transaction)
    }

    /// Locks an instance and takes a snapshot of the host. Programs of another version of netd are replaced.
    pub(super) async fn locked(settings: &Settings) -> Result<Self> {
        let mut transaction = Self::lock(settings).await?;
        transaction.replaced = transaction.bring_up_to_date().await?;
        transaction.open_dataplane()?;
        Ok(transaction)
    }

    /// As [`Self::locked`], for a process that has worked for long: another version has replaced it if the programs are not its own.
    pub(super) async fn locked_to_follow(settings: &Settings) -> Result<Self> {
        let mut transaction = Self::lock(settings).await?;
        let loaded = Dataplane::open_any(&transaction.instance, &settings.host, settings.tc)?;
        if loaded.is_some_and(|loaded| !loaded.is_own()) {
            return Err(StateError::Superseded.into());
        }
        transaction.open_dataplane()?;
        Ok(transaction)
    }

    async fn lock(settings: &Settings) -> Result<Self> {
        check_machine(settings)?;
        let cookie = settings.host.cookie()?;
        let store = Store::open(&settings.state_dir, cookie)?;
        let instance = instance(&settings.state_dir, cookie)?;
        Self::with(settings, cookie, store, instance, None).await
    }

    fn open_dataplane(&mut self) -> Result<()> {
        self.dataplane = match Dataplane::open(&self.instance, &self.settings.host, self.settings.tc) {
            Err(Error::State(StateError::ProgramsGone)) => {
                dataplane::remove(&self.instance)?;
                None
            }
            dataplane => dataplane?,
        };
        Ok(())
    }

    /// The versions of the programs that this transaction has replaced by those of this netd.
    pub(super) fn take_replaced(&mut self) -> Vec<ProgramsVersion> {
        std::mem::take(&mut self.replaced)
    }

    /// Follows what has changed on the host; loads the programs again if somebody has removed their pins.
    pub(super) async fn follow(&mut self) -> Result<()> {
        if self.dataplane.is_some() {
            self.follow_host().await
        } else if self.store.state.networks.is_empty() {
            Ok(())
        } else {
            tracing::warn!("the BPF programs or tables are gone; loading them again");
            self.restore().await
        }
    }

    /// Locks an instance to take it down: what cannot be understood of it is no obstacle.
    pub(super) async fn open_to_remove(settings: &Settings) -> Result<Self> {
        check_machine(settings)?;
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
        let settings = settings.clone();
        Ok(Self { settings, cookie, instance, netlink, store, dataplane, observed, replaced: Vec::new() })
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

    /// The keys by which owners know containers.
    pub fn owner_keys(&self) -> impl Iterator<Item = &OwnerKey> {
        self.store.state.containers.values().filter_map(|container| container.key.as_ref())
    }

    /// What is kept of the instance's detached runs.
    pub(super) fn runs(&self) -> Runs {
        Runs::new(&self.settings.log_dir, &self.instance)
    }

    /// What plans are made from.
    pub(super) fn view(&self) -> View<'_> {
        View { state: &self.store.state, observed: &self.observed }
    }

    /// The host.
    pub(super) fn host(&self) -> &Netns {
        &self.settings.host
    }

    /// The programs and tables.
    pub(super) fn dataplane(&self) -> Result<&Dataplane> {
        Ok(self.dataplane.as_ref().ok_or(StateError::ProgramsGone)?)
    }

    /// Loads the programs if this is the first use, and follows the host.
    pub(super) async fn ensure_dataplane(&mut self) -> Result<()> {
        if self.dataplane.is_some() {
            return Ok(());
        }
        self.load_dataplane()?;
        self.follow_host().await
    }

    /// Loads the programs; nothing is attached yet.
    pub(super) fn load_dataplane(&mut self) -> Result<()> {
        tracing::info!("loading the BPF programs");
        let timeouts = &self.store.state.timeouts;
        let timeout = |state| timeouts.seconds(state);
        let setup = self.setup(&timeout);
        self.dataplane =
            Some(Dataplane::open_or_load(&self.instance, &self.settings.host, self.settings.tc, setup)?);
        Ok(())
    }

    /// The parameters of the maps. `timeout` says the idle timeout of a state in seconds.
    pub(super) fn setup<'a>(&self, timeout: &'a dyn Fn(State) -> u32) -> Setup<'a> {
        let state = &self.store.state;
        let (connections, quota) = (state.preferences.connections(), state.quota);
        Setup { host: self.cookie, connections, quota, timeout }
    }

    /// Asks the kernel again for interfaces, addresses and routes, after the transaction has changed them.
    pub(super) async fn observe(&mut self) -> Result<()> {
        self.observed.refresh(&self.netlink).await
    }
}
