//! Rows that the user side writes: endpoints, publications, uplinks, access lists, timeouts; and the host's sockets.

use aya_ebpf::maps::LpmTrie;
use aya_ebpf::maps::lpm_trie::Key;
use netd_common::abi::{
    AllowedAddressKey, BoundPortKey, EndpointRow, LocalPorts, PortRow, PublicationRow, SocketKey, SocketRow,
    SourceKey, TargetPortKey, TrustKey, UplinkRow, access, local, pending, port_index,
};
use netd_common::flow::{Handle, State};
use netd_common::wire::bytes::{Address as _, Be16, Ipv6};

use super::inet::Inet;
use super::maps::{self, BPF_ANY};
use super::{atomic, stack};

/// The row of an LPM trie with the longest prefix of `data`, which has `bits` bits.
#[inline(always)]
fn longest<K, V: Copy>(trie: &LpmTrie<K, V>, bits: u32, data: K) -> Option<V> {
    // The data follow a word, so that word comes in the second half of a double word.
    let place = stack::Aligned::<_, 1>::new(Key::new(bits, data));
    trie.get(&place.value).copied()
}

/// How long a connection in this state may be idle, ticks.
#[inline(always)]
pub(crate) fn timeout(state: State) -> Option<u32> {
    maps::TIMEOUTS.get(state as u32).copied()
}

/// The uplink of this interface index.
#[inline(always)]
pub(crate) fn uplink(ifindex: u32) -> Option<&'static UplinkRow> {
    // SAFETY: the kernel frees no row under a running program, and the user side replaces rows as a whole. If a new
    // address were read in part, one connection would get a wrong address.
    unsafe { maps::UPLINKS.get(ifindex) }
}

/// The live endpoint of a handle.
#[inline(always)]
pub(crate) fn endpoint(handle: Handle) -> Option<&'static EndpointRow> {
    let row = maps::ENDPOINTS.get(u32::from(handle.slot()))?;
    if row.handle == handle { Some(row) } else { None }
}

/// The container whose host-side veth has this index.
#[inline(always)]
pub(crate) fn endpoint_behind(ifindex: u32) -> Option<&'static EndpointRow> {
    // SAFETY: the row is one aligned word, read once. If the row is reused meanwhile, it holds another container's
    // handle only if that container's veth has got the index.
    let handle = unsafe { maps::ENDPOINT_OF.get(ifindex) }?;
    endpoint(*handle)
}

/// The container that has this address.
#[inline(always)]
pub(crate) fn endpoint_at<A: Inet>(address: A) -> Option<&'static EndpointRow> {
    // SAFETY: as in `endpoint_behind`, with the address as the key.
    let handle = unsafe { maps::ADDRESSES.get(address.to_ipv6()) }?;
    endpoint(*handle)
}

/// Whether a container may use an address that is not its own: it was allowed to, and no other container has it.
#[inline(always)]
pub(crate) fn is_allowed_address(endpoint: &EndpointRow, address: Ipv6) -> bool {
    let data = AllowedAddressKey { endpoint: endpoint.handle, address };
    let place = stack::Aligned::<_>::new(Key::new(AllowedAddressKey::BITS, data));
    maps::ALLOWED.get(&place.value).is_some()
        && endpoint_at(address).is_none_or(|owner| owner.handle == endpoint.handle)
}

/// Whether a network trusts what arrives on an interface.
#[inline(always)]
pub(crate) fn is_trusted(network: u32, ifindex: u32) -> bool {
    maps::TRUSTED.get_ptr(TrustKey { network, ifindex }).is_some()
}

/// The live publication of a handle.
#[inline(always)]
pub(crate) fn publication(handle: Handle) -> Option<&'static mut PublicationRow> {
    let row = maps::PUBLICATIONS.get_ptr_mut(u32::from(handle.slot()))?;
    // SAFETY: array rows are never freed. The handle is one aligned word, and the programs change nothing but the
    // counters, by atomic operations.
    let row = unsafe { &mut *row };
    if row.handle == handle && !handle.is_none() { Some(row) } else { None }
}

/// Counts a dropped packet of a publication, if there is one.
#[inline(always)]
pub(crate) fn count_dropped(publication: Handle, packets: u32) {
    if let Some(row) = self::publication(publication) {
        atomic::add(&mut row.counters.dropped, u64::from(packets));
    }
}

/// Counts a connection of a publication, if there is one.
#[inline(always)]
pub(crate) fn count_flow(publication: Handle) {
    if let Some(row) = self::publication(publication) {
        atomic::add(&mut row.counters.flows, 1);
    }
}

