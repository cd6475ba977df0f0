//! Interfaces.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, State,
};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkUnspec};

use super::filter::{CLSACT, CLSACT_PARENT};
use super::netlink::{Netlink, errno, refused};
use crate::error::{Error, HostError, Lack, Result};
use crate::model::{Count, IfName, Link, LinkLayer, Mac};

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut interface = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            layer: layer(message.header.link_layer_type),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                LinkAttribute::Controller(master) => interface.master = Some(master),
                LinkAttribute::Link(below) => interface.below = Some(below),
                LinkAttribute::ParentDevName(_) => interface.hardware = true,
                LinkAttribute::Xdp(facts) => {
                    interface.xdp = facts.into_iter().find_map(|fact| match fact {
                        LinkXdp::ProgId(id)
                        | LinkXdp::DrvProgId(id)
                        | LinkXdp::SkbProgId(id)
                        | LinkXdp::HwProgId(id) => Some(id),
                        _ => None,
                    });
                }
                LinkAttribute::OperState(state) => interface.running = state == State::Up,
                LinkAttribute::Address(bytes) => interface.mac = bytes.try_into().ok().and_then(Mac::new),
                LinkAttribute::LinkInfo(infos) => {
                    interface.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind_name(&kind)),
                        _ => None,
                    });
                }
                LinkAttribute::Stats64(stats) => {
                    interface.received = Count { packets: stats.rx_packets, bytes: stats.rx_bytes };
                    interface.sent = Count { packets: stats.tx_packets, bytes: stats.tx_bytes };
                }
                _ => {}
            }
        }
        interface
    }
}

/// What the packets of a type of interfaces begin with (include/uapi/linux/if_arp.h).
const fn layer(link_layer_type: LinkLayerType) -> LinkLayer {
    use LinkLayerType::{Ether, Ip6gre, Ipgre, None, Ppp, Rawip, Sit, Tunnel, Tunnel6};
    match link_layer_type {
        Ether => LinkLayer::Ethernet,
        None | Ppp | Rawip | Tunnel | Tunnel6 | Sit | Ipgre | Ip6gre => LinkLayer::Ip,
        _ => LinkLayer::Other,
    }
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Bridge => "bridge".to_owned(),
        InfoKind::Veth => "veth".to_owned(),
        InfoKind::Other(name) => name.clone(),
        other => format!("{other:?}").to_lowercase(),
    }
}

impl Netlink {
    /// Every interface.
    pub(crate) async fn interfaces(&self) -> Result<Vec<Link>> {
        let links = self.handle.link().get().execute();
        links.map_ok(Link::from).try_collect().await.map_err(|error| refused("list interfaces".into(), error))
    }

    /// The interface of this name.
    pub(crate) async fn interface(&self, name: &IfName) -> Result<Option<Link>> {
        self.one(self.handle.link().get().match_name(name.as_str()).execute(), || {
            format!("look up interface {name}")
        })
        .await
    }

    /// The interface of this index.
    pub(crate) async fn interface_at(&self, index: u32) -> Result<Option<Link>> {
        self.one(self.handle.link().get().match_index(index).execute(), || {
            format!("look up interface {index}")
        })
        .await
    }

    async fn one(
        &self,
        links: impl futures_util::Stream<Item = Result<LinkMessage, rtnetlink::Error>>,
        what: impl FnOnce() -> String,
    ) -> Result<Option<Link>> {
        let mut links = Box::pin(links);
        match links.try_next().await {
            Ok(link) => Ok(link.map(Link::from)),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(refused(what(), error)),
        }
    }

    /// Makes a bridge, down; the name must be free. Its MAC address is set in the same request, so that the bridge can
    /// be identified as netd's at any moment.
    pub(crate) async fn create_bridge(&self, name: &IfName, mac: Mac, mtu: u32) -> Result<u32> {
        let bridge = LinkBridge::new(name.as_str()).down().address(mac.bytes().to_vec()).mtu(mtu).build();
        self.handle
            .link()
            .add(bridge)
            .execute()
            .await
            .map_err(|error| exists_or(name, None, "create bridge", error))?;
        match self.interface(name).await? {
            Some(made) => Ok(made.index),
            None => Err(HostError::InterfaceVanished { name: name.to_string() }.into()),
        }
    }

    /// Makes an interface a port of a bridge.
    pub(crate) async fn set_master(&self, index: u32, bridge: u32) -> Result<()> {
        let link = LinkUnspec::new_with_index(index).controller(bridge).build();
        self.handle.link().set(link).execute().await.map_err(|error| {
            let is_full = errno(&error) == Some(libc::EXFULL);
            let error = refused(format!("add interface {index} to its bridge"), error);
            if is_full { error.lacks(Lack::BridgePort) } else { error }
        })
    }

