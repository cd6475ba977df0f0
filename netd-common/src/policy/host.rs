//! Which packets are the host's own: neither a published port nor masquerade may take them.

use crate::abi::{FamilyRows, LocalPorts};
use crate::flow::key::FlowKey;
use crate::flow::row::FlowRow;
use crate::wire::bytes::Be16;
use crate::wire::ip::protocol;

use super::{Decision, Lookups, Socket};

/// What becomes of a packet to an address of the host that belongs to a connection of the host itself; none if it belongs
/// to none. `opens` says whether it opens a connection.
///
/// A socket that waits for anybody has no connection: a publication on its port comes first. Late packets to a socket that has
/// closed go to the stack, which refuses them: they are noted as long as the socket is there.
#[inline(always)]
pub fn claim<A: FamilyRows, L: Lookups<A>>(lookups: &L, key: &FlowKey<A>, opens: bool) -> Option<Decision> {
    match lookups.local_socket(key) {
        Some(Socket::Connected) => Some(Decision::Note),
        // A SYN begins another connection (RFC 9293 §3.6.1).
        Some(Socket::TimeWait) => (!opens).then_some(Decision::Pass),
        Some(Socket::Unconnected) => lookups.is_noted(key).then_some(Decision::Note),
        None => (!opens && lookups.is_noted(key)).then_some(Decision::Pass),
    }
}

/// Whether a flow that nobody has answered may have been opened by a late answer to a socket of the host that has gone, and
/// have the ports of its next one: a flow to a published port `dst_port` that the kernel gives to sockets.
#[inline(always)]
pub fn may_have_asked<A: FamilyRows>(row: &FlowRow<A>, dst_port: Be16, ports: LocalPorts) -> bool {
    !row.is_reply() && !row.publication.is_none() && ports.contains(dst_port)
}

/// What becomes of a packet to no publication that goes on to the stack. Without ports a peer has one exchange with an
/// address of the host, so it is noted whose that is.
#[inline(always)]
pub const fn pass<A: FamilyRows>(number: u8) -> Decision {
    if protocol::has_source_port::<A>(number) { Decision::Pass } else { Decision::Note }
}
