//! The storm (tests/storm): installs and builds what it needs, and runs it.

use anyhow::Result;

use crate::shell::{cargo, run};
use crate::{build, host, setup};

/// Runs the storm with these arguments.
pub(crate) fn storm(words: &[String]) -> Result<()> {
    host::check()?;
    setup::everything()?;
    build::build(true)?;
    run(cargo()
        .args(["run", "--quiet", "--release", "--package", "netd-tests", "--bin", "storm", "--"])
        .args(words)
        .env("NETD_BIN", build::binary(true)))
}
