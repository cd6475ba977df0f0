//! Packets that the host's own stack forwards into a network: netd's programs redirect theirs past it.

use crate::abi::FamilyRows;
use crate::verdict::Reason;

use super::Lookups;

/// Lets in what came by an interface with netd's program, which has judged it, or by one that the receiver's network trusts: then
/// the host routes between the two as it would without netd. So an interface that has no program yet, or can have none, lets
/// nobody in. `input` is the interface that the packet came in by, zero for the host's own packets.
#[inline(always)]
pub fn decide<A: FamilyRows, L: Lookups<A>>(lookups: &L, input: u32, dst: A) -> Result<(), Reason> {
    let is_trusted = || lookups.network_of(dst).is_some_and(|network| lookups.is_trusted(network, input));
    if input == 0 || lookups.uplink(input).is_some() || is_trusted() {
        Ok(())
    } else {
        Err(Reason::Unguarded)
    }
}
