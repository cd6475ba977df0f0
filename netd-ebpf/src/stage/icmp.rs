//! ICMP errors about a flow's packets: the quoted packet is restored to what its sender had sent.
//!
//! ICMP errors neither make a flow nor keep one alive (RFC 5508 §4.2, REQ-3 to REQ-6).

use netd_common::abi::cb;
use netd_common::flow::{FlowKey, Tuple, Zone, rewrite};
use netd_common::policy::Route;
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ethernet::IP_AT;
use netd_common::wire::icmp;
use netd_common::wire::ip::Part;
use netd_common::wire::transport;

use crate::flow::table;
use crate::kernel::fib;
use crate::kernel::inet::Inet;
use crate::kernel::skb::Skb;
use crate::stage::nat64;

/// Where an ICMP error quotes the packet that it is about, from its own start (RFC 792, RFC 4443 §3).
const QUOTE: u32 = 8;

/// The ICMP type of a redirect (RFC 792). It names a router on one link, which has no meaning on the flow's other side.
/// It is left to the host, which chose the route. IPv6's redirect is not an error message.
const REDIRECT: u8 = 5;

/// Translates an ICMP error and forwards it; `None` if it is about no flow.
#[inline(always)]
pub(crate) fn pass<A: Inet>(skb: &Skb) -> Option<Result<Verdict, Reason>> {
    let zone = Zone::container(skb.cb(cb::ZONE));
    let mut frame = skb.front();
    let ip = A::header(&frame, IP_AT).ok()?;
    let quote_at = ip.transport_at.plus(QUOTE)?;
    let quoted = A::header(&frame, quote_at).ok()?;
    let transport = transport::quoted(&frame, &quoted).ok()?;
    let is_first = !matches!(quoted.part, Part::Later(_));
    if !is_first || ip.ttl <= 1 || icmp::kind(&frame, ip.transport_at) == Ok(REDIRECT) {
        return None;
    }
    // The quoted packet is one that left on this side; a reply to it would have this key.
    let sent = FlowKey::of(&quoted, &transport, zone).tuple();
    let own = sent.dst;
    let (row, endpoint) = table::peek(FlowKey::new(sent.reversed(), quoted.protocol, zone))?;
    if ip.dst != sent.src {
        return None;
    }
    if A::IS_V6 && row.is_nat64() {
        let key = FlowKey::new(sent.reversed(), quoted.protocol, zone);
        return Some(nat64::icmp_error(&frame, &ip, &key, row));
    }
    // A container may report errors only about its own address.
    if zone != Zone::OUTSIDE && ip.src != own {
        return Some(Err(Reason::Spoofed));
    }
    let quote = match rewrite::restore_quoted(&mut frame, quote_at, &quoted, &transport, row) {
        Ok(quote) => quote,
        Err(reason) => return Some(Err(reason)),
    };
    // An error from a router keeps its source; one from the peer itself gets the translated address.
    if ip.src != own {
        row.src = ip.src;
    }
    row.addresses = ip.src.change(row.src).and(ip.dst.change(row.dst));
    let verdict = if row.is_outward() {
        match fib::lookup(skb.context(), endpoint.bridge, A::ICMP, &Tuple::between(row.src, row.dst)) {
            Route::Via(oif, next_hop) => Skb::redirect_to_neighbour(oif, next_hop),
            Route::Local => return Some(Err(Reason::NoRoute)),
            Route::Refused(reason) => return Some(Err(reason)),
        }
    } else {
        if let Err(reason) = frame.write_ethernet(&endpoint.ethernet) {
            return Some(Err(reason));
        }
        skb.redirect_to_peer(endpoint.ifindex)
    };
    Some(rewrite::translate_error(&mut skb.writer(frame), &ip, row, quote).map(|()| verdict))
}
