//! Every test: laws that need no privilege, then programs and traffic.

use anyhow::Result;

use crate::shell::{cargo, run, say};
use crate::{build, host, setup, tidy};

/// Runs the tests whose names contain one of `filter`, or all.
pub(crate) fn test(filter: &[String]) -> Result<()> {
    host::check()?;
    setup::everything()?;
    build::build(true)?;
    tidy::tidy()?;
    say("laws: what needs no privilege");
    run(cargo().args(["test", "--quiet", "--"]).args(filter))?;
    say("programs and traffic: BPF, namespaces, real servers");
    run(cargo()
        .args(["test", "--release", "--package", "netd-tests", "--"])
        .args(filter)
        .env("NETD_BIN", build::binary(true)))
}
