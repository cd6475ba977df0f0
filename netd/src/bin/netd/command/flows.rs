//! Carries out `netd flows` and `netd timeouts`.

use netd::{Name, Protocol, Result, Session, Settings, TimeoutSpec};

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
