//! Connections, read from the flow tables: two rows are one connection.

use std::collections::HashMap as Table;
use std::net::SocketAddr;

use netd_common::abi::{FlowRow, pending, tick};
use netd_common::flow::nat;
use netd_common::flow::state::State;
use netd_common::flow::{FlowKey, Handle};
use netd_common::wire::bytes::Address;

/// A tracked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// Protocol number.
    pub protocol: u8,
    /// Its conntrack state.
    pub state: State,
    /// Time since the last packet, milliseconds.
    pub idle_millis: u64,
    /// The endpoint that it leads to or comes from.
    pub endpoint: Handle,
    /// Its publication; [`Handle::NONE`] if a container opened it to outside.
    pub publication: Handle,
    /// The originator's packets, as they arrive.
    pub original: Direction,
    /// The replies, as they arrive; the reverse tuple is that of the originator's packets after translation.
    pub reply: Direction,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Direction {
    /// Source address and port; for an echo request the port is its identifier.
    pub from: SocketAddr,
    /// Destination address and port.
    pub to: SocketAddr,
    /// Packets that passed.
    pub packets: u64,
    /// Bytes that passed, Ethernet headers included.
    pub bytes: u64,
}

impl Direction {
    fn new<A: Address>(key: &FlowKey<A>, row: Option<&FlowRow<A>>) -> Self {
        let (packets, bytes) = row.map_or((0, 0), |row| {
            let (packets, bytes) = row.totals();
            (packets + pending::packets(row.pending), bytes + pending::bytes(row.pending))
        });
        Self {
            from: SocketAddr::new(key.src.to_ip().to_canonical(), key.src_port.get()),
            to: SocketAddr::new(key.dst.to_ip().to_canonical(), key.dst_port.get()),
            packets,
            bytes,
        }
    }
}

/// Pairs rows. `is_live` says whether an endpoint is there; flows of other endpoints are stale and skipped. `now` is in
/// ticks.
pub(super) fn pair<A: Address>(
    rows: &Table<FlowKey<A>, FlowRow<A>>,
    is_live: impl Fn(Handle) -> bool,
    now: u32,
) -> Vec<Connection> {
    let mut connections = Vec::new();
    for (key, row) in rows.iter().filter(|(_, row)| !row.is_reply()) {
        if !is_live(row.endpoint) {
            continue;
        }
        let other = nat::partner_key(key, row);
        let partner = rows.get(&other);
        let (state, idle) = (row.state(key.protocol(), partner), row.idle(partner, now));
        connections.push(Connection {
            protocol: key.protocol(),
            state,
            idle_millis: tick::to_millis(idle),
            endpoint: row.endpoint,
            publication: row.publication,
            original: Direction::new(key, Some(row)),
            reply: Direction::new(&other, partner),
        });
    }
    connections
}
