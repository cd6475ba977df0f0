//! Sessions: an instance opened to be looked at. Takes no lock, writes nothing, repairs nothing.
//!
//! A session shows what is complete: networks, containers and publications that are being made or removed are left out, and
//! so are runs whose process has ended. The next transaction clears such leftovers away.

mod desired;
mod flows;
mod metrics;
mod ports;
mod report;
mod status;
mod watch;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use netd_common::flow::Handle;

use crate::check::{Facts, differences};
use crate::dataplane::{Dataplane, Log};
use crate::error::{ContainerError, Error, Result, StateError};
use crate::link::Netlink;
use crate::model::report::{Difference, Dropped};
use crate::model::{
    Access, Container, Lifecycle, MetricsEndpoint, Name, OwnerKey, Publication, Sandbox, State, Target,
};
use crate::netns::Netns;
use crate::observe::{Observed, is_alive};
use crate::plan::View;
use crate::runs::Runs;
use crate::settings::{Settings, check_machine};
use crate::store::{self, FollowerNote};
pub(crate) use watch::Watch;

/// An instance, opened to be looked at.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    cookie: u64,
    instance: String,
    state: State,
    dataplane: Option<Dataplane>,
}

impl Session {
    /// Opens an instance as the last transaction has left it, also while another one is at work.
    pub fn open(settings: &Settings) -> Result<Self> {
        check_machine(settings)?;
        let cookie = settings.host.cookie()?;
        let state = store::read(&settings.state_dir, cookie)?;
        let instance = store::instance(&settings.state_dir, cookie)?;
        let dataplane = match Dataplane::open(&instance, &settings.host, settings.tc) {
            // The next transaction loads them again.
            Err(Error::State(StateError::ProgramsGone)) => None,
            dataplane => dataplane?,
        };
        Ok(Self::of(settings.clone(), cookie, instance, state, dataplane))
    }

    /// What a transaction has left.
    pub(crate) fn of(
        settings: Settings,
        cookie: u64,
        instance: String,
        mut state: State,
        dataplane: Option<Dataplane>,
    ) -> Self {
        leave_out_incomplete(&mut state);
        Self { settings, cookie, instance, state, dataplane }
    }

    /// Who may use the publications that have no lists of their own.
    pub const fn access(&self) -> &Access {
        &self.state.access
    }

    /// The name of the container that an owner knows by this key.
    pub fn container_of(&self, key: &OwnerKey) -> Option<&Name> {
        self.state.container_of(key).map(|container| &container.name)
    }

    /// What is kept of an instance's detached runs.
    pub fn runs(settings: &Settings) -> Result<Runs> {
        check_machine(settings)?;
        let instance = store::instance(&settings.state_dir, settings.host.cookie()?)?;
        Ok(Runs::new(&settings.log_dir, &instance))
    }

    /// The path of a container's namespace; none for one that shares the host's.
    pub fn namespace_path(&self, name: &Name) -> Result<Option<&Path>> {
        Ok(self.state.container(name)?.path())
    }

    /// The namespace of a container, proven to be the recorded one; none for one that shares the host's.
    pub fn namespace(&self, name: &Name) -> Result<Option<Netns>> {
        proven(self.state.container(name)?)
    }

    /// Where the follower serves metrics.
    pub(crate) const fn metrics_endpoint(&self) -> MetricsEndpoint {
        self.state.preferences.metrics
    }

    /// Whether commands may start a follower.
    pub const fn serves(&self) -> bool {
        !self.state.preferences.no_serve
    }

    /// Where the kernel differs from the records. A transaction that is at work looks like that as well, so what is found is looked
    /// at once more.
    pub async fn check(&self) -> Result<Vec<Difference>> {
        /// How long a step of a transaction may take.
        const STEP: Duration = Duration::from_millis(300);
        let mut found = self.look().await?;
        if !found.is_empty() {
            tokio::time::sleep(STEP).await;
            let again = Self::open(&self.settings)?.look().await?;
            found.retain(|one| again.contains(one));
        }
        Ok(found)
    }

