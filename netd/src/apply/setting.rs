//! Settings of the instance: what the user prefers, timeouts, the quota, the default access lists.

use netd_common::flow::Handle;

use super::transaction::Transaction;
use crate::error::{Result, StateError};
use crate::model::{Access, Quota, Setting, Source, TimeoutSpec, Timeouts, XdpMode};
use crate::plan::uplink::{check_chosen, obstacle, uplinks};

impl Transaction {
    /// Changes settings, all or none.
    pub async fn set(&mut self, changes: &[Setting]) -> Result<()> {
        let before = self.store.state.preferences.clone();
        for change in changes {
            self.check_setting(change)?;
            self.store.state.preferences.change(change.clone());
        }
        if self.store.state.preferences == before {
            return Ok(());
        }
        let outcome = self.carry_out_settings(changes).await;
        if outcome.is_err() {
            self.store.state.preferences = before;
            if let Err(second) = self.follow().await {
                tracing::warn!("rollback failed: {}", second.chain());
            }
        }
        outcome
    }

    fn check_setting(&self, setting: &Setting) -> Result<()> {
        match (setting, &self.dataplane) {
            (Setting::Uplinks(chosen), _) => check_chosen(chosen, self.view()),
            (Setting::MaxConnections(_), Some(dataplane)) => {
                let mut wanted = self.store.state.preferences.clone();
                wanted.change(setting.clone());
                check_room(dataplane.tables.max_connections()?, wanted.connections())
            }
            _ => Ok(()),
        }
    }

    async fn carry_out_settings(&mut self, changes: &[Setting]) -> Result<()> {
        let asks = changes.iter().any(|change| matches!(change, Setting::Xdp(_)));
        if asks && self.store.state.preferences.xdp == XdpMode::Native {
            // Every uplink must be able to have it, also one that is to have it later.
            let uplinks = uplinks(self.view());
            if self.dataplane.is_some() {
                self.follow_xdp(&uplinks, true)?;
            } else {
                let obstacle = |uplink| obstacle(XdpMode::Native, uplink, &self.observed.links, 0);
                if let Some((uplink, why)) = uplinks.iter().find_map(|one| Some((one, obstacle(one)?))) {
                    return Err(why.into_error(uplink));
                }
            }
        }
        self.follow().await?;
        self.store.save()
    }

    /// Changes idle timeouts, those of existing connections as well.
    pub fn change_timeouts(&mut self, changes: &[TimeoutSpec], reset: bool) -> Result<()> {
        let mut timeouts = if reset { Timeouts::default() } else { self.store.state.timeouts.clone() };
        for change in changes {
            timeouts.change(*change);
        }
        self.set_timeouts(timeouts)
    }

    /// The same with all timeouts.
    pub(super) fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        if self.store.state.timeouts == timeouts {
            return Ok(());
        }
        self.store.state.timeouts = timeouts;
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
