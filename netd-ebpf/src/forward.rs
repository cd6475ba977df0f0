//! Connections to published ports whose target is no container: they leave by an uplink, and come from one or from a
//! container. The programs that judge first packets have found the publication and let the sender pass.

use netd_common::abi::cb;
use netd_common::flow::{FlowKey, Tuple, Zone};
use netd_common::nat::Side;
use netd_common::packet::{self, IP_AT};
use netd_common::verdict::Reason;

use crate::flow::{self, First, Plan};
use crate::maps;
use crate::masquerade;
use crate::publication::{self, Found};
use crate::route::{self, Route};
use crate::skb::{Skb, Wire};

/// Opens a connection for a first packet.
#[inline(always)]
pub(crate) fn first<A: Wire>(skb: &Skb) -> Result<First, Reason> {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let frame = skb.front();
    let ip = A::header(&frame, IP_AT)?;
    let key = packet::flow_key(&ip, &flow::transport(&frame, &ip, zone)?, zone);
    // Whoever takes the publication back meanwhile finds no flow of it.
    let found = publication::find(key.protocol(), key.dst, key.dst_port).ok_or(Reason::NoWayOut)?;
    let first = open(skb, &key, &found);
    if matches!(first, Err(Reason::NoRoute | Reason::NoWayOut)) {
        found.count_drop();
    }
    first
}

/// In the host's name, as all that a container sends beyond the host, or in the client's own if the target wants that.
#[inline(always)]
fn open<A: Wire>(skb: &Skb, key: &FlowKey<A>, found: &Found) -> Result<First, Reason> {
    let (remote, row) = (found.endpoint, found.row());
    let target = maps::apart(A::subnet(remote).address());
    if !remote.is_remote() || target == A::UNSPECIFIED {
        return Err(Reason::NoWayOut);
    }
    let Route::Via(oif, _) = route::lookup(skb, remote.bridge, key.src, target) else {
        return Err(Reason::NoRoute);
    };
    let uplink = maps::uplink(oif).ok_or(Reason::NoWayOut)?;
    // What a container sends beyond the host leaves as all of its connections do, whatever the target wants.
    let sender = match maps::endpoint_behind(key.zone().ifindex()) {
        Some(container) => container,
        None => remote,
    };
    let masqueraded = masquerade::wants::<A>(sender);
    let inner = Tuple {
        src: maps::apart(if masqueraded { masquerade::name(sender, uplink)? } else { key.src }),
        src_port: key.src_port,
        dst: target,
        dst_port: row.target_port(key.dst_port),
    };
    let plan = flow::plan()?;
    *plan = Plan {
        original: *key,
        inner,
        to: Side { zone: Zone::OUTSIDE, endpoint: remote.handle },
        back: sender.handle,
        publication: row.handle,
        by_gateway: false,
    };
    found.admit(plan)?;
    let port = flow::choose(skb, plan)?;
    if masqueraded && !masquerade::is_free(skb, key.protocol(), &Tuple { src_port: port, ..plan.inner }) {
        return Ok(First::Taken);
    }
    found.open(plan, port)
}
