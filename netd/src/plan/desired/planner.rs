//! A plan, and what it is made from.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use netd_common::flow::Handle;

use crate::error::Result;
use crate::model::{
    Access, BRIDGE, Change, Container, Desired, FoundEnd, IfName, Interface, Name, Network, Preferences,
    Publication, Quota, State, TargetSpec, Timeouts,
};
use crate::observe::Observed;
use crate::plan::View;

/// What is known of the host besides the snapshot.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The instance, which goes into the names of interfaces.
    pub instance: String,
    /// The cookie of the host.
    pub host: u64,
    /// How many connections the tables are made for; none if there are no tables.
    pub connections: Option<u32>,
    /// The cookies of the namespaces that new containers attach.
    pub namespaces: HashMap<PathBuf, u64>,
    /// The paths at which new containers' namespaces should be made, where something is already.
    pub occupied: HashSet<PathBuf>,
    /// The containers' ends of pairs that are to be adopted.
    pub ends: HashMap<(Name, IfName), FoundEnd>,
    /// The interfaces that the routes to other hosts lead out by.
    pub routes: HashMap<IpAddr, Option<u32>>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What the user is told.
    pub changes: Vec<Change>,
    /// The values that things have which stay.
    pub values: Values,
    /// What is removed before anything is made, because it is in the way.
    pub first: Objects,
    /// What is made. Cookies of namespaces are not known yet.
    pub new: Objects,
    /// The publications whose ports new ones take over, by the handles of the new ones.
    pub replaced: HashMap<Handle, Publication>,
    /// What is removed at the end.
    pub last: Objects,
    /// The state whose numbers were handed out.
    pub numbers: State,
}

/// Values that can be changed without making anything anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    /// Settings.
    pub preferences: Preferences,
    /// The quota.
    pub quota: Quota,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// The default access lists.
    pub access: Access,
    /// The settings that files ask for.
    pub applied: BTreeSet<String>,
    /// Records of networks that change.
    pub networks: Vec<Network>,
    /// Records of containers that change, without changes of their interfaces' links.
    pub containers: Vec<Container>,
    /// Publications that a file asks for, and that it did not ask for before.
    pub marked: Vec<(Handle, bool)>,
}

impl Values {
    /// The values of the settings.
    pub(crate) fn of(state: &State) -> Self {
        Self {
            preferences: state.preferences.clone(),
            quota: state.quota,
            timeouts: state.timeouts.clone(),
            access: state.access.clone(),
            applied: state.applied.clone(),
            ..Self::default()
        }
    }

    /// What is there now of everything that these change.
    pub(crate) fn before(&self, state: &State) -> Self {
        let networks = self.networks.iter().filter_map(|one| state.networks.get(&one.name).cloned());
        let containers = self.containers.iter().filter_map(|one| state.containers.get(&one.name).cloned());
        Self {
            networks: networks.collect(),
            containers: containers.collect(),
            marked: self.marked.iter().map(|(handle, is_marked)| (*handle, !is_marked)).collect(),
            ..Self::of(state)
        }
    }
}

/// Things that are made or removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    /// Networks.
    pub networks: Vec<Network>,
    /// Containers with their interfaces.
    pub containers: Vec<Container>,
    /// Interfaces of containers that stay.
    pub interfaces: Vec<(Name, Interface)>,
    /// Publications.
    pub publications: Vec<Publication>,
}

impl Objects {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { networks, containers, interfaces, publications } = self;
        networks.is_empty() && containers.is_empty() && interfaces.is_empty() && publications.is_empty()
    }
}

/// A plan in the making.
pub(super) struct Planner<'a> {
    pub(super) view: View<'a>,
    pub(super) desired: &'a Desired,
    pub(super) facts: &'a Facts,
    pub(super) prune: bool,
    /// Everything that is there or is to be.
    pub(super) full: State,
    /// What will be there at the end.
    pub(super) after: State,
    /// The host without the bridges that are removed.
    pub(super) reduced: Option<Observed>,
    /// What is removed.
    pub(super) gone: Objects,
    pub(super) plan: Plan,
}

impl<'a> Planner<'a> {
    /// Begins with what is there.
    pub(super) fn new(view: View<'a>, desired: &'a Desired, facts: &'a Facts, prune: bool) -> Self {
        Self {
            view,
            desired,
            facts,
            prune,
            full: view.state.clone(),
            after: view.state.clone(),
            reduced: None,
            gone: Objects::default(),
            plan: Plan::default(),
        }
    }
}

impl Planner<'_> {
    /// The host as it will be.
    pub(super) fn at_the_end(&self) -> View<'_> {
        View { state: &self.after, observed: self.reduced.as_ref().unwrap_or(self.view.observed) }
    }

    /// Plans something beside everything that is there or, where that is in the way, beside what will be there.
    pub(super) fn beside<T>(&self, plan: impl Fn(View<'_>) -> Result<T>) -> Result<T> {
        plan(View { state: &self.full, observed: self.view.observed }).or_else(|_| plan(self.at_the_end()))
    }

    /// Whether something of this instance will need network `bridge`, though no file asks for it.
    pub(super) fn needs_bridge(&self) -> bool {
        let uses = self.desired.containers.iter().flat_map(|one| one.networks.interfaces());
        let is_remote = |one: &Publication| one.target().remote().is_some() && !self.is_pruned(one);
        uses.into_iter().any(|interface| interface.value.network.as_str() == BRIDGE)
            || self.after.containers.values().any(|container| container.is_on(BRIDGE))
            || self.view.state.publications.iter().any(is_remote)
            || self.desired.publications.iter().any(|one| matches!(one.target.value, TargetSpec::Address(_)))
    }

    /// Whether a publication is of an earlier file; those that these files ask for are not asked about.
    pub(super) fn is_pruned(&self, one: &Publication) -> bool {
        self.prune && one.applied
    }
}
