//! Which publication a packet is for, whom it lets in, and what a packet to it becomes.

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
    /// Whether it is on all of the host's addresses: then the destination still has to be checked to be one of them.
    pub any_address: bool,
}

/// The publication that a packet to `address` and `port` is for: one on that address first, then one on all addresses
/// of the family, then one on all addresses. A network that is routed in the family has none on the host.
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
            && let Some(found) = live(lookups, handle, false)
        {
            return Some(found);
        }
        if let Some(handle) = lookups.bound_port(protocol, A::UNSPECIFIED, port)
            && let Some(found) = live(lookups, handle, true)
        {
            return Some(found);
        }
    }
    live(lookups, row.any, true)
}

/// The publication whose target is a container's port. A draining one is found as well: packets of its connections must
/// not be taken for connections that the container opens.
#[inline(always)]
pub fn of_target<A: FamilyRows, L: Lookups<A>>(
    lookups: &L,
    endpoint: Handle,
    protocol: u8,
    port: Be16,
) -> Option<Found<'_>> {
    live(lookups, lookups.target_port(endpoint, protocol, port)?, false)
}

#[inline(always)]
fn live<L: Tables>(lookups: &L, handle: Handle, any_address: bool) -> Option<Found<'_>> {
    let row = lookups.publication(handle)?;
    let endpoint = lookups.endpoint(row.endpoint)?;
    Some(Found { row, endpoint, any_address })
}

/// Whether an endpoint's network is reached by its containers' own addresses only.
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

    /// Whether another publication has taken over its ports: it keeps its connections and accepts no new ones.
    #[inline(always)]
    pub fn is_draining(&self) -> bool {
        self.row.flags & publication_flag::DRAINING != 0
    }

    /// Whether a packet from the target's port may belong to a connection of another publication.
    #[inline(always)]
    pub fn shares_target<A: FamilyRows>(&self) -> bool {
        self.row.flags & A::flag(publication_flag::SHARED_TARGET) != 0
    }

    /// A packet to the publication after translation: the destination is the target's. The source becomes the gateway's
    /// for a container that connects to itself, since no host accepts its own address as a source from the wire. If the
    /// target has only IPv4 and the packet is IPv6, both addresses are IPv4-mapped (NAT64). `None` if the target has
    /// neither.
    #[inline(always)]
    pub fn translated<A: FamilyRows>(&self, key: &FlowKey<A>, is_itself: bool) -> Option<Tuple<A>> {
        let ports = Tuple { dst_port: self.row.target_port(key.dst_port), ..key.tuple() };
        let subnet = A::subnet(self.endpoint);
        if subnet.address() != A::UNSPECIFIED {
            let src = if is_itself { subnet.gateway() } else { key.src };
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

    /// Refuses a source that the access lists deny: the publication's own list, or the global one if it has none.
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
