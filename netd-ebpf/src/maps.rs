//! The maps, behind functions that say what they are for.
//!
//! A pointer into an LRU or a deleted row stays readable (the kernel frees nothing under a running program), but the row
//! may be reused for another key meanwhile. So decisions are made from copies where a mixed reading would matter, and
//! every row names its owner by a [`Handle`] which is compared before anything is done.

use core::arch::asm;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use netd_common::abi::{
    BoundPortKey, DenyCacheRow, DropEvent, DropRow, EndpointRow, FlowRow, FragmentKey, FragmentRow, PortRow,
    PublicationCounters, PublicationRow, QueuedFragmentKey, QueuedFragmentRow, SocketKey, SocketRow,
    SourceKey, TargetPortKey, TrustKey, UplinkRow, VersionRow, access, capacity, port_index,
};
use netd_common::bytes::{Address as _, Be16, Ipv4, Ipv6};
use netd_common::flow::{FlowKey, Handle};
use netd_common::nat::Connection;
use netd_common::packet::Family;
use netd_common::track::State;
use netd_common::verdict::Reason;

use crate::flow::{self, Plan};
use crate::xdp::{NEIGHBOURS_KEPT, Way};

/// `bpf_map_update_elem`: whether or not the row exists.
const BPF_ANY: u64 = 0;
/// `bpf_map_update_elem`: only if it does not exist.
const BPF_NOEXIST: u64 = 1;
/// The row exists already (linux/errno-base.h).
const EEXIST: i32 = 17;

/// Flows by their keys.
pub(crate) type Flows<A> = LruHashMap<FlowKey<A>, FlowRow<A>>;

