//! Carries out `netd status`, `netd check`, `netd repair` and `netd down`.

use std::sync::Arc;

use netd::report::{Removed, RemovedItem, Upgraded};
use netd::{Effort, Result, Session, Settings, Transaction};

use super::change::change;
use crate::output::{Differences, OpenMetrics, Output};

/// Exit status if the kernel differs from the records.
pub(super) const DIFFERS: u8 = 3;

pub(super) async fn status(settings: &Settings, output: Output) -> Result<()> {
    output.print(&Session::open(settings)?.report_status().await?)
}

pub(super) fn metrics(settings: &Settings, output: Output) -> Result<()> {
    output.print(&OpenMetrics(Arc::new(Session::open(settings)?.report_metrics()?)))
}

pub(super) async fn check(settings: &Settings, output: Output) -> Result<u8> {
    let found = Differences(Session::open(settings)?.check().await?);
    output.print(&found)?;
    Ok(if found.0.is_empty() { 0 } else { DIFFERS })
}

pub(super) async fn repair(settings: &Settings, output: Output) -> Result<u8> {
    let (repaired, _session) = Transaction::repair(settings, Effort::Whole).await?;
    output.print(&repaired)?;
    Ok(if repaired.left.is_empty() { 0 } else { DIFFERS })
}

pub(super) async fn down(settings: &Settings, output: Output, all: bool) -> Result<()> {
    let mut removed = Transaction::down(settings).await?;
    super::serve::wait_for_end(settings).await?;
    if all {
        removed.extend(netd::remove_gone(settings)?);
    }
    output.print(&Removed { removed: removed.iter().filter_map(describe).collect() })
}

/// What was removed, in words; none for what this front end does not know.
fn describe(item: &RemovedItem) -> Option<String> {
    match item {
        RemovedItem::Container { name } => Some(format!("container {name}")),
        RemovedItem::Network { name } => Some(format!("network {name}")),
        RemovedItem::Output { name } => Some(format!("output of {name}")),
        RemovedItem::Programs => Some("BPF programs and tables".to_owned()),
        RemovedItem::Instance { cookie } => Some(format!("what was left of namespace {cookie}")),
        _ => None,
    }
}

/// Puts the programs of this netd in place, if those of another version are there.
pub(super) async fn upgrade(settings: &Settings, output: Output) -> Result<()> {
    let replaced = Transaction::upgrade(settings).await?;
    output.print(&Upgraded { replaced, programs: netd::own_version() })
}

/// Opens a transaction, which follows the host and repairs, and does nothing else.
pub(super) async fn sync(settings: &Settings) -> Result<()> {
    change(settings, async |_transaction| Ok(())).await.map(|_session| ())
}
