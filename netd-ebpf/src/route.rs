//! Questions to the kernel's routing table.
//!
//! The kernel answers only for an input interface that has forwarding on. netd turns it on for its own bridges and
//! nowhere else, and asks as if the packet came in by the bridge.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED,
    BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;

use netd_common::abi::EndpointRow;

use crate::maps;
use crate::skb::{Skb, Wire};

/// The context of a program, which is all that the helper wants of it.
pub(crate) type Context = *mut core::ffi::c_void;

/// Where the routing table sends a destination.
pub(crate) enum Route<A> {
    /// Out by an interface to a next hop; an unspecified one means that the kernel shall find it.
    Via(u32, A),
    /// It is the host's own, or a broadcast address of it, or nowhere: the helper does not tell them apart, and the stack
    /// does the right thing with either.
    Local,
    /// A route that says no.
    None,
}

/// Asks for the way from `src` to `dst` for a packet that comes in by `bridge`.
#[inline(always)]
pub(crate) fn lookup<A: Wire>(skb: &Skb, bridge: u32, src: A, dst: A) -> Route<A> {
    ask(skb.context_ptr(), bridge, src, dst).0
}

/// The same for any program; with the first 12 bytes of a frame that goes that way, if the next hop's link address is known.
#[inline(always)]
pub(crate) fn ask<A: Wire>(context: Context, bridge: u32, src: A, dst: A) -> (Route<A>, Option<[u32; 3]>) {
    let Some(question) = maps::question() else { return (Route::None, None) };
    // SAFETY: this CPU's copy, which no other program uses while this one runs; the kernel's structure is plain words, for
    // which zero is a value.
    let question = unsafe {
        question.write(core::mem::zeroed());
        &mut *question
    };
    question.family = A::AF as u8;
    question.ifindex = bridge;
    A::ask(question, src, dst);
    let len = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the context is valid, and the structure is the map's, with its exact length.
    let code = unsafe { fib_lookup(context, question, len, 0) };
    let route = match code as u32 {
        // Without a known neighbour the interface and next hop are filled in all the same; the redirect resolves it. So they
        // are for a packet that the interface does not take as it is, which is the asker's business.
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FRAG_NEEDED => {
            // An IPv4 route may have an IPv6 next hop (RFC 8950); that one is left to the kernel.
            let next_hop =
                if question.family == A::AF as u8 { A::next_hop(question) } else { A::UNSPECIFIED };
            Route::Via(question.ifindex, next_hop)
        }
        BPF_FIB_LKUP_RET_NOT_FWDED => Route::Local,
        _ => Route::None,
    };
    let known = code as u32 == BPF_FIB_LKUP_RET_SUCCESS;
    (route, known.then(|| EndpointRow::ethernet(question.dmac, question.smac)))
}
