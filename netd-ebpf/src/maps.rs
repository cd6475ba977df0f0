//! The maps, behind functions that say what they are for.
//!
//! A pointer into an LRU or a deleted row stays readable (the kernel frees nothing under a running program), but the row
//! may be reused for another key meanwhile. So decisions are made from copies where a mixed reading would matter, and
//! every row names its owner by a [`Handle`] which is compared before anything is done.

use core::arch::asm;

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use netd_common::bytes::{Be16, Ipv4};
use netd_common::flow::{FlowKey, Handle};
use netd_common::tables::{
    BoundPortKey, CounterRow, EndpointRow, FlowRow, PortRow, PublicationCounters, PublicationRow, SocketKey,
    SocketRow, SubnetKey, capacity, port_index,
};
use netd_common::verdict::Reason;

/// `bpf_map_update_elem`: whether or not the row exists.
const BPF_ANY: u64 = 0;

#[map]
static FLOWS: LruHashMap<FlowKey, FlowRow> = LruHashMap::with_max_entries(capacity::FLOWS, 0);
#[map]
static ENDPOINTS: Array<EndpointRow> = Array::with_max_entries(capacity::ENDPOINTS, 0);
#[map]
static ENDPOINT_OF: HashMap<u32, Handle> = HashMap::with_max_entries(capacity::ENDPOINTS, 0);
#[map]
static PUBLICATIONS: Array<PublicationRow> = Array::with_max_entries(capacity::PUBLICATIONS, 0);
#[map]
static PORTS: Array<PortRow> = Array::with_max_entries(capacity::PORTS, 0);
#[map]
static BOUND_PORTS: LpmTrie<BoundPortKey, Handle> = LpmTrie::with_max_entries(capacity::BOUND_PORTS, 0);
#[map]
static SUBNETS: LpmTrie<SubnetKey, u32> = LpmTrie::with_max_entries(capacity::SUBNETS, 0);
#[map]
static LOCALS: HashMap<Ipv4, u32> = HashMap::with_max_entries(capacity::LOCALS, 0);
#[map]
static SOCKETS: LruHashMap<SocketKey, SocketRow> = LruHashMap::with_max_entries(capacity::SOCKETS, 0);
#[map]
static DROPS: PerCpuArray<CounterRow> = PerCpuArray::with_max_entries(Reason::ALL.len() as u32, 0);

/// Adds to a counter that other CPUs add to (`lock xadd`). Rust's own atomics have no additions on this target.
///
/// # Safety
///
/// `counter` points to an aligned word inside a map's value.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, amount: u64) {
    // SAFETY: by contract the word lives in a map, whose memory outlives the program's run; one instruction reads and
    // writes it, and every other writer on the kernel side does the same.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) amount, options(nostack)) }
}

/// Takes what a counter holds and leaves zero (`xchg`, kernel 5.12).
///
/// # Safety
///
/// As for [`add`].
#[inline(always)]
pub(crate) unsafe fn take(counter: *mut u64) -> u64 {
    let mut word = 0_u64;
    // SAFETY: as in `add`.
    unsafe { asm!("{1} = xchg_64({0} + 0, {1})", in(reg) counter, inout(reg) word, options(nostack)) }
    word
}

/// Counts a dropped packet. Tells whether it is the first of its reason and CPU in this tick, to be reported.
#[inline(always)]
pub(crate) fn count_drop(reason: Reason, len: u32, now: u32) -> bool {
    if let Some(row) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: the pointer is to this CPU's copy of the row, which no other CPU writes; a program is not preempted by
        // another that counts the same reason on the same CPU, since both run with bottom halves off.
        let row = unsafe { &mut *row };
        row.packets += 1;
        row.bytes += u64::from(len);
        let first = row.reported != now;
        row.reported = now;
        return first;
    }
    false
}

/// The row of a flow, if there is one; it may be stale, see [`endpoint`] and [`publication`].
#[inline(always)]
pub(crate) fn flow(key: &FlowKey) -> Option<*mut FlowRow> {
    FLOWS.get_ptr_mut(key)
}

/// Writes a flow's row.
#[inline(always)]
pub(crate) fn put_flow(key: &FlowKey, row: &FlowRow) -> Result<(), Reason> {
    FLOWS.insert(key, row, BPF_ANY).map_err(|_errno| Reason::TableFull)
}

/// Takes a flow's row away.
#[inline(always)]
pub(crate) fn remove_flow(key: &FlowKey) {
    // A row that is gone already is what is wanted.
    let _gone = FLOWS.remove(key);
}

/// The live endpoint of a handle.
#[inline(always)]
pub(crate) fn endpoint(handle: Handle) -> Option<&'static EndpointRow> {
    let row = ENDPOINTS.get(u32::from(handle.slot()))?;
    if row.handle == handle { Some(row) } else { None }
}

/// The endpoint whose host-side veth has this index.
#[inline(always)]
pub(crate) fn endpoint_behind(ifindex: u32) -> Option<&'static EndpointRow> {
    // SAFETY: the row is one aligned word, read once; a row that is being reused yields another container's handle only
    // if that container's veth has taken over the index.
    let handle = unsafe { ENDPOINT_OF.get(ifindex) }?;
    endpoint(*handle)
}

/// The live publication of a handle.
#[inline(always)]
pub(crate) fn publication(handle: Handle) -> Option<*mut PublicationRow> {
    let row = PUBLICATIONS.get_ptr_mut(u32::from(handle.slot()))?;
    // SAFETY: array rows are never freed; the handle is one aligned word.
    let present = unsafe { (*row).handle };
    if present == handle && !handle.is_none() { Some(row) } else { None }
}

/// The counters of a live publication.
#[inline(always)]
pub(crate) fn counters(publication: *mut PublicationRow) -> *mut PublicationCounters {
    // SAFETY: the pointer comes from [`publication`]; taking a field's address reads nothing.
    unsafe { &raw mut (*publication).counters }
}

/// Who has a host port.
#[inline(always)]
pub(crate) fn port(protocol: u8, port: Be16) -> Option<PortRow> {
    PORTS.get(port_index(protocol, port)?).copied()
}

/// The publication on one address of the host.
#[inline(always)]
pub(crate) fn bound_port(address: Ipv4, protocol: u8, port: Be16) -> Option<Handle> {
    let data = BoundPortKey { address, protocol: Be16::new(u16::from(protocol)), port };
    BOUND_PORTS.get(Key::new(BoundPortKey::BITS, data)).copied()
}

/// The number of the network whose subnet an address lies in.
#[inline(always)]
pub(crate) fn network_of(address: Ipv4) -> Option<u32> {
    SUBNETS.get(Key::new(SubnetKey::BITS, SubnetKey { address })).copied()
}

/// Whether an address was the host's own when netd last looked.
#[inline(always)]
pub(crate) fn is_local(address: Ipv4) -> bool {
    LOCALS.get_ptr(address).is_some()
}

/// The address that a host socket thinks it talks to.
#[inline(always)]
pub(crate) fn socket(key: &SocketKey) -> Option<SocketRow> {
    // SAFETY: a copy is made at once; a row reused within these instructions belongs to another socket's cookie, and
    // yields at worst a wrong answer to one getpeername.
    unsafe { SOCKETS.get(key) }.copied()
}

/// Remembers what address a host socket thinks it talks to.
#[inline(always)]
pub(crate) fn put_socket(key: &SocketKey, row: &SocketRow) {
    // If the table takes no row, the application sees the container's address: a blemish, not a failure.
    let _full = SOCKETS.insert(key, row, BPF_ANY);
}
