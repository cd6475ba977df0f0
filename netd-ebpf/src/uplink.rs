//! Packets from outside that have no flow.

use netd_common::flow::{FlowKey, Zone};
use netd_common::nat::Side;
use netd_common::packet::{self, IP_AT, Ip};
use netd_common::verdict::Reason;

use crate::flow::{self, First, Plan};
use crate::fragment::Then;
use crate::maps;
use crate::publication::{self, Found};
use crate::route::{self, Context, Route};
use crate::skb::{Skb, Wire};

/// A first packet to a published port makes a flow; one to a container's own address is judged apart; the rest is the
/// host's.
#[inline(always)]
pub(crate) fn first<A: Wire>(skb: &Skb) -> Result<First, Reason> {
    let frame = skb.front();
    // What cannot be read has no flow; the host's own stack refuses it and counts it. But of extension headers that stack
    // reads more, so that the addresses behind which they stand count all the same.
    let Ok(ip) = A::header(&frame, IP_AT) else {
        return A::plain(&frame).map_or(Ok(First::Pass), |ip| unpublished(&ip));
    };
    let transport = flow::transport(&frame, &ip, Zone::OUTSIDE);
    if let Ok(transport) = &transport
        && let Some(first) = open(skb, &ip, &packet::flow_key(&ip, transport, Zone::OUTSIDE))?
    {
        return Ok(first);
    }
    match unpublished(&ip)? {
        First::Pass if matches!(transport, Err(Reason::Fragment)) => Ok(First::Queue(Then::Pass)),
        first => Ok(first),
    }
}

/// Opens a flow to a published port; none if it is not ours.
#[inline(always)]
fn open<A: Wire>(skb: &Skb, ip: &Ip<A>, key: &FlowKey<A>) -> Result<Option<First>, Reason> {
    if !may_begin(key.src) {
        return Ok(None);
    }
    let Some(found) = publication::find(key.protocol(), key.dst, key.dst_port) else { return Ok(None) };
    if !found.is_for(skb.ifindex())
        || !is_ours(skb.context_ptr(), ip, &found)
        || maps::network_of(key.src).is_some()
        || is_hosts_own(skb.context_ptr(), ip, found.endpoint.bridge)
    {
        return Ok(None);
    }
    let Some(inner) = found.inner(key, false) else { return Ok(None) };
    if ip.ttl <= 1 {
        found.count_drop();
        return Err(Reason::TtlExceeded);
    }
    if found.endpoint.is_remote() {
        return Ok(Some(First::Forward));
    }
    let plan = flow::plan()?;
    *plan = Plan {
        original: *key,
        inner,
        to: Side { zone: Zone::container(found.endpoint.ifindex), endpoint: found.endpoint.handle },
        back: found.endpoint.handle,
        publication: found.row().handle,
        by_gateway: inner.src != key.src,
    };
    found.enter(skb, plan).map(Some)
}

/// Whether the packet is addressed to the host, for a publication on all of its addresses.
#[inline(always)]
pub(crate) fn is_ours<A: Wire>(context: Context, ip: &Ip<A>, found: &Found) -> bool {
    if ip.dst.is_loopback() {
        return false;
    }
    !found.any_address || matches!(route::ask(context, found.endpoint.bridge, ip.src, ip.dst).0, Route::Local)
}

/// Whether a source may begin a connection: not one that no answer may be sent to, nor one that no router sends on (RFC 4291
/// §2.5.6), nor an IPv4 address in IPv6's form, which is on no wire (RFC 4942 §2.2).
#[inline(always)]
pub(crate) fn may_begin<A: Wire>(src: A) -> bool {
    let is_odd = src.is_loopback() || src.is_not_one_hosts() || src.is_link_local() || src.is_mapped();
    !is_odd && src != A::UNSPECIFIED
}

/// Whether the source is an address of the host, or the broadcast address of one of its networks: the stack, which such a
/// packet is left to, calls it a martian.
#[inline(always)]
pub(crate) fn is_hosts_own<A: Wire>(context: Context, ip: &Ip<A>, bridge: u32) -> bool {
    matches!(route::ask(context, bridge, ip.dst, ip.src).0, Route::Local)
}

/// No flow and no publication: the host's, unless its addresses give it away.
#[inline(always)]
fn unpublished<A: Wire>(ip: &Ip<A>) -> Result<First, Reason> {
    if ip.src.is_loopback() || ip.dst.is_loopback() {
        return Err(Reason::Martian);
    }
    if maps::network_of(ip.src).is_some() {
        return Err(Reason::ForgedSource);
    }
    if maps::network_of(ip.dst).is_some() {
        return Ok(First::Direct);
    }
    Ok(First::Pass)
}
