//! The publication that a packet is for: finding it, its access lists, and the translation of the packet.

use crate::abi::{EndpointRow, FamilyRows, PublicationRow, network_flag, publication_flag};
use crate::flow::handle::Handle;
use crate::flow::key::{FlowKey, Tuple};
use crate::verdict::Reason;
use crate::wire::bytes::{Address as _, Be16, Ipv4, Ipv6};

use super::{Lookups, Refusal, Tables};

/// A live publication and its target.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The publication.
    pub row: &'a PublicationRow,
    /// Its target.
    pub endpoint: &'a EndpointRow,
}

/// The publication that a packet to `address` and `port` is for: one on that address first, then one on all addresses
/// of the family, then one on all addresses. A network that is routed in the family has none on the host.
///
/// The caller still has to check that the address is the host's: an address that was published may have left the host.
#[inline(always)]
pub fn find<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    protocol: u8,
    address: A,
    port: Be16,
) -> Option<Found<'_>> {
    on_host(lookups, protocol, address, port).filter(|found| !is_routed::<A>(found.endpoint))
}

#[inline(always)]
fn on_host<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    protocol: u8,
    address: A,
    port: Be16,
) -> Option<Found<'_>> {
    let row = lookups.port(protocol, port)?;
    if row.bound != 0 {
        if let Some(handle) = lookups.bound_port(protocol, address, port)
            && let Some(found) = live(lookups, handle)
        {
            return Some(found);
        }
        if let Some(handle) = lookups.bound_port(protocol, A::UNSPECIFIED, port)
            && let Some(found) = live(lookups, handle)
        {
            return Some(found);
        }
    }
    live(lookups, row.any)
}

/// The publication whose target is a container's port. Draining ones are found too: packets of their connections must
/// not count as new connections of the container.
#[inline(always)]
pub fn of_target<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    endpoint: Handle,
    protocol: u8,
    port: Be16,
) -> Option<Found<'_>> {
    live(lookups, lookups.target_port(endpoint, protocol, port)?)
}

#[inline(always)]
fn live<L: Tables>(lookups: &L, handle: Handle) -> Option<Found<'_>> {
    let row = lookups.publication(handle)?;
    let endpoint = lookups.endpoint(row.endpoint)?;
    Some(Found { row, endpoint })
}

/// Whether an endpoint's network is routed: it is reached only by its containers' own addresses.
#[inline(always)]
pub fn is_routed<A: FamilyRows>(endpoint: &EndpointRow) -> bool {
    endpoint.flags & A::flag(network_flag::ROUTED) != 0
}

impl Found<'_> {
    /// Whether it accepts packets that arrive on this interface; zero stands for sockets of the host.
    #[inline(always)]
    pub fn is_for(&self, ifindex: u32) -> bool {
        self.row.interface == 0 || self.row.interface == ifindex
    }

    /// Whether it is draining: another publication has its ports, and it accepts no new connections.
    #[inline(always)]
    pub fn is_draining(&self) -> bool {
        self.row.flags & publication_flag::DRAINING != 0
    }

    /// Whether a packet from the target's port may belong to a connection of another publication.
    #[inline(always)]
    pub fn shares_target<A: FamilyRows>(&self) -> bool {
        self.row.flags & A::flag(publication_flag::SHARED_TARGET) != 0
    }

    /// The tuple of a packet to the publication after translation: the destination is the target. If the target could not
    /// answer the sender, the source is the gateway (`hides_source`): for a container that connects to itself, since no host
    /// accepts packets from its own address, and for a link-local address of another link. If the target
    /// has only IPv4 and the packet is IPv6, both addresses are IPv4-mapped (NAT64). `None` if the target has no usable
    /// address.
    #[inline(always)]
    pub fn translated<A: FamilyRows>(&self, key: &FlowKey<A>, hides_source: bool) -> Option<Tuple<A>> {
        let ports = Tuple { dst_port: self.row.target_port(key.dst_port), ..key.tuple() };
        let subnet = A::subnet(self.endpoint);
        if subnet.address() != A::UNSPECIFIED {
            let src = if hides_source { subnet.gateway() } else { key.src };
            return Some(Tuple { src, dst: subnet.address(), ..ports });
        }
        let subnet = &self.endpoint.subnet4;
        let has_ipv4 = A::IS_V6
            && !is_routed::<Ipv4>(self.endpoint)
            && subnet.address() != Ipv4::UNSPECIFIED
            && subnet.gateway() != Ipv4::UNSPECIFIED;
        let mapped = |address| A::from_ipv6(Ipv6::mapped(address));
        has_ipv4.then(|| Tuple { src: mapped(subnet.gateway()), dst: mapped(subnet.address()), ..ports })
    }

    /// Denies a source by the access list of the publication, or by the default list if it has none.
    #[inline(always)]
    pub fn admit<A: FamilyRows, L: Tables>(&self, lookups: &L, source: A) -> Result<(), Refusal> {
        let source = source.to_ipv6();
        let allowed = match lookups.access(self.row.handle, source) {
            Some(own) => own,
            None => lookups.access(Handle::NONE, source).unwrap_or(true),
        };
        if allowed { Ok(()) } else { Err(self.refuse(Reason::Denied)) }
    }

    /// A drop that the publication counts.
    #[inline(always)]
    pub fn refuse(&self, reason: Reason) -> Refusal {
        Refusal { reason, publication: self.row.handle }
    }
}
