//! The source port of a connection whose source address is translated.
//!
//! The host's own sockets get their ports from `ip_local_port_range`, and no program here learns of it. So an address of the
//! host is used with ports outside that range: with the connection's own one if it is outside, else with the one that stands for
//! it, so that a container's port always looks the same from outside (RFC 4787 REQ-1). If somebody has that one, random ones are
//! tried. A privileged port is replaced by privileged ones only, since servers may demand one (NFS, rsh), as in the kernel's
//! nf_nat_l4proto_unique_tuple.

use crate::abi::{FamilyRows, LocalPorts};
use crate::flow::handle::Handle;
use crate::flow::key::{FlowKey, Tuple, Zone};
use crate::flow::nat::Nat;
use crate::verdict::Reason;
use crate::wire::bytes::{Be16, Ipv4};
use crate::wire::ip::protocol;

use super::{Lookups, Tables, publication};

/// How many source ports are tried for a connection whose first one is taken.
pub const TRIES: u32 = 16;
/// How many tries leave out published ports. If nearly all ports are published, the others may have one: its publication only
/// misses a client that has the connection's peer address and port.
const UNPUBLISHED_TRIES: u32 = 8;

/// The first port that is not privileged.
const UNPRIVILEGED: u32 = 1024;
/// The first port that stands for a privileged one.
const FIRST_PRIVILEGED: u32 = 600;
/// Privileged ports below this one are replaced by others below it, since rsh and its kind use the others.
const RSH: u32 = 512;
/// The first port that is none any more.
const END: u32 = 1 << 16;

/// The first identifier of ICMP echoes in the host's name. No lookup tells which ones the host's own pings use, so all
/// containers together get a 16th of them.
const FIRST_IDENTIFIER: u32 = END - (1 << 12);

/// The port to try after `tries` ports were taken. Whether it is free is for [`is_free`] to say.
#[inline(always)]
pub fn candidate<A: FamilyRows, L: Tables>(
    lookups: &L,
    nat: &Nat<A>,
    tries: u32,
    random: impl FnOnce() -> u32,
) -> Result<Be16, Reason> {
    let (own, number) = (nat.translated.src_port, nat.original.protocol());
    let may_change = !nat.is_rebuilt && protocol::has_source_port::<A>(number);
    if tries != 0 && (tries >= TRIES || !may_change) {
        return Err(Reason::Collision);
    }
    // An IPv6 client's port need not be kept, since the container sees the gateway instead of the client.
    if !may_change || (tries == 0 && !nat.translates_source()) {
        return Ok(own);
    }
    if !nat.translates_source() {
        return Ok(unprivileged(random()));
    }
    if number == A::ICMP {
        return Ok(between(FIRST_IDENTIFIER, END, random()));
    }
    let ports = lookups.local_ports();
    let is_nat64 = A::IS_V6 && nat.translated.dst.is_mapped();
    Ok(match (tries, u32::from(own.get())) {
        _ if is_nat64 => outside(ports, random()),
        (0, ..UNPRIVILEGED) => own,
        (0, _) => stand_in(ports, own),
        (_, ..RSH) => between(1, RSH, random()),
        (_, ..UNPRIVILEGED) => between(FIRST_PRIVILEGED, UNPRIVILEGED, random()),
        _ => outside(ports, random()),
    })
}

/// Whether nobody else gets the answers to a tuple: neither another one by a publication nor a socket of the host, nor the host
/// itself by a protocol without ports. `sender` is the endpoint that opens the connection and its own port, which may have this
/// very publication; `tries` says how many ports were taken.
#[inline(always)]
pub fn is_free<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    sender: (Handle, Be16),
    number: u8,
    tuple: &Tuple<A>,
    tries: u32,
) -> bool {
    if tries < UNPUBLISHED_TRIES
        && let Some(found) = publication::find(lookups, number, tuple.src, tuple.src_port)
        && (found.endpoint.handle, found.row.target_port(tuple.src_port)) != sender
    {
        return false;
    }
    let answers = FlowKey::new(tuple.reversed(), number, Zone::OUTSIDE);
    if protocol::has_source_port::<A>(number) {
        // A listening socket counts: the peer may connect to it.
        lookups.local_socket(&answers).is_none()
    } else {
        !lookups.is_noted(&answers)
    }
}

/// The same for a connection to a container, whose addresses may be IPv4-mapped.
#[inline(always)]
pub fn is_free_on_gateway<A: FamilyRows, L: Lookups<A> + Lookups<Ipv4>>(
    lookups: &L,
    sender: (Handle, Be16),
    number: u8,
    tuple: &Tuple<A>,
    tries: u32,
) -> bool {
    let Tuple { src, dst, src_port, dst_port } = *tuple;
    match (src.to_ipv6().as_mapped(), dst.to_ipv6().as_mapped()) {
        (Some(src), Some(dst)) => {
            let tuple = Tuple { src, dst, src_port, dst_port };
            is_free::<Ipv4, L>(lookups, sender, number, &tuple, tries)
        }
        _ => is_free::<A, L>(lookups, sender, number, tuple, tries),
    }
}

/// How many unprivileged ports are above the host's own ones.
#[inline(always)]
fn above(ports: LocalPorts) -> u32 {
    END - (u32::from(ports.last) + 1).max(UNPRIVILEGED)
}

/// How many are below them.
#[inline(always)]
fn below(ports: LocalPorts) -> u32 {
    u32::from(ports.first).saturating_sub(UNPRIVILEGED)
}

/// The unprivileged port of this number that is not the host's own, counted from the highest one down.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the number is less than there are such ports")]
fn numbered(ports: LocalPorts, number: u32) -> Be16 {
    let skipped = if number < above(ports) { 0 } else { END - above(ports) - u32::from(ports.first) };
    Be16::new((END - 1 - number - skipped) as u16)
}

/// The port that stands for a connection's own: another one for each of the host's, as far as there are enough.
#[inline(always)]
pub fn stand_in(ports: LocalPorts, own: Be16) -> Be16 {
    let count = above(ports) + below(ports);
    if !ports.contains(own) || count == 0 {
        return own;
    }
    // Even ports stay even (RFC 4787 REQ-4) if the range begins with one, as ip-sysctl.rst asks for.
    numbered(ports, (u32::from(own.get() - ports.first) ^ 1) % count)
}

/// An unprivileged port from `random` that is not the host's own, each as likely as any other (RFC 6056 §3.3.2). Any
/// unprivileged one if all are the host's.
#[inline(always)]
pub fn outside(ports: LocalPorts, random: u32) -> Be16 {
    let count = above(ports) + below(ports);
    if count == 0 {
        return unprivileged(random);
    }
    // A multiplication instead of a division.
    numbered(ports, ((u64::from(random) * u64::from(count)) >> 32) as u32)
}

/// An unprivileged port from `random`.
#[inline(always)]
pub const fn unprivileged(random: u32) -> Be16 {
    between(UNPRIVILEGED, END, random)
}

/// A port in `first..end`, each with the same probability.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the sum is a port")]
const fn between(first: u32, end: u32, random: u32) -> Be16 {
    Be16::new((first + ((random as u64 * (end - first) as u64) >> 32) as u32) as u16)
}
