//! Routes.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType,
};

use super::netlink::{Netlink, refused};
use crate::error::{Lack, Result};
use crate::model::{Route, Routes};

/// The table of the host's own addresses (linux/rtnetlink.h).
const RT_TABLE_LOCAL: u8 = 255;

/// Adds what a message is about, if it is about one of them. `lists` are the lists of interfaces that were seen before.
fn add(message: &RouteMessage, routes: &mut Routes, lists: &mut HashSet<Arc<[u32]>>) {
    let mut table = u32::from(message.header.table);
    let mut interfaces = Vec::new();
    let mut metric = 0;
    let mut mtu = None;
    let mut destination = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(index) => interfaces.push(*index),
            RouteAttribute::MultiPath(hops) => {
                interfaces.extend(hops.iter().map(|hop| hop.interface_index));
            }
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::from(*address));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::from(*address));
            }
            _ => {}
        }
    }
    let len = message.header.destination_prefix_length;
    let everywhere = if message.header.address_family == AddressFamily::Inet6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    let Ok(destination) = IpNet::new(destination.unwrap_or(everywhere), len) else { return };
    let is_local_table = table == u32::from(RT_TABLE_LOCAL);
    match message.header.kind {
        RouteType::Local if is_local_table => routes.local.push(destination),
        RouteType::Broadcast if is_local_table => routes.broadcast.push(destination.addr()),
        RouteType::Unicast if !is_local_table && !is_of_link(destination.addr()) => {
            let main = table == u32::from(RouteHeader::RT_TABLE_MAIN);
            let known = lists.get(interfaces.as_slice()).cloned();
            let interfaces = known.unwrap_or_else(|| {
                let new: Arc<[u32]> = interfaces.into();
                lists.insert(Arc::clone(&new));
                new
            });
            routes.unicast.push(Route { destination, interfaces, metric, mtu, main });
        }
        _ => {}
    }
}

/// Every interface with IPv6 has routes to these addresses; they lead nowhere beyond its link.
const fn is_of_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local() || address.is_multicast())
}

impl Netlink {
    /// The routes of all tables, of both families.
    pub(crate) async fn routes(&self) -> Result<Routes> {
        let (mut routes, mut lists) = (Routes::default(), HashSet::new());
        let all =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        for all in all {
            let mut messages = self.handle.route().get(all).execute();
            let refused = |error| refused("list routes".into(), error);
            while let Some(message) = messages.try_next().await.map_err(refused)? {
                add(&message, &mut routes, &mut lists);
            }
        }
        Ok(routes)
    }

    /// The interface that the host's own packets to an address leave by, as `ip route get` shows it.
    pub(crate) async fn interface_towards(&self, address: IpAddr) -> Result<Option<u32>> {
        let question = match address {
            IpAddr::V4(address) => {
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build()
            }
            IpAddr::V6(address) => {
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, 128).build()
            }
        };
        let answers: Vec<RouteMessage> =
            self.handle.route().get(question).execute().try_collect().await.map_err(|error| {
                refused(format!("look up the route to {address}"), error).lacks(Lack::Route(address))
            })?;
        Ok(answers.iter().flat_map(|answer| &answer.attributes).find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        }))
    }

    /// Adds a default route through an interface.
    pub(crate) async fn add_default_route(&self, gateway: IpAddr, index: u32) -> Result<()> {
        let route = match gateway {
            IpAddr::V4(gateway) => {
                RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).build()
            }
            IpAddr::V6(gateway) => {
                RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).output_interface(index).build()
            }
        };
        self.handle
            .route()
            .add(route)
            .execute()
            .await
            .map_err(|error| refused(format!("add a default route via {gateway}"), error))
    }
}
