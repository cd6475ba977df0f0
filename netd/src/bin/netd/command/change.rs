//! The frame of every command that changes an instance.

use netd::{Result, Session, Settings, Transaction};

/// Changes the instance in one transaction, which is finished whether or not the change succeeds. Returns the answer, and a
/// session that shows what there is now.
pub(crate) async fn change<T>(
    settings: &Settings,
    change: impl AsyncFnOnce(&mut Transaction) -> Result<T>,
) -> Result<(T, Session)> {
    carry_out(Transaction::open(settings).await?, change).await
}

/// The same for a change that takes something away, which works on a host in any state.
pub(crate) async fn take_away<T>(
    settings: &Settings,
    change: impl AsyncFnOnce(&mut Transaction) -> Result<T>,
) -> Result<(T, Session)> {
    carry_out(Transaction::open_to_take_away(settings).await?, change).await
}

async fn carry_out<T>(
    mut transaction: Transaction,
    change: impl AsyncFnOnce(&mut Transaction) -> Result<T>,
) -> Result<(T, Session)> {
    let outcome = change(&mut transaction).await;
    let finished = transaction.finish();
    Ok((outcome?, finished?))
}
