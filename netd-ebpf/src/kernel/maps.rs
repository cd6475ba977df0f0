//! The maps. `netd_common::abi::name` describes each of them; those without a name there belong to the programs alone.

use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::programs::{TcContext, XdpContext};
use netd_common::abi::{
    AllowedAddressKey, BoundPortKey, DenyCacheRow, DropRow, EndpointRow, FillRow, FragmentKey, FragmentRow,
    LayoutRow, LimitRow, LocalPorts, PortRow, PublicationRow, QueuedFragmentKey, QueuedFragmentRow,
    SocketKey, SocketRow, SourceKey, TargetPortKey, TrustKey, UplinkRow, UsageRow, VersionRow, capacity,
};
use netd_common::flow::nat::{Connection, Nat};
use netd_common::flow::{FlowKey, FlowRow, Handle};
use netd_common::wire::bytes::{Ipv4, Ipv6};

/// `bpf_map_update_elem`: whether or not the row exists.
pub(super) const BPF_ANY: u64 = 0;
/// `bpf_map_update_elem`: only if it does not exist.
pub(super) const BPF_NOEXIST: u64 = 1;

/// Rows by their keys.
pub(super) type Rows<A> = HashMap<FlowKey<A>, FlowRow<A>>;
/// The originators' keys of connections, in the order in which these came.
pub(super) type Ring<A> = Array<FlowKey<A>>;

#[map]
static FLOWS: Rows<Ipv4> = Rows::with_max_entries(capacity::FLOWS.rows, 0);
#[map]
static FLOWS6: Rows<Ipv6> = Rows::with_max_entries(capacity::FLOWS6.rows, 0);
#[map]
static UNREPLIED: Rows<Ipv4> = Rows::with_max_entries(capacity::UNREPLIED.rows, 0);
#[map]
static UNREPLIED6: Rows<Ipv6> = Rows::with_max_entries(capacity::UNREPLIED6.rows, 0);
#[map]
static FLOWS_RING: Ring<Ipv4> = Ring::with_max_entries(capacity::FLOWS.places, 0);
#[map]
static FLOWS_RING6: Ring<Ipv6> = Ring::with_max_entries(capacity::FLOWS6.places, 0);
#[map]
static UNREPLIED_RING: Ring<Ipv4> = Ring::with_max_entries(capacity::UNREPLIED.places, 0);
#[map]
static UNREPLIED_RING6: Ring<Ipv6> = Ring::with_max_entries(capacity::UNREPLIED6.places, 0);
#[map]
pub(super) static LIMITS: Array<LimitRow> = Array::with_max_entries(capacity::TABLES, 0);
#[map]
pub(super) static FILL: Array<FillRow> = Array::with_max_entries(capacity::TABLES, 0);
#[map]
pub(super) static USAGE: Array<UsageRow> = Array::with_max_entries(capacity::ENDPOINTS, 0);
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
pub(super) static ENDPOINTS: Array<EndpointRow> = Array::with_max_entries(capacity::ENDPOINTS, 0);
#[map]
pub(super) static ENDPOINT_OF: HashMap<u32, Handle> = HashMap::with_max_entries(capacity::ENDPOINTS, 0);
#[map]
pub(super) static ADDRESSES: HashMap<Ipv6, Handle> = HashMap::with_max_entries(capacity::ADDRESSES, 0);
#[map]
pub(super) static PUBLICATIONS: Array<PublicationRow> = Array::with_max_entries(capacity::PUBLICATIONS, 0);
#[map]
pub(super) static PORTS: Array<PortRow> = Array::with_max_entries(capacity::PORTS, 0);
#[map]
static BOUND_PORTS: LpmTrie<BoundPortKey<Ipv4>, Handle> = LpmTrie::with_max_entries(capacity::BOUND_PORTS, 0);
#[map]
static BOUND_PORTS6: LpmTrie<BoundPortKey<Ipv6>, Handle> =
    LpmTrie::with_max_entries(capacity::BOUND_PORTS, 0);
