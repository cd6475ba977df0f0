//! Veth pairs.

use std::os::fd::{AsFd as _, AsRawFd as _};

use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{LinkUnspec, LinkVeth};

use super::interface::exists_or;
use super::netlink::Netlink;
use crate::error::{Error, Result};
use crate::netns::Netns;
use crate::spec::{IfName, Mac};

/// A pair to be made: one end here, one in a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Veth<'a> {
    /// Name of this end.
    pub name: &'a IfName,
    /// MAC address of this end.
    pub mac: Mac,
    /// Name of the container's end.
    pub peer_name: &'a str,
    /// MAC address of the container's end.
    pub peer_mac: Mac,
    /// The container.
    pub peer_netns: &'a Netns,
    /// MTU of both ends, bytes.
    pub mtu: u32,
}

impl Netlink {
    /// Makes a pair, both ends down, in one request: it is there with names, addresses and places, or not at all.
    /// Returns the index of this end.
    pub(crate) async fn create_veth(&self, veth: &Veth<'_>) -> Result<u32> {
        let peer = LinkUnspec::new_with_name(veth.peer_name)
            .address(veth.peer_mac.bytes().to_vec())
            .mtu(veth.mtu)
            .setns_by_fd(veth.peer_netns.as_fd().as_raw_fd())
            .build();
        let pair = LinkVeth::new(veth.name.as_str(), veth.peer_name)
            .address(veth.mac.bytes().to_vec())
            .mtu(veth.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle.link().add(pair).execute().await.map_err(|error| {
            // The kernel says the same of either end.
            exists_or(veth.name, "create veth pair", error)
                .hint(format!("or the namespace has an interface {} already", veth.peer_name))
        })?;
        match self.interface(veth.name).await? {
            Some(made) => Ok(made.index),
            None => {
                Err(Error::conflict(format!("veth {} was removed by somebody as it was made", veth.name)))
            }
        }
    }
}
