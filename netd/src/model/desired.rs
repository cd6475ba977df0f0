//! The desired state of an instance, as files ask for it.

use std::path::PathBuf;

use super::access::{Access, Source};
use super::container::InterfaceRequest;
use super::name::{Name, OwnerKey};
use super::network::NetworkRequest;
use super::port::PortSpec;
use super::publication::Policy;
use super::quota::Quota;
use super::setting::Setting;
use super::target::TargetSpec;
use super::timeout::TimeoutSpec;
use crate::error::{Error, Position};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    /// The place.
    pub at: Position,
    /// The value.
    pub value: T,
}

impl<T> At<T> {
    /// Adds the place to an error.
    pub(crate) fn check<R>(&self, result: Result<R, Error>) -> Result<R, Error> {
        result.map_err(|error| error.at(&self.at))
    }
}

/// Everything that files ask for. What they do not mention is not in it.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Settings.
    pub(crate) settings: Vec<At<Setting>>,
    /// The quota.
    pub(crate) quota: Option<At<Quota>>,
    /// Idle timeouts.
    pub(crate) timeouts: Vec<At<TimeoutSpec>>,
    /// The default access lists.
    pub(crate) access: Access,
    /// Networks; no two have the same name.
    pub(crate) networks: Vec<At<NetworkRequest>>,
    /// Containers; no two have the same name.
    pub(crate) containers: Vec<DesiredContainer>,
    /// Publications; no two have a host port in common.
    pub(crate) publications: Vec<DesiredPublication>,
}

/// A container that a file asks for.
#[derive(Clone, Debug)]
pub(crate) struct DesiredContainer {
    /// Its name.
    pub name: At<Name>,
    /// The key that its owner knows it by.
    pub key: Option<OwnerKey>,
    /// The namespace to attach; one is made if none.
    pub netns: Option<At<PathBuf>>,
    /// Its networks.
    pub networks: DesiredNetworks,
}

/// What a container that a file asks for is attached to.
#[derive(Clone, Debug)]
pub(crate) enum DesiredNetworks {
    /// The host's own namespace.
    Host,
    /// Nothing.
    None,
    /// Networks, by an interface each; at least one.
    Interfaces(Vec<At<InterfaceRequest>>),
}

impl DesiredNetworks {
    /// The interfaces.
    pub(crate) fn interfaces(&self) -> &[At<InterfaceRequest>] {
        match self {
            Self::Host | Self::None => &[],
            Self::Interfaces(interfaces) => interfaces,
        }
    }
}

/// Publications that a file asks for.
#[derive(Clone, Debug)]
pub(crate) struct DesiredPublication {
    /// What they lead to.
    pub target: At<TargetSpec>,
    /// The ports; the host's are named.
    pub ports: Vec<At<PortSpec>>,
    /// Who may use them, and by which interface.
    pub policy: Policy,
    /// Whether a target that is no container sees the clients' own addresses.
    pub keep_source: bool,
}

/// A text of TOML and the name of the file that it is from.
#[derive(Clone, Debug)]
pub struct DesiredFile {
    /// The name, for messages.
    pub name: String,
    /// The text.
    pub text: String,
}

/// The sources of both lists, in order.
pub(crate) fn sources(access: &Access) -> (Vec<Source>, Vec<Source>) {
    let sorted = |list: &[Source]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list.dedup();
        list
    };
    (sorted(&access.allow), sorted(&access.deny))
}
