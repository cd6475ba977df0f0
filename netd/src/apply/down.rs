//! Taking an instance down, and what is left of instances whose namespaces are gone.

use std::fs;
use std::net::IpAddr;

use super::network::Bridged;
use super::publication::Published;
use super::transaction::Transaction;
use crate::dataplane::{self, HookPoint};
use crate::error::{Doing as _, Error, Result, StateError};
use crate::model::report::RemovedItem;
use crate::model::{Address, Container, Link, Name};
use crate::observe::present_cookies;
use crate::plan::container::is_made_veth;
use crate::plan::network::is_made_bridge;
use crate::runs::{self, Runs};
use crate::settings::Settings;
use crate::store::{Presence, key};

impl Transaction {
    /// Removes everything that an instance has made, whatever state it is in. Goes on after a failure and reports every one.
    pub async fn down(settings: &Settings) -> Result<Vec<RemovedItem>> {
        let mut transaction = Self::open_to_remove(settings).await?;
        let (mut removed, mut errors) = (Vec::new(), Vec::new());
        let containers: Vec<Container> = transaction.store.state.containers.values().cloned().collect();
        let names: Vec<Name> = containers.iter().map(|container| container.name.clone()).collect();
        errors.extend(transaction.remove_recorded(containers).await.err());
        let gone = names.iter().filter(|name| !transaction.store.state.containers.contains_key(*name));
        removed.extend(gone.map(|name| RemovedItem::Container { name: name.to_string() }));
        let left = transaction.store.state.publications.clone();
        if !left.is_empty() {
            errors.extend(transaction.unmake(&Published::of(left)).await.err());
        }
        for network in transaction.store.state.networks.clone().into_values() {
            let name = network.name.to_string();
            match transaction.unmake(&Bridged(network)).await {
                Ok(()) => removed.push(RemovedItem::Network { name }),
                Err(error) => errors.push(error),
            }
        }
        let aside = transaction.store.set_aside();
        // The records may be gone as well, and leave the pins.
        if !matches!(aside, Ok(None)) || transaction.store.state.networks.is_empty() {
            errors.extend(transaction.remove_unrecorded().await.err());
        }
        if transaction.dataplane.is_some() {
            for point in [HookPoint::Uplink, HookPoint::Tunnel] {
                errors.extend(transaction.detach_unless(point, |_, _| false).await.err());
            }
            errors.extend(transaction.remove_idle_qdiscs().await.err());
            removed.push(RemovedItem::Programs);
        }
        errors.extend(dataplane::remove(&transaction.instance).err());
        match transaction.runs().remove() {
            Ok(names) => removed.extend(names.into_iter().map(|name| RemovedItem::Output { name })),
            Err(error) => errors.push(error),
        }
        match aside {
            Ok(None) => {}
            Ok(Some(path)) => errors.push(StateError::SetAside { path }.into()),
            Err(error) => errors.push(error),
        }
        // What could not be removed stays recorded, for the next attempt.
        if errors.is_empty() {
            errors.extend(transaction.store.remove().err());
            // A follower that was killed has left its mark.
            errors.extend(Presence::take(&settings.state_dir, transaction.cookie).map(drop).err());
        }
        Error::all(errors)?;
        Ok(removed)
    }
}

impl Transaction {
    /// Removes interfaces of which no record tells: those with netd's program whose names and MAC addresses are ones that only
    /// netd gives. Adopted ones have others.
    async fn remove_unrecorded(&self) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let gateways = |link: &Link| -> Vec<IpAddr> {
            let addresses = self.observed.addresses.iter().filter(|one| one.interface == link.index);
            addresses.map(Address::ip).collect()
        };
        let mut errors = Vec::new();
        for point in [HookPoint::Container, HookPoint::Bridge] {
            for (index, _) in dataplane.attached(point)? {
                let Some(link) = self.observed.link_at(index) else { continue };
                let is_made = match point {
                    HookPoint::Container => is_made_veth(link),
                    _ => is_made_bridge(link, gateways(link)),
                };
                if is_made {
                    errors.extend(self.netlink.delete(index).await.err());
                }
            }
        }
        Error::all(errors)
    }
}

/// Removes what is left of this state folder's instances whose namespaces are gone: their pins, their records and what is kept of
/// their runs. A namespace counts as gone if no process and no mount shows it.
pub fn remove_gone(settings: &Settings) -> Result<Vec<RemovedItem>> {
    let folder = fs::canonicalize(&settings.state_dir).unwrap_or_else(|_absent| settings.state_dir.clone());
    let key = key(&settings.state_dir)?;
    let present = present_cookies()?;
    let cookie_of_gone = |instance: &str| {
        let (cookie, owner) = instance.split_once('-')?;
        let is_gone = owner == key && cookie.parse().is_ok_and(|cookie: u64| !present.contains(&cookie));
        is_gone.then(|| cookie.to_owned())
    };
    let (mut removed, mut errors) = (Vec::new(), Vec::new());
    for instance in dataplane::instances() {
        let Some(cookie) = cookie_of_gone(&instance) else { continue };
        let state = folder.join(&cookie);
        match dataplane::remove(&instance) {
            Ok(()) => removed.push(RemovedItem::Instance { cookie }),
            Err(error) => errors.push(error),
        }
        if state.exists() {
            errors.extend(fs::remove_dir_all(&state).doing(|| format!("remove {}", state.display())).err());
        }
    }
    for instance in runs::instances(&settings.log_dir)? {
        if cookie_of_gone(&instance).is_some() {
            match Runs::new(&settings.log_dir, &instance).remove() {
                Ok(names) => removed.extend(names.into_iter().map(|name| RemovedItem::Output { name })),
                Err(error) => errors.push(error),
            }
        }
    }
    // Another namespace's state in it is a reason to leave it.
    let _in_use = fs::remove_dir(folder);
    Error::all(errors)?;
    Ok(removed)
}
