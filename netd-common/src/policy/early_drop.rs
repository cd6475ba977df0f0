//! Which packets from outside XDP drops before the stack sees them: those that the TC stages would drop for their
//! addresses and ports. It uses the same functions as the TC stages.

use crate::abi::FamilyRows;
use crate::flow::nat::Nat;
use crate::verdict::Reason;

use super::{Decision, Lookups, Packet, Refusal, direct, forward, inbound};

/// Why a packet of no flow is dropped; `None` if TC must handle it. `nat` is only working memory.
#[inline(always)]
pub fn decide<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    nat: &mut Nat<A>,
) -> Option<Refusal> {
    let decision = match inbound::decide(lookups, packet, nat) {
        Ok(Decision::Direct) => direct::decide(lookups, packet, nat),
        Ok(Decision::Forward) => forward::decide(lookups, packet, nat),
        decision => decision,
    };
    decision
        .err()
        .filter(|refusal| depends_on_key_only(refusal.reason) && !may_be_the_hosts(lookups, packet, refusal))
}

/// Whether packets like a denied one may be the host's own, see [`host::claim`](super::host::claim): to a port that the kernel
/// gives to the host's sockets. Then the source port decides, which the deny cache does not know.
#[inline(always)]
fn may_be_the_hosts<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    packet: &Packet<'_, A>,
    refusal: &Refusal,
) -> bool {
    refusal.reason == Reason::Denied
        && packet.transport().is_ok_and(|transport| lookups.local_ports().contains(transport.dst_port))
}

/// Whether a drop for this reason depends only on the interface, the addresses and the ports. Only such a decision is
/// valid for later packets.
const fn depends_on_key_only(reason: Reason) -> bool {
    matches!(reason, Reason::Martian | Reason::ForgedSource | Reason::DirectAccess | Reason::Denied)
}
