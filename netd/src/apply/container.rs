//! Containers on the host: a namespace, its interfaces, its published ports.

use std::collections::HashMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::interface::raise_loopback;
use super::lifecycle::Resource;
use super::publication::Published;
use super::transaction::Transaction;
use crate::error::{ContainerError, Doing as _, Error, Result};
use crate::model::{
    Container, ContainerRequest, Interface, InterfaceRequest, Lifecycle, Name, NetworkMode, OwnerKey,
    OwnerRequest, Publication, Sandbox, State, Target,
};
use crate::netns::Netns;
use crate::observe::{found_end, is_alive};
use crate::plan::container::{self as plan, NewInterface};
use crate::plan::named_namespace;

/// A container as something that netd makes, with the ports that are published with it.
pub(super) struct Attached {
    container: Container,
    ports: Vec<Publication>,
    /// The namespace, if this transaction has made or opened it.
    namespace: Option<Netns>,
}

impl Attached {
    /// A container that is recorded.
    pub(super) const fn of(container: Container) -> Self {
        Self { container, ports: Vec::new(), namespace: None }
    }

    /// A container to be attached, in its namespace unless that is the host's.
    pub(super) const fn in_namespace(container: Container, namespace: Option<Netns>) -> Self {
        Self { container, ports: Vec::new(), namespace }
    }
}

impl Resource for Attached {
    fn record(&self, state: &mut State) {
        state.containers.insert(self.container.name.clone(), self.container.clone());
        state.publications.extend(self.ports.iter().cloned());
    }

    fn mark(&self, state: &mut State, lifecycle: Lifecycle) {
        if let Some(container) = state.containers.get_mut(&self.container.name) {
            container.lifecycle = lifecycle;
            for interface in &mut container.interfaces {
                interface.lifecycle = lifecycle;
            }
        }
        if lifecycle == Lifecycle::Ready {
            let name = &self.container.name;
            for port in state.publications.iter_mut().filter(|port| port.target().is(name)) {
                port.lifecycle = lifecycle;
            }
        }
    }

    async fn apply(&self, transaction: &mut Transaction) -> Result<()> {
        let Sandbox::Namespace { path, made, .. } = &self.container.sandbox else { return Ok(()) };
        let Some(namespace) = &self.namespace else { return Ok(()) };
        if *made {
            namespace.clone().mount(path)?;
        }
        raise_loopback(namespace).await?;
        for interface in &self.container.interfaces {
            transaction.raise_interface(interface, namespace).await?;
        }
        Published::of(self.ports.clone()).apply(transaction).await
    }

    async fn withdraw(&self, transaction: &mut Transaction) -> Result<()> {
        let container = &self.container;
        let mut errors = Vec::new();
        errors.extend(transaction.lower_containers(&[container]).await.err());
        if let Sandbox::Namespace { path, cookie, made: true } = &container.sandbox {
            errors.extend(Netns::remove(path, *cookie).err());
        }
        Error::all(errors)
    }

    async fn withdraw_together(all: &[Self], transaction: &mut Transaction) -> Result<()> {
        let containers: Vec<&Container> = all.iter().map(|one| &one.container).collect();
        transaction.lower_containers(&containers).await
    }

    fn forget(&self, state: &mut State) {
        state.containers.remove(&self.container.name);
        state.publications.retain(|port| !port.target().is(&self.container.name));
    }
}

/// Another interface of a container, as something that netd makes.
pub(super) struct Connected {
    pub(super) container: Name,
    pub(super) interface: Interface,
    pub(super) namespace: Option<Netns>,
}

impl Connected {
    fn of<'a>(&self, state: &'a mut State) -> Option<&'a mut Interface> {
        let container = state.containers.get_mut(&self.container)?;
        container.interfaces.iter_mut().find(|one| one.name == self.interface.name)
    }
}

impl Resource for Connected {
    fn record(&self, state: &mut State) {
        if let Some(container) = state.containers.get_mut(&self.container) {
            container.interfaces.push(self.interface.clone());
        }
    }

    fn mark(&self, state: &mut State, lifecycle: Lifecycle) {
        if let Some(interface) = self.of(state) {
            interface.lifecycle = lifecycle;
        }
    }

    async fn apply(&self, transaction: &mut Transaction) -> Result<()> {
        match &self.namespace {
            Some(namespace) => transaction.raise_interface(&self.interface, namespace).await,
            None => Ok(()),
        }
    }

    async fn withdraw(&self, transaction: &mut Transaction) -> Result<()> {
        transaction.lower_interfaces(&[&self.interface]).await
    }

    fn forget(&self, state: &mut State) {
        if let Some(container) = state.containers.get_mut(&self.container) {
            container.interfaces.retain(|one| one.name != self.interface.name);
        }
    }
}

