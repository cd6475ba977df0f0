//! Packets from containers: the source guard, and whether they are for the host.

use netd_common::abi::EndpointRow;
use netd_common::flow::FlowKey;
use netd_common::policy::{Socket, source_guard};
use netd_common::verdict::{Reason, Verdict};
use netd_common::wire::ip::protocol;

use crate::flow::fast::Sender;
use crate::flow::packet::Packet;
use crate::kernel::inet::Inet;
use crate::kernel::lookups::Kernel;
use crate::kernel::skb::Skb;
use crate::kernel::{host_socket, seen_peers, tables};

/// A frame that is neither IPv4 nor IPv6.
#[inline(always)]
pub(crate) fn other(skb: &Skb) -> Result<Verdict, Reason> {
    let endpoint = tables::endpoint_behind(skb.ifindex()).ok_or(Reason::NoWayOut)?;
    if endpoint.is_unmanaged() {
        return Ok(Verdict::Pass);
    }
    let lookups = Kernel(skb.context());
    let allowed = |address| source_guard::is_allowed(&lookups, endpoint, address);
    source_guard::other(&skb.frame(), endpoint, allowed).map(|()| Verdict::Pass)
}

/// A frame with a VLAN tag: netd's networks have no VLANs.
#[inline(always)]
pub(crate) fn tagged(skb: &Skb) -> Result<Verdict, Reason> {
    if is_unmanaged(skb) { Ok(Verdict::Pass) } else { Err(Reason::Foreign) }
}

/// Whether the host's stack routes the container's network.
#[inline(always)]
pub(crate) fn is_unmanaged(skb: &Skb) -> bool {
    tables::endpoint_behind(skb.ifindex()).is_some_and(EndpointRow::is_unmanaged)
}

/// A container, as the sender of a packet.
pub(crate) enum Container {}

impl Sender for Container {
    const MAY_SPEAK_TO_HOST: bool = true;

    #[inline(always)]
    fn may_have_flow<A: Inet>(dst: A) -> bool {
        seen_peers::contains(seen_peers::bit(dst))
    }

    /// A packet to a connected local socket has no flow, which would be known only after every stage. As long as no
    /// flow leads to the gateway, every TCP packet to it that opens no connection is for the host.
    #[inline(always)]
    fn speaks_to_host<A: Inet>(packet: &Packet<'_, A>, key: &FlowKey<A>, may_have_flow: bool) -> bool {
        let Packet { skb, frame, ip, transport } = packet;
        let Some(endpoint) = tables::endpoint_behind(skb.ifindex()) else { return false };
        ip.protocol == protocol::TCP
            && !transport.opens()
            && ip.dst == A::subnet(endpoint).gateway()
            && !endpoint.is_unmanaged()
            && source_guard::sender(frame, ip, endpoint, |_| false) == Ok(false)
            && (!may_have_flow || host_socket::lookup(skb.context(), key) == Some(Socket::Connected))
    }
}
