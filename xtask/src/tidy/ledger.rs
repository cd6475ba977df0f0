//! The documents that name tests as proofs, the ledger of RFCs and the threat model: each test exists, and the ledger names one for
//! each requirement that netd keeps.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Where the tests may be: `module::test` is in a file of that name.
const TESTS: [&str; 4] = ["tests/it", "netd-common/tests", "netd-common/src", "netd/src"];
/// The documents.
const LEDGER: &str = "docs/rfc-ledger.md";
const THREATS: &str = "docs/threat-model.md";

/// The errors of the documents: a test that does not exist, or a kept requirement without a test.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let read = |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("read {name}"));
    let exists = |module: &str, test: &str| {
        TESTS.iter().any(|folder| {
            let module = root.join(folder).join(module);
            let mut files = [module.with_extension("rs"), module.join("mod.rs")].into_iter();
            files.any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {test}("))))
        })
    };
    let mut broken = unproved(&read(LEDGER)?, exists);
    broken.extend(unknown(&read(THREATS)?, exists));
    Ok(broken)
}

/// The tests that a threat model names and that do not exist.
fn unknown(text: &str, exists: impl Fn(&str, &str) -> bool) -> Vec<String> {
    text.lines()
        .enumerate()
        .flat_map(|(number, line)| {
            let names = line.split('`').filter_map(|word| word.split_once("::"));
            let missing = names.filter(|(module, test)| !exists(module, test));
            missing
                .map(|(module, test)| format!("{THREATS}:{}: there is no test {module}::{test}", number + 1))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The rows of a ledger whose claim has no existing test.
fn unproved(text: &str, exists: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, _, kept, _, tests, _] = cells[..] else { continue };
        let names: Vec<&str> = tests.split(['`', ' ', ',']).filter(|name| name.contains("::")).collect();
        let mut complain = |what: &str| broken.push(format!("{LEDGER}:{}: {what}", number + 1));
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
    fn a_test_that_the_threat_model_names_exists() {
        let unknown = |row: &str| unknown(row, |module, test| (module, test) == ("laws", "known")).len();
        assert_eq!(unknown("| it can | it cannot | `laws::known` |"), 0);
        assert_eq!(unknown("| it can | it cannot | `laws::known`, `laws::unknown`, `gone::known` |"), 2);
    }

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