#[map]
pub(super) static TARGET_PORTS: LpmTrie<TargetPortKey, Handle> =
    LpmTrie::with_max_entries(capacity::TARGET_PORTS, 0);
#[map]
static SUBNETS: LpmTrie<Ipv4, u32> = LpmTrie::with_max_entries(capacity::SUBNETS, 0);
#[map]
static SUBNETS6: LpmTrie<Ipv6, u32> = LpmTrie::with_max_entries(capacity::SUBNETS, 0);
#[map]
pub(super) static SOURCES: LpmTrie<SourceKey, u32> = LpmTrie::with_max_entries(capacity::SOURCES, 0);
#[map]
pub(super) static ALLOWED: LpmTrie<AllowedAddressKey, u32> = LpmTrie::with_max_entries(capacity::ALLOWED, 0);
#[map]
pub(super) static UPLINKS: HashMap<u32, UplinkRow> = HashMap::with_max_entries(capacity::UPLINKS, 0);
#[map]
pub(super) static TRUSTED: HashMap<TrustKey, u32> = HashMap::with_max_entries(capacity::TRUSTED, 0);
#[map]
pub(super) static LOCALS: LpmTrie<Ipv6, u32> = LpmTrie::with_max_entries(capacity::LOCALS, 0);
#[map]
pub(super) static IPSEC_PEERS: LpmTrie<Ipv6, u32> = LpmTrie::with_max_entries(capacity::IPSEC_PEERS, 0);
#[map]
pub(super) static ROUTE_MTUS: LpmTrie<Ipv6, u32> = LpmTrie::with_max_entries(capacity::ROUTE_MTUS, 0);
#[map]
pub(super) static SOCKETS: LruHashMap<SocketKey, SocketRow> =
    LruHashMap::with_max_entries(capacity::SOCKETS, 0);
#[map]
pub(super) static LOCAL_PORTS: Array<LocalPorts> = Array::with_max_entries(1, 0);
#[map]
pub(super) static HOST_FLOWS: LruHashMap<FlowKey<Ipv6>, u32> =
    LruHashMap::with_max_entries(capacity::HOST_FLOWS, 0);
#[map]
pub(super) static TIMEOUTS: Array<u32> = Array::with_max_entries(capacity::TIMEOUTS, 0);
#[map]
pub(super) static DROPS: PerCpuArray<DropRow> = PerCpuArray::with_max_entries(capacity::DROPS, 0);
#[map]
pub(super) static EVENTS: RingBuf = RingBuf::with_byte_size(capacity::EVENTS, 0);
#[map]
static DENY_CACHE: PerCpuArray<DenyCacheRow<Ipv4>> = PerCpuArray::with_max_entries(capacity::DENY_CACHE, 0);
#[map]
static DENY_CACHE6: PerCpuArray<DenyCacheRow<Ipv6>> = PerCpuArray::with_max_entries(capacity::DENY_CACHE, 0);
#[map]
pub(super) static EPOCH: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static STAGES: ProgramArray = ProgramArray::with_max_entries(capacity::STAGES, 0);
#[map]
static XDP_STAGES: ProgramArray = ProgramArray::with_max_entries(capacity::XDP_STAGES, 0);
#[map]
pub(super) static SEEN_PEERS: Array<u64> = Array::with_max_entries(capacity::SEEN_PEERS, 0);
#[map]
static PREVIOUS: ProgramArray = ProgramArray::with_max_entries(capacity::PREVIOUS, 0);
#[map]
pub(super) static HOLD_UNTIL: Array<u64> = Array::with_max_entries(1, 0);
/// Written and read by the user side only, as [`LAYOUT`].
#[map]
static VERSION: Array<VersionRow> = Array::with_max_entries(1, 0);
#[map]
static LAYOUT: Array<LayoutRow> = Array::with_max_entries(1, 0);

