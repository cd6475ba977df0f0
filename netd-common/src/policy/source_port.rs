//! The source port of a connection whose source address is translated: its own if it is free, or a random one.

use crate::abi::FamilyRows;
use crate::flow::key::{FlowKey, Tuple, Zone};
use crate::flow::nat::Nat;
use crate::verdict::Reason;
use crate::wire::bytes::{Be16, Ipv4};
use crate::wire::ip::protocol;

use super::{Lookups, publication};

/// How many other source ports are tried if the connection's own is taken.
pub const TRIES: u32 = 16;

/// The first port of Linux' default `ip_local_port_range`: the kernel assigns no port below it.
const KERNEL_FIRST: u16 = 32768;
/// The first port that is not privileged.
const UNPRIVILEGED: u16 = 1024;

/// The port to try after `tries` ports were taken: the connection's own first, then random ones. [`is_free`] says
/// whether it is free.
#[inline(always)]
pub fn candidate<A: FamilyRows>(
    nat: &Nat<A>,
    tries: u32,
    random: impl FnOnce() -> u32,
) -> Result<Be16, Reason> {
    let may_change = !nat.is_rebuilt && protocol::has_source_port::<A>(nat.original.protocol());
    if tries != 0 && (tries >= TRIES || !may_change) {
        return Err(Reason::Collision);
    }
    // An IPv6 client's port need not be kept, since the container sees the gateway instead of the client.
    let is_nat64 = A::IS_V6 && nat.translated.dst.is_mapped();
    Ok(if tries == 0 && !is_nat64 {
        nat.translated.src_port
    } else if nat.is_from_gateway() {
        quiet(random())
    } else {
        ephemeral(random())
    })
}

/// Whether neither a publication nor a socket of the host has the source port of a tuple.
#[inline(always)]
pub fn is_free<A: FamilyRows, L: Lookups<A>>(lookups: &L, number: u8, tuple: &Tuple<A>) -> bool {
    if publication::find(lookups, number, tuple.src, tuple.src_port).is_some() {
        return false;
    }
    // The kernel has no socket lookup for SCTP.
    let is_looked_up = number == protocol::TCP || number == protocol::UDP;
    // A listening socket counts, since the peer may connect to it.
    !(is_looked_up && lookups.local_socket(&FlowKey::new(tuple.reversed(), number, Zone::OUTSIDE)).is_some())
}

/// The same for a connection to a container, whose addresses may be IPv4-mapped.
#[inline(always)]
pub fn is_free_on_gateway<A: FamilyRows, L: Lookups<A> + Lookups<Ipv4>>(
    lookups: &L,
    number: u8,
    tuple: &Tuple<A>,
) -> bool {
    let Tuple { src, dst, src_port, dst_port } = *tuple;
    match (src.to_ipv6().as_mapped(), dst.to_ipv6().as_mapped()) {
        (Some(src), Some(dst)) => {
            is_free::<Ipv4, L>(lookups, number, &Tuple { src, dst, src_port, dst_port })
        }
        _ => is_free::<A, L>(lookups, number, tuple),
    }
}

/// A port from `random` that the kernel does not assign, and that is not privileged.
#[inline(always)]
pub const fn quiet(random: u32) -> Be16 {
    between(UNPRIVILEGED, KERNEL_FIRST as u32, random)
}

/// A port from `random`, above the privileged ones (RFC 6056 §3.3.2).
#[inline(always)]
pub const fn ephemeral(random: u32) -> Be16 {
    between(UNPRIVILEGED, 1 << 16, random)
}

/// A port in `first..end`, each with the same probability.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the product's high half is below the range's length")]
const fn between(first: u16, end: u32, random: u32) -> Be16 {
    // A multiplication instead of a division.
    Be16::new(first + ((random as u64 * (end - first as u32) as u64) >> 32) as u16)
}
