//! Questions to the kernel's routing table.
//!
//! The kernel answers only for an input interface that has forwarding on. netd turns it on for its own bridges and
//! nowhere else, and asks as if the packet came in by the bridge.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use netd_common::bytes::Ipv4;

use crate::skb::Skb;

/// `AF_INET` of the kernel's socket.h.
const AF_INET: u8 = 2;

/// Where the routing table sends a destination.
pub(crate) enum Route {
    /// Out by an interface to a next hop; an unspecified one means that the kernel shall find it.
    Via(u32, Ipv4),
    /// It is the host's own (or a broadcast address of it).
    Local,
    /// Nowhere.
    None,
}

/// Asks for the way from `src` to `dst` for a packet that comes in by `bridge`.
#[inline(always)]
pub(crate) fn lookup(skb: &Skb, bridge: u32, src: Ipv4, dst: Ipv4) -> Route {
    // SAFETY: the kernel's structure is plain words, for which zero is a value.
    let mut question: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    question.family = AF_INET;
    question.ifindex = bridge;
    question.__bindgen_anon_3.ipv4_src = src.word();
    question.__bindgen_anon_4.ipv4_dst = dst.word();
    let len = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the context is valid, and the structure lives on this stack for the call with its exact length.
    let code = unsafe { fib_lookup(skb.as_ptr().cast(), &raw mut question, len, 0) };
    match code as u32 {
        // Without a known neighbour the interface and next hop are filled in all the same; the redirect resolves it.
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH => {
            // An IPv4 route may have an IPv6 next hop (RFC 8950); that one is left to the kernel.
            let next_hop = if question.family == AF_INET {
                // SAFETY: the family says which member the kernel wrote.
                Ipv4::from_word(unsafe { question.__bindgen_anon_4.ipv4_dst })
            } else {
                Ipv4::UNSPECIFIED
            };
            Route::Via(question.ifindex, next_hop)
        }
        BPF_FIB_LKUP_RET_NOT_FWDED => Route::Local,
        _ => Route::None,
    }
}