/// See [`super::scratch`].
#[map]
static CONNECTION: PerCpuArray<Connection<Ipv4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static CONNECTION6: PerCpuArray<Connection<Ipv6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static NAT: PerCpuArray<Nat<Ipv4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static NAT6: PerCpuArray<Nat<Ipv6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static FRAGMENT_KEY: PerCpuArray<QueuedFragmentKey<Ipv4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static FRAGMENT_KEY6: PerCpuArray<QueuedFragmentKey<Ipv6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(super) static PACKET: PerCpuArray<QueuedFragmentRow> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(super) static FIB: PerCpuArray<bpf_fib_lookup> = PerCpuArray::with_max_entries(1, 0);

/// The number of ICMP errors that a CPU has sent in a tick.
#[map]
pub(super) static ANSWERS: PerCpuArray<AnswerRow> = PerCpuArray::with_max_entries(1, 0);

/// The ICMP errors of a CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct AnswerRow {
    /// The tick.
    pub(super) tick: u32,
    /// How many in it.
    pub(super) count: u32,
}

/// Rows of a CPU's neighbour cache, each family.
pub(super) const NEIGHBOURS_KEPT: u32 = 1 << 8;

#[map]
static NEIGHBOURS: PerCpuArray<NeighbourRow<Ipv4>> = PerCpuArray::with_max_entries(NEIGHBOURS_KEPT, 0);
#[map]
static NEIGHBOURS6: PerCpuArray<NeighbourRow<Ipv6>> = PerCpuArray::with_max_entries(NEIGHBOURS_KEPT, 0);

/// A row of the neighbour cache: how a forwarded frame reaches a next hop. Looked up once a tick.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct NeighbourRow<A> {
    /// The tick of the lookup.
    pub(crate) last: u32,
    /// The interface that the frames arrive on, and its own link address.
    pub(crate) ifindex: u32,
    /// See `ifindex`.
    pub(crate) mac: [u32; 2],
    /// The interface that they leave by.
    pub(crate) oif: u32,
    /// The next hop on it.
    pub(crate) next_hop: A,
    /// The first 12 bytes of the frames that leave.
    pub(crate) ethernet: [u32; 3],
}

/// The maps of a family.
pub(crate) trait FamilyMaps: Sized + 'static + netd_common::wire::bytes::Address {
    /// Rows of established connections.
    fn flows() -> &'static Rows<Self>;
    /// The ring of these.
    fn flows_ring() -> &'static Ring<Self>;
    /// Rows of unreplied connections.
    fn unreplied() -> &'static Rows<Self>;
    /// The ring of these.
    fn unreplied_ring() -> &'static Ring<Self>;
    /// Fragmented datagrams.
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, FragmentRow>;
    /// The fragment queue.
    fn fragment_queue() -> &'static LruHashMap<QueuedFragmentKey<Self>, QueuedFragmentRow>;
    /// Publications on one address of the host.
    fn bound_ports() -> &'static LpmTrie<BoundPortKey<Self>, Handle>;
    /// Networks by address.
    fn subnets() -> &'static LpmTrie<Self, u32>;
    /// The deny cache.
    fn deny_cache() -> &'static PerCpuArray<DenyCacheRow<Self>>;
    /// The neighbour cache.
    fn neighbours() -> &'static PerCpuArray<NeighbourRow<Self>>;
    /// Scratch space for a connection.
    fn connection() -> &'static PerCpuArray<Connection<Self>>;
    /// Scratch space for a NAT.
    fn nat() -> &'static PerCpuArray<Nat<Self>>;
    /// Scratch space for the key of a fragment.
    fn fragment_key() -> &'static PerCpuArray<QueuedFragmentKey<Self>>;
}

/// Names the maps of a family.
macro_rules! family_maps {
    ($family:ty: $($name:ident -> $type:ty = $map:ident;)*) => {
        impl FamilyMaps for $family {
            $(
                #[inline(always)]
                fn $name() -> &'static $type {
                    &$map
                }
            )*
        }
    };
}

