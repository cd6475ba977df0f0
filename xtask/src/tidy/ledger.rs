//! The ledger of RFCs: each requirement that netd keeps names a test, and the test exists.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Where the tests that the ledger names may be: `module::test` is in a file of that name.
const TESTS: [&str; 3] = ["tests/it", "netd-common/tests", "netd-common/src"];

/// The errors of the ledger: a test that does not exist, or a kept requirement without a test.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let path = root.join("docs/rfc-ledger.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let exists = |module: &str, test: &str| {
        TESTS.iter().any(|folder| {
            let module = root.join(folder).join(module);
            let mut files = [module.with_extension("rs"), module.join("mod.rs")].into_iter();
            files.any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {test}("))))
        })
    };
    Ok(unproved(&text, exists))
}

/// The rows of a ledger whose claim has no existing test.
fn unproved(text: &str, exists: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, _, kept, _, tests, _] = cells[..] else { continue };
        let names: Vec<&str> = tests.split(['`', ' ', ',']).filter(|name| name.contains("::")).collect();
        let mut complain = |what: &str| broken.push(format!("docs/rfc-ledger.md:{}: {what}", number + 1));
        if names.is_empty() && matches!(kept, "yes" | "partly") {
            complain("kept, and no test shows it");
        }
        for (module, test) in names.iter().filter_map(|name| name.split_once("::")) {
            if !exists(module, test) {
                complain(&format!("there is no test {module}::{test}"));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::root;

    #[test]
    fn a_requirement_that_is_kept_needs_a_test_that_exists() {
        let broken = |row: &str| unproved(row, |module, test| (module, test) == ("laws", "known")).len();
        assert_eq!(broken("| 1 | asks | yes | why | `laws::known` |"), 0);
        assert_eq!(broken("| 1 | asks | yes | why | `laws::unknown` |"), 1);
        assert_eq!(broken("| 1 | asks | partly | why | |"), 1);
        assert_eq!(broken("| 1 | asks | no | why | |"), 0);
        assert_eq!(broken("| 1 | asks | no | why | `laws::known`, `gone::known` |"), 1);
        assert_eq!(check(&root()).unwrap(), Vec::<String>::new());
    }
}