#[map]
static FLOWS: Flows<Ipv4> = Flows::with_max_entries(capacity::FLOWS, 0);
#[map]
static FLOWS6: Flows<Ipv6> = Flows::with_max_entries(capacity::FLOWS6, 0);
#[map]
static UNREPLIED: Flows<Ipv4> = Flows::with_max_entries(capacity::UNREPLIED, 0);
#[map]
static UNREPLIED6: Flows<Ipv6> = Flows::with_max_entries(capacity::UNREPLIED6, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey<Ipv4>, FragmentRow> =
    LruHashMap::with_max_entries(capacity::FRAGMENTS, 0);
#[map]
static FRAGMENTS6: LruHashMap<FragmentKey<Ipv6>, FragmentRow> =
    LruHashMap::with_max_entries(capacity::FRAGMENTS, 0);
#[map]
static FRAGMENT_QUEUE: LruHashMap<QueuedFragmentKey<Ipv4>, QueuedFragmentRow> =
    LruHashMap::with_max_entries(capacity::FRAGMENT_QUEUE, 0);
#[map]
static FRAGMENT_QUEUE6: LruHashMap<QueuedFragmentKey<Ipv6>, QueuedFragmentRow> =
    LruHashMap::with_max_entries(capacity::FRAGMENT_QUEUE, 0);
#[map]
static ENDPOINTS: Array<EndpointRow> = Array::with_max_entries(capacity::ENDPOINTS, 0);
#[map]
static ENDPOINT_OF: HashMap<u32, Handle> = HashMap::with_max_entries(capacity::ENDPOINTS, 0);
#[map]
static ADDRESSES: HashMap<Ipv6, Handle> = HashMap::with_max_entries(capacity::ADDRESSES, 0);
#[map]
static PUBLICATIONS: Array<PublicationRow> = Array::with_max_entries(capacity::PUBLICATIONS, 0);
#[map]
static PORTS: Array<PortRow> = Array::with_max_entries(capacity::PORTS, 0);
#[map]
static BOUND_PORTS: LpmTrie<BoundPortKey<Ipv4>, Handle> = LpmTrie::with_max_entries(capacity::BOUND_PORTS, 0);
#[map]
static BOUND_PORTS6: LpmTrie<BoundPortKey<Ipv6>, Handle> =
    LpmTrie::with_max_entries(capacity::BOUND_PORTS, 0);
#[map]
static TARGET_PORTS: LpmTrie<TargetPortKey, Handle> = LpmTrie::with_max_entries(capacity::TARGET_PORTS, 0);
#[map]
static SUBNETS: LpmTrie<Ipv4, u32> = LpmTrie::with_max_entries(capacity::SUBNETS, 0);
#[map]
static SUBNETS6: LpmTrie<Ipv6, u32> = LpmTrie::with_max_entries(capacity::SUBNETS, 0);
#[map]
static SOURCES: LpmTrie<SourceKey, u32> = LpmTrie::with_max_entries(capacity::SOURCES, 0);
#[map]
static UPLINKS: HashMap<u32, UplinkRow> = HashMap::with_max_entries(capacity::UPLINKS, 0);
#[map]
static TRUSTED: HashMap<TrustKey, u32> = HashMap::with_max_entries(capacity::TRUSTED, 0);
#[map]
static LOCALS: HashMap<Ipv6, u32> = HashMap::with_max_entries(capacity::LOCALS, 0);
#[map]
static SOCKETS: LruHashMap<SocketKey, SocketRow> = LruHashMap::with_max_entries(capacity::SOCKETS, 0);
#[map]
static TIMEOUTS: Array<u32> = Array::with_max_entries(capacity::TIMEOUTS, 0);
#[map]
static DROPS: PerCpuArray<DropRow> = PerCpuArray::with_max_entries(capacity::DROPS, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(capacity::EVENTS, 0);
#[map]
static EPOCH: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static STAGES: ProgramArray = ProgramArray::with_max_entries(capacity::STAGES, 0);
/// Written and read by the user side only.
#[map]
static VERSION: Array<VersionRow> = Array::with_max_entries(1, 0);

/// Room to put a connection together, since two rows and two keys are more than half of a program's stack.
#[map]
static SCRATCH: PerCpuArray<Connection<Ipv4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH6: PerCpuArray<Connection<Ipv6>> = PerCpuArray::with_max_entries(1, 0);

/// Room to plan one.
#[map]
static PLAN: PerCpuArray<Plan<Ipv4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static PLAN6: PerCpuArray<Plan<Ipv6>> = PerCpuArray::with_max_entries(1, 0);

/// Room for the key of a fragment.
#[map]
static FRAGMENT_KEY: PerCpuArray<QueuedFragmentKey<Ipv4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static FRAGMENT_KEY6: PerCpuArray<QueuedFragmentKey<Ipv6>> = PerCpuArray::with_max_entries(1, 0);

/// Room for a fragment that is to be held.
#[map]
static FRAGMENT_COPY: PerCpuArray<QueuedFragmentRow> = PerCpuArray::with_max_entries(1, 0);

/// Room for a question to the routing table, for the same reason.
#[map]
static QUESTION: PerCpuArray<bpf_fib_lookup> = PerCpuArray::with_max_entries(1, 0);

/// How many answers this CPU has given in a tick.
#[map]
static ANSWERS: PerCpuArray<AnswerRow> = PerCpuArray::with_max_entries(1, 0);

/// What a CPU has answered.
#[derive(Clone, Copy)]
#[repr(C)]
struct AnswerRow {
    tick: u32,
    count: u32,
}

#[map]
static SEEN_PEERS: Array<u64> = Array::with_max_entries(capacity::SEEN_PEERS, 0);

/// What was refused lately, see [`crate::shed`].
#[map]
static DENY_CACHE: PerCpuArray<DenyCacheRow<Ipv4>> = PerCpuArray::with_max_entries(capacity::DENY_CACHE, 0);
#[map]
static DENY_CACHE6: PerCpuArray<DenyCacheRow<Ipv6>> = PerCpuArray::with_max_entries(capacity::DENY_CACHE, 0);

/// Link addresses that were looked up in this tick, see [`crate::xdp`].
#[map]
static NEIGHBOURS: PerCpuArray<Way<Ipv4>> = PerCpuArray::with_max_entries(NEIGHBOURS_KEPT, 0);
#[map]
static NEIGHBOURS6: PerCpuArray<Way<Ipv6>> = PerCpuArray::with_max_entries(NEIGHBOURS_KEPT, 0);

/// The maps of a family.
pub(crate) trait Tables: Family {
    /// Connections that both sides want.
    fn flows() -> &'static Flows<Self>;
    /// Young and half-open ones.
    fn unreplied() -> &'static Flows<Self>;
    /// Fragmented datagrams under way.
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, FragmentRow>;
    /// Fragments that wait.
    fn fragment_queue() -> &'static LruHashMap<QueuedFragmentKey<Self>, QueuedFragmentRow>;
    /// Room to plan a connection.
    fn plan() -> &'static PerCpuArray<Plan<Self>>;
    /// Room for the key of a fragment.
    fn fragment_key() -> &'static PerCpuArray<QueuedFragmentKey<Self>>;
    /// Publications on one address of the host.
    fn bound_ports() -> &'static LpmTrie<BoundPortKey<Self>, Handle>;
    /// Networks by address.
    fn subnets() -> &'static LpmTrie<Self, u32>;
    /// Room for a connection.
    fn scratch() -> &'static PerCpuArray<Connection<Self>>;
    /// What was refused lately.
    fn deny_cache() -> &'static PerCpuArray<DenyCacheRow<Self>>;
    /// Link addresses that were looked up in this tick.
    fn neighbours() -> &'static PerCpuArray<Way<Self>>;
    /// An address of this family in the form that both share.
    fn unified(self) -> Ipv6;
    /// And back; unspecified for one of the other family.
    fn of_unified(address: Ipv6) -> Self;
}

impl Tables for Ipv4 {
    #[inline(always)]
    fn flows() -> &'static Flows<Self> {
        &FLOWS
    }
    #[inline(always)]
    fn unreplied() -> &'static Flows<Self> {
        &UNREPLIED
    }
    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, FragmentRow> {
        &FRAGMENTS
    }
    #[inline(always)]
    fn fragment_queue() -> &'static LruHashMap<QueuedFragmentKey<Self>, QueuedFragmentRow> {
        &FRAGMENT_QUEUE
    }
    #[inline(always)]
    fn fragment_key() -> &'static PerCpuArray<QueuedFragmentKey<Self>> {
        &FRAGMENT_KEY
    }
    #[inline(always)]
    fn plan() -> &'static PerCpuArray<Plan<Self>> {
        &PLAN
    }
    #[inline(always)]
    fn deny_cache() -> &'static PerCpuArray<DenyCacheRow<Self>> {
        &DENY_CACHE
    }
    #[inline(always)]
    fn neighbours() -> &'static PerCpuArray<Way<Self>> {
        &NEIGHBOURS
    }
    #[inline(always)]
    fn bound_ports() -> &'static LpmTrie<BoundPortKey<Self>, Handle> {
        &BOUND_PORTS
    }
    #[inline(always)]
    fn subnets() -> &'static LpmTrie<Self, u32> {
        &SUBNETS
    }
    #[inline(always)]
    fn scratch() -> &'static PerCpuArray<Connection<Self>> {
        &SCRATCH
    }
    #[inline(always)]
    fn unified(self) -> Ipv6 {
        Ipv6::mapped(self)
    }
    #[inline(always)]
    fn of_unified(address: Ipv6) -> Self {
        address.as_mapped().unwrap_or(Self::UNSPECIFIED)
    }
}

