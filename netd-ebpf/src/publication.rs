//! Who has a host port.

use netd_common::bytes::Be16;
use netd_common::flow::Handle;
use netd_common::tables::{EndpointRow, PublicationRow, publication_flag};
use netd_common::verdict::Reason;

use crate::flow::{self, First, Plan};
use crate::maps::{self, Tables};
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

    /// Opens a connection to it, if its source may have one; `may_use` as in [`flow::open`].
    #[inline(always)]
    pub(crate) fn open<A: Wire>(
        &self,
        skb: &Skb,
        plan: &Plan<'_, A>,
        may_use: impl Fn(Be16) -> bool,
    ) -> Result<First, Reason> {
        if !maps::may_use(plan.publication, plan.original.src) {
            self.count_drop();
            return Err(Reason::Denied);
        }
        let first = flow::open(skb, plan, may_use)?;
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

/// The publication that a packet or a connection to `address` and `port` means: one on that very address first, then one
/// on all addresses of the family, then one on all.
#[inline(always)]
pub(crate) fn find<A: Tables>(protocol: u8, address: A, port: Be16) -> Option<Found> {
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

/// The publication of a container's port, for a packet whose connection the flow table has forgotten. One whose ports are
/// another's by now is found as well, for its connections must not be taken for those that the container begins.
#[inline(always)]
pub(crate) fn of_target(endpoint: Handle, protocol: u8, port: Be16) -> Option<Found> {
    live(maps::target_port(endpoint, protocol, port)?, false)
}

#[inline(always)]
fn live(handle: Handle, any_address: bool) -> Option<Found> {
    let publication = maps::publication(handle)?;
    // SAFETY: array rows are never freed; the endpoint's handle is one aligned word, checked by the lookup.
    let endpoint = maps::endpoint(unsafe { (*publication).endpoint })?;
    Some(Found { publication, endpoint, any_address })
}
