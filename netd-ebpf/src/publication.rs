//! Who has a host port.

use netd_common::bytes::{Be16, Ipv4};
use netd_common::flow::Handle;
use netd_common::tables::{EndpointRow, PublicationRow};

use crate::maps;

/// A live publication and its container.
pub(crate) struct Found {
    /// The publication's row.
    pub(crate) publication: *mut PublicationRow,
    /// The container's.
    pub(crate) endpoint: &'static EndpointRow,
    /// Whether it is on all of the host's addresses, so that somebody must make sure that this is one of them.
    pub(crate) any_address: bool,
}

/// The publication that a packet or a connection to `address` and `port` means: one on that very address first.
#[inline(always)]
pub(crate) fn find(protocol: u8, address: Ipv4, port: Be16) -> Option<Found> {
    let row = maps::port(protocol, port)?;
    if row.bound != 0
        && let Some(handle) = maps::bound_port(address, protocol, port)
        && let Some(found) = live(handle, false)
    {
        return Some(found);
    }
    live(row.any, true)
}

#[inline(always)]
fn live(handle: Handle, any_address: bool) -> Option<Found> {
    let publication = maps::publication(handle)?;
    // SAFETY: array rows are never freed; the endpoint's handle is one aligned word, checked by the lookup.
    let endpoint = maps::endpoint(unsafe { (*publication).endpoint })?;
    Some(Found { publication, endpoint, any_address })
}