impl Tables for Ipv6 {
    #[inline(always)]
    fn flows() -> &'static Flows<Self> {
        &FLOWS6
    }
    #[inline(always)]
    fn unreplied() -> &'static Flows<Self> {
        &UNREPLIED6
    }
    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, FragmentRow> {
        &FRAGMENTS6
    }
    #[inline(always)]
    fn fragment_queue() -> &'static LruHashMap<QueuedFragmentKey<Self>, QueuedFragmentRow> {
        &FRAGMENT_QUEUE6
    }
    #[inline(always)]
    fn fragment_key() -> &'static PerCpuArray<QueuedFragmentKey<Self>> {
        &FRAGMENT_KEY6
    }
    #[inline(always)]
    fn plan() -> &'static PerCpuArray<Plan<Self>> {
        &PLAN6
    }
    #[inline(always)]
    fn deny_cache() -> &'static PerCpuArray<DenyCacheRow<Self>> {
        &DENY_CACHE6
    }
    #[inline(always)]
    fn neighbours() -> &'static PerCpuArray<Way<Self>> {
        &NEIGHBOURS6
    }
    #[inline(always)]
    fn bound_ports() -> &'static LpmTrie<BoundPortKey<Self>, Handle> {
        &BOUND_PORTS6
    }
    #[inline(always)]
    fn subnets() -> &'static LpmTrie<Self, u32> {
        &SUBNETS6
    }
    #[inline(always)]
    fn scratch() -> &'static PerCpuArray<Connection<Self>> {
        &SCRATCH6
    }
    #[inline(always)]
    fn unified(self) -> Ipv6 {
        self
    }
    #[inline(always)]
    fn of_unified(address: Ipv6) -> Self {
        address
    }
}

