//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};

use super::netlink::{Netlink, refused};
use crate::error::{Lack, Result};
use crate::model::Route;

/// The table of the host's own addresses (linux/rtnetlink.h).
const RT_TABLE_LOCAL: u8 = 255;

/// The kind of a route message.
enum Described {
    /// A unicast route that leads beyond a link.
    Route(Route),
    /// A prefix of addresses that are the host's own (a local route).
    Local(IpNet),
}

/// Reads a message; none if it is about anything else.
fn described(message: &RouteMessage) -> Option<Described> {
    let mut table = u32::from(message.header.table);
    let mut interfaces = Vec::new();
    let mut metric = 0;
    let mut destination = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(index) => interfaces.push(*index),
            RouteAttribute::MultiPath(hops) => {
                interfaces.extend(hops.iter().map(|hop| hop.interface_index));
            }
            RouteAttribute::Priority(number) => metric = *number,
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
    let destination = IpNet::new(destination.unwrap_or(everywhere), len).ok()?;
    let is_local_table = table == u32::from(RT_TABLE_LOCAL);
    match message.header.kind {
        RouteType::Local if is_local_table => return Some(Described::Local(destination)),
        RouteType::Unicast if !is_local_table => {}
        _ => return None,
    }
    // Every interface with IPv6 has these; they do not lead beyond its link.
    if matches!(destination.addr(), IpAddr::V6(address) if address.is_unicast_link_local() || address.is_multicast())
    {
        return None;
    }
    let main = table == u32::from(RouteHeader::RT_TABLE_MAIN);
    Some(Described::Route(Route { destination, interfaces, metric, main }))
}

impl Netlink {
    /// The unicast routes of all tables, of both families, that lead beyond a link; and the prefixes that are the
    /// host's own.
    pub(crate) async fn routes(&self) -> Result<(Vec<Route>, Vec<IpNet>)> {
        let (mut routes, mut locals) = (Vec::new(), Vec::new());
        let all =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        for all in all {
            let mut messages = self.handle.route().get(all).execute();
            let refused = |error| refused("list routes".into(), error);
            while let Some(message) = messages.try_next().await.map_err(refused)? {
                match described(&message) {
                    Some(Described::Route(route)) => routes.push(route),
                    Some(Described::Local(prefix)) => locals.push(prefix),
                    None => {}
                }
            }
        }
        Ok((routes, locals))
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
