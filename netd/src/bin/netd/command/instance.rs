//! Carries out `netd status` and `netd down`.

use netd::report::{Removed, RemovedItem};
use netd::{Result, Session, Settings, Transaction};

use super::change::change;
use crate::output::Output;

pub(super) async fn status(settings: &Settings, output: Output) -> Result<()> {
    output.print(&Session::open(settings)?.report_status().await?)
}

pub(super) async fn down(settings: &Settings, output: Output, all: bool) -> Result<()> {
    let mut removed = Transaction::down(settings).await?;
    if all {
        removed.extend(netd::remove_gone(&settings.state_dir)?);
    }
    output.print(&Removed { removed: removed.iter().filter_map(describe).collect() })
}

/// What was removed, in words; none for what this front end does not know.
fn describe(item: &RemovedItem) -> Option<String> {
    match item {
        RemovedItem::Container { name } => Some(format!("container {name}")),
        RemovedItem::Network { name } => Some(format!("network {name}")),
        RemovedItem::Programs => Some("BPF programs and tables".to_owned()),
        RemovedItem::Instance { cookie } => Some(format!("what was left of namespace {cookie}")),
        _ => None,
    }
}

/// Opens a transaction, which follows the host and repairs, and does nothing else.
pub(super) async fn sync(settings: &Settings) -> Result<()> {
    change(settings, async |_transaction| Ok(())).await.map(|_session| ())
}
