//! What is to be done for a desired state: the difference between the records and what files ask for.
//!
//! The order makes it safe: what is in the way goes first, then everything new is made, and the rest is removed last. So
//! little has to be put back if something cannot be made.

mod container;
mod network;
mod order;
mod planner;
mod publication;
mod setting;

use self::planner::Planner;
pub(crate) use self::planner::{Facts, Objects, Plan, Values};
use super::View;
use crate::error::Result;
use crate::model::{Change, Desired};

/// The order in which changes are told; publications are last.
const OBJECTS: [&str; 3] = ["setting", "network", "container"];

/// What is to be done about a desired state. With `prune`, what earlier files asked for and these do not is removed. The
/// snapshot must have the host's sockets.
pub(crate) fn plan(view: View<'_>, desired: &Desired, facts: &Facts, prune: bool) -> Result<Plan> {
    let mut planner = Planner::new(view, desired, facts, prune);
    planner.settings()?;
    planner.compare_containers()?;
    planner.networks()?;
    planner.containers()?;
    planner.publications()?;
    planner.check_gone()?;
    planner.order();
    let Planner { full, mut plan, .. } = planner;
    let rank = |change: &Change| OBJECTS.iter().position(|object| *object == change.object);
    plan.changes.sort_by_key(|change| rank(change).unwrap_or(OBJECTS.len()));
    plan.numbers = full;
    Ok(plan)
}
