//! The flow tables as connections: two rows, one state.

use std::collections::HashMap as Table;
use std::net::SocketAddr;

use netd_common::abi::{EndpointRow, FlowRow, pending, tick};
use netd_common::bytes::Address;
use netd_common::flow::{FlowKey, Handle, Zone};
use netd_common::nat;
use netd_common::track::{Seen, State};

/// A connection that the datapath knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Protocol number.
    pub protocol: u8,
    /// Its conntrack state.
    pub state: State,
    /// For how long no packet has passed.
    pub idle_millis: u64,
    /// The container that it leads to or comes from.
    pub endpoint: Handle,
    /// The publication that let it in; [`Handle::NONE`] if it goes out.
    pub publication: Handle,
    /// The packets of whoever began it, as they come in.
    pub original: Direction,
    /// The answers, as they come in; what becomes of the original's packets is their reverse.
    pub reply: Direction,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Source address and port; for an echo request the port is its number.
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

/// Pairs rows. `endpoint` gives the live row of a container; the rows of others are left over and no connection's. `now` is
/// in ticks.
pub(super) fn pair<A: Address>(
    rows: &Table<FlowKey<A>, FlowRow<A>>,
    endpoint: impl Fn(Handle) -> Option<EndpointRow>,
    now: u32,
) -> Vec<Connection> {
    let mut connections = Vec::new();
    for (key, row) in rows.iter().filter(|(_, row)| !row.is_reply()) {
        let Some(owner) = endpoint(row.endpoint) else { continue };
        let to = if row.is_outward() { Zone::OUTSIDE } else { Zone::container(owner.ifindex) };
        let other = nat::partner_key(key, row, to);
        let partner = rows.get(&other);
        let seen = partner.map_or_else(Seen::default, FlowRow::seen);
        let last = partner.map_or(0, |partner| partner.last).max(row.last);
        connections.push(Connection {
            protocol: key.protocol(),
            state: State::of(key.protocol(), row.seen(), seen),
            idle_millis: tick::to_millis(now.saturating_sub(last)),
            endpoint: row.endpoint,
            publication: row.publication,
            original: Direction::new(key, Some(row)),
            reply: Direction::new(&other, partner),
        });
    }
    connections
}
