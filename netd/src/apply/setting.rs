//! Settings of the instance: what the user prefers, timeouts, the quota, the default access lists.

use super::transaction::Transaction;
use crate::dataplane::Tables;
use crate::error::{Error, Result, StateError};
use crate::model::{Access, Quota, Setting, State, TimeoutSpec, Timeouts, XdpMode};
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
        self.set_timeouts(&timeouts)
    }

    /// The same with all timeouts.
    pub(super) fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<()> {
        self.turn_setting(
            timeouts,
            |state| &mut state.timeouts,
            |tables, timeouts| tables.set_timeouts(|state| timeouts.seconds(state)),
        )
    }

    /// Sets how much of the flow tables one container may have. Existing connections go on.
    pub fn set_quota(&mut self, quota: Quota) -> Result<()> {
        self.turn_setting(&quota, |state| &mut state.quota, |tables, quota| tables.set_quota(*quota))
    }

    /// Changes who may use the publications that have no lists of their own. Existing connections go on.
    pub async fn set_access(&mut self, access: &Access) -> Result<()> {
        self.ensure_dataplane().await?;
        self.turn_setting(access, |state| &mut state.access, Tables::set_default_access)
    }

    /// Writes the timeouts and the quota again: a command that was killed may have recorded them only.
    pub(super) fn write_settings(&self) -> Result<()> {
        let (tables, state) = (&self.dataplane()?.tables, &self.store.state);
        tables.set_timeouts(|one| state.timeouts.seconds(one))?;
        tables.set_quota(state.quota)
    }

    /// Records a value and writes it to the tables: both, or neither. One that is recorded already is written all the same, so the
    /// command may be repeated after a kill. Without programs it is written when they are loaded.
    fn turn_setting<T: Clone + PartialEq>(
        &mut self,
        new: &T,
        recorded: impl Fn(&mut State) -> &mut T,
        write: impl Fn(&Tables, &T) -> Result<()>,
    ) -> Result<()> {
        let before = std::mem::replace(recorded(&mut self.store.state), new.clone());
        let write = |this: &Self, value: &T| {
            this.dataplane.as_ref().map_or(Ok(()), |dataplane| write(&dataplane.tables, value))
        };
        let saved = if before == *new { Ok(()) } else { self.store.save() };
        let outcome = saved.and_then(|()| write(self, new));
        if outcome.is_err() {
            recorded(&mut self.store.state).clone_from(&before);
            let undone = [write(self, &before), self.store.save()];
            if let Err(second) = Error::all(undone.into_iter().filter_map(Result::err).collect()) {
                tracing::warn!("rollback failed: {}", second.chain());
            }
        }
        outcome
    }
}

/// Refuses to give existing tables another size: their connections would be lost.
fn check_room(present: u32, wanted: u32) -> Result<()> {
    if present == wanted { Ok(()) } else { Err(StateError::Capacity { present, wanted }.into()) }
}
