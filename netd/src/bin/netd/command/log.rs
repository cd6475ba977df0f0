//! Carries out `netd log`.

use netd::report::Dropped;
use netd::{Result, Session, Settings};

use crate::output::Output;

pub(super) fn execute(settings: &Settings, output: Output, follow: bool) -> Result<()> {
    let Some(mut log) = Session::open(settings)?.log()? else { return Ok(()) };
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
