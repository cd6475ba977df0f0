//! The kernel's interfaces, addresses and routes, through rtnetlink. A handle is opened inside a namespace and used
//! from outside.

mod address;
mod changes;
mod exchange;
mod features;
mod filter;
mod interface;
mod netlink;
mod route;
mod sockets;
mod sysctl;
mod veth;
mod xfrm;

pub(crate) use changes::Changes;
pub(crate) use features::takes_xdp_frames;
pub(crate) use filter::{Filter, delete_filter, has_clsact};
pub(crate) use netlink::Netlink;
pub(crate) use sockets::end_sockets;
pub(crate) use sysctl::{Family, Sysctl};
pub(crate) use veth::Veth;
pub(crate) use xfrm::ipsec_policies;
