//! What the host itself exchanges and no socket tells of, or none will once it has closed: what its sockets have sent from published
//! ports, and packets of protocols without ports.

use netd_common::flow::state::Seen;
use netd_common::flow::{FlowKey, State, Tuple, Zone};
use netd_common::wire::bytes::{Address as _, Ipv6};
use netd_common::wire::ip::protocol;
use netd_common::wire::transport::tcp_flag;

use super::inet::Inet;
use super::maps::{self, BPF_ANY};
use super::{clock, tables};

/// The row's key for packets of `key`. A socket that is bound to no address receives by all of them.
#[inline(always)]
fn place<A: Inet>(key: &FlowKey<A>) -> FlowKey<Ipv6> {
    let FlowKey { src_port, dst_port, .. } = *key;
    let dst = if protocol::has_ports(key.protocol()) { Ipv6::UNSPECIFIED } else { key.dst.to_ipv6() };
    FlowKey::new(Tuple { src: key.src.to_ipv6(), dst, src_port, dst_port }, key.protocol(), Zone::OUTSIDE)
}

/// Notes that the host is in an exchange with the sender of packets of `key`.
#[inline(always)]
pub(crate) fn note<A: Inet>(key: &FlowKey<A>) {
    let (place, now) = (&place(key), &clock::now());
    // SAFETY: one aligned word, read once.
    if unsafe { maps::HOST_FLOWS.get(place) } == Some(now) {
        return;
    }
    // An LRU hash has room for it, unless all of its rows are in use by other CPUs right now.
    let _full = maps::HOST_FLOWS.insert(place, now, BPF_ANY);
}

/// Whether the host is in an exchange with the sender of packets of `key`, and has been for as long as such a one may be idle.
#[inline(always)]
pub(crate) fn is_noted<A: Inet>(key: &FlowKey<A>) -> bool {
    let place = &place(key);
    // SAFETY: as above.
    let Some(last) = (unsafe { maps::HOST_FLOWS.get(place) }) else { return false };
    let seen = Seen { any: true, flags: tcp_flag::ACK };
    let idle = clock::now().saturating_sub(*last);
    tables::timeout(State::of(key.protocol(), seen, seen)).is_some_and(|timeout| idle <= timeout)
}