family_maps! { Ipv4:
    flows -> Rows<Self> = FLOWS;
    flows_ring -> Ring<Self> = FLOWS_RING;
    unreplied -> Rows<Self> = UNREPLIED;
    unreplied_ring -> Ring<Self> = UNREPLIED_RING;
    fragments -> LruHashMap<FragmentKey<Self>, FragmentRow> = FRAGMENTS;
    fragment_queue -> LruHashMap<QueuedFragmentKey<Self>, QueuedFragmentRow> = FRAGMENT_QUEUE;
    bound_ports -> LpmTrie<BoundPortKey<Self>, Handle> = BOUND_PORTS;
    subnets -> LpmTrie<Self, u32> = SUBNETS;
    deny_cache -> PerCpuArray<DenyCacheRow<Self>> = DENY_CACHE;
    neighbours -> PerCpuArray<NeighbourRow<Self>> = NEIGHBOURS;
    connection -> PerCpuArray<Connection<Self>> = CONNECTION;
    nat -> PerCpuArray<Nat<Self>> = NAT;
    fragment_key -> PerCpuArray<QueuedFragmentKey<Self>> = FRAGMENT_KEY;
}

family_maps! { Ipv6:
    flows -> Rows<Self> = FLOWS6;
    flows_ring -> Ring<Self> = FLOWS_RING6;
    unreplied -> Rows<Self> = UNREPLIED6;
    unreplied_ring -> Ring<Self> = UNREPLIED_RING6;
    fragments -> LruHashMap<FragmentKey<Self>, FragmentRow> = FRAGMENTS6;
    fragment_queue -> LruHashMap<QueuedFragmentKey<Self>, QueuedFragmentRow> = FRAGMENT_QUEUE6;
    bound_ports -> LpmTrie<BoundPortKey<Self>, Handle> = BOUND_PORTS6;
    subnets -> LpmTrie<Self, u32> = SUBNETS6;
    deny_cache -> PerCpuArray<DenyCacheRow<Self>> = DENY_CACHE6;
    neighbours -> PerCpuArray<NeighbourRow<Self>> = NEIGHBOURS6;
    connection -> PerCpuArray<Connection<Self>> = CONNECTION6;
    nat -> PerCpuArray<Nat<Self>> = NAT6;
    fragment_key -> PerCpuArray<QueuedFragmentKey<Self>> = FRAGMENT_KEY6;
}

/// Tail-calls another program of TC; returns only if it is missing.
#[inline(always)]
pub(crate) fn tail_call(ctx: &TcContext, stage: u32) {
    // SAFETY: the context is the one that this program was started with, and every stage takes that type.
    unsafe { STAGES.tail_call(ctx, stage) }
}

/// Tail-calls what packets without a flow get while another set of programs gives way to this one; returns if none does.
#[inline(always)]
pub(crate) fn call_previous(ctx: &TcContext, place: u32) {
    // SAFETY: as above; the programs of an uplink and of a container, and `hold`, take that type.
    unsafe { PREVIOUS.tail_call(ctx, place) }
}

/// Tail-calls another program of XDP; returns only if it is missing.
#[inline(always)]
pub(crate) fn xdp_tail_call(ctx: &XdpContext, stage: u32) {
    // SAFETY: as above.
    unsafe { XDP_STAGES.tail_call(ctx, stage) }
}

/// This CPU's row of the neighbour cache for a next hop.
#[inline(always)]
pub(crate) fn neighbour<A: FamilyMaps>(hash: u32) -> Option<&'static mut NeighbourRow<A>> {
    let row = A::neighbours().get_ptr_mut(hash & (NEIGHBOURS_KEPT - 1))?;
    // SAFETY: this CPU's copy, which no other CPU writes, and of which a program takes one reference.
    Some(unsafe { &mut *row })
}
