//! Which ports a fragment has: only the first fragment of a datagram holds them, so they are remembered by the datagram's
//! number.

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

/// The key of the datagram that a packet is a part of, with room for those of its fragments.
#[inline(always)]
pub(crate) fn key<A: Inet>(ip: &Ip<A>, id: u32, zone: Zone) -> Option<&'static mut QueuedFragmentKey<A>> {
    let place = scratch::fragment_key()?;
    *place = QueuedFragmentKey::new(FragmentKey::new(ip.src, ip.dst, id, ip.protocol, zone), 0);
    Some(place)
}

/// The row of a datagram whose first fragment has come. None if it has not, or so long ago that the number may belong to
/// another datagram by now.
#[inline(always)]
pub(crate) fn first<A: Inet>(key: &FragmentKey<A>) -> Option<FragmentRow> {
    let row = *fragments::datagram(key)?;
    (row.has_first() && clock::now().wrapping_sub(row.last) <= FRAGMENT_TICKS).then_some(row)
}

/// Reads a packet's transport header; a later fragment's ports are those of its datagram's first one.
/// [`Reason::Fragment`] if that one has not come.
#[inline(always)]
pub(crate) fn transport<A: Inet>(frame: &Frame, ip: &Ip<A>, zone: Zone) -> Result<Transport, Reason> {
    let Part::Later(id) = ip.part else { return transport::read(frame, ip) };
    let place = key(ip, id, zone).ok_or(Reason::Fragment)?;
    let row = first(&place.datagram).ok_or(Reason::Fragment)?;
    Ok(Transport::bare(row.src_port, row.dst_port))
}
