//! The ports of fragments. Only the first fragment of a datagram holds them, so they are stored under the datagram's
//! identification.

use netd_common::abi::{FRAGMENT_TICKS, FragmentKey, FragmentRow, QueuedFragmentKey};
use netd_common::flow::Zone;
use netd_common::verdict::Reason;
use netd_common::wire::ip::{Ip, Part};
use netd_common::wire::transport::{self, Transport};

use crate::kernel::clock;
use crate::kernel::fragments;
use crate::kernel::frame::Frame;
use crate::kernel::inet::Inet;
use crate::kernel::scratch;

/// The key of the datagram that a packet is a fragment of, with room for the keys of its fragments.
#[inline(always)]
pub(crate) fn key<A: Inet>(ip: &Ip<A>, id: u32, zone: Zone) -> Option<&'static mut QueuedFragmentKey<A>> {
    let place = scratch::fragment_key()?;
    *place = QueuedFragmentKey::new(FragmentKey::new(ip.src, ip.dst, id, ip.protocol, zone), 0);
    Some(place)
}

/// The row of a datagram whose first fragment has come. None if it has not, or so long ago that another datagram may
/// have the identification.
#[inline(always)]
pub(crate) fn first<A: Inet>(key: &FragmentKey<A>) -> Option<FragmentRow> {
    let row = *fragments::datagram(key)?;
    (row.has_first() && clock::now().wrapping_sub(row.last) <= FRAGMENT_TICKS).then_some(row)
}

/// Reads a packet's transport header. A later fragment has the ports of the first one; [`Reason::Fragment`] if that one
/// has not arrived.
#[inline(always)]
pub(crate) fn transport<A: Inet>(frame: &Frame, ip: &Ip<A>, zone: Zone) -> Result<Transport, Reason> {
    let Part::Later(id) = ip.part else { return transport::read(frame, ip) };
    let place = key(ip, id, zone).ok_or(Reason::Fragment)?;
    let row = first(&place.datagram).ok_or(Reason::Fragment)?;
    Ok(Transport::bare(row.src_port, row.dst_port))
}
