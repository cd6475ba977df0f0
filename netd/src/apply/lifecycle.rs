//! The one life of whatever netd makes: record, apply, then ready or withdraw.
//!
//! Setup that fails, removal, `down` and the repair after a kill all end in [`Resource::withdraw`], for which absent parts are
//! fine: it may run at any time after the record was written, and more than once.

use super::transaction::Transaction;
use crate::error::Result;
use crate::model::{Lifecycle, State};

/// Something that netd makes and describes by a record.
pub(super) trait Resource {
    /// Writes its record, as being added.
    fn record(&self, state: &mut State);

    /// Changes how far its record has come.
    fn mark(&self, state: &mut State, lifecycle: Lifecycle);

    /// Makes what the record describes.
    async fn apply(&self, transaction: &mut Transaction) -> Result<()>;

    /// Takes away what the record describes. Absent parts are fine; goes on after a failure and reports every one.
    async fn withdraw(&self, transaction: &mut Transaction) -> Result<()>;

    /// Removes its record.
    fn forget(&self, state: &mut State);
}

impl Transaction {
    /// Makes something, all or nothing.
    pub(super) async fn make(&mut self, resource: &impl Resource) -> Result<()> {
        resource.record(&mut self.store.state);
        self.store.save()?;
        let outcome = match resource.apply(self).await {
            Ok(()) => {
                resource.mark(&mut self.store.state, Lifecycle::Ready);
                self.store.save()
            }
            error => error,
        };
        if outcome.is_err() {
            // The first failure is the one to report; what is left the next transaction withdraws.
            if let Err(second) = self.unmake(resource).await {
                tracing::warn!("rollback failed: {}", second.chain());
            }
        }
        outcome
    }

    /// Takes something away. What could not be taken away stays recorded, for the next attempt.
    pub(super) async fn unmake(&mut self, resource: &impl Resource) -> Result<()> {
        resource.mark(&mut self.store.state, Lifecycle::Removing);
        if let Err(error) = self.store.save() {
            // A full disk is no reason to keep something.
            tracing::warn!("{}; removing all the same", error.chain());
        }
        resource.withdraw(self).await?;
        resource.forget(&mut self.store.state);
        self.store.save_less()
    }
}
