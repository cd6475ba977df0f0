//! netd beside what else carries packets to containers: tests/bench does it, this installs and builds what it needs.

use anyhow::Result;

use crate::shell::{cargo, run};
use crate::{build, host, setup};

/// Runs the benchmark with these words.
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
