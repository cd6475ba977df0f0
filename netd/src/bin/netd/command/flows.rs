//! Carries out `netd flows`, `netd timeouts` and `netd quota`.

use netd::{Name, Protocol, Quota, Result, Session, Settings, TimeoutSpec};

use super::change::change;
use crate::output::Output;

pub(super) fn flows(
    settings: &Settings,
    output: Output,
    container: Option<&Name>,
    protocol: Option<Protocol>,
    port: Option<u16>,
) -> Result<()> {
    output.print(&Session::open(settings)?.report_flows(container, protocol, port)?)
}

pub(super) async fn quota(settings: &Settings, output: Output, quota: Option<Quota>) -> Result<()> {
    let session = match quota {
        None => Session::open(settings)?,
        Some(quota) => change(settings, async |host| host.set_quota(quota)).await?.1,
    };
    output.print(&session.report_quota()?)
}

pub(super) async fn timeouts(
    settings: &Settings,
    output: Output,
    changes: &[TimeoutSpec],
    reset: bool,
) -> Result<()> {
    let session = if changes.is_empty() && !reset {
        Session::open(settings)?
    } else {
        change(settings, async |host| host.change_timeouts(changes, reset)).await?.1
    };
    output.print(&session.report_timeouts())
}
