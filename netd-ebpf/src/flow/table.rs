//! Finding the rows of a connection, and whether they are live.

use netd_common::abi::{EndpointRow, pending};
use netd_common::flow::nat::{self, Connection};
use netd_common::flow::{FlowKey, FlowRow, State};

use crate::kernel::flows::{self, Flows, NotInserted};
use crate::kernel::inet::Inet;
use crate::kernel::{atomic, clock, frame, scratch, tables};

/// One of the two flow tables. Each program uses only one of them, since the verifier follows every combination of row
/// pointers separately.
pub(crate) trait Table<A: Inet> {
    /// Whether connections move from here to the other table once they are assured, or back once they have ended.
    const IS_UNREPLIED: bool;

    /// The table.
    fn rows() -> Flows<A>;
}

/// Established connections. None of them gives way to another one.
pub(crate) enum Assured {}

impl<A: Inet> Table<A> for Assured {
    const IS_UNREPLIED: bool = false;

    #[inline(always)]
    fn rows() -> Flows<A> {
        flows::established()
    }
}

/// New, unreplied, half-open and ended connections. A flood fills only this table.
pub(crate) enum Unreplied {}

impl<A: Inet> Table<A> for Unreplied {
    const IS_UNREPLIED: bool = true;

    #[inline(always)]
    fn rows() -> Flows<A> {
        flows::unreplied()
    }
}

/// The endpoint of a live row; none if its endpoint or its publication has been removed. Every row is checked with this
/// before it is used.
#[inline(always)]
pub(crate) fn owner<A: Inet>(row: &FlowRow<A>) -> Option<&'static EndpointRow> {
    let endpoint = tables::endpoint(row.endpoint)?;
    if !row.publication.is_none() {
        tables::publication(row.publication)?;
    }
    Some(endpoint)
}

/// Adds what a row has counted since the last time to its totals and its publication's.
#[inline(always)]
pub(crate) fn add_up<A: Inet>(row: &mut FlowRow<A>) {
    let word = atomic::take(&mut row.pending);
    row.add_totals(pending::packets(word), pending::bytes(word));
    tables::count_packets(row.publication, row.is_reply(), word);
}

/// Removes the row under a key and its partner. Another connection may have got the partner's key since.
#[inline(always)]
pub(crate) fn forget<A: Inet>(flows: Flows<A>, key: &FlowKey<A>, other: &FlowKey<A>) {
    if flows::get(flows, other).is_some_and(|partner| partner.tuple() == key.tuple().reversed()) {
        flows::remove(flows, other);
    }
    flows::remove(flows, key);
}

/// The row under a key in either table.
#[inline(always)]
pub(crate) fn in_either<A: Inet>(key: &FlowKey<A>) -> Option<&'static mut FlowRow<A>> {
    match flows::get(flows::established(), key) {
        Some(row) => Some(row),
        None => flows::get(flows::unreplied(), key),
    }
}

/// A copy of the live row under a key; the row itself is not changed.
#[inline(always)]
pub(crate) fn peek<A: Inet>(key: FlowKey<A>) -> Option<(&'static mut FlowRow<A>, &'static EndpointRow)> {
    let Connection { original: place, forward: copy, .. } = scratch::connection()?;
    *place = key;
    *copy = *in_either(place)?;
    let endpoint = owner(copy)?;
    Some((copy, endpoint))
}

/// Stores the path MTU (bytes) for the other direction of a connection. `own` is a copy of the row under `key`.
#[inline(always)]
pub(crate) fn lower_mtu<A: Inet>(key: &FlowKey<A>, own: &FlowRow<A>, mtu: u32) {
    let other = nat::partner_key(key, own);
    if let Some(partner) = in_either(&other)
        && partner.is_outward()
        && (partner.mtu() == 0 || mtu < partner.mtu())
    {
        partner.set_mtu(mtu);
    }
}

/// Whether a connection has been idle for too long.
#[inline(always)]
pub(crate) fn is_expired(state: State, idle: u32) -> bool {
    tables::timeout(state).is_some_and(|timeout| idle > timeout)
}

/// A live connection.
pub(crate) struct Live<A: Inet> {
    /// The row of the packet's direction.
    pub(crate) row: &'static mut FlowRow<A>,
    /// The other direction's.
    pub(crate) partner: &'static mut FlowRow<A>,
    /// The row's endpoint.
    pub(crate) endpoint: &'static EndpointRow,
    /// The connection's state before the packet.
    pub(crate) state: State,
}

/// The connection of a packet.
pub(crate) enum Found<A: Inet> {
    /// It has this one.
    Live(Live<A>),
    /// It has one that is over, and is to be forgotten.
    Over,
    /// It has none.
    Nothing,
}

/// The connection of a packet with this key. If one row is missing, it is restored from the other one, in `spare`. `other`
/// becomes the key of the other direction.
#[inline(always)]
pub(crate) fn find<A: Inet, T: Table<A>>(
    key: &FlowKey<A>,
    other: &mut FlowKey<A>,
    spare: &mut FlowRow<A>,
) -> Found<A> {
    let Some(row) = flows::get(T::rows(), key) else { return Found::Nothing };
    *other = nat::partner_key(key, row);
    // A row that is not live would hide the row of the same key in the other table.
    let Some(endpoint) = owner(row) else { return Found::Over };
    let partner = match flows::get(T::rows(), other) {
        Some(partner) => partner,
        None => match restore::<A, T>(key, row, other, spare) {
            Some(partner) => partner,
            None => return Found::Nothing,
        },
    };
    if partner.tuple() != key.tuple().reversed() {
        // It belongs to another connection, which was made while the partner was missing.
        return Found::Over;
    }
    let state = row.state(key.protocol(), Some(partner));
    let state = State::numbered(frame::opaque(state as u32, row.last));
    if is_expired(state, row.idle(Some(partner), clock::now())) {
        return Found::Over;
    }
    Found::Live(Live { row, partner, endpoint, state })
}

/// Restores a partner.
#[inline(always)]
fn restore<A: Inet, T: Table<A>>(
    key: &FlowKey<A>,
    row: &FlowRow<A>,
    other: &FlowKey<A>,
    spare: &mut FlowRow<A>,
) -> Option<&'static mut FlowRow<A>> {
    let back = match tables::endpoint_behind(key.zone().ifindex()) {
        Some(sender) => sender.handle,
        None => row.endpoint,
    };
    nat::restore(spare, key, row, other, back);
    // The seen flags of this direction are used for both, so that the connection does not look unreplied.
    spare.add_flags(row.seen().flags);
    spare.last = row.last.saturating_sub(1);
    match flows::insert(T::rows(), other, spare) {
        // Another CPU may have been faster. The tuple of its row says whether it is the partner.
        Ok(()) | Err(NotInserted::Exists) => flows::get(T::rows(), other),
        Err(NotInserted::Full) => None,
    }
}