impl Transaction {
    /// Attaches a container and publishes its ports, all or nothing.
    pub async fn add_container(&mut self, request: ContainerRequest) -> Result<Name> {
        plan::check(self.view(), &request)?;
        let (sandbox, namespace) = sandbox(&request)?;
        plan::check_sandbox(self.view(), &sandbox, self.cookie)?;
        // Everything that can be known to fail is asked before anything is made.
        let wanted = match &request.network {
            NetworkMode::Host | NetworkMode::None => &[][..],
            NetworkMode::Interfaces(interfaces) => interfaces,
        };
        let publishes = !request.ports.is_empty();
        let interfaces = self.new_interfaces(&request.name, wanted, namespace.as_ref(), publishes).await?;
        let container = Container {
            name: request.name.clone(),
            key: request.key,
            lifecycle: Lifecycle::Adding,
            sandbox,
            interfaces,
            run: request.run,
            applied: false,
        };
        let target = Target::Container(request.name.clone());
        let ports = self.new_publications(&target, &request.ports, &request.policy, &HashMap::new())?;
        self.make(&Attached { container, ports, namespace }).await?;
        Ok(request.name)
    }

    /// Gives a container another interface.
    pub async fn connect(&mut self, name: &Name, request: &InterfaceRequest) -> Result<()> {
        let container = self.store.state.container(name)?.clone();
        let Some(namespace) = proven_namespace(&container)? else {
            return Err(ContainerError::NotCombinable { network: container.network().to_owned() }.into());
        };
        let wanted = std::slice::from_ref(request);
        let interfaces = self.new_interfaces(name, wanted, Some(&namespace), false).await?;
        for interface in interfaces {
            let namespace = Some(namespace.clone());
            self.make(&Connected { container: name.clone(), interface, namespace }).await?;
        }
        Ok(())
    }

    /// Takes a container's interface on a network away. Published ports lead to the first interface, which must stay while
    /// there are any.
    pub async fn disconnect(&mut self, name: &Name, network: &Name) -> Result<()> {
        let container = self.store.state.container(name)?.clone();
        let Some(interface) = container.interfaces.iter().find(|one| one.network == *network) else {
            let (container, network) = (name.to_string(), network.to_string());
            return Err(ContainerError::NotConnected { container, network }.into());
        };
        if container.primary() == Some(interface)
            && let Some(port) = self.store.state.publications_of(name).first()
        {
            return Err(ContainerError::InterfaceInUse {
                container: name.to_string(),
                interface: interface.name.to_string(),
                publication: port.spec(),
            }
            .into());
        }
        let (container, interface) = (name.clone(), interface.clone());
        self.unmake(&Connected { container, interface, namespace: None }).await
    }

    /// Removes containers, and what is kept of runs of these names. Goes on after a failure and reports every one.
    pub async fn remove_containers(&mut self, names: &[Name]) -> Result<()> {
        let (state, runs) = (&self.store.state, self.runs());
        let mut containers = Vec::new();
        for name in names {
            match state.container(name) {
                Ok(container) => containers.push(container.clone()),
                // Its container has gone with its end.
                Err(_) if runs.has(name) => {}
                Err(error) => return Err(error),
            }
        }
        let mut errors = Vec::new();
        errors.extend(self.remove_recorded(containers).await.err());
        errors.extend(names.iter().filter_map(|name| runs.forget(name).err()));
        Error::all(errors)
    }

    /// Removes containers that are recorded. Goes on after a failure and reports every one.
    pub(super) async fn remove_recorded(&mut self, containers: Vec<Container>) -> Result<()> {
        let containers: Vec<Attached> = containers.into_iter().map(Attached::of).collect();
        self.unmake_all(&containers).await
    }

    /// Ends the runs of containers, and takes their ports and interfaces away.
    async fn lower_containers(&self, containers: &[&Container]) -> Result<()> {
        let mut errors = Vec::new();
        for container in containers {
            end_run(container);
        }
        let state = &self.store.state;
        let ports: Vec<Publication> =
            containers.iter().flat_map(|container| state.publications_of(&container.name)).collect();
        errors.extend(self.lower_publications(&ports).err());
        let interfaces: Vec<&Interface> =
            containers.iter().flat_map(|container| &container.interfaces).collect();
        errors.extend(self.lower_interfaces(&interfaces).await.err());
        Error::all(errors)
    }

    /// Removes a container, if it is still there.
    pub async fn remove_if_there(&mut self, name: &Name) -> Result<()> {
        match self.store.state.containers.get(name).cloned() {
            Some(container) => self.unmake(&Attached::of(container)).await,
            None => Ok(()),
        }
    }

