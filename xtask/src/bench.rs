//! The benchmark of netd and its alternatives (tests/bench): installs and builds what it needs, and runs it.

use anyhow::Result;

use crate::shell::{cargo, run};
use crate::{build, host, setup};

/// Runs the benchmark with these arguments.
pub(crate) fn bench(words: &[String]) -> Result<()> {
    host::check()?;
    setup::toolchain()?;
    setup::bench_tools()?;
    build::build(true)?;
    run(cargo()
        .args(["bench", "--quiet", "--package", "netd-tests", "--bench", "side_by_side", "--"])
        .args(words)
        .env("NETD_BIN", build::binary(true)))
}
