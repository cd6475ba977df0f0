//! Veth pairs.

use std::os::fd::{AsFd as _, AsRawFd as _};

use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{LinkUnspec, LinkVeth};

use super::interface::exists_or;
use super::netlink::Netlink;
use crate::error::{HostError, Result};
use crate::model::{IfName, Mac};
use crate::netns::Netns;

/// A veth pair to be made: one end on the host, one in a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Veth<'a> {
    /// Name of the host's end.
    pub name: &'a IfName,
    /// MAC address of the host's end.
    pub mac: Mac,
    /// Name of the container's end.
    pub peer_name: &'a IfName,
    /// MAC address of the container's end.
    pub peer_mac: Mac,
    /// The container's namespace.
    pub peer_netns: &'a Netns,
    /// MTU of both ends, bytes.
    pub mtu: u32,
}

impl Netlink {
    /// Makes a pair, both ends down, in one request: it exists with its names, MAC addresses and namespaces, or not at
    /// all. Returns the index of the host's end.
    pub(crate) async fn create_veth(&self, veth: &Veth<'_>) -> Result<u32> {
        let peer = LinkUnspec::new_with_name(veth.peer_name.as_str())
            .address(veth.peer_mac.bytes().to_vec())
            .mtu(veth.mtu)
            .setns_by_fd(veth.peer_netns.as_fd().as_raw_fd())
            .build();
        let pair = LinkVeth::new(veth.name.as_str(), veth.peer_name.as_str())
            .address(veth.mac.bytes().to_vec())
            .mtu(veth.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle.link().add(pair).execute().await.map_err(|error| {
            // The kernel gives the same error for either end.
            exists_or(veth.name, Some(veth.peer_name), "create veth pair", error)
        })?;
        match self.interface(veth.name).await? {
            Some(made) => Ok(made.index),
            None => Err(HostError::InterfaceVanished { name: veth.name.to_string() }.into()),
        }
    }
}
