//! The kernel's routing table.
//!
//! The kernel answers only for an input interface that has forwarding on. netd turns it on only for bridges of its
//! networks, and asks as if the packet came in by the bridge.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED,
    BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE, bpf_fib_lookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use netd_common::abi::EndpointRow;
use netd_common::flow::Tuple;
use netd_common::policy::Route;
use netd_common::verdict::Reason;
use netd_common::wire::ip::protocol;

use super::context::Context;
use super::inet::Inet;
use super::scratch;

/// The route for a packet with this protocol and tuple that comes in by the interface `input`.
#[inline(always)]
pub(crate) fn lookup<A: Inet>(context: Context, input: u32, protocol: u8, tuple: &Tuple<A>) -> Route<A> {
    lookup_neighbour(context, input, protocol, tuple).0
}

/// The same, with the first 12 bytes of a frame that takes this route, if the kernel knows the next hop's link address.
#[inline(always)]
pub(crate) fn lookup_neighbour<A: Inet>(
    context: Context,
    input: u32,
    protocol: u8,
    tuple: &Tuple<A>,
) -> (Route<A>, Option<[u32; 3]>) {
    let Some(question) = scratch::fib() else { return (Route::Refused(Reason::NoRoute), None) };
    // Every field that bpf_ipv4_fib_lookup and bpf_ipv6_fib_lookup of the kernel read, since the structure holds an earlier answer. The
    // compiler would make zeroing all of it a call, which costs stack.
    question.family = A::AF as u8;
    question.l4_protocol = protocol;
    (question.sport, question.dport) =
        if protocol::has_ports(protocol) { (tuple.src_port.word(), tuple.dst_port.word()) } else { (0, 0) };
    // Without a length the kernel does not compare it with the route's MTU.
    question.__bindgen_anon_1.tot_len = 0;
    question.ifindex = input;
    // The TOS, or the flow label.
    question.__bindgen_anon_2.flowinfo = 0;
    A::set_fib_addresses(question, tuple.src, tuple.dst);
    let len = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the context is valid, and the structure is a map's value with its exact length.
    let code = unsafe { fib_lookup(context.as_ptr(), question, len, 0) };
    let route = match code as u32 {
        // If the neighbour is not known, interface and next hop are set anyway, and the redirect resolves it. They are
        // also set for a packet that is larger than the interface's MTU, which the caller checks itself.
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FRAG_NEEDED => {
            // An IPv4 route may have an IPv6 next hop (RFC 8950); the kernel resolves that one.
            let next_hop =
                if question.family == A::AF as u8 { A::fib_next_hop(question) } else { A::UNSPECIFIED };
            Route::Via(question.ifindex, next_hop)
        }
        BPF_FIB_LKUP_RET_NOT_FWDED => Route::Local,
        BPF_FIB_LKUP_RET_UNREACHABLE => Route::Refused(Reason::Unreachable),
        BPF_FIB_LKUP_RET_PROHIBIT => Route::Refused(Reason::Prohibited),
        // A blackhole, which gives no answer, and what the helper cannot say.
        _ => Route::Refused(Reason::NoRoute),
    };
    let is_known = code as u32 == BPF_FIB_LKUP_RET_SUCCESS;
    (route, is_known.then(|| EndpointRow::ethernet(question.dmac, question.smac)))
}
