//! The desired state: what applying one would change, and the one that asks for what is there.

use super::Session;
use crate::desired::{SavedState, read_facts, saved};
use crate::error::Result;
use crate::link::Netlink;
use crate::model::Desired;
use crate::model::report::Change;
use crate::observe::Observed;
use crate::plan::View;
use crate::plan::desired::plan;

impl Session {
    /// What [`Transaction::apply`](crate::Transaction::apply) would change.
    pub async fn changes(&self, desired: &Desired, prune: bool) -> Result<Vec<Change>> {
        let (host, state) = (&self.settings.host, &self.state);
        let netlink = Netlink::open(host)?;
        let observed = Observed::read(host, &netlink).await?;
        observed.read_listeners(host)?;
        let connections =
            self.dataplane.as_ref().map(|dataplane| dataplane.tables.max_connections()).transpose()?;
        let facts = read_facts(host, &netlink, &self.instance, connections, state, desired).await?;
        let plan = plan(View { state, observed: &observed }, desired, &facts, prune)
            .map_err(|error| observed.listeners().name_process(error))?;
        Ok(plan.changes)
    }

    /// A file that asks for what is there.
    pub async fn saved(&self) -> Result<SavedState> {
        let host = &self.settings.host;
        let observed = Observed::read(host, &Netlink::open(host)?).await?;
        Ok(saved(&self.state, &observed))
    }
}
