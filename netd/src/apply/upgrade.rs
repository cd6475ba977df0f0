//! Replacing the programs of another version of netd by those of this one, while traffic goes on.

use super::transaction::Transaction;
use crate::dataplane::{Dataplane, HookPoint, Replacement};
use crate::error::Result;
use crate::link::Filter;
use crate::model::ProgramsVersion;
use crate::settings::Settings;

impl Transaction {
    /// Puts the programs of this netd in place, if those of another version are loaded. Returns the versions that were replaced.
    pub async fn upgrade(settings: &Settings) -> Result<Vec<ProgramsVersion>> {
        let mut transaction = Self::open(settings).await?;
        let replaced = transaction.take_replaced();
        transaction.finish()?;
        Ok(replaced)
    }

    /// Brings the programs to the version of this netd, if they are of another one; finishes what a killed command has begun.
    /// Returns the versions that have been replaced. If the new programs do not load, the old ones stay.
    pub(super) async fn bring_up_to_date(&mut self) -> Result<Vec<ProgramsVersion>> {
        let mut replaced = Vec::new();
        loop {
            let loaded = Dataplane::open_any(&self.instance, &self.settings.host, self.settings.tc)?;
            let Some(loaded) = loaded else { return Ok(replaced) };
            let replacement = match Replacement::pending(&loaded)? {
                Some(pending) => pending,
                None if loaded.is_own() => return Ok(replaced),
                None => match self.stage(&loaded) {
                    Ok(staged) => staged,
                    // They read and write the same tables.
                    Err(error) if loaded.has_own_contract() => {
                        tracing::warn!("the programs of netd {} stay: {}", loaded.version(), error.chain());
                        return Ok(replaced);
                    }
                    Err(error) => return Err(error),
                },
            };
            tracing::info!("replacing the BPF programs of netd {}", loaded.version());
            replaced.push(loaded.version());
            let now = self.replace(replacement).await?;
            if now.has_own_contract() && !loaded.has_own_contract() {
                // Fields that the old rows lacked are zero.
                self.dataplane = Some(now);
                self.attach_containers()?;
            }
        }
    }

    /// Loads this netd's programs beside those that are loaded.
    fn stage(&self, loaded: &Dataplane) -> Result<Replacement> {
        let timeouts = &self.store.state.timeouts;
        let timeout = |state| timeouts.seconds(state);
        Replacement::stage(loaded, self.setup(&timeout))
    }

    /// Lets a set of programs take over.
    async fn replace(&self, replacement: Replacement) -> Result<Dataplane> {
        replacement.begin()?;
        for (point, index, name) in replacement.tc_hooks()? {
            let filter = self.filter_of(&replacement.old, point, index).await?;
            replacement.switch_tc(point, index, &name, filter)?;
        }
        replacement.switch_sockets()?;
        replacement.carry()?;
        replacement.switch_xdp()?;
        replacement.finish()
    }

    /// The number of the filter by which a set's program is on an interface; none if it is there by a link.
    async fn filter_of(&self, set: &Dataplane, point: HookPoint, index: u32) -> Result<Option<u32>> {
        if !set.has_filters() || self.observed.link_at(index).is_none() {
            return Ok(None);
        }
        let (filters, ours) =
            (self.netlink.filters(index, point == HookPoint::Bridge).await?, set.program_id(point)?);
        Ok(filters.iter().find(|filter| filter.program() == Some(ours)).map(Filter::handle))
    }
}