/// Adds the packets and bytes of a [`pending`] word to a publication, if there is one.
#[inline(always)]
pub(crate) fn count_packets(publication: Handle, is_from_container: bool, word: u64) {
    if let Some(row) = self::publication(publication) {
        let counters = &mut row.counters;
        let (packets, bytes) = if is_from_container {
            (&mut counters.packets_out, &mut counters.bytes_out)
        } else {
            (&mut counters.packets_in, &mut counters.bytes_in)
        };
        atomic::add(packets, pending::packets(word));
        atomic::add(bytes, pending::bytes(word));
    }
}

/// The publications of a host port.
#[inline(always)]
pub(crate) fn port(protocol: u8, port: Be16) -> Option<PortRow> {
    maps::PORTS.get(port_index(protocol, port)?).copied()
}

/// The publication on one address of the host.
#[inline(always)]
pub(crate) fn bound_port<A: Inet>(protocol: u8, address: A, port: Be16) -> Option<Handle> {
    let data = BoundPortKey { address, protocol: Be16::new(u16::from(protocol)), port };
    longest(A::bound_ports(), BoundPortKey::<A>::BITS, data)
}

/// The publication whose target is this port of an endpoint, in a family.
#[inline(always)]
pub(crate) fn target_port<A: Inet>(endpoint: Handle, protocol: u8, port: Be16) -> Option<Handle> {
    longest(&maps::TARGET_PORTS, TargetPortKey::BITS, TargetPortKey::new::<A>(endpoint, protocol, port))
}

/// Whether the access list of a publication allows a source; `None` if it has no list.
#[inline(always)]
pub(crate) fn access(publication: Handle, source: Ipv6) -> Option<bool> {
    let place = stack::Aligned::<_>::new(Key::new(SourceKey::BITS, SourceKey { publication, source }));
    maps::SOURCES.get(&place.value).map(|row| *row == access::ALLOW)
}

/// The number of the network in whose subnet an address lies.
#[inline(always)]
pub(crate) fn network_of<A: Inet>(address: A) -> Option<u32> {
    longest(A::subnets(), A::BITS, address)
}

/// Whether an address lies in the subnet of a network.
#[inline(always)]
pub(crate) fn is_in_network<A: Inet>(address: A) -> bool {
    network_of(address).is_some()
}

/// Whether an address was the host's own when the user side last looked.
#[inline(always)]
pub(crate) fn is_local<A: Inet>(address: A) -> bool {
    longest(&maps::LOCALS, Ipv6::BITS, address.to_ipv6()) == Some(local::OWN)
}

/// Whether an address was the broadcast address of one of the host's networks when the user side last looked.
#[inline(always)]
pub(crate) fn is_broadcast<A: Inet>(address: A) -> bool {
    !A::IS_V6 && longest(&maps::LOCALS, Ipv6::BITS, address.to_ipv6()) == Some(local::BROADCAST)
}

/// The ports that the kernel gave to the host's sockets when the user side last looked.
#[inline(always)]
pub(crate) fn local_ports() -> LocalPorts {
    maps::LOCAL_PORTS.get(0).copied().unwrap_or_default()
}

/// Whether an IPsec policy demands that packets from or to an address are encrypted or blocked.
#[inline(always)]
pub(crate) fn is_ipsec_peer<A: Inet>(address: A) -> bool {
    longest(&maps::IPSEC_PEERS, Ipv6::BITS, address.to_ipv6()) == Some(1)
}

/// The MTU of the route to an address, bytes; `None` if it has none of its own.
#[inline(always)]
pub(crate) fn route_mtu<A: Inet>(address: A) -> Option<u32> {
    longest(&maps::ROUTE_MTUS, Ipv6::BITS, address.to_ipv6()).filter(|mtu| *mtu != 0)
}

/// The address that a socket of the host asked for.
#[inline(always)]
pub(crate) fn socket(key: &SocketKey) -> Option<SocketRow> {
    // SAFETY: copied at once. A row that is reused within these instructions belongs to another socket's cookie, and
    // gives at worst one wrong answer to getpeername.
    unsafe { maps::SOCKETS.get(key) }.copied()
}

/// Stores the address that a socket of the host asked for.
#[inline(always)]
pub(crate) fn put_socket(key: &SocketKey, row: &SocketRow) {
    // If the table is full, the application sees the container's address.
    let _full = maps::SOCKETS.insert(key, row, BPF_ANY);
}

/// Deletes it.
#[inline(always)]
pub(crate) fn remove_socket(key: &SocketKey) {
    let _absent = maps::SOCKETS.remove(key);
}
