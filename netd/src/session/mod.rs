//! Sessions: an instance opened to be looked at. Takes no lock, writes nothing, repairs nothing.
//!
//! A session shows what is complete: networks, containers and publications that are being made or removed are left out, and
//! so are runs whose process has ended. The next transaction clears such leftovers away.

mod flows;
mod ports;
mod report;
mod status;

use std::path::{Path, PathBuf};

use crate::dataplane::{Dataplane, Log};
use crate::error::{ContainerError, Result};
use crate::model::report::Dropped;
use crate::model::{Access, Container, Lifecycle, Name, OwnerKey, Sandbox, State, Target};
use crate::netns::Netns;
use crate::observe::is_alive;
use crate::settings::{Settings, check_machine};
use crate::store;

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
        check_machine()?;
        let cookie = settings.host.cookie()?;
        let state = store::read(&settings.state_dir, cookie)?;
        let instance = store::instance(&settings.state_dir, cookie)?;
        let dataplane = Dataplane::open(&instance, &settings.host, settings.tc)?;
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

    /// The folder of the instance's state, which need not exist.
    pub fn folder(&self) -> PathBuf {
        self.settings.state_dir.join(self.cookie.to_string())
    }

    /// The path of a container's namespace; none for one that shares the host's.
    pub fn namespace_path(&self, name: &Name) -> Result<Option<&Path>> {
        Ok(self.state.container(name)?.path())
    }

    /// The namespace of a container, proven to be the recorded one; none for one that shares the host's.
    pub fn namespace(&self, name: &Name) -> Result<Option<Netns>> {
        proven(self.state.container(name)?)
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
