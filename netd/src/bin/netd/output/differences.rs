//! What differs from the records, as text.

use std::fmt::Write as _;

use netd::report::{Difference, Repaired};
use serde::{Serialize, Serializer};

use super::text::Text;

/// What `netd check` has found.
#[derive(Clone, Debug)]
pub(crate) struct Differences(pub(crate) Vec<Difference>);

/// A difference as JSON: its data, and what the text says of it.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    difference: &'a Difference,
    text: String,
    effect: &'static str,
    cure: String,
}

impl Serialize for Differences {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|difference| Told {
            text: difference.to_string(),
            effect: difference.effect(),
            cure: cure(difference),
            difference,
        }))
    }
}

impl Text for Differences {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "nothing differs from the records\n".to_owned();
        }
        self.0.iter().fold(String::new(), |text, one| text + &told(one))
    }
}

impl Text for Repaired {
    fn text(&self) -> String {
        if self.repaired.is_empty() && self.left.is_empty() {
            return "nothing differs from the records\n".to_owned();
        }
        let mut text = String::new();
        for one in &self.repaired {
            // Writing to a string does not fail.
            let _ok = writeln!(text, "repaired: {one}");
        }
        self.left.iter().fold(text, |text, one| text + &told(one))
    }
}

fn told(one: &Difference) -> String {
    format!("{one}\n  effect: {}\n  cure:   {}\n", one.effect(), cure(one))
}

/// What the user can do about it.
fn cure(one: &Difference) -> String {
    match one {
        Difference::NamespaceGone { container, .. } => format!("netd container rm {container}"),
        Difference::UplinkGone { uplink } => {
            format!("create {uplink}, or choose other uplinks: netd set uplinks=auto")
        }
        Difference::BridgeGone { network, bridge, adopted: true } => {
            format!("create {bridge} again, or: netd network rm --force {network}")
        }
        Difference::NotFirst { .. } => "take the other program off, or attach it behind netd's".to_owned(),
        _ => "netd repair".to_owned(),
    }
}
