//! Room for connections: each table has a ring of its connections in the order in which they came, and a hand that goes
//! round (the CLOCK algorithm). A connection that needs a place looks at the next few, at one in each run of a stage: so the
//! verifier walks the code for one place once, and not once for each of them.
//!
//! A place is free if its connection is gone or has expired. In the ring of established connections nobody gives way. In the
//! ring of unreplied ones the connections of a container that has more than its quota give way, and its new ones take their
//! places rather than free ones. If none of the places looked at is free, the last one's connection gives way.

use netd_common::flow::nat::{self, Connection};
use netd_common::flow::{FlowKey, FlowRow, Handle};

use crate::flow::table::{add_up, forget, is_expired, owner};
use crate::kernel::flows::{self, Flows, Place};
use crate::kernel::inet::Inet;
use crate::kernel::{clock, scratch};

/// How many places are looked at for one packet.
pub(crate) const PLACES: u32 = 8;

/// What follows a look at one place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing: the connection has its place, or stays without.
    Done,
    /// A look at the next place.
    Next,
    /// The connection has left the table of established ones, and needs a place among the unreplied ones.
    Enlist,
}

/// Looks at a place in the ring of unreplied connections for one that was opened or has ended.
#[inline(always)]
pub(crate) fn enlist<A: Inet>(is_last: bool) -> Look {
    let Some(Connection { original, backward, .. }) = scratch::connection::<A>() else { return Look::Done };
    let table = flows::unreplied();
    let Some(place) = flows::next_place(table) else { return Look::Done };
    match vacate(table, &place, |owner| is_last || flows::is_over_quota(table, owner)) {
        Vacated::Not => Look::Next,
        // Who has more than its quota leaves free places to others.
        Vacated::Before if !is_last && flows::is_over_quota(table, backward.endpoint) => Look::Next,
        Vacated::Before | Vacated::Now => {
            take(table, place, original);
            Look::Done
        }
    }
}

/// Takes a place for the connection with this originator's key, whose row is in `table`.
#[inline(always)]
fn take<A: Inet>(table: Flows<A>, place: Place<A>, original: &FlowKey<A>) {
    *place.key = *original;
    if let Some(row) = flows::get(table, original) {
        row.set_place(place.number);
    }
}

/// Whether a place was vacated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vacated {
    /// It was free, or its connection had expired or lost its owner.
    Before,
    /// Its connection has given way.
    Now,
    /// It has its connection still.
    Not,
}

/// Vacates a place, if its connection has expired, has lost its owner, or `gives_way`, which is asked whom it counts for.
#[inline(always)]
fn vacate<A: Inet>(table: Flows<A>, place: &Place<A>, gives_way: impl Fn(Handle) -> bool) -> Vacated {
    let key = &*place.key;
    let Some(row) = flows::get(table, key) else { return Vacated::Before };
    if row.is_reply() || !row.is_at(place.number) {
        // Another connection has the key by now, and a place of its own.
        return Vacated::Before;
    }
    let other = nat::partner_key(key, row);
    let partner: Option<&FlowRow<A>> = flows::get(table, &other).map(|partner| &*partner);
    let mut vacated = Vacated::Before;
    if owner(row).is_some()
        && !is_expired(row.state(key.protocol(), partner), row.idle(partner, clock::now()))
    {
        if !gives_way(partner.map_or(row.endpoint, |partner| partner.endpoint)) {
            return Vacated::Not;
        }
        vacated = Vacated::Now;
    }
    forget(table, key, &other);
    vacated
}

/// Removes the connection of the next place if it has expired, since a new one has found no room.
#[inline(always)]
pub(crate) fn reclaim<A: Inet>() {
    let table: Flows<A> = flows::established();
    if let Some(place) = flows::next_place(table) {
        vacate(table, &place, |_owner| false);
    }
}

/// Moves the connection of a packet that has been sent to the table where it belongs by now, if the next place of that is
/// free. If the table has no room, the connection stays where it is; its next packets try again.
#[inline(always)]
pub(crate) fn change_table<A: Inet>() -> Look {
    let Some(Connection { original, reply, backward, .. }) = scratch::connection::<A>() else {
        return Look::Done;
    };
    let (unreplied, established) = (flows::unreplied(), flows::established());
    if let Some((row, partner)) = originator_first(unreplied, original, reply) {
        if flows::has_room(established, partner.endpoint).is_err() {
            return Look::Done;
        }
        let Some(place) = flows::next_place(established) else { return Look::Done };
        if vacate(established, &place, |_owner| false) != Vacated::Before {
            return Look::Next;
        }
        // The row is still in the other table.
        take(unreplied, place, original);
        carry(original, reply, (unreplied, row, partner), established);
    } else if let Some((row, partner)) = originator_first(established, original, reply) {
        let newcomer = partner.endpoint;
        if carry(original, reply, (established, row, partner), unreplied) {
            backward.endpoint = newcomer;
            return Look::Enlist;
        }
    }
    Look::Done
}

/// The rows of a connection, that of the originator first; its keys get this order as well.
#[inline(always)]
fn originator_first<A: Inet>(
    table: Flows<A>,
    original: &mut FlowKey<A>,
    reply: &mut FlowKey<A>,
) -> Option<(&'static mut FlowRow<A>, &'static mut FlowRow<A>)> {
    if flows::get(table, original)?.is_reply() {
        core::mem::swap(original, reply);
    }
    Some((flows::get(table, original)?, flows::get(table, reply)?))
}

/// Carries the rows of a connection from one table to another. If several CPUs do so at the same time, one succeeds.
#[inline(always)]
fn carry<A: Inet>(
    original: &FlowKey<A>,
    reply: &FlowKey<A>,
    (from, row, partner): (Flows<A>, &mut FlowRow<A>, &mut FlowRow<A>),
    to: Flows<A>,
) -> bool {
    // The copies begin with what comes after, since the rows are counted when they are removed.
    add_up(row);
    add_up(partner);
    if flows::insert(to, reply, partner).is_err() {
        return false;
    }
    if flows::insert(to, original, row).is_err() {
        flows::take_back(to, reply);
        return false;
    }
    flows::remove(from, original);
    flows::remove(from, reply);
    true
}
