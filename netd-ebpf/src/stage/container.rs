//! Packets from containers: the source guard, and whether they are for the host.

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
    let lookups = Kernel(skb.context());
    let allowed = |address| source_guard::is_allowed(&lookups, endpoint, address);
    source_guard::other(&skb.frame(), endpoint, allowed).map(|()| Verdict::Pass)
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
            && source_guard::sender(frame, ip, endpoint, |_| false) == Ok(false)
            && (!may_have_flow || host_socket::lookup(skb.context(), key) == Some(Socket::Connected))
    }
}
