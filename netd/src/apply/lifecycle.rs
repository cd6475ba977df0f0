//! The one life of whatever netd makes: record, apply, then ready or withdraw.
//!
//! Setup that fails, removal, `down` and the repair after a kill all end in [`Resource::withdraw`], for which absent parts are
//! fine: it may run at any time after the record was written, and more than once.

use super::transaction::Transaction;
use crate::error::{Error, Result};
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

    /// Takes away at once whatever the kernel takes away of many as fast as of one. [`Self::withdraw`] takes away the rest of each,
    /// and reports for each what could not be.
    async fn withdraw_together(all: &[Self], transaction: &mut Transaction) -> Result<()>
    where
        Self: Sized,
    {
        let _ = (all, transaction);
        Ok(())
    }

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
    pub(super) async fn unmake<R: Resource>(&mut self, resource: &R) -> Result<()> {
        self.unmake_all(std::slice::from_ref(resource)).await
    }

    /// Takes many things away. Goes on after a failure and reports every one.
    pub(super) async fn unmake_all<R: Resource>(&mut self, resources: &[R]) -> Result<()> {
        if resources.is_empty() {
            return Ok(());
        }
        for resource in resources {
            resource.mark(&mut self.store.state, Lifecycle::Removing);
        }
        if let Err(error) = self.store.save() {
            // A full disk is no reason to keep something.
            tracing::warn!("{}; removing all the same", error.chain());
        }
        let mut errors = Vec::new();
        for (resource, outcome) in resources.iter().zip(self.withdraw_each(resources).await) {
            match outcome {
                Ok(()) => resource.forget(&mut self.store.state),
                Err(error) => errors.push(error),
            }
        }
        errors.extend(self.store.save_less().err());
        Error::all(errors)
    }

    /// Withdraws many things. Returns what came of each.
    pub(super) async fn withdraw_each<R: Resource>(&mut self, resources: &[R]) -> Vec<Result<()>> {
        if resources.len() > 1 {
            // What fails here fails again below, where it is known for which of them.
            let _again = R::withdraw_together(resources, self).await;
        }
        let mut outcomes = Vec::new();
        for resource in resources {
            outcomes.push(resource.withdraw(self).await);
        }
        outcomes
    }
}