/// Goes on in another program; comes back only if it is not there.
#[inline(always)]
pub(crate) fn go_on<C: EbpfContext>(ctx: &C, stage: u32) {
    // SAFETY: the context is the one that this program was started with, and every stage is of its type.
    unsafe { STAGES.tail_call(ctx, stage) }
}

/// The key of an LPM trie whose data begin with a word.
#[repr(C, align(8))]
struct Aligned<K>(Key<K>);

/// The key of an LPM trie in a place where its data, which follow a word, are aligned: the verifier takes no double word
/// across two of the stack's.
#[repr(C, align(8))]
struct Placed<K> {
    pad: u32,
    key: Key<K>,
}

/// An address whose words the compiler takes for unrelated, so that it copies no two of them at once to a place that is
/// none for a double word.
#[inline(always)]
pub(crate) fn apart<A: Tables>(address: A) -> A {
    if !A::IS_V6 {
        return address;
    }
    A::of_unified(Ipv6::from_words(address.unified().words().map(|mut word| {
        // SAFETY: it moves a register to itself.
        unsafe { asm!("{0} = {0}", inout(reg) word, options(pure, nomem, nostack)) };
        word
    })))
}

/// The row of an LPM trie with the longest prefix of `data`, which has `bits`.
#[inline(always)]
fn longest<K, V: Copy>(trie: &LpmTrie<K, V>, bits: u32, data: K) -> Option<V> {
    let place = Placed { pad: 0, key: Key::new(bits, data) };
    trie.get(&place.key).copied()
}

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

/// Adds to a counter and returns what it held before (`atomic_fetch_add`, kernel 5.12).
///
/// # Safety
///
/// As for [`add`].
#[inline(always)]
pub(crate) unsafe fn fetch_add(counter: *mut u64, amount: u64) -> u64 {
    let mut word = amount;
    // SAFETY: as in `add`.
    unsafe {
        asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) counter, inout(reg) word, options(nostack));
    }
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

/// Reports a dropped packet to the user side.
#[inline(always)]
pub(crate) fn report(event: &DropEvent) {
    // If the ring has no room, nobody reads it.
    let _full = EVENTS.output::<DropEvent>(event, 0);
}

/// Whether the XDP stage may drop a packet that it has just judged. The first of its reason and CPU since `now` began is left to
/// the programs behind, which decide anew, count it and report it.
#[inline(always)]
pub(crate) fn may_drop_early(reason: u32, now: u32) -> bool {
    let Some(row) = DROPS.get_ptr_mut(reason) else { return false };
    // SAFETY: as in `count_drop`.
    let row = unsafe { &mut *row };
    let is_first = row.left != now;
    row.left = now;
    !is_first
}

/// Counts what the XDP stage has dropped for one reason.
#[inline(always)]
pub(crate) fn count_early_drops(reason: u32, packets: u32, bytes: u64) {
    if let Some(row) = DROPS.get_ptr_mut(reason) {
        // SAFETY: as in `count_drop`.
        let row = unsafe { &mut *row };
        row.packets += u64::from(packets);
        row.bytes += bytes;
    }
}

/// How often the user side has changed whom it lets in.
#[inline(always)]
pub(crate) fn epoch() -> u32 {
    EPOCH.get(0).copied().unwrap_or(0)
}

/// Numbers whose products scatter: any large odd ones would do, these are SplitMix64's.
pub(crate) const SCATTERS: u64 = 0x94d0_49bb_1331_11eb;
const SCATTERS_TOO: u64 = 0xbf58_476d_1ce4_e5b9;

/// A number made of an address, whose upper bits depend on all of it.
#[inline(always)]
pub(crate) fn scatter<A: Tables>(address: A) -> u64 {
    let [a, b, c, d] = address.unified().words();
    let (high, low) = (u64::from(a) | (u64::from(b) << 32), u64::from(c) | (u64::from(d) << 32));
    let mixed = high.wrapping_mul(SCATTERS_TOO) ^ low;
    (mixed ^ (mixed >> 32)).wrapping_mul(SCATTERS)
}

/// Which bit of [`SEEN_PEERS`] is an address's.
#[inline(always)]
pub(crate) fn seen_peers_bit<A: Tables>(address: A) -> u32 {
    (scatter(address) >> (64 - capacity::SEEN_PEERS_BITS)) as u32
}

