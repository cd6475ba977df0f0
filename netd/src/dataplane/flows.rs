//! The flow tables, read. Nothing here needs a lock: rows come and go meanwhile.

use std::collections::{HashMap as Table, HashSet};

use netd_common::abi::{
    EndpointRow, FlowRow, PublicationCounters, PublicationRow, capacity, name, pending, tick,
};
use netd_common::flow::state::State;
use netd_common::flow::{FlowKey, Handle, nat};
use netd_common::wire::bytes::{Address, Ipv4, Ipv6};

use super::bpf;
use super::connections::{self, Connection};
use super::tables::{Fill, Tables, now};
use super::wire::Wire;
use crate::error::{Doing as _, Result};

/// A flow counts as active for as long as Linux keeps an answered UDP flow (nf_conntrack_udp_timeout_stream, 120 s).
const ACTIVE_MILLIS: u64 = 120_000;

/// What the live connections of a publication tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// Those with a packet in the last two minutes.
    pub active: u64,
    /// What they have counted and not yet added to the publication's counters.
    pub pending: PublicationCounters,
}

impl Tables {
    /// Visits every row of a flow table. Those that come or go meanwhile may be visited or not.
    pub(super) fn each_flow<A: Address>(
        &self,
        name: &'static str,
        visit: impl FnMut(FlowKey<A>, FlowRow<A>),
    ) -> Result<()> {
        bpf::each_row(&self.open(name)?, visit).doing(|| format!("read the rows of {name}"))
    }

    /// Connections in all flow tables, as the programs count them.
    pub(crate) fn connection_count(&self) -> Result<u64> {
        Ok(self.fill()?.iter().map(|table| table.connections).sum())
    }

    /// What the live connections of each publication tell. Looks at all connections.
    pub(crate) fn live(&self) -> Result<Table<Handle, Live>> {
        let (mut live, now) = (Table::new(), now()?);
        for name in [name::FLOWS, name::UNREPLIED] {
            self.each_flow::<Ipv4>(name, |_key, row| live_row(&mut live, &row, now))?;
        }
        for name in [name::FLOWS6, name::UNREPLIED6] {
            self.each_flow::<Ipv6>(name, |_key, row| live_row(&mut live, &row, now))?;
        }
        Ok(live)
    }

    /// Those of these publications that have a connection which has not ended.
    pub(crate) fn busy(&self, of: &HashSet<Handle>) -> Result<HashSet<Handle>> {
        let mut busy = HashSet::new();
        self.look_for_busy::<Ipv4>([name::UNREPLIED, name::FLOWS], of, &mut busy)?;
        self.look_for_busy::<Ipv6>([name::UNREPLIED6, name::FLOWS6], of, &mut busy)?;
        Ok(busy)
    }

    fn look_for_busy<A: Address>(
        &self,
        names: [&'static str; 2],
        of: &HashSet<Handle>,
        busy: &mut HashSet<Handle>,
    ) -> Result<()> {
        let (timeouts, now) = (self.timeouts()?, now()?);
        for name in names {
            let mut theirs = Vec::new();
            self.each_flow::<A>(name, |key, row| {
                if !row.is_reply() && of.contains(&row.publication) {
                    theirs.push((key, row));
                }
            })?;
            let rows = self.hash::<FlowKey<A>, FlowRow<A>>(name)?;
            for (key, row) in theirs {
                if busy.contains(&row.publication) {
                    continue;
                }
                let partner = rows.get(&Wire(nat::partner_key(&key, &row)), 0).ok().map(|Wire(row)| row);
                let state = row.state(key.protocol(), partner.as_ref());
                let idle = tick::to_millis(row.idle(partner.as_ref(), now));
                let limit = timeouts.get(state as usize).copied().unwrap_or(0);
                if !matches!(state, State::TimeWait | State::Closed) && idle <= limit {
                    busy.insert(row.publication);
                }
            }
        }
        Ok(())
    }

    /// How long a connection may be idle in each state, milliseconds.
    fn timeouts(&self) -> Result<Vec<u64>> {
        let what = || format!("read {}", name::TIMEOUTS);
        let limits = self.array::<u32>(name::TIMEOUTS)?;
        let limit = |state: &State| limits.get(&(*state as u32), 0).map(|Wire(ticks)| tick::to_millis(ticks));
        State::ALL.iter().map(limit).collect::<Result<_, _>>().doing(what)
    }

    /// Every live connection: its endpoint and publication exist, and it has not been idle for too long.
    pub(crate) fn connections(&self) -> Result<Vec<Connection>> {
        let mut connections = self.connections_of::<Ipv4>([name::UNREPLIED, name::FLOWS])?;
        connections.extend(self.connections_of::<Ipv6>([name::UNREPLIED6, name::FLOWS6])?);
        let timeouts = self.timeouts()?;
        let publications = self.array::<PublicationRow>(name::PUBLICATIONS)?;
        connections.retain(|connection| {
            let publication = connection.publication;
            let slot = u32::from(publication.slot());
            let lives = publication.is_none()
                || publications.get(&slot, 0).is_ok_and(|Wire(row)| row.handle == publication);
            let limit = timeouts.get(connection.state as usize).copied().unwrap_or(0);
            lives && connection.idle_millis <= limit
        });
        Ok(connections)
    }

    fn connections_of<A: Address>(&self, names: [&'static str; 2]) -> Result<Vec<Connection>> {
        let mut rows = Table::new();
        // A connection that is being moved is in both tables; the second one is used.
        for name in names {
            self.each_flow::<A>(name, |key, row| {
                rows.insert(key, row);
            })?;
        }
        let endpoints = self.array::<EndpointRow>(name::ENDPOINTS)?;
        let is_live = |handle: Handle| {
            endpoints.get(&u32::from(handle.slot()), 0).is_ok_and(|Wire(row)| row.handle == handle)
        };
        Ok(connections::pair(&rows, is_live, now()?))
    }

    /// The usage of the flow tables.
    pub(crate) fn flow_fill(&self) -> Result<Fill> {
        // Each connection has two.
        let rows = 2 * self.connection_count()?;
        let mut capacity = 0;
        for table in capacity::flows(capacity::CONNECTIONS) {
            capacity += u64::from(self.room(table.name)?);
        }
        Ok(Fill { rows, capacity, max_connections: self.max_connections()? })
    }
}

/// Adds what a row tells to its publication's.
fn live_row<A: Address>(live: &mut Table<Handle, Live>, row: &FlowRow<A>, now: u32) {
    if row.publication.is_none() {
        return;
    }
    let of = live.entry(row.publication).or_default();
    let (packets, bytes) = (pending::packets(row.pending), pending::bytes(row.pending));
    if row.is_reply() {
        of.pending.packets_out += packets;
        of.pending.bytes_out += bytes;
    } else {
        of.pending.packets_in += packets;
        of.pending.bytes_in += bytes;
        let idle = tick::to_millis(now.saturating_sub(row.last));
        of.active += u64::from(idle < ACTIVE_MILLIS);
    }
}
