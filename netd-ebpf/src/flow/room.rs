//! Room for connections: each table has a ring of its connections in the order in which they came, and a hand that goes round
//! (the CLOCK algorithm). Whoever needs a place looks at the next few.
//!
//! In the ring of established connections a place is free if its connection is gone or has expired. In the ring of unreplied
//! ones a place is also free if its connection counts for a container that has more than its share; if none is free, the
//! oldest connection gives way.

use netd_common::flow::nat::{self, Connection};
use netd_common::flow::{FlowKey, FlowRow, Handle};

use crate::flow::table::{is_expired, owner};
use crate::kernel::flows::{self, Flows, Place};
use crate::kernel::inet::Inet;
use crate::kernel::{clock, scratch};

/// How many places one packet looks at.
const PLACES: u32 = 8;

/// Gives the connection that was just opened its place in the ring of unreplied ones.
#[inline(always)]
pub(crate) fn enlist<A: Inet>() {
    if let Some(Connection { original, .. }) = scratch::connection::<A>() {
        place_unreplied(original);
    }
}

/// Gives the connection with this originator's key a place in the ring of unreplied ones.
#[inline(always)]
fn place_unreplied<A: Inet>(original: &FlowKey<A>) {
    let table = flows::unreplied();
    for looked_at in 1..=PLACES {
        let Some(place) = flows::next_place(table) else { return };
        let gives_way = |owner| looked_at == PLACES || flows::is_over_quota(table, owner);
        if is_free(table, &place, gives_way) {
            take(table, place, original);
            return;
        }
    }
}

/// A place in the ring of established connections.
#[inline(always)]
fn place_established<A: Inet>(original: &FlowKey<A>) -> bool {
    let table = flows::established();
    for _ in 0..PLACES {
        let Some(place) = flows::next_place(table) else { return false };
        if is_free(table, &place, |_owner| false) {
            // The row is still in the other table.
            take(flows::unreplied(), place, original);
            return true;
        }
    }
    false
}

/// Takes a place for the connection with this originator's key, whose row is in `table`.
#[inline(always)]
fn take<A: Inet>(table: Flows<A>, place: Place<A>, original: &FlowKey<A>) {
    *place.key = *original;
    if let Some(row) = flows::get(table, original) {
        row.set_place(place.number);
    }
}

/// Whether a place is free by now. A connection that has expired, or whose owner is gone, is removed; so is one that
/// `gives_way`, which is asked whom it counts for.
#[inline(always)]
fn is_free<A: Inet>(table: Flows<A>, place: &Place<A>, gives_way: impl Fn(Handle) -> bool) -> bool {
    let key = &*place.key;
    let Some(row) = flows::get(table, key) else { return true };
    if row.is_reply() || !row.is_at(place.number) {
        // Another connection has the key by now, and a place of its own.
        return true;
    }
    let other = nat::partner_key(key, row);
    let partner: Option<&FlowRow<A>> = flows::get(table, &other).map(|partner| &*partner);
    if owner(row).is_some() {
        let has_expired = is_expired(row.state(key.protocol(), partner), row.idle(partner, clock::now()));
        let counts_for = partner.map_or(row.endpoint, |partner| partner.endpoint);
        if !has_expired && !gives_way(counts_for) {
            return false;
        }
    }
    flows::remove(table, key);
    flows::remove(table, &other);
    true
}

/// Removes expired connections, since a new one has found no room.
#[inline(always)]
pub(crate) fn reclaim<A: Inet>() {
    let table: Flows<A> = flows::established();
    for _ in 0..PLACES {
        if let Some(place) = flows::next_place(table) {
            let _is_free = is_free(table, &place, |_owner| false);
        }
    }
}

/// Moves the connection of a packet that has been sent to the table where it belongs by now. If that has no room, the
/// connection stays where it is; its next packets try again.
#[inline(always)]
pub(crate) fn change_table<A: Inet>() {
    let Some(Connection { original: key, reply: other, .. }) = scratch::connection::<A>() else { return };
    let (unreplied, established) = (flows::unreplied(), flows::established());
    if let (Some(row), Some(partner)) = (flows::get(unreplied, key), flows::get(unreplied, other)) {
        let (original, owner) =
            if row.is_reply() { (&*other, row.endpoint) } else { (&*key, partner.endpoint) };
        if flows::has_room(established, owner).is_ok() && place_established(original) {
            carry(key, other, (unreplied, row, partner), established);
        }
    } else if let (Some(row), Some(partner)) = (flows::get(established, key), flows::get(established, other))
    {
        let original = if row.is_reply() { &*other } else { &*key };
        carry(key, other, (established, row, partner), unreplied);
        place_unreplied(original);
    }
}

/// Carries the rows of a connection from one table to another. If another CPU does so at the same time, one succeeds.
#[inline(always)]
fn carry<A: Inet>(
    key: &FlowKey<A>,
    other: &FlowKey<A>,
    (from, row, partner): (Flows<A>, &FlowRow<A>, &FlowRow<A>),
    to: Flows<A>,
) {
    if flows::insert(to, other, partner).is_err() {
        return;
    }
    if flows::insert(to, key, row).is_err() {
        flows::remove(to, other);
        return;
    }
    flows::remove(from, key);
    flows::remove(from, other);
}
