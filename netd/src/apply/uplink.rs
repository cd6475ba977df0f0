//! What follows the host: programs on uplinks and on the networks' bridges, the host's addresses in the tables, the indices of interfaces. The record of
//! an attached program is its pin.

use std::net::IpAddr;

use super::transaction::Transaction;
use crate::dataplane::{self, HookPoint, Uplink};
use crate::error::{Error, HostError, Result};
use crate::link::{Family, Sysctl, has_clsact, takes_xdp_frames};
use crate::model::{Link, Mac, XdpMode};
use crate::plan::network::is_bridge_of;
use crate::plan::uplink::{ipsec_peers, obstacle, route_mtus, source, uplinks};

impl Transaction {
    /// Follows what has changed on the host: programs on uplinks and bridges, the host's addresses for the socket hooks, the indices of
    /// interfaces that networks and publications name.
    pub(super) async fn follow_host(&mut self) -> Result<()> {
        self.follow_adopted_bridges()?;
        self.remove_idle_qdiscs().await?;
        self.write_settings()?;
        let uplinks = uplinks(self.view());
        self.follow_xdp(&uplinks, false)?;
        for point in [HookPoint::Uplink, HookPoint::Tunnel] {
            let keeps = |index, _: &str| {
                uplinks
                    .iter()
                    .any(|uplink| uplink.index == index && HookPoint::of(uplink.layer) == Some(point))
            };
            self.detach_unless(point, keeps).await?;
        }
        let dataplane = self.dataplane()?;
        for uplink in &uplinks {
            if let Some(point) = HookPoint::of(uplink.layer)
                && let Err(error) = self.attach(point, uplink.index, &uplink.name)
            {
                // It may have gone since the snapshot.
                if self.netlink.interface_at(uplink.index).await?.is_some() {
                    return Err(error);
                }
            }
        }
        dataplane.tables.set_locals(self.observed.locals(), self.observed.broadcasts.iter().copied())?;
        dataplane.tables.set_local_ports(self.observed.local_ports.range())?;
        // Where a route has several next hops the kernel accepts each of them, of which the programs see one; there they check nothing.
        let has_multipath = self.observed.routes.iter().any(|route| route.interfaces.len() > 1);
        let readable = uplinks.iter().filter(|uplink| uplink.is_readable());
        let rows: Vec<Uplink> =
            readable.map(|uplink| self.uplink_row(uplink, has_multipath)).collect::<Result<_>>()?;
        dataplane.tables.set_uplinks(&rows)?;
        dataplane.tables.set_ipsec_peers(ipsec_peers(&self.observed).into_iter())?;
        dataplane.tables.set_route_mtus(route_mtus(&self.observed.routes).into_iter())?;
        self.follow_interfaces()?;
        dataplane.attach_sockets()?;
        let is_there = |index, _: &str| self.observed.link_at(index).is_some();
        self.detach_unless(HookPoint::Container, is_there).await?;
        self.follow_bridges().await
    }

    /// Takes over the MAC address of each adopted bridge, which is that of the containers' gateway. The kernel changes it with the
    /// bridge's ports, unless somebody has set it.
    fn follow_adopted_bridges(&mut self) -> Result<()> {
        let mut changed = Vec::new();
        for network in self.store.state.networks.values_mut().filter(|network| network.adopted) {
            let link = self.observed.link(&network.bridge).filter(|link| is_bridge_of(network, link));
            if let Some(mac) = link.and_then(|link| link.mac).filter(|mac| *mac != network.mac) {
                network.mac = mac;
                changed.push(network.name.clone());
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        // The record comes last: with the old one the next command writes the rows again.
        for (_, interface) in self.store.state.interfaces() {
            if changed.contains(&interface.network) {
                self.guard_again(interface)?;
            }
        }
        self.store.save()
    }

    /// Puts the program that judges what the host's stack forwards on every network's bridge, and takes it off others. Unmanaged
    /// networks do not have it.
    async fn follow_bridges(&self) -> Result<()> {
        let networks = self.store.state.networks.values().filter(|network| !network.unmanaged);
        let bridges: Vec<&Link> = networks
            .filter_map(|network| {
                self.observed.link(&network.bridge).filter(|link| is_bridge_of(network, link))
            })
            .collect();
        let is_bridge = |index, _: &str| bridges.iter().any(|bridge| bridge.index == index);
        self.detach_unless(HookPoint::Bridge, is_bridge).await?;
        bridges.iter().try_for_each(|bridge| self.attach(HookPoint::Bridge, bridge.index, &bridge.name))
    }

    /// Puts a TC program on an interface, if it is not there yet. A clsact qdisc that somebody else has made stays his.
    pub(super) fn attach(&self, point: HookPoint, index: u32, name: &str) -> Result<()> {
        let dataplane = self.dataplane()?;
        if dataplane.may_make_qdisc(point, index, name) && !has_clsact(self.host(), index)? {
            dataplane.mark_qdisc(index)?;
        }
        dataplane.attach(point, index, name)
    }

    /// Takes a TC program off an interface, and the clsact qdisc that netd added for it. Absent is fine.
    pub(super) async fn detach(&self, point: HookPoint, index: u32, name: &str) -> Result<()> {
        if self.dataplane()?.detach(point, index, name)? { self.remove_qdisc(index).await } else { Ok(()) }
    }

    /// Removes netd's own clsact qdiscs in which it has no filter: a killed command has left them.
    pub(super) async fn remove_idle_qdiscs(&self) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        for index in dataplane.idle_qdiscs()? {
            self.remove_qdisc(index).await?;
        }
        Ok(())
    }

    async fn remove_qdisc(&self, index: u32) -> Result<()> {
        self.netlink.delete_clsact(index).await?;
        self.dataplane()?.forget_qdisc(index)
    }

    /// Takes a TC program off every interface that it is on, except those that keep it, by index and name. Goes on after a
    /// failure and reports every one.
    pub(super) async fn detach_unless(
        &self,
        point: HookPoint,
        keeps: impl Fn(u32, &str) -> bool,
    ) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let mut errors = Vec::new();
        for (index, name) in dataplane.attached(point)? {
            if !keeps(index, &name) {
                errors.extend(self.detach(point, index, &name).await.err());
            }
        }
        Error::all(errors)
    }

