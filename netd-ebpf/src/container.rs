//! Packets from containers that have no flow.

use netd_common::abi::{EndpointRow, UplinkRow, cb, network_flag};
use netd_common::flow::{FlowKey, Tuple, Zone, protocol};
use netd_common::guard;
use netd_common::nat::Side;
use netd_common::packet::{self, IP_AT, Ip, tcp_flag};
use netd_common::verdict::{Reason, Verdict};

use crate::fast;
use crate::flow::{self, First, Packet, Plan};
use crate::fragment::Then;
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

/// The sender of a packet from the zone of a container.
pub(crate) enum Container {}

impl fast::Sender for Container {
    const MAY_SPEAK_TO_HOST: bool = true;

    #[inline(always)]
    fn may_have_flow<A: Wire>(dst: A) -> bool {
        maps::may_be_seen_peer(maps::seen_peers_bit(dst))
    }

    /// What a socket of the host's is connected to needs no flow, and would come through every stage to be told so. As long as
    /// no flow leads to the gateway, whatever goes on there is the host's.
    #[inline(always)]
    fn speaks_to_host<A: Wire>(packet: &Packet<'_, A>, key: &FlowKey<A>, may_have_flow: bool) -> bool {
        let Packet { skb, frame, ip, transport } = packet;
        let Some(endpoint) = maps::endpoint_behind(skb.ifindex()) else { return false };
        ip.protocol == protocol::TCP
            && !transport.asks()
            && ip.dst == A::subnet(endpoint).gateway()
            && guard::sender(frame, ip, endpoint) == Ok(false)
            && (!may_have_flow || masquerade::is_hosts(skb, key))
    }
}

/// Judges who sends, and says where it goes. Neighbours and the host are reached through the bridge, published ports and
/// outside by a flow; whether another network is reached is for that one to say.
#[inline(always)]
pub(crate) fn first<A: Wire>(skb: &Skb) -> Result<Place, Reason> {
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT)?;
    // While the container is being taken down its veth is still there, and its row is not.
    let endpoint = maps::endpoint_behind(skb.ifindex()).ok_or(Reason::NoWayOut)?;
    if guard::sender(&frame, &ip, endpoint)? {
        return Ok(Place::Link);
    }
    let place = place(skb, &ip, endpoint)?;
    if matches!(place, Place::Beyond(_)) && ip.ttl <= 1 {
        return Err(Reason::TtlExceeded);
    }
    Ok(place)
}

/// Where a container's packet goes.
pub(crate) enum Place {
    /// To its own link: a container of its network, or everybody on it.
    Link,
    /// To a container's address on another network.
    Container,
    /// To the host, and maybe to a published port by the host's address.
    Host,
    /// Out by this interface.
    Beyond(u32),
}

/// Where a packet goes; an error if its network has no way there.
#[inline(always)]
fn place<A: Wire>(skb: &Skb, ip: &Ip<A>, endpoint: &EndpointRow) -> Result<Place, Reason> {
    let subnet = A::subnet(endpoint);
    if ip.dst == subnet.gateway() {
        // Nothing is published to an internal network.
        let internal = endpoint.flags & network_flag::INTERNAL != 0;
        return Ok(if internal { Place::Link } else { Place::Host });
    }
    if ip.dst.same_network(subnet.address(), subnet.mask()) {
        let isolated = endpoint.flags & network_flag::NO_ICC != 0;
        return if isolated { Err(Reason::Isolated) } else { Ok(Place::Link) };
    }
    if endpoint.flags & network_flag::INTERNAL != 0 {
        return Err(Reason::NoWayOut);
    }
    if ip.dst.is_loopback() {
        return Err(Reason::Martian);
    }
    if maps::network_of(ip.dst).is_some() {
        return Ok(Place::Container);
    }
    match route::lookup(skb, endpoint.bridge, ip.src, ip.dst) {
        Route::Local => Ok(Place::Host),
        Route::Via(oif, _) => Ok(Place::Beyond(oif)),
        Route::None => Err(Reason::NoRoute),
    }
}

