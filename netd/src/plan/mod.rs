//! What is to be done about a request: records made of the model, the snapshot of the host and the request. No I/O: every
//! decision is tested without root.

pub(crate) mod container;
pub(crate) mod desired;
pub(crate) mod ipam;
pub(crate) mod network;
pub(crate) mod publish;
pub(crate) mod remote;
pub(crate) mod rows;
pub(crate) mod shared;
pub(crate) mod unpublish;
pub(crate) mod uplink;

use std::path::Path;

use crate::model::{Mac, State};
use crate::observe::Observed;

/// What every plan is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// What is recorded.
    pub state: &'a State,
    /// What the host looks like.
    pub observed: &'a Observed,
}

/// The MAC address that belongs to an interface with these addresses: made of the IPv4 address, as Docker does.
fn mac_of(addresses: impl IntoIterator<Item = std::net::IpAddr>) -> Mac {
    let four = addresses.into_iter().find_map(|address| match address {
        std::net::IpAddr::V4(address) => Some(address.octets()),
        std::net::IpAddr::V6(_) => None,
    });
    Mac::local(four.unwrap_or_default())
}

/// Where a named namespace is mounted, as `ip netns` has it.
pub(crate) fn named_namespace(name: &str) -> std::path::PathBuf {
    Path::new("/run/netns").join(name)
}
