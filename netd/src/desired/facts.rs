//! What is read for a plan, besides the snapshot of the host. Changes nothing.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::error::Result;
use crate::link::Netlink;
use crate::model::{Desired, DesiredContainer, DesiredNetworks, Sandbox, State, TargetSpec};
use crate::netns::Netns;
use crate::observe::found_end;
use crate::plan::desired::Facts;
use crate::plan::named_namespace;

/// Reads it, for an instance whose tables have room for so many connections. Errors name the place of what is asked for.
pub(crate) async fn read(
    host: &Netns,
    netlink: &Netlink,
    instance: &str,
    connections: Option<u32>,
    state: &State,
    desired: &Desired,
) -> Result<Facts> {
    let mut facts =
        Facts { instance: instance.to_owned(), host: host.cookie()?, connections, ..Facts::default() };
    for wanted in &desired.containers {
        let namespace = read_namespace(&mut facts, state, wanted)?;
        for interface in wanted.networks.interfaces() {
            let name = &interface.value.name;
            let present = state.containers.get(&wanted.name.value);
            let has = present.is_some_and(|one| one.interfaces.iter().any(|own| own.name == *name));
            if let (Some(_), Some(namespace), false) = (&interface.value.adopt, &namespace, has) {
                let end = interface.check(found_end(namespace, name).await)?;
                facts.ends.insert((wanted.name.value.clone(), name.clone()), end);
            }
        }
    }
    let known = known(state, desired);
    for publication in &desired.publications {
        if let TargetSpec::Address(address) = publication.target.value
            && !known.contains(&address)
            && !facts.routes.contains_key(&address)
        {
            let index = publication.target.check(netlink.interface_towards(address).await)?;
            facts.routes.insert(address, index);
        }
    }
    Ok(facts)
}

/// The namespace of a container, if it is there.
fn read_namespace(facts: &mut Facts, state: &State, wanted: &DesiredContainer) -> Result<Option<Netns>> {
    if let Some(present) = state.containers.get(&wanted.name.value) {
        let Sandbox::Namespace { path, cookie, .. } = &present.sandbox else { return Ok(None) };
        return Netns::proven(path, *cookie);
    }
    match &wanted.netns {
        Some(path) if !matches!(wanted.networks, DesiredNetworks::Host) => {
            let namespace = path.check(Netns::open(&path.value))?;
            facts.namespaces.insert(path.value.clone(), namespace.cookie()?);
            Ok(Some(namespace))
        }
        Some(_) => Ok(None),
        None => {
            let path = named_namespace(wanted.name.value.as_str());
            if path.exists() {
                facts.occupied.insert(path);
            }
            Ok(None)
        }
    }
}

/// The addresses that are known as targets: containers' and those of hosts that are published for.
fn known(state: &State, desired: &Desired) -> HashSet<IpAddr> {
    let present = state.interfaces().flat_map(|(_, interface)| interface.addresses.iter().copied());
    let remotes = state.publications.iter().filter_map(|one| one.target().remote().map(|one| one.address));
    let interfaces = desired.containers.iter().flat_map(|one| one.networks.interfaces());
    let asked = interfaces.flat_map(|one| one.value.addresses.iter().copied());
    present.chain(remotes).chain(asked).collect()
}
