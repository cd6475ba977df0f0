//! Who has a host port.

use netd_common::abi::{EndpointRow, PublicationRow, network_flag, publication_flag};
use netd_common::bytes::{Address as _, Be16, Ipv4, Ipv6};
use netd_common::flow::{FlowKey, Handle, Tuple};
use netd_common::packet::Family as _;
use netd_common::verdict::Reason;

use crate::flow::{self, First, Plan};
use crate::maps::{self, Tables};
use crate::masquerade;
use crate::skb::{Skb, Wire};

/// A live publication and its target.
pub(crate) struct Found {
    /// The publication's row.
    pub(crate) publication: *mut PublicationRow,
    /// The target's.
    pub(crate) endpoint: &'static EndpointRow,
    /// Whether it is on all of the host's addresses, so that somebody must make sure that this is one of them.
    pub(crate) any_address: bool,
}

impl Found {
    /// The publication's row, for reading.
    #[inline(always)]
    pub(crate) fn row(&self) -> &PublicationRow {
        // SAFETY: array rows are never freed, and a publication's row is complete before its port leads to it.
        unsafe { &*self.publication }
    }

    /// What a packet to the publication becomes: its destination is the container's. Its source is the gateway's if it comes
    /// from the container itself, since no host takes a packet from the wire that has its own address for a source; and if
    /// the container does not speak the packet's family, both are in the other one. None if it speaks neither.
    #[inline(always)]
    pub(crate) fn inner<A: Wire>(&self, key: &FlowKey<A>, itself: bool) -> Option<Tuple<A>> {
        let ports = Tuple { dst_port: self.row().target_port(key.dst_port), ..key.tuple() };
        let own = A::subnet(self.endpoint);
        if own.address() != A::UNSPECIFIED {
            let src = if itself { own.gateway() } else { key.src };
            return Some(Tuple { src, dst: own.address(), ..ports });
        }
        let four = &self.endpoint.subnet4;
        let is_routed = self.endpoint.flags & Ipv4::flag(network_flag::ROUTED) != 0;
        let speaks = A::IS_V6
            && !is_routed
            && four.address() != Ipv4::UNSPECIFIED
            && four.gateway() != Ipv4::UNSPECIFIED;
        let in_six = |address| A::of_unified(Ipv6::mapped(address));
        speaks.then(|| Tuple { src: in_six(four.gateway()), dst: in_six(four.address()), ..ports })
    }

    /// Whether it is for packets that come in by this interface; zero stands for the host's own sockets.
    #[inline(always)]
    pub(crate) fn is_for(&self, ifindex: u32) -> bool {
        let interface = self.row().interface;
        interface == 0 || interface == ifindex
    }

    /// Whether its ports are another's by now: a client that comes again goes there.
    #[inline(always)]
    pub(crate) fn is_draining(&self) -> bool {
        self.row().flags & publication_flag::DRAINING != 0
    }

    /// Opens a connection to its container.
    #[inline(always)]
    pub(crate) fn enter<A: Wire>(&self, skb: &Skb, plan: &Plan<A>) -> Result<First, Reason> {
        self.admit(plan)?;
        let port = flow::choose(skb, plan)?;
        if plan.by_gateway && !is_free_on_gateway(skb, plan, port) {
            return Ok(First::Taken);
        }
        self.open(plan, port)
    }

    /// Refuses a source that may not use it.
    #[inline(always)]
    pub(crate) fn admit<A: Wire>(&self, plan: &Plan<A>) -> Result<(), Reason> {
        if maps::may_use(plan.publication, plan.original.src) {
            return Ok(());
        }
        self.count_drop();
        Err(Reason::Denied)
    }

    /// Opens a connection to it with this source port.
    #[inline(always)]
    pub(crate) fn open<A: Wire>(&self, plan: &Plan<A>, port: Be16) -> Result<First, Reason> {
        let first = flow::open(plan, port)?;
        if matches!(first, First::Opened) {
            self.count_flow();
        }
        Ok(first)
    }

    /// Counts a dropped packet.
    #[inline(always)]
    pub(crate) fn count_drop(&self) {
        maps::count_publication_drop(self.publication);
    }

    /// Counts a connection.
    #[inline(always)]
    pub(crate) fn count_flow(&self) {
        // SAFETY: an aligned word of a publication's row, which is never freed.
        unsafe { maps::add(&raw mut (*maps::counters(self.publication)).flows, 1) };
    }
}

/// Whether neither a publication nor a socket of the host has a port of the gateway towards the plan's container.
#[inline(always)]
fn is_free_on_gateway<A: Wire>(skb: &Skb, plan: &Plan<A>, port: Be16) -> bool {
    let number = plan.original.protocol();
    let Tuple { src, dst, dst_port, .. } = plan.inner;
    match (src.unified().as_mapped(), dst.unified().as_mapped()) {
        (Some(src), Some(dst)) => {
            masquerade::is_free(skb, number, &Tuple { src, dst, src_port: port, dst_port })
        }
        _ => masquerade::is_free(skb, number, &Tuple { src_port: port, ..plan.inner }),
    }
}

/// The publication that a packet or a connection to `address` and `port` means: one on that very address first, then one
/// on all addresses of the family, then one on all. A network that is routed in the family has none on the host.
#[inline(always)]
pub(crate) fn find<A: Tables>(protocol: u8, address: A, port: Be16) -> Option<Found> {
    named(protocol, address, port).filter(|found| found.endpoint.flags & A::flag(network_flag::ROUTED) == 0)
}

#[inline(always)]
fn named<A: Tables>(protocol: u8, address: A, port: Be16) -> Option<Found> {
    let row = maps::port(protocol, port)?;
    if row.bound != 0 {
        if let Some(handle) = maps::bound_port(address, protocol, port)
            && let Some(found) = live(handle, false)
        {
            return Some(found);
        }
        if let Some(handle) = maps::bound_port(A::UNSPECIFIED, protocol, port)
            && let Some(found) = live(handle, true)
        {
            return Some(found);
        }
    }
    live(row.any, true)
}

/// Whether somebody has a port on an address, or on all of them.
#[inline(always)]
pub(crate) fn is_taken<A: Tables>(protocol: u8, address: A, port: Be16) -> bool {
    find(protocol, address, port).is_some()
}

/// The publication of a container's port in a family. One whose ports are another's by now is found as well, for its
/// connections must not be taken for those that the container begins.
#[inline(always)]
pub(crate) fn of_target<A: Tables>(endpoint: Handle, protocol: u8, port: Be16) -> Option<Found> {
    live(maps::target_port::<A>(endpoint, protocol, port)?, false)
}

#[inline(always)]
fn live(handle: Handle, any_address: bool) -> Option<Found> {
    let publication = maps::publication(handle)?;
    // SAFETY: array rows are never freed; the endpoint's handle is one aligned word, checked by the lookup.
    let endpoint = maps::endpoint(unsafe { (*publication).endpoint })?;
    Some(Found { publication, endpoint, any_address })
}
