//! The end of every command that changes something.

use netd::{Result, Session, Transaction};

/// Ends a transaction, whether or not what it did succeeded. Returns that, and what the transaction has left.
pub(super) fn finish<T>(transaction: Transaction, outcome: Result<T>) -> Result<(T, Session)> {
    let finished = transaction.finish();
    Ok((outcome?, finished?))
}
