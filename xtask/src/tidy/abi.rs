//! The contract between the BPF programs and the user side: if it changes, its number must rise.

use anyhow::{Context as _, Result};

use crate::shell::cargo;

/// The test of netd-common that compares the contract with what is recorded for its number.
const TEST: &str = "abi::layout";

/// Runs the test; its output is the broken rule.
pub(crate) fn check() -> Result<Vec<String>> {
    let test = ["test", "--quiet", "--package", "netd-common", "--lib", "--", TEST];
    let output = cargo().args(test).output().with_context(|| format!("start cargo {}", test.join(" ")))?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let said = [output.stdout, output.stderr].concat();
    Ok(vec![format!("netd-common/src/abi: {}", String::from_utf8_lossy(&said).trim())])
}
