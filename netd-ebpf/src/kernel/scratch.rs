//! Per-CPU memory for data that does not fit the stack of 512 bytes. Each program takes each of them once, and no
//! program that uses one interrupts another, since all run with bottom halves disabled.

use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::maps::PerCpuArray;
use netd_common::abi::{QueuedFragmentKey, QueuedFragmentRow};
use netd_common::flow::nat::{Connection, Nat};
use netd_common::verdict::Reason;

use super::inet::Inet;
use super::maps;

/// This CPU's memory. All types here consist of integers, so zeros and the data of an earlier run are valid values.
#[inline(always)]
fn room<T>(of: &'static PerCpuArray<T>) -> Option<&'static mut T> {
    let place = of.get_ptr_mut(0)?;
    // SAFETY: this CPU's copy, which no other program uses while this one runs, and each program asks for it once at a
    // time.
    Some(unsafe { &mut *place })
}

/// Memory for a connection: two rows and two keys.
#[inline(always)]
pub(crate) fn connection<A: Inet>() -> Option<&'static mut Connection<A>> {
    room(A::connection())
}

/// Memory for the NAT of a new connection.
#[inline(always)]
pub(crate) fn nat<A: Inet>() -> Result<&'static mut Nat<A>, Reason> {
    room(A::nat()).ok_or(Reason::RewriteFailed)
}

/// Memory for the key of a fragment.
#[inline(always)]
pub(crate) fn fragment_key<A: Inet>() -> Option<&'static mut QueuedFragmentKey<A>> {
    room(A::fragment_key())
}

/// Memory for a copy of a packet.
#[inline(always)]
pub(crate) fn packet() -> Option<&'static mut QueuedFragmentRow> {
    room(&maps::PACKET)
}

/// Memory for a lookup in the routing table.
#[inline(always)]
pub(super) fn fib() -> Option<&'static mut bpf_fib_lookup> {
    room(&maps::FIB)
}
