//! The host's own sockets.

use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use netd_common::flow::FlowKey;
use netd_common::policy::Socket;
use netd_common::wire::ip::protocol;

use super::context::Context;
use super::inet::Inet;

/// `TCP_TIME_WAIT` (net/tcp_states.h).
const TIME_WAIT: u32 = 6;
/// `TCP_LISTEN`.
const LISTEN: u32 = 10;

/// `BPF_F_CURRENT_NETNS`: look in the namespace that the program runs in.
const CURRENT_NETNS: u64 = u64::MAX;

/// Whether a local socket is connected to the sender of a packet of `key`. A listening socket does not count, since it
/// receives no replies; neither does one in TIME_WAIT, which only blocks its port.
#[inline(always)]
pub(crate) fn is_connected<A: Inet>(context: Context, key: &FlowKey<A>) -> bool {
    let number = key.protocol();
    (number == protocol::TCP || number == protocol::UDP) && lookup(context, key) == Some(Socket::Active)
}

/// The local socket that would receive packets of `key`, a TCP or UDP key.
#[inline(always)]
pub(crate) fn lookup<A: Inet>(context: Context, key: &FlowKey<A>) -> Option<Socket> {
    // A key starts like the kernel's `struct bpf_sock_tuple`: source, destination, source port, destination port.
    let tuple = core::ptr::from_ref(key).cast_mut().cast();
    let len = 2 * size_of::<A>() as u32 + 4;
    let ctx = context.as_ptr();
    if key.protocol() != protocol::TCP {
        // SAFETY: the context is valid; the helper reads `len` bytes of the key, which lives through the call, and
        // keeps no pointer (kernel 4.20).
        let found = unsafe { bpf_sk_lookup_udp(ctx, tuple, len, CURRENT_NETNS, 0) };
        if found.is_null() {
            return None;
        }
        // SAFETY: the lookup has just given a reference to the socket.
        unsafe { bpf_sk_release(found.cast()) };
        return Some(Socket::Active);
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
    Some(if state == LISTEN || state == TIME_WAIT { Socket::Waiting } else { Socket::Active })
}