/// To a published port, by the host's address; everything else to it is the host's own business.
#[inline(always)]
pub(crate) fn hairpin<A: Wire>(skb: &Skb) -> Result<First, Reason> {
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT)?;
    let requester = maps::endpoint_behind(skb.ifindex()).ok_or(Reason::NoWayOut)?;
    let zone = Zone::container(skb.ifindex());
    let transport = match flow::transport(&frame, &ip, zone) {
        Ok(transport) => transport,
        Err(Reason::Fragment) => return Ok(First::Queue(Then::Pass)),
        Err(_) => return Ok(First::Pass),
    };
    let key = packet::flow_key(&ip, &transport, zone);
    let found = publication::find(key.protocol(), key.dst, key.dst_port);
    let Some(found) = found.filter(|found| found.is_for(skb.ifindex())) else {
        let to_gateway = key.dst == A::subnet(requester).gateway();
        return Ok(if !A::IS_V6 && to_gateway { First::MayBeNat46 } else { First::Pass });
    };
    if ip.ttl <= 1 {
        return Err(Reason::TtlExceeded);
    }
    if found.endpoint.is_remote() {
        return Ok(First::Forward);
    }
    let itself = found.endpoint.handle == requester.handle;
    let Some(inner) = found.inner(&key, itself) else { return Ok(First::Pass) };
    let plan = flow::plan()?;
    *plan = Plan {
        original: key,
        inner,
        to: Side { zone: Zone::container(found.endpoint.ifindex), endpoint: found.endpoint.handle },
        back: requester.handle,
        publication: found.row().handle,
        by_gateway: inner.src != key.src,
    };
    found.enter(skb, plan)
}

/// To outside: an answer of a published port whose flow is forgotten, or a connection in the host's name.
#[inline(always)]
pub(crate) fn beyond<A: Wire>(skb: &Skb) -> Result<First, Reason> {
    const ENDS: u8 = tcp_flag::FIN | tcp_flag::RST;
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT)?;
    let endpoint = maps::endpoint_behind(skb.ifindex()).ok_or(Reason::NoWayOut)?;
    let uplink = maps::uplink(skb.cb(cb::OIF)).ok_or(Reason::NoWayOut)?;
    let zone = Zone::container(skb.ifindex());
    let transport = match flow::transport(&frame, &ip, zone) {
        Err(Reason::Fragment) => return Ok(First::Queue(Then::End)),
        transport => transport?,
    };
    let key = packet::flow_key(&ip, &transport, zone);
    let flags = transport.tcp_flags;
    let asks = transport.asks();
    if !asks && let Some(found) = publication::of_target::<A>(endpoint.handle, key.protocol(), key.src_port) {
        if found.is_draining() {
            return Err(Reason::OutOfState);
        }
        return rebuild(skb, &key, endpoint, uplink, &found);
    }
    if flags & ENDS != 0 || (flags & tcp_flag::SYN != 0 && !asks) {
        return Err(Reason::OutOfState);
    }
    masquerade::open(skb, &key, endpoint, uplink)
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
    let asked_for = if endpoint.flags & A::flag(network_flag::ROUTED) != 0 {
        inner
    } else {
        Tuple {
            dst: if bound == A::UNSPECIFIED { A::masquerade(uplink) } else { bound },
            dst_port: row.host_port_of(key.src_port),
            ..inner
        }
    };
    if asked_for.dst == A::UNSPECIFIED {
        return Err(Reason::NoWayOut);
    }
    let plan = flow::plan()?;
    *plan = Plan {
        original: FlowKey::new(asked_for, key.protocol(), Zone::OUTSIDE),
        inner,
        to: Side { zone: key.zone(), endpoint: endpoint.handle },
        back: endpoint.handle,
        publication: row.handle,
        by_gateway: false,
    };
    // Another client port would not be the one that the container speaks to.
    if skb.cb(cb::TRIES) != 0 {
        return Err(Reason::Collision);
    }
    flow::open(plan, key.dst_port)
}
