//! The frame of every command that changes an instance.

use netd::{Result, Session, Settings, Transaction};

/// Changes the instance in one transaction, which is finished whether or not the change succeeds. Returns the answer, and a
/// session that shows what there is now.
pub(super) async fn change<T>(
    settings: &Settings,
    change: impl AsyncFnOnce(&mut Transaction) -> Result<T>,
) -> Result<(T, Session)> {
    let mut transaction = Transaction::open(settings).await?;
    let outcome = change(&mut transaction).await;
    let finished = transaction.finish();
    Ok((outcome?, finished?))
}