    fn uplink_row(&self, uplink: &Link, has_multipath: bool) -> Result<Uplink> {
        let addresses = &self.observed.addresses;
        Ok(Uplink {
            ifindex: uplink.index,
            mac: uplink.mac.map_or([0; 6], Mac::bytes),
            takes_frames: self.takes_frames(uplink)?,
            strict_reverse_path: !has_multipath && self.has_strict_reverse_path(uplink)?,
            mtu: uplink.mtu,
            address4: source(addresses, uplink.index, |address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }),
            address6: source(addresses, uplink.index, |address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(address) => Some(address),
            }),
        })
    }

    /// Whether the kernel checks the reverse path of an uplink strictly: the larger of the interface's and the common `rp_filter`
    /// counts (`IN_DEV_RPFILTER`), and 2 is loose.
    fn has_strict_reverse_path(&self, uplink: &Link) -> Result<bool> {
        let value = |interface| Sysctl::interface(Family::V4, interface, "rp_filter").get(self.host());
        let (own, common) = (value(&uplink.name)?, value("all")?);
        Ok(own.max(common) == "1")
    }

    /// The interfaces that networks trust and that clients of publications come in by, by their indices now.
    pub(super) fn follow_interfaces(&self) -> Result<()> {
        let tables = &self.dataplane()?.tables;
        let trusted = self.store.state.networks.values().flat_map(|network| {
            let links = network.trusted.iter().filter_map(|name| self.observed.link(name));
            links.map(|link| (network.number, link.index))
        });
        tables.set_trusted(trusted)?;
        for publication in &self.store.state.publications {
            let Some(name) = publication.interface() else { continue };
            let index = self.observed.link(name).map_or(dataplane::NO_INTERFACE, |link| link.index);
            tables.set_interface(publication.handle(), index)?;
        }
        Ok(())
    }

    /// Puts the XDP program on the uplinks that are to have it and takes it off all others. If `strict`, it fails and changes
    /// nothing if one of them cannot have it.
    pub(super) fn follow_xdp(&self, uplinks: &[Link], strict: bool) -> Result<()> {
        let mode = self.store.state.preferences.xdp;
        let dataplane = self.dataplane()?;
        let before = dataplane.attached(HookPoint::Xdp)?;
        if mode != XdpMode::Off || !before.is_empty() {
            let ours = dataplane.xdp_id()?;
            let mut wanted = Vec::new();
            for uplink in uplinks {
                match obstacle(mode, uplink, &self.observed.links, ours) {
                    None => wanted.push(uplink),
                    Some(obstacle) if strict => return Err(obstacle.into_error(uplink)),
                    Some(_) => {}
                }
            }
            let has_it = |uplink: &Link| {
                uplink.xdp == Some(ours) && before.iter().any(|(index, _)| *index == uplink.index)
            };
            let missing: Vec<&Link> = wanted.iter().copied().filter(|uplink| !has_it(uplink)).collect();
            self.attach_xdp(&missing, strict)?;
            for (index, name) in &before {
                if !wanted.iter().any(|uplink| uplink.index == *index) {
                    dataplane.detach_xdp(*index, name)?;
                }
            }
        }
        Ok(())
    }

    /// Puts the XDP program on these uplinks, on all or none of them if `strict`.
    fn attach_xdp(&self, uplinks: &[&Link], strict: bool) -> Result<()> {
        let dataplane = self.dataplane()?;
        let mut added: Vec<&Link> = Vec::new();
        for uplink in uplinks {
            match dataplane.attach_xdp(uplink.index, &uplink.name) {
                Ok(()) => added.push(uplink),
                Err(error) if strict => {
                    for uplink in added {
                        dataplane.detach_xdp(uplink.index, &uplink.name)?;
                    }
                    let (interface, why) = (uplink.name.clone(), error.chain());
                    return Err(HostError::XdpRefused { interface, why }.into());
                }
                Err(error) => tracing::info!("{}", error.chain()),
            }
        }
        Ok(())
    }

    /// Whether an uplink takes the frames that others redirect to it.
    fn takes_frames(&self, uplink: &Link) -> Result<bool> {
        let attached = self.dataplane()?.attached(HookPoint::Xdp)?;
        takes_frames(self.host(), uplink, &attached)
    }
}

/// Whether an uplink takes the frames that others redirect to it; `attached` are the interfaces with the XDP program. Where the
/// kernel does not say, a card with the program does, since its driver has queues for XDP then; of a veth that depends on its
/// peer.
pub(crate) fn takes_frames(
    host: &crate::netns::Netns,
    uplink: &Link,
    attached: &[(u32, String)],
) -> Result<bool> {
    if !attached.iter().any(|(index, _)| *index == uplink.index) {
        return Ok(false);
    }
    Ok(takes_xdp_frames(host, uplink.index)?.unwrap_or(uplink.hardware))
}