    /// Publishes ports of a container that somebody else has made, who knows it by `request.key`. What was published for that key
    /// before is replaced. The other end of its interface `inner` must be a port of a bridge of this host.
    pub async fn publish_for_owner(&mut self, request: OwnerRequest) -> Result<Name> {
        let OwnerRequest { key, name, netns, inner, ports, policy } = request;
        let found = found_end(&Netns::open(&netns)?, &inner).await?;
        let (veth, bridge) = plan::host_end_behind(self.view(), &found, &netns)?;
        if let Some(before) = self.container_of(&key).cloned() {
            self.remove_if_there(&before).await?;
        }
        let network = self.ensure_unmanaged(&bridge).await?;
        let interface = InterfaceRequest { adopt: Some(veth), ..InterfaceRequest::new(inner, network) };
        let container = ContainerRequest {
            name: plan::free_name(self.view(), &name)?,
            key: Some(key),
            sandbox: Some(netns),
            network: NetworkMode::Interfaces(vec![interface]),
            ports,
            policy,
            run: None,
        };
        let outcome = self.add_container(container).await;
        if outcome.is_err()
            && let Err(second) = self.clear_networks().await
        {
            tracing::warn!("rollback failed: {}", second.chain());
        }
        outcome
    }

    /// Removes the containers that their owners know by these keys. Those that are not there are fine.
    pub async fn remove_for_owner(&mut self, keys: &[OwnerKey]) -> Result<()> {
        let state = &self.store.state;
        let containers = keys.iter().filter_map(|key| state.container_of(key)).cloned().collect();
        let mut errors = Vec::new();
        errors.extend(self.remove_recorded(containers).await.err());
        errors.extend(self.clear_networks().await.err());
        Error::all(errors)
    }

    /// The records of new interfaces of a container.
    async fn new_interfaces(
        &mut self,
        container: &Name,
        wanted: &[InterfaceRequest],
        namespace: Option<&Netns>,
        publishes: bool,
    ) -> Result<Vec<Interface>> {
        let mut found = Vec::new();
        for request in wanted {
            self.ensure_network(&request.network).await?;
            found.push(match (&request.adopt, namespace) {
                (Some(_), Some(namespace)) => Some(found_end(namespace, &request.name).await?),
                _ => None,
            });
        }
        let handles = self.store.state.endpoint_slots(wanted.len())?;
        let present = self.store.state.containers.get(container);
        let mut others = present.map_or_else(Vec::new, |container| container.interfaces.clone());
        let before = others.len();
        for ((request, found), handle) in wanted.iter().zip(&found).zip(handles) {
            let new = NewInterface {
                instance: &self.instance,
                container,
                others: &others,
                publishes: publishes && others.is_empty(),
                handle,
                found: found.as_ref(),
            };
            let interface = plan::interface(self.view(), new, request)?;
            others.push(interface);
        }
        Ok(others.split_off(before))
    }
}

/// The namespace that a request is about: an existing one, or a new one that has no name yet.
fn sandbox(request: &ContainerRequest) -> Result<(Sandbox, Option<Netns>)> {
    if matches!(request.network, NetworkMode::Host) {
        return Ok((Sandbox::Host, None));
    }
    let (path, namespace) = match &request.sandbox {
        Some(path) => {
            let path = std::path::absolute(path).doing(|| format!("find {}", path.display()))?;
            let namespace = Netns::open(&path)?;
            (path, namespace)
        }
        None => (named_namespace(request.name.as_str()), Netns::create()?),
    };
    let made = request.sandbox.is_none();
    if made && path.exists() {
        return Err(ContainerError::NamespaceExists { path }.into());
    }
    let cookie = namespace.cookie()?;
    Ok((Sandbox::Namespace { path, cookie, made }, Some(namespace)))
}

/// The namespace of a container, proven by its cookie; none if it is the host's.
pub(super) fn proven_namespace(container: &Container) -> Result<Option<Netns>> {
    let Sandbox::Namespace { path, cookie, .. } = &container.sandbox else { return Ok(None) };
    let namespace = Netns::proven(path, *cookie)?;
    let replaced =
        || ContainerError::NamespaceReplaced { path: path.clone(), container: container.name.to_string() };
    Ok(Some(namespace.ok_or_else(replaced)?))
}

/// Ends what a run has started: everything in the namespace that was made for it, or, on the host network, the process that
/// takes the run through its life, which passes the signal on.
fn end_run(container: &Container) {
    let Some(run) = container.run else { return };
    // A process may end by itself meanwhile; what is gone is what is wanted.
    match &container.sandbox {
        Sandbox::Namespace { path, cookie, made: true } => {
            let namespace = Netns::proven(path, *cookie).ok().flatten();
            let inside = namespace.and_then(|namespace| namespace.processes().ok()).unwrap_or_default();
            for pid in inside {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        _ if is_alive(run) && run.pid != getpid().as_raw() => {
            let _gone = kill(Pid::from_raw(run.pid), Signal::SIGTERM);
        }
        _ => {}
    }
}