    async fn look(&self) -> Result<Vec<Difference>> {
        let (settings, state) = (&self.settings, &self.state);
        let netlink = Netlink::open(&settings.host)?;
        let observed = Observed::read(&settings.host, &netlink).await?;
        let dataplane = self.dataplane.as_ref();
        let facts = Facts::read(&settings.host, &netlink, dataplane, state, &observed, true).await?;
        let view = View { state, observed: &observed };
        Ok(differences(view, &facts))
    }

    /// The publications that drain, and that have no connections left. Looks at all connections.
    pub(crate) fn drained(&self) -> Result<HashSet<Handle>> {
        let draining = self.state.draining();
        let Some(dataplane) = self.dataplane.as_ref().filter(|_| !draining.is_empty()) else {
            return Ok(HashSet::new());
        };
        let busy = dataplane.tables.busy(&draining)?;
        Ok(draining.difference(&busy).copied().collect())
    }

    /// Whether a publication drains.
    pub(crate) fn has_draining(&self) -> bool {
        self.state.publications.iter().any(Publication::is_draining)
    }

    /// The process that follows the host; none if there is none.
    pub fn follower(&self) -> Result<Option<FollowerNote>> {
        store::follower(&self.settings.state_dir, self.cookie)
    }

    /// The programs and tables.
    pub(crate) const fn dataplane(&self) -> Option<&Dataplane> {
        self.dataplane.as_ref()
    }

    /// Whether the instance has made nothing on the host, or nothing is left of it.
    pub fn is_idle(&self) -> bool {
        let State { networks, containers, publications, .. } = &self.state;
        networks.is_empty() && containers.is_empty() && publications.is_empty() && self.dataplane.is_none()
    }

    /// Samples of dropped packets; none before first use.
    pub fn log(&self) -> Result<Option<DropLog>> {
        let log = self.dataplane.as_ref().map(Dataplane::log).transpose()?;
        Ok(log.map(DropLog))
    }
}

/// Samples of dropped packets, at most one a second for each reason and CPU. Every sample is read once: of several readers each
/// gets a part.
pub struct DropLog(Log);

impl DropLog {
    /// Waits until there is a sample.
    pub fn wait(&self) -> Result<()> {
        self.0.wait()
    }

    /// The samples since the last time, oldest first.
    pub fn take(&mut self) -> Vec<Dropped> {
        let dropped = self.0.take().into_iter();
        dropped
            .map(|one| Dropped {
                reason: one.reason,
                src: one.src,
                src_port: one.src_port,
                dst: one.dst,
                dst_port: one.dst_port,
                protocol: one.protocol,
                bytes: one.bytes,
                interface: one.interface,
            })
            .collect()
    }
}

/// The namespace of a container, if what is at its path is the recorded one.
fn proven(container: &Container) -> Result<Option<Netns>> {
    let Sandbox::Namespace { path, cookie, .. } = &container.sandbox else { return Ok(None) };
    let namespace = Netns::proven(path, *cookie)?;
    let container = container.name.to_string();
    Ok(Some(namespace.ok_or(ContainerError::NamespaceReplaced { path: path.clone(), container })?))
}

/// Leaves out what is being made or removed, and runs whose process has ended.
fn leave_out_incomplete(state: &mut State) {
    state.networks.retain(|_, network| network.lifecycle == Lifecycle::Ready);
    state
        .containers
        .retain(|_, container| container.lifecycle == Lifecycle::Ready && container.run.is_none_or(is_alive));
    for container in state.containers.values_mut() {
        container.interfaces.retain(|interface| interface.lifecycle == Lifecycle::Ready);
    }
    let State { containers, publications, .. } = state;
    publications.retain(|one| {
        let is_complete = matches!(one.lifecycle, Lifecycle::Ready | Lifecycle::Draining);
        is_complete
            && match one.target() {
                Target::Container(name) => containers.contains_key(name),
                Target::Remote(_) => true,
            }
    });
}
