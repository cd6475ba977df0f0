//! Packets from outside that are dropped before they become the stack's: the same that the programs behind would drop, for the
//! same reasons, by what their addresses and ports say.
//!
//! What was judged is remembered for a moment, by all that it depended on but the source port. So who sends many packets is
//! judged a few times a second, and the others are dropped by one look at the frame and one at a row. A connection that began
//! before its source was denied goes on, as it does for the programs behind: so the flows of a source that has ever had one are
//! looked up first, see [`maps::may_be_seen_peer`].

use aya_ebpf::helpers::generated::bpf_jiffies64;
use netd_common::abi::{DenyCacheRow, capacity, network_flag};
use netd_common::flow::{FlowKey, Handle};
use netd_common::packet::{Glance, Ip};
use netd_common::verdict::Reason;

use crate::maps;
use crate::masquerade;
use crate::publication::{self, Found};
use crate::route::{self, Route};
use crate::skb::Wire;
use crate::uplink;
use crate::xdp::{Buff, Seen};

/// The clock of refusals: it counts on every 0.1 to 1.3 seconds, as the kernel was built. Reading it is one load where
/// reading [`crate::flow::now`]'s is a call (kernel 5.6).
#[inline(always)]
fn moment() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    (unsafe { bpf_jiffies64() } >> 7) as u32
}

/// When it is, and above that the epoch.
#[inline(always)]
fn stamp() -> u64 {
    u64::from(moment()) | (u64::from(maps::epoch()) << 32)
}

/// The place of a refusal.
#[inline(always)]
fn place<A: Wire>(glance: &Glance<A>) -> Option<&'static mut DenyCacheRow<A>> {
    let [_, _, _, low] = glance.dst.unified().words();
    let asked = u64::from(low ^ glance.port_and_protocol).wrapping_mul(maps::SCATTERS);
    let number =
        maps::scatter(glance.src).wrapping_add(asked) >> (64 - capacity::DENY_CACHE.trailing_zeros());
    let row = A::deny_cache().get_ptr_mut(number as u32)?;
    // SAFETY: this CPU's copy, which no other program writes, and of whose references none outlives the next.
    Some(unsafe { &mut *row })
}

/// What has been refused to such a packet lately.
#[inline(always)]
pub(crate) fn known<A: Wire>(glance: &Glance<A>, ifindex: u32) -> Option<&'static mut DenyCacheRow<A>> {
    place(glance).filter(|row| {
        row.stamp == stamp()
            && row.src == glance.src
            && row.dst == glance.dst
            && row.port_and_protocol == glance.port_and_protocol
            && row.ifindex == ifindex
            && row.mac == glance.mac
    })
}

/// Counts a packet that is dropped.
#[inline(always)]
pub(crate) fn count<A: Wire>(refusal: &mut DenyCacheRow<A>, len: u32) {
    refusal.pending += 1;
    refusal.bytes += u64::from(len);
}

/// Whether a packet that has just been judged is dropped, and not left to be reported.
#[inline(always)]
pub(crate) fn ends<A: Wire>(refusal: &DenyCacheRow<A>) -> bool {
    maps::may_drop_early(refusal.reason, moment())
}

/// Judges a packet of no flow; what is refused is remembered.
#[inline(always)]
pub(crate) fn judge<A: Wire>(
    buff: &Buff,
    ip: &Ip<A>,
    seen: &Seen<A>,
) -> Option<&'static mut DenyCacheRow<A>> {
    let glance = Glance {
        mac: seen.mac,
        src: seen.key.src,
        dst: seen.key.dst,
        port_and_protocol: Glance::<A>::service(seen.key.dst_port, seen.key.protocol()),
    };
    // Before anything is asked: what changes meanwhile is of another epoch.
    let stamp = stamp();
    if maps::uplink(seen.ifindex).is_none_or(|uplink| uplink.mac != seen.mac) {
        return None;
    }
    let (reason, publication) = refused(buff, ip, seen)?;
    let row = place(&glance)?;
    if row.pending != 0 {
        maps::count_early_drops(row.reason, row.pending, row.bytes);
        if let Some(publication) = maps::publication(row.publication) {
            // SAFETY: an aligned word of a publication's row, which is never freed.
            unsafe { maps::add(&raw mut (*maps::counters(publication)).dropped, u64::from(row.pending)) };
        }
    }
    *row = DenyCacheRow {
        stamp,
        mac: glance.mac,
        ifindex: seen.ifindex,
        port_and_protocol: glance.port_and_protocol,
        reason: reason as u32,
        peer: maps::seen_peers_bit(glance.src),
        pending: 0,
        publication,
        src: glance.src,
        dst: glance.dst,
        bytes: 0,
    };
    Some(row)
}

/// Why the programs behind would drop a packet of no flow, if they would; with the publication that is to count it. In their
/// order, see [`uplink::first`].
#[inline(always)]
fn refused<A: Wire>(buff: &Buff, ip: &Ip<A>, seen: &Seen<A>) -> Option<(Reason, Handle)> {
    let key = &seen.key;
    if uplink::may_begin(key.src)
        && let Some(found) = publication::find(key.protocol(), key.dst, key.dst_port)
        && found.is_for(seen.ifindex)
        && uplink::is_ours(buff.context_ptr(), ip, &found)
        && maps::network_of(key.src).is_none()
        && !uplink::is_hosts_own(buff.context_ptr(), ip, found.endpoint.bridge)
        && found.inner(key, false).is_some()
    {
        let handle = found.row().handle;
        let is_denied = !maps::may_use(handle, key.src) && has_way(buff, &found, key);
        return is_denied.then_some((Reason::Denied, handle));
    }
    if ip.src.is_loopback() || ip.dst.is_loopback() {
        return Some((Reason::Martian, Handle::NONE));
    }
    if maps::network_of(ip.src).is_some() {
        return Some((Reason::ForgedSource, Handle::NONE));
    }
    maps::network_of(ip.dst)?;
    is_direct(buff, ip, seen).then_some((Reason::DirectAccess, Handle::NONE))
}

/// Whether a publication's packets have somewhere to go: what has none is dropped for that, whoever sends it.
#[inline(always)]
fn has_way<A: Wire>(buff: &Buff, found: &Found, key: &FlowKey<A>) -> bool {
    let remote = found.endpoint;
    if !remote.is_remote() {
        return true;
    }
    let target = maps::apart(A::subnet(remote).address());
    let (Route::Via(oif, _), _) = route::ask(buff.context_ptr(), remote.bridge, key.src, target) else {
        return false;
    };
    let Some(uplink) = maps::uplink(oif) else { return false };
    !masquerade::wants::<A>(remote) || masquerade::name::<A>(remote, uplink).is_ok()
}

/// Whether a packet to a subnet of netd's is let in nowhere there, see [`crate::direct`].
#[inline(always)]
fn is_direct<A: Wire>(buff: &Buff, ip: &Ip<A>, seen: &Seen<A>) -> bool {
    let Some(endpoint) = maps::endpoint_at(ip.dst) else { return true };
    let open = A::flag(network_flag::UNPROTECTED) | A::flag(network_flag::ROUTED);
    !uplink::may_begin(ip.src)
        || uplink::is_hosts_own(buff.context_ptr(), ip, endpoint.bridge)
        || endpoint.flags & open == 0 && !maps::is_trusted(endpoint.network, seen.ifindex)
}
