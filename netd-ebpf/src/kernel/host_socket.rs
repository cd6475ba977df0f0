//! The host's own sockets.

use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use netd_common::flow::FlowKey;
use netd_common::policy::Socket;
use netd_common::wire::ip::protocol;

use super::context::Context;
use super::inet::Inet;

/// States of sockets (net/tcp_states.h), which UDP's have as well.
mod tcp_state {
    pub(super) const ESTABLISHED: u32 = 1;
    pub(super) const TIME_WAIT: u32 = 6;
    pub(super) const LISTEN: u32 = 10;
}

/// `BPF_F_CURRENT_NETNS`: look in the namespace that the program runs in.
const CURRENT_NETNS: u64 = u64::MAX;

/// The local socket that would receive packets of `key`; none for a protocol other than TCP and UDP, for which the kernel has
/// no lookup.
#[inline(always)]
pub(crate) fn lookup<A: Inet>(context: Context, key: &FlowKey<A>) -> Option<Socket> {
    let number = key.protocol();
    if number != protocol::TCP && number != protocol::UDP {
        return None;
    }
    // The front of a key is the kernel's `struct bpf_sock_tuple`: source, destination, source port, destination port.
    let tuple = core::ptr::from_ref(key).cast_mut().cast();
    let len = 2 * size_of::<A>() as u32 + 4;
    let ctx = context.as_ptr();
    if number == protocol::UDP {
        // SAFETY: the context is valid; the helper reads `len` bytes of the key, which lives through the call, and keeps no
        // pointer (kernel 4.20).
        let found = unsafe { bpf_sk_lookup_udp(ctx, tuple, len, CURRENT_NETNS, 0) };
        if found.is_null() {
            return None;
        }
        // SAFETY: the reference that the lookup has given keeps the socket until it is released.
        let state = unsafe { (*found).state };
        // SAFETY: as above; the socket is not used after this.
        unsafe { bpf_sk_release(found.cast()) };
        return Some(if state == tcp_state::ESTABLISHED { Socket::Connected } else { Socket::Unconnected });
    }
    // SAFETY: as above (kernel 5.2).
    let found = unsafe { bpf_skc_lookup_tcp(ctx, tuple, len, CURRENT_NETNS, 0) };
    if found.is_null() {
        return None;
    }
    // SAFETY: the reference that the lookup has given keeps the socket until it is released.
    let state = unsafe { (*found).state };
    // SAFETY: as above; the socket is not used after this.
    unsafe { bpf_sk_release(found.cast()) };
    Some(match state {
        tcp_state::LISTEN => Socket::Unconnected,
        tcp_state::TIME_WAIT => Socket::TimeWait,
        _ => Socket::Connected,
    })
}
