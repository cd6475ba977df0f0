//! Packets from containers that have no flow.

use netd_common::flow::{FlowKey, Tuple, Zone};
use netd_common::guard;
use netd_common::nat::Side;
use netd_common::packet::{self, IP_AT, Ip, Transport, tcp_flag};
use netd_common::tables::{EndpointRow, UplinkRow, network_flag};
use netd_common::verdict::{Reason, Verdict};

use crate::flow::{self, First, Plan};
use crate::maps;
use crate::masquerade;
use crate::publication::{self, Found};
use crate::route::{self, Route};
use crate::skb::{Skb, Wire};

/// A frame that is no IP.
#[inline(always)]
pub(crate) fn other(skb: &Skb) -> Result<Verdict, Reason> {
    let endpoint = maps::endpoint_behind(skb.ifindex()).ok_or(Reason::NoWayOut)?;
    guard::other(&skb.frame(), endpoint).map(|()| Verdict::Pass)
}

/// Neighbours and the host are reached through the bridge, published ports and outside by a flow; no other network is.
#[inline(always)]
pub(crate) fn first<A: Wire>(skb: &Skb) -> Result<First, Reason> {
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT)?;
    // While the container is being taken down its veth is still there, and its row is not.
    let endpoint = maps::endpoint_behind(skb.ifindex()).ok_or(Reason::NoWayOut)?;
    if guard::sender(&frame, &ip, endpoint)? {
        return Ok(First::Pass);
    }
    let zone = Zone::container(skb.ifindex());
    match place(skb, &ip, endpoint)? {
        Place::Neighbour => Ok(First::Pass),
        Place::Host if endpoint.flags & network_flag::INTERNAL != 0 => Ok(First::Pass),
        Place::Host => {
            let Ok(transport) = flow::transport(&frame, &ip, zone) else { return Ok(First::Pass) };
            let key = packet::flow_key(&ip, &transport, zone);
            match publication::find(key.protocol(), key.dst, key.dst_port) {
                Some(found) if found.is_for(skb.ifindex()) => {
                    if ip.ttl <= 1 {
                        return Err(Reason::TtlExceeded);
                    }
                    hairpin(skb, &key, endpoint, &found)
                }
                _ => Ok(First::Pass),
            }
        }
        Place::Beyond(_) if ip.ttl <= 1 => Err(Reason::TtlExceeded),
        Place::Beyond(oif) => {
            let transport = flow::transport(&frame, &ip, zone)?;
            let key = packet::flow_key(&ip, &transport, zone);
            beyond(skb, &transport, &key, endpoint, oif)
        }
    }
}

/// Where a container's packet goes.
enum Place {
    /// To a container of its own network.
    Neighbour,
    /// To the host.
    Host,
    /// Out by this interface.
    Beyond(u32),
}

/// Where a packet goes; an error if its network has no way there.
#[inline(always)]
fn place<A: Wire>(skb: &Skb, ip: &Ip<A>, endpoint: &EndpointRow) -> Result<Place, Reason> {
    let subnet = A::subnet(endpoint);
    if ip.dst == subnet.gateway() {
        return Ok(Place::Host);
    }
    if ip.dst.same_network(subnet.address(), subnet.mask()) {
        let isolated = endpoint.flags & network_flag::NO_ICC != 0;
        return if isolated { Err(Reason::Isolated) } else { Ok(Place::Neighbour) };
    }
    if endpoint.flags & network_flag::INTERNAL != 0 {
        return Err(Reason::NoWayOut);
    }
    if ip.dst.is_loopback() {
        return Err(Reason::Martian);
    }
    if maps::network_of(ip.dst).is_some() {
        return Err(Reason::Isolated);
    }
    match route::lookup(skb, endpoint.bridge, ip.src, ip.dst) {
        Route::Local => Ok(Place::Host),
        Route::Via(oif, _) => Ok(Place::Beyond(oif)),
        Route::None => Err(Reason::NoRoute),
    }
}

/// To a published port, by the host's address. The target sees who asks, unless that is itself: no host takes a packet
/// from the wire that has its own address for a source.
#[inline(always)]
fn hairpin<A: Wire>(
    skb: &Skb,
    key: &FlowKey<A>,
    requester: &EndpointRow,
    found: &Found,
) -> Result<First, Reason> {
    let target = A::subnet(found.endpoint);
    if target.address() == A::UNSPECIFIED {
        return Ok(First::Pass);
    }
    if found.endpoint.is_remote() {
        return flow::leave(key);
    }
    let row = found.row();
    let itself = found.endpoint.handle == requester.handle;
    let plan = Plan {
        original: key,
        inner: Tuple {
            src: if itself { target.gateway() } else { key.src },
            src_port: key.src_port,
            dst: target.address(),
            dst_port: row.target_port(key.dst_port),
        },
        to: Side { zone: Zone::container(found.endpoint.ifindex), endpoint: found.endpoint.handle },
        back: requester.handle,
        publication: row.handle,
    };
    found.open(skb, &plan, |_port| true)
}

/// To outside: an answer of a published port whose flow is forgotten, or a connection in the host's name.
#[inline(always)]
fn beyond<A: Wire>(
    skb: &Skb,
    transport: &Transport,
    key: &FlowKey<A>,
    endpoint: &EndpointRow,
    oif: u32,
) -> Result<First, Reason> {
    const BEGINS: u8 = tcp_flag::SYN;
    const ENDS: u8 = tcp_flag::FIN | tcp_flag::RST;
    let flags = transport.tcp_flags;
    let asks = flags & (BEGINS | tcp_flag::ACK) == BEGINS;
    let uplink = maps::uplink(oif).ok_or(Reason::NoWayOut)?;
    if !asks && let Some(found) = publication::of_target(endpoint.handle, key.protocol(), key.src_port) {
        if found.is_draining() {
            return Err(Reason::OutOfState);
        }
        return rebuild(skb, key, endpoint, uplink, &found);
    }
    if flags & ENDS != 0 || (flags & BEGINS != 0 && !asks) {
        return Err(Reason::OutOfState);
    }
    masquerade::open(skb, key, endpoint, uplink)
}

/// Makes a published port's connection anew from its answer: the publication says what its client wrote to.
#[inline(always)]
fn rebuild<A: Wire>(
    skb: &Skb,
    key: &FlowKey<A>,
    endpoint: &EndpointRow,
    uplink: &UplinkRow,
    found: &Found,
) -> Result<First, Reason> {
    let row = found.row();
    let bound = A::of_unified(row.address);
    let inner = key.tuple().reversed();
    let host = Tuple {
        dst: if bound == A::UNSPECIFIED { A::masquerade(uplink) } else { bound },
        dst_port: row.host_port_of(key.src_port),
        ..inner
    };
    if host.dst == A::UNSPECIFIED {
        return Err(Reason::NoWayOut);
    }
    let plan = Plan {
        original: &FlowKey::new(host, key.protocol(), Zone::OUTSIDE),
        inner,
        to: Side { zone: key.zone(), endpoint: endpoint.handle },
        back: endpoint.handle,
        publication: row.handle,
    };
    // Another client port would not be the one that the container speaks to.
    flow::open(skb, &plan, |port| port == key.dst_port)
}
