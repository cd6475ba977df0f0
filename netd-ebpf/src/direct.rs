//! Packets to a container's own address, from outside or from another network, that have no flow.
//!
//! Such a connection is not translated: its rows turn each tuple into itself, so that the answers leave in the container's
//! name and no masquerade comes between.

use netd_common::abi::{cb, network_flag};
use netd_common::flow::{Handle, Zone};
use netd_common::nat::Side;
use netd_common::packet::{self, IP_AT, Layout};
use netd_common::verdict::Reason;

use crate::flow::{self, First, Plan};
use crate::fragment::Then;
use crate::maps;
use crate::publication;
use crate::skb::{Skb, Wire};
use crate::uplink;

/// Opens a flow if the container's network lets the sender in.
#[inline(always)]
pub(crate) fn first<A: Wire>(skb: &Skb) -> Result<First, Reason> {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let refused = if zone == Zone::OUTSIDE { Reason::DirectAccess } else { Reason::Isolated };
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT).map_err(|_unreadable| refused)?;
    let endpoint = maps::endpoint_at(ip.dst).ok_or(refused)?;
    let transport = match flow::transport(&frame, &ip, zone) {
        Err(Reason::Fragment) => return Ok(First::Queue(Then::End)),
        transport => transport.map_err(|_of_no_connection| refused)?,
    };
    let is_odd = !uplink::may_begin(ip.src)
        || (zone == Zone::OUTSIDE && uplink::is_hosts_own(skb.context_ptr(), &ip, endpoint.bridge));
    if is_odd {
        return Err(refused);
    }
    let key = packet::flow_key(&ip, &transport, zone);
    let asks = transport.layout == Layout::EchoRequest;
    let back = if zone == Zone::OUTSIDE {
        endpoint.handle
    } else {
        maps::endpoint_behind(zone.ifindex()).ok_or(refused)?.handle
    };
    let unprotected = endpoint.flags & A::flag(network_flag::UNPROTECTED) != 0;
    let routed = endpoint.flags & A::flag(network_flag::ROUTED) != 0;
    let trusted = zone == Zone::OUTSIDE && maps::is_trusted(endpoint.network, skb.ifindex());
    if !(unprotected || routed || trusted) {
        return Err(refused);
    }
    let plan = flow::plan()?;
    *plan = Plan {
        original: key,
        inner: key.tuple(),
        to: Side { zone: Zone::container(endpoint.ifindex), endpoint: endpoint.handle },
        back,
        publication: Handle::NONE,
        by_gateway: false,
    };
    let found = publication::of_target::<A>(endpoint.handle, key.protocol(), key.dst_port);
    match found.filter(|found| found.is_for(skb.ifindex()) && !found.is_draining()) {
        Some(_) if ip.ttl <= 1 => Err(Reason::TtlExceeded),
        Some(found) => {
            plan.publication = found.row().handle;
            found.admit(plan)?;
            found.open(plan, flow::choose(skb, plan)?)
        }
        None if !(unprotected || routed && asks) => Err(refused),
        None if ip.ttl <= 1 => Err(Reason::TtlExceeded),
        None => flow::open(plan, flow::choose(skb, plan)?),
    }
}