/// Notes that an address has a connection, before it has.
#[inline(always)]
pub(crate) fn add_seen_peer<A: Tables>(address: A) {
    let number = seen_peers_bit(address);
    let (Some(word), bit) = (SEEN_PEERS.get_ptr_mut(number >> 6), 1_u64 << (number & 63)) else { return };
    // SAFETY: an aligned word of an array's row, which is never freed; on the kernel side it is changed by this atomic
    // operation only (`lock or`, kernel 5.12).
    unsafe {
        if *word & bit == 0 {
            asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) word, in(reg) bit, options(nostack));
        }
    }
}

/// Whether an address with this bit may have a connection.
#[inline(always)]
pub(crate) fn may_be_seen_peer(number: u32) -> bool {
    SEEN_PEERS.get(number >> 6).is_none_or(|word| word & (1 << (number & 63)) != 0)
}

/// Answers that a CPU gives in a tick: a flood is not to be doubled (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
const ANSWERS_PER_TICK: u32 = 100;

/// Whether one more packet may be answered in this tick; counts it.
#[inline(always)]
pub(crate) fn may_answer() -> bool {
    let Some(row) = ANSWERS.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's copy, as for the drops.
    let row = unsafe { &mut *row };
    let now = flow::now();
    if row.tick != now {
        row.tick = now;
        row.count = 0;
    }
    row.count += 1;
    row.count <= ANSWERS_PER_TICK
}

/// Why a row was not written.
pub(crate) enum Refused {
    /// There is one under this key.
    Exists,
    /// The table has no room.
    Full,
}

/// Writes a flow's row, unless there is one under its key: whoever is first has the tuple.
#[inline(always)]
pub(crate) fn claim<A: Tables>(flows: &Flows<A>, key: &FlowKey<A>, row: &FlowRow<A>) -> Result<(), Refused> {
    flows
        .insert(key, row, BPF_NOEXIST)
        .map_err(|errno| if errno == -EEXIST { Refused::Exists } else { Refused::Full })
}

/// Writes a flow's row.
#[inline(always)]
pub(crate) fn put<A: Tables>(flows: &Flows<A>, key: &FlowKey<A>, row: &FlowRow<A>) -> Result<(), Reason> {
    flows.insert(key, row, BPF_ANY).map_err(|_errno| Reason::TableFull)
}

/// Takes a flow's row away.
#[inline(always)]
pub(crate) fn forget<A: Tables>(flows: &Flows<A>, key: &FlowKey<A>) {
    // A row that is gone already is what is wanted.
    let _gone = flows.remove(key);
}

/// Room for a question to the routing table.
#[inline(always)]
pub(crate) fn question() -> Option<*mut bpf_fib_lookup> {
    QUESTION.get_ptr_mut(0)
}

/// How long a connection in this state may be idle, in ticks.
#[inline(always)]
pub(crate) fn timeout(state: State) -> Option<u32> {
    TIMEOUTS.get(state as u32).copied()
}

/// The ports of a fragmented datagram.
#[inline(always)]
pub(crate) fn fragment<A: Tables>(key: &FragmentKey<A>) -> Option<FragmentRow> {
    // SAFETY: a copy is made at once; a row reused within these instructions yields the ports of another datagram, whose
    // flow is then none of this one's addresses.
    unsafe { A::fragments().get(key) }.copied()
}

/// What is known of a fragmented datagram, for changing it.
#[inline(always)]
pub(crate) fn fragment_mut<A: Tables>(key: &FragmentKey<A>) -> Option<*mut FragmentRow> {
    A::fragments().get_ptr_mut(key)
}

/// Room for a fragment that is to be held.
#[inline(always)]
pub(crate) fn fragment_copy() -> Option<*mut QueuedFragmentRow> {
    FRAGMENT_COPY.get_ptr_mut(0)
}

/// Holds a fragment.
#[inline(always)]
pub(crate) fn put_queued<A: Tables>(
    key: &QueuedFragmentKey<A>,
    row: &QueuedFragmentRow,
) -> Result<(), Reason> {
    A::fragment_queue().insert(key, row, BPF_ANY).map_err(|_errno| Reason::Fragment)
}

/// Takes a fragment away that was held.
#[inline(always)]
pub(crate) fn forget_queued<A: Tables>(key: &QueuedFragmentKey<A>) {
    // One that is gone already is what is wanted.
    let _gone = A::fragment_queue().remove(key);
}

