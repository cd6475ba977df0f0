//! `netd log`.

use crate::output::Output;
use netd::dataplane::Dropped;
use netd::engine::{Host, Settings};
use netd::error::Result;

pub(super) async fn execute(settings: &Settings, output: Output, follow: bool) -> Result<()> {
    let host = Host::open(settings).await?;
    let log = host.log();
    // The lock is given back: others work on while this one watches.
    host.close()?;
    let Some(mut log) = log? else { return Ok(()) };
    print(output, &log.take())?;
    if !follow {
        return Ok(());
    }
    loop {
        log.wait()?;
        print(output, &log.take())?;
    }
}

fn print(output: Output, dropped: &[Dropped]) -> Result<()> {
    dropped.iter().try_for_each(|packet| output.line(packet))
}
