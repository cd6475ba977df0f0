//! Addresses of interfaces.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};

use super::netlink::{Netlink, refused};
use crate::error::Result;
use crate::model::Address;

impl Netlink {
    /// Every address of the namespace.
    pub(crate) async fn addresses(&self) -> Result<Vec<Address>> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| refused("list addresses".into(), error))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| {
                // On a point-to-point interface IFA_ADDRESS is the address of the peer, and IFA_LOCAL that of the host.
                let local = message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(address) => Some(*address),
                    _ => None,
                });
                let address = local.or_else(|| {
                    message.attributes.iter().find_map(|attribute| match attribute {
                        AddressAttribute::Address(address) => Some(*address),
                        _ => None,
                    })
                })?;
                let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Deprecated;
                Some(Address {
                    interface: message.header.index,
                    net: IpNet::new(address, message.header.prefix_len).ok()?,
                    global: message.header.scope == AddressScope::Universe
                        && !message.header.flags.intersects(unusable),
                })
            })
            .collect())
    }

    /// Adds an address to an interface.
    pub(crate) async fn add_address(&self, index: u32, address: IpAddr, prefix_len: u8) -> Result<()> {
        self.handle.address().add(index, address, prefix_len).execute().await.map_err(|error| {
            refused(format!("add address {address}/{prefix_len} to interface {index}"), error)
        })
    }
}
