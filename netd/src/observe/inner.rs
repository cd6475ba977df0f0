//! What is in a container's namespace.

use std::net::IpAddr;

use crate::error::{ContainerError, Result};
use crate::link::Netlink;
use crate::model::{Address, FoundEnd, IfName};
use crate::netns::Netns;

/// The container's end of a pair that is to be adopted.
pub(crate) async fn found_end(namespace: &Netns, name: &IfName) -> Result<FoundEnd> {
    let inside = Netlink::open(namespace)?;
    let link = inside.interface(name).await?;
    let Some((link, mac)) = link.and_then(|link| Some((link.mac?, link)).map(|(mac, link)| (link, mac)))
    else {
        let (path, interface) = (namespace.path().to_owned(), name.to_string());
        return Err(ContainerError::InterfaceGone { path, interface }.into());
    };
    let addresses = inside.addresses().await?;
    let own = |address: &&Address| address.interface == link.index && address.global;
    let addresses: Vec<IpAddr> = addresses.iter().filter(own).map(Address::ip).collect();
    Ok(FoundEnd { name: name.clone(), mac, addresses, index: link.index, peer: link.below })
}
