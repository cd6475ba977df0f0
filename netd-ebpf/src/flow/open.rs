//! Making the rows of a new connection.

use netd_common::flow::nat::{self, Connection, Nat};
use netd_common::flow::{FlowRow, Zone};
use netd_common::verdict::Reason;
use netd_common::wire::bytes::Be16;
use netd_common::wire::ip::protocol;

use crate::flow::table::{Assured, Table, Unreplied, forget, is_expired, owner};
use crate::kernel::flows::{self, NotInserted};
use crate::kernel::inet::Inet;
use crate::kernel::{clock, scratch, seen_peers, tables};

/// The result for a new connection.
pub(crate) enum Opened {
    /// Its rows were made.
    New,
    /// Another CPU has made it, and it is already assured.
    Known,
    /// Its source port is taken: another one must be tried.
    Taken,
}

/// Makes the rows of a connection with this source port, unless another connection has the reply key.
#[inline(always)]
pub(crate) fn open<A: Inet>(nat: &Nat<A>, port: Be16) -> Result<Opened, Reason> {
    // What has a handshake goes to the table of established connections at its end. A datagram may be the only one.
    if matches!(nat.original.protocol(), protocol::TCP | protocol::SCTP) {
        flows::has_room::<A>(flows::established(), nat.back)?;
    }
    let connection = scratch::connection().ok_or(Reason::RewriteFailed)?;
    connection.set(nat, port);
    let opened = insert(connection)?;
    if matches!(opened, Opened::New) && !nat.is_rebuilt {
        tables::count_flow(nat.publication);
    }
    Ok(opened)
}

#[inline(always)]
fn insert<A: Inet>(connection: &mut Connection<A>) -> Result<Opened, Reason> {
    for key in [&connection.original, &connection.reply] {
        seen_peers::add(if key.zone() == Zone::OUTSIDE { key.src } else { key.dst });
    }
    match holder::<A, Assured>(connection) {
        Holder::Nobody => {}
        Holder::Another => return Ok(Opened::Taken),
        // It was moved to this table after the lookup of the packet.
        Holder::Itself => return Ok(Opened::Known),
    }
    if holder::<A, Unreplied>(connection) == Holder::Another {
        return Ok(Opened::Taken);
    }
    // Set to an earlier tick, so that its first packet updates the row.
    connection.forward.last = clock::now().saturating_sub(1);
    match flows::insert(flows::unreplied(), &connection.reply, &connection.backward) {
        Ok(()) => {}
        // Another CPU has made the same connection from a copy of the packet.
        Err(NotInserted::Exists) if leads_back(connection) => {}
        Err(NotInserted::Exists) => return Ok(Opened::Taken),
        Err(NotInserted::Full) => return Err(Reason::TableFull),
    }
    match flows::insert(flows::unreplied(), &connection.original, &connection.forward) {
        Ok(()) => return Ok(Opened::New),
        Err(NotInserted::Exists) => {
            if let Some(row) = flows::get(flows::unreplied(), &connection.original)
                && owner(row).is_some()
            {
                // Another CPU has made a connection from a copy of the packet: that one is used, with its port.
                if row.tuple() != connection.forward.tuple() {
                    flows::take_back(flows::unreplied(), &connection.reply);
                }
                return Ok(Opened::New);
            }
            // It has lost its owner since the packet was looked up.
            flows::take_back(flows::unreplied(), &connection.original);
            if flows::insert(flows::unreplied(), &connection.original, &connection.forward).is_ok() {
                return Ok(Opened::New);
            }
        }
        Err(NotInserted::Full) => {}
    }
    flows::take_back(flows::unreplied(), &connection.reply);
    Err(Reason::TableFull)
}

/// Whether the row under the reply key belongs to the same connection.
#[inline(always)]
fn leads_back<A: Inet>(connection: &Connection<A>) -> bool {
    flows::get(flows::unreplied(), &connection.reply)
        .is_some_and(|row| row.tuple() == connection.backward.tuple())
}

/// The owner of the reply key of a connection that is about to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Nobody.
    Nobody,
    /// The same connection: another CPU makes it from a copy of the packet, or has moved it.
    Itself,
    /// Another connection, which is still active.
    Another,
}

/// Looks up the owner of the reply key. A connection that has expired or closed is removed, and so is a row whose partner
/// is missing.
#[inline(always)]
fn holder<A: Inet, T: Table<A>>(connection: &mut Connection<A>) -> Holder {
    let key = &connection.reply;
    let Some(row) = flows::get(T::rows(), key) else { return Holder::Nobody };
    let other = nat::partner_key(key, row);
    if owner(row).is_some() {
        let partner: Option<&FlowRow<A>> = flows::get(T::rows(), &other).map(|partner| &*partner);
        let is_own = row.tuple() == connection.backward.tuple();
        let holder = if is_own { Holder::Itself } else { Holder::Another };
        // A row without a partner and without packets is being made by another CPU.
        if row.last == 0 && partner.is_none() {
            return holder;
        }
        let state = row.state(key.protocol(), partner);
        let idle = row.idle(partner, clock::now());
        let is_closed = state.has_ended() && idle > 1;
        if !is_closed && !is_expired(state, idle) && (partner.is_some() || !is_own) {
            return holder;
        }
    }
    forget(T::rows(), key, &other);
    Holder::Nobody
}
