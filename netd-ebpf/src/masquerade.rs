//! Connections from containers to outside, in the host's name.

use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use netd_common::abi::{EndpointRow, UplinkRow, network_flag};
use netd_common::flow::{FlowKey, Handle, Tuple, Zone, protocol};
use netd_common::nat::Side;
use netd_common::verdict::Reason;

use crate::flow::{self, First, Plan};
use crate::publication;
use crate::skb::{Skb, Wire};

/// `TCP_TIME_WAIT` (net/tcp_states.h).
const TIME_WAIT: u32 = 6;
/// `TCP_LISTEN`.
const LISTEN: u32 = 10;

/// `BPF_F_CURRENT_NETNS`: look in the namespace that the program runs in.
const CURRENT_NETNS: u64 = u64::MAX;

/// Opens a connection that leaves by `uplink`.
#[inline(always)]
pub(crate) fn open<A: Wire>(
    skb: &Skb,
    key: &FlowKey<A>,
    endpoint: &EndpointRow,
    uplink: &UplinkRow,
) -> Result<First, Reason> {
    let mut inner = key.tuple();
    let masqueraded = wants::<A>(endpoint);
    if masqueraded {
        inner.src = name(endpoint, uplink)?;
    }
    let plan = flow::plan()?;
    *plan = Plan {
        original: *key,
        inner,
        to: Side { zone: Zone::OUTSIDE, endpoint: endpoint.handle },
        back: endpoint.handle,
        publication: Handle::NONE,
        by_gateway: false,
    };
    let port = flow::choose(skb, plan)?;
    if masqueraded && !is_free(skb, key.protocol(), &Tuple { src_port: port, ..plan.inner }) {
        return Ok(First::Taken);
    }
    flow::open(plan, port)
}

/// Whether connections of an endpoint leave in the host's name.
#[inline(always)]
pub(crate) fn wants<A: Wire>(endpoint: &EndpointRow) -> bool {
    endpoint.flags & A::flag(network_flag::NO_MASQUERADE) == 0
}

/// The host's address in whose name connections of an endpoint leave by an uplink.
#[inline(always)]
pub(crate) fn name<A: Wire>(endpoint: &EndpointRow, uplink: &UplinkRow) -> Result<A, Reason> {
    let snat = A::subnet(endpoint).snat();
    let name = if snat == A::UNSPECIFIED { A::masquerade(uplink) } else { snat };
    if name == A::UNSPECIFIED { Err(Reason::NoWayOut) } else { Ok(name) }
}

/// Whether nobody else has the source port of a tuple: no publication, and no socket of the host towards that peer.
#[inline(always)]
pub(crate) fn is_free<A: Wire>(skb: &Skb, number: u8, tuple: &Tuple<A>) -> bool {
    if publication::is_taken(number, tuple.src, tuple.src_port) {
        return false;
    }
    // Of SCTP's sockets there is no lookup.
    let is_looked_up = number == protocol::TCP || number == protocol::UDP;
    !(is_looked_up && has_socket(skb, &FlowKey::new(tuple.reversed(), number, Zone::OUTSIDE)))
}

/// Whether a packet of `key` is for a socket of the host's that speaks with its sender: the answer to what a container is
/// thought to have sent to outside, or a container's answer. One that listens does not count, since whoever answers does not
/// come to it, and one that has ended only keeps others from its port.
#[inline(always)]
pub(crate) fn is_hosts<A: Wire>(skb: &Skb, key: &FlowKey<A>) -> bool {
    let number = key.protocol();
    (number == protocol::TCP || number == protocol::UDP) && socket(skb, key) == Some(Socket::Speaks)
}

/// Whether a socket of the host would get the answers, packets of `key`. One that waits counts: its peer may come to it.
#[inline(always)]
fn has_socket<A: Wire>(skb: &Skb, key: &FlowKey<A>) -> bool {
    socket(skb, key).is_some()
}

/// A socket of the host's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket {
    /// It waits for connections, or for what is still under way of one that has ended.
    Waits,
    /// It is connected, or of datagrams.
    Speaks,
}

/// The socket of the host's that would get packets of `key`.
#[inline(always)]
fn socket<A: Wire>(skb: &Skb, key: &FlowKey<A>) -> Option<Socket> {
    // The front of a key is the kernel's `struct bpf_sock_tuple`: source, destination, source port, destination port.
    let tuple = core::ptr::from_ref(key).cast_mut().cast();
    let len = 2 * size_of::<A>() as u32 + 4;
    let ctx = skb.as_ptr().cast();
    if key.protocol() != protocol::TCP {
        // SAFETY: the context is valid, the key lives on this stack or in a map for the call, the helper reads `len` bytes of
        // it and keeps no pointer (kernel 4.20).
        let found = unsafe { bpf_sk_lookup_udp(ctx, tuple, len, CURRENT_NETNS, 0) };
        if found.is_null() {
            return None;
        }
        // SAFETY: the socket is the one that the lookup has just given a reference to.
        unsafe { bpf_sk_release(found.cast()) };
        return Some(Socket::Speaks);
    }
    // SAFETY: as above (kernel 5.2).
    let found = unsafe { bpf_skc_lookup_tcp(ctx, tuple, len, CURRENT_NETNS, 0) };
    if found.is_null() {
        return None;
    }
    // SAFETY: the socket is the one that the lookup has just given a reference to, which keeps it until it is released.
    let state = unsafe { (*found).state };
    // SAFETY: as above; it is not used after this.
    unsafe { bpf_sk_release(found.cast()) };
    Some(if state == LISTEN || state == TIME_WAIT { Socket::Waits } else { Socket::Speaks })
}