    /// Isolates a bridge port from other isolated ports (`IFLA_BRPORT_ISOLATED`, kernel 4.18): its frames reach only
    /// the bridge itself, whatever their addresses are.
    pub(crate) async fn isolate_port(&self, index: u32) -> Result<()> {
        self.handle
            .link()
            .set_port(LinkBridgePort::new(index).isolated(true).build())
            .execute()
            .await
            .map_err(|error| refused(format!("isolate interface {index} on its bridge"), error))
    }

    /// Sets an interface up.
    pub(crate) async fn set_up(&self, index: u32) -> Result<()> {
        self.change(LinkUnspec::new_with_index(index).up().build(), "set up", index).await
    }

    /// Sets an interface's MAC address. Setting the one it has makes the kernel announce its addresses to the
    /// neighbours, if `arp_notify` is on (devinet.c, `inetdev_event`, NETDEV_CHANGEADDR).
    pub(crate) async fn set_mac(&self, index: u32, mac: Mac) -> Result<()> {
        let link = LinkUnspec::new_with_index(index).address(mac.bytes().to_vec()).build();
        self.change(link, "set the MAC address of", index).await
    }

    async fn change(&self, link: LinkMessage, what: &str, index: u32) -> Result<()> {
        self.handle
            .link()
            .set(link)
            .execute()
            .await
            .map_err(|error| refused(format!("{what} interface {index}"), error))
    }

    /// Removes an interface, and with a veth its other end. It may be absent.
    pub(crate) async fn delete(&self, index: u32) -> Result<()> {
        match self.handle.link().del(index).execute().await {
            Err(error) if errno(&error) != Some(libc::ENODEV) => {
                Err(refused(format!("remove interface {index}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Removes interfaces at once, as [`Self::delete`]. The kernel waits several times for all CPUs when an interface goes, and does
    /// so once for all interfaces of a group (`rtnl_group_dellink`).
    pub(crate) async fn delete_all(&self, indices: &[u32]) -> Result<()> {
        match *indices {
            [] => return Ok(()),
            [index] => return self.delete(index).await,
            _ => {}
        }
        let group = self.free_group().await?;
        let mut members = false;
        for index in indices {
            let link = LinkUnspec::new_with_index(*index);
            let link = link.append_extra_attribute(LinkAttribute::Group(group)).build();
            match self.handle.link().set(link).execute().await {
                Ok(()) => members = true,
                Err(error) if errno(&error) == Some(libc::ENODEV) => {}
                Err(error) => return Err(refused(format!("set the group of interface {index}"), error)),
            }
        }
        if !members {
            return Ok(());
        }
        let mut request = self.handle.link().del(0);
        request.message_mut().attributes.push(LinkAttribute::Group(group));
        match request.execute().await {
            Err(error) if errno(&error) != Some(libc::ENODEV) => {
                Err(refused(format!("remove {} interfaces", indices.len()), error))
            }
            _ => Ok(()),
        }
    }

    /// A number that no group of interfaces has: a random one, so that nobody else chooses it meanwhile.
    async fn free_group(&self) -> Result<u32> {
        let links = self.handle.link().get().execute();
        let links: Vec<LinkMessage> =
            links.try_collect().await.map_err(|error| refused("list interfaces".into(), error))?;
        let groups = links.iter().flat_map(|link| &link.attributes).filter_map(|attribute| match attribute {
            LinkAttribute::Group(group) => Some(*group),
            _ => None,
        });
        let taken: HashSet<u32> = groups.collect();
        let random = || u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(u32::MAX);
        let mut random = std::iter::repeat_with(random);
        Ok(random.find(|group| *group != 0 && !taken.contains(group)).unwrap_or(u32::MAX))
    }

    /// Removes an interface's clsact qdisc. It may be absent.
    pub(crate) async fn delete_clsact(&self, index: u32) -> Result<()> {
        let Ok(signed) = i32::try_from(index) else { return Ok(()) };
        let mut request = self.handle.qdisc().del(signed);
        let header = &mut request.message_mut().header;
        (header.parent, header.handle) = (CLSACT_PARENT, CLSACT);
        match request.execute().await {
            Err(error) if !matches!(errno(&error), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) => {
                Err(refused(format!("remove the clsact qdisc of interface {index}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Waits until an interface can carry packets, at most a second, since the kernel's link watch handles a new veth
    /// with a delay. Returns whether it can.
    pub(crate) async fn wait_running(&self, index: u32) -> Result<bool> {
        const STEP: Duration = Duration::from_millis(2);
        for _step in 0..500 {
            match self.interface_at(index).await? {
                Some(interface) if interface.running => return Ok(true),
                Some(_) => tokio::time::sleep(STEP).await,
                None => return Ok(false),
            }
        }
        Ok(false)
    }
}

/// The error "the name is taken", or the kernel's error.
pub(super) fn exists_or(name: &IfName, peer: Option<&IfName>, what: &str, error: rtnetlink::Error) -> Error {
    if errno(&error) == Some(libc::EEXIST) {
        return HostError::InterfaceExists { name: name.to_string(), peer: peer.map(ToString::to_string) }
            .into();
    }
    refused(format!("{what} {name}"), error)
}