/// A fragment that is held.
#[inline(always)]
pub(crate) fn queued<A: Tables>(key: &QueuedFragmentKey<A>) -> Option<&'static QueuedFragmentRow> {
    // SAFETY: the kernel frees no row under a running program; one that is reused meanwhile yields another fragment, which
    // then comes in twice or damaged, as any packet may.
    unsafe { A::fragment_queue().get(key) }
}

/// Remembers what is known of a fragmented datagram, unless somebody has been faster.
#[inline(always)]
pub(crate) fn claim_fragment<A: Tables>(key: &FragmentKey<A>, row: &FragmentRow) {
    // Whether there is one now is asked afterwards.
    let _exists = A::fragments().insert(key, row, BPF_NOEXIST);
}

/// Remembers what is known of a fragmented datagram.
#[inline(always)]
pub(crate) fn put_fragment<A: Tables>(key: &FragmentKey<A>, row: &FragmentRow) {
    // If the table takes no row, the later fragments are held in vain.
    let _full = A::fragments().insert(key, row, BPF_ANY);
}

/// The interface that leads outside, if it is one.
#[inline(always)]
pub(crate) fn uplink(ifindex: u32) -> Option<&'static UplinkRow> {
    // SAFETY: the kernel frees no row under a running program, and the user side replaces rows as a whole; a new address
    // that appears half way would make one connection in a name that nobody has.
    unsafe { UPLINKS.get(ifindex) }
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

/// The endpoint that has this address.
#[inline(always)]
pub(crate) fn endpoint_at<A: Tables>(address: A) -> Option<&'static EndpointRow> {
    // SAFETY: as in `endpoint_behind`, with an address for the index.
    let handle = unsafe { ADDRESSES.get(address.unified()) }?;
    endpoint(*handle)
}

/// Whether a network trusts what comes in by an interface.
#[inline(always)]
pub(crate) fn is_trusted(network: u32, ifindex: u32) -> bool {
    TRUSTED.get_ptr(TrustKey { network, ifindex }).is_some()
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

/// Counts a packet that a publication lost.
#[inline(always)]
pub(crate) fn count_publication_drop(publication: *mut PublicationRow) {
    // SAFETY: an aligned word of a publication's row, which is never freed.
    unsafe { add(&raw mut (*counters(publication)).dropped, 1) };
}

/// Who has a host port.
#[inline(always)]
pub(crate) fn port(protocol: u8, port: Be16) -> Option<PortRow> {
    PORTS.get(port_index(protocol, port)?).copied()
}

/// The publication on one address of the host.
#[inline(always)]
pub(crate) fn bound_port<A: Tables>(address: A, protocol: u8, port: Be16) -> Option<Handle> {
    let data = BoundPortKey { address, protocol: Be16::new(u16::from(protocol)), port };
    longest(A::bound_ports(), BoundPortKey::<A>::BITS, data)
}

/// The publication that has this port of a container for its target in a family.
#[inline(always)]
pub(crate) fn target_port<A: Family>(endpoint: Handle, protocol: u8, port: Be16) -> Option<Handle> {
    longest(&TARGET_PORTS, TargetPortKey::BITS, TargetPortKey::new::<A>(endpoint, protocol, port))
}

/// Whether a publication lets a source in: by its own rows, or else by those of all.
#[inline(always)]
pub(crate) fn may_use<A: Tables>(publication: Handle, source: A) -> bool {
    let mut place = Aligned(Key::new(SourceKey::BITS, SourceKey { publication, source: source.unified() }));
    let own = SOURCES.get(&place.0).copied();
    if let Some(own) = own {
        return own == access::ALLOW;
    }
    place.0.data.publication = Handle::NONE;
    SOURCES.get(&place.0).copied().is_none_or(|all| all == access::ALLOW)
}

/// The number of the network whose subnet an address lies in.
#[inline(always)]
pub(crate) fn network_of<A: Tables>(address: A) -> Option<u32> {
    longest(A::subnets(), A::BITS, address)
}

/// Whether an address was the host's own when netd last looked.
#[inline(always)]
pub(crate) fn is_local<A: Tables>(address: A) -> bool {
    LOCALS.get_ptr(address.unified()).is_some()
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

/// Forgets it.
#[inline(always)]
pub(crate) fn forget_socket(key: &SocketKey) {
    let _absent = SOCKETS.remove(key);
}
