//! Settings, quota, timeouts, default access lists.

use netd_common::flow::state::State as ConnectionState;

use super::planner::{Planner, Values};
use crate::error::{Result, StateError};
use crate::model::{
    Access, Change, Preferences, Quota, Setting, SettingName, ValueChange, duration, sources,
};
use crate::plan::uplink::check_chosen;

/// The words for what is no [`Setting`].
const QUOTA: &str = "quota";
const ACCESS: &str = "access";

impl Planner<'_> {
    /// The settings as they will be. What an earlier file has set and these do not is as by default again.
    pub(super) fn settings(&mut self) -> Result<()> {
        let before = Values::of(self.view.state);
        let mut after = before.clone();
        for default in Preferences::default().all() {
            self.setting(&before, &mut after, default)?;
        }
        self.timeouts(&mut after);
        let wanted = self.desired.quota.as_ref().map(|quota| quota.value);
        if let Some(quota) = self.choose(&mut after, QUOTA, wanted, Quota::default()) {
            after.quota = quota;
        }
        self.tell(QUOTA, before.quota.to_string(), after.quota.to_string());
        let wanted = (!self.desired.access.is_empty()).then(|| self.desired.access.clone());
        if let Some(access) = self.choose(&mut after, ACCESS, wanted, Access::default())
            && sources(&access) != sources(&after.access)
        {
            after.access = access;
        }
        let differences = access_changes(&before.access, &after.access);
        if !differences.is_empty() {
            self.plan.changes.push(Change::changed("setting", &ACCESS, differences));
        }
        // Networks, containers and publications follow.
        self.after.preferences = after.preferences.clone();
        self.plan.values = after;
        Ok(())
    }

    fn setting(&mut self, before: &Values, after: &mut Values, default: Setting) -> Result<()> {
        let name = default.name();
        let wanted = self.desired.settings.iter().find(|one| one.value.name() == name);
        let is_fixed = |preferences: &Preferences| {
            let room = self.facts.connections.filter(|_| name == SettingName::MaxConnections);
            room.filter(|present| *present != preferences.connections())
        };
        let Some(value) = self.choose(after, name.name(), wanted.map(|wanted| wanted.value.clone()), default)
        else {
            return Ok(());
        };
        let mut preferences = after.preferences.clone();
        preferences.change(value.clone());
        match (wanted, is_fixed(&preferences)) {
            (Some(wanted), Some(present)) => {
                let wanted_room = preferences.connections();
                return wanted.check(Err(StateError::Capacity { present, wanted: wanted_room }.into()));
            }
            // The tables have their size until `netd down`.
            (None, Some(_)) => {
                after.applied.insert(name.name().to_owned());
                return Ok(());
            }
            (Some(wanted), None) => {
                if let Setting::Uplinks(chosen) = &value {
                    wanted.check(check_chosen(chosen, self.view))?;
                }
            }
            (None, None) => {}
        }
        after.preferences = preferences;
        let old = before.preferences.all().into_iter().find(|one| one.name() == name);
        self.tell(name.name(), old.map_or_else(String::new, |old| old.value()), value.value());
        Ok(())
    }

    fn timeouts(&mut self, after: &mut Values) {
        for state in ConnectionState::ALL {
            let word = format!("timeout {}", state.name());
            let mut asked = self.desired.timeouts.iter().map(|one| one.value);
            let wanted = asked.find(|one| one.state() == state);
            let before = after.timeouts.seconds(state);
            match self.choose(after, &word, wanted.map(Some), None) {
                Some(Some(timeout)) => after.timeouts.change(timeout),
                Some(None) => after.timeouts.reset(state),
                None => {}
            }
            self.tell(&word, duration(before), duration(after.timeouts.seconds(state)));
        }
    }

    /// What a setting becomes: what a file asks for, or the default if only an earlier one did; none if it stays.
    fn choose<T>(&self, after: &mut Values, word: &str, wanted: Option<T>, default: T) -> Option<T> {
        match wanted {
            Some(wanted) => {
                after.applied.insert(word.to_owned());
                Some(wanted)
            }
            None if self.prune && after.applied.remove(word) => Some(default),
            None => None,
        }
    }

    fn tell(&mut self, name: &str, from: String, to: String) {
        let difference = ValueChange::of("value", from, to);
        self.plan.changes.extend(difference.map(|one| Change::changed("setting", &name, vec![one])));
    }
}

/// What differs between access lists.
pub(super) fn access_changes(before: &Access, after: &Access) -> Vec<ValueChange> {
    let texts = |access: &Access| {
        let (allow, deny) = sources(access);
        [allow, deny]
            .map(|list| list.iter().map(|source| source.0.to_string()).collect::<Vec<_>>().join(", "))
    };
    let [[allowed, denied], [allow, deny]] = [texts(before), texts(after)];
    ValueChange::of("allow", allowed, allow)
        .into_iter()
        .chain(ValueChange::of("deny", denied, deny))
        .collect()
}
