//! Verbs over the maps: callers publish a port, they do not insert a key.

use std::collections::HashMap as Table;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray};
use netd_common::bytes::{Be16, Ipv4};
use netd_common::flow::{FlowKey, Handle};
use netd_common::tables::{
    BoundPortKey, CounterRow, EndpointRow, FlowRow, PortRow, PublicationCounters, PublicationRow, SubnetKey,
    name, pending, port_index, tick,
};
use netd_common::verdict::Reason;

use super::object::MAPS;
use super::wire::Wire;
use crate::error::{Doing as _, Error, Result};

/// `bpf_map_update_elem`: whether or not the row exists.
const ANY: u64 = 0;

/// A host port (or an equal-length range of them) that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Protocol number.
    pub protocol: u8,
    /// The one host address it is on; all of them if `None`.
    pub host_address: Option<Ipv4Addr>,
    /// First host port.
    pub host_port: u16,
    /// Last host port.
    pub host_port_end: u16,
    /// The container's address.
    pub target: Ipv4Addr,
    /// The target port of the first host port.
    pub target_port: u16,
    /// The container's handle.
    pub endpoint: Handle,
}

/// What a publication's flows are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicationStats {
    /// Packets and bytes, connections ever made, drops; live flows included.
    pub counters: PublicationCounters,
    /// Connections with a packet in the last two minutes.
    pub active: u64,
}

/// A flow counts as active for as long as Linux keeps an answered UDP flow (nf_conntrack_udp_timeout_stream, 120 s).
pub(super) const ACTIVE_MILLIS: u64 = 120_000;

/// How full a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fill {
    /// Rows in use.
    pub rows: u64,
    /// Rows there is room for.
    pub capacity: u32,
}

/// The maps of one instance, opened by their pins when needed.
#[derive(Debug)]
pub struct Tables {
    folder: PathBuf,
}

impl Tables {
    pub(super) fn new(pins: &Path) -> Self {
        Self { folder: pins.join(MAPS) }
    }

    fn open(&self, name: &str) -> Result<MapData> {
        let path = self.folder.join(name);
        MapData::from_pin(&path).doing(|| format!("open BPF map {}", path.display()))
    }

    fn array<T: bytemuck::Pod>(&self, name: &'static str) -> Result<Array<MapData, Wire<T>>> {
        Array::try_from(Map::Array(self.open(name)?)).doing(|| format!("open BPF map {name}"))
    }

    fn hash<K: bytemuck::Pod, V: bytemuck::Pod>(
        &self,
        name: &'static str,
    ) -> Result<HashMap<MapData, Wire<K>, Wire<V>>> {
        HashMap::try_from(Map::HashMap(self.open(name)?)).doing(|| format!("open BPF map {name}"))
    }

    fn flows(&self) -> Result<HashMap<MapData, Wire<FlowKey>, Wire<FlowRow>>> {
        let map = Map::LruHashMap(self.open(name::FLOWS)?);
        HashMap::try_from(map).doing(|| format!("open BPF map {}", name::FLOWS))
    }

    fn trie<K: bytemuck::Pod, V: bytemuck::Pod>(
        &self,
        name: &'static str,
    ) -> Result<LpmTrie<MapData, Wire<K>, Wire<V>>> {
        LpmTrie::try_from(Map::LpmTrie(self.open(name)?)).doing(|| format!("open BPF map {name}"))
    }

    /// Fills in a container's row; from now on its handle means it.
    pub fn put_endpoint(&self, row: &EndpointRow) -> Result<()> {
        let slot = u32::from(row.handle.slot());
        let what = || format!("write row {slot} of {}", name::ENDPOINTS);
        self.array(name::ENDPOINTS)?.set(slot, Wire(*row), ANY).doing(what)?;
        let mut by_interface = self.hash::<u32, Handle>(name::ENDPOINT_OF)?;
        by_interface.insert(Wire(row.ifindex), Wire(row.handle), ANY).doing(what)
    }

    /// Empties a container's row: every flow of it is dead from this moment. Absent is fine.
    pub fn remove_endpoint(&self, handle: Handle) -> Result<()> {
        let slot = u32::from(handle.slot());
        let what = || format!("empty row {slot} of {}", name::ENDPOINTS);
        let mut endpoints = self.array::<EndpointRow>(name::ENDPOINTS)?;
        let Wire(row) = endpoints.get(&slot, 0).doing(what)?;
        if row.handle != handle {
            return Ok(());
        }
        endpoints.set(slot, Wire(EndpointRow::default()), ANY).doing(what)?;
        absent_is_fine(self.hash::<u32, Handle>(name::ENDPOINT_OF)?.remove(&Wire(row.ifindex))).doing(what)
    }

    /// Publishes: fills in the row, then lets the ports lead to it.
    pub fn publish(&self, handle: Handle, publication: &Publication) -> Result<()> {
        let slot = u32::from(handle.slot());
        let row = PublicationRow {
            handle,
            endpoint: publication.endpoint,
            target: publication.target.into(),
            host_port: Be16::new(publication.host_port),
            target_port: Be16::new(publication.target_port),
            counters: PublicationCounters::default(),
        };
        let what = || format!("write row {slot} of {}", name::PUBLICATIONS);
        self.array(name::PUBLICATIONS)?.set(slot, Wire(row), ANY).doing(what)?;
        if let Some(address) = publication.host_address {
            let mut bound = self.trie(name::BOUND_PORTS)?;
            for key in bound_keys(address, publication) {
                bound.insert(&key, Wire(handle), ANY).doing(|| format!("write to {}", name::BOUND_PORTS))?;
            }
        }
        self.change_ports(publication, |row| match publication.host_address {
            Some(_) => PortRow { bound: row.bound + 1, ..row },
            None => PortRow { any: handle, ..row },
        })
    }

    /// Takes a publication back: its ports lead nowhere, then its row is emptied, and with it every flow it made is dead.
    /// Absent is fine; what it counted is returned.
    pub fn unpublish(&self, handle: Handle, publication: &Publication) -> Result<()> {
        let slot = u32::from(handle.slot());
        let what = || format!("empty row {slot} of {}", name::PUBLICATIONS);
        let mut rows = self.array::<PublicationRow>(name::PUBLICATIONS)?;
        let Wire(row) = rows.get(&slot, 0).doing(what)?;
        if let Some(address) = publication.host_address {
            let mut bound = self.trie::<BoundPortKey, Handle>(name::BOUND_PORTS)?;
            let mut was_there = false;
            for key in bound_keys(address, publication) {
                let found = bound.get(&key, 0).is_ok_and(|Wire(found)| found == handle);
                if found {
                    was_there = true;
                    absent_is_fine(bound.remove(&key)).doing(what)?;
                }
            }
            if was_there {
                self.change_ports(publication, |row| PortRow { bound: row.bound.saturating_sub(1), ..row })?;
            }
        } else {
            self.change_ports(publication, |row| {
                if row.any == handle { PortRow { any: Handle::NONE, ..row } } else { row }
            })?;
        }
        if row.handle == handle {
            rows.set(slot, Wire(PublicationRow::default()), ANY).doing(what)?;
        }
        Ok(())
    }

    fn change_ports(&self, publication: &Publication, change: impl Fn(PortRow) -> PortRow) -> Result<()> {
        let mut ports = self.array::<PortRow>(name::PORTS)?;
        for port in publication.host_port..=publication.host_port_end {
            let Some(index) = port_index(publication.protocol, Be16::new(port)) else { continue };
            let what = || format!("write row {index} of {}", name::PORTS);
            let Wire(row) = ports.get(&index, 0).doing(what)?;
            let changed = change(row);
            if changed != row {
                ports.set(index, Wire(changed), ANY).doing(what)?;
            }
        }
        Ok(())
    }

    /// Makes a subnet known as a network's: nothing from outside may speak to it or in its name.
    pub fn put_subnet(&self, subnet: ipnet::Ipv4Net, network: u32) -> Result<()> {
        self.trie(name::SUBNETS)?
            .insert(&subnet_key(subnet), Wire(network), ANY)
            .doing(|| format!("write {subnet} to {}", name::SUBNETS))
    }

    /// Forgets a subnet. Absent is fine.
    pub fn remove_subnet(&self, subnet: ipnet::Ipv4Net) -> Result<()> {
        absent_is_fine(self.trie::<SubnetKey, u32>(name::SUBNETS)?.remove(&subnet_key(subnet)))
            .doing(|| format!("remove {subnet} from {}", name::SUBNETS))
    }

    /// Makes the host's own addresses known to the socket hooks, which cannot ask the routing table.
    pub fn set_locals(&self, addresses: &[Ipv4Addr]) -> Result<()> {
        let what = || format!("write {}", name::LOCALS);
        let mut locals = self.hash::<Ipv4, u32>(name::LOCALS)?;
        let wanted: Vec<Ipv4> = addresses.iter().copied().map(Into::into).collect();
        let present: Vec<Ipv4> =
            locals.keys().map(|key| key.map(|Wire(key)| key)).collect::<Result<_, _>>().doing(what)?;
        for gone in present.iter().filter(|address| !wanted.contains(address)) {
            absent_is_fine(locals.remove(&Wire(*gone))).doing(what)?;
        }
        for new in wanted.iter().filter(|address| !present.contains(address)) {
            locals.insert(Wire(*new), Wire(1), ANY).doing(what)?;
        }
        Ok(())
    }

    /// What each of these publications has counted, flows that are still going on included.
    pub fn publication_stats(&self, handles: &[Handle]) -> Result<Vec<PublicationStats>> {
        let rows = self.array::<PublicationRow>(name::PUBLICATIONS)?;
        let mut live: Table<Handle, PublicationStats> = Table::new();
        if !handles.is_empty() {
            let now = now()?;
            self.each_flow(|_key, row| {
                let stats = live.entry(row.publication).or_default();
                let (packets, bytes) = (pending::packets(row.pending), pending::bytes(row.pending));
                if row.is_outward() {
                    stats.counters.packets_out += packets;
                    stats.counters.bytes_out += bytes;
                } else {
                    stats.counters.packets_in += packets;
                    stats.counters.bytes_in += bytes;
                    stats.active += u64::from(row.is_active(now, ACTIVE_MILLIS));
                }
            })?;
        }
        handles
            .iter()
            .map(|handle| {
                let slot = u32::from(handle.slot());
                let Wire(row) =
                    rows.get(&slot, 0).doing(|| format!("read row {slot} of {}", name::PUBLICATIONS))?;
                let mut stats = live.get(handle).copied().unwrap_or_default();
                if row.handle == *handle {
                    stats.counters.packets_in += row.counters.packets_in;
                    stats.counters.bytes_in += row.counters.bytes_in;
                    stats.counters.packets_out += row.counters.packets_out;
                    stats.counters.bytes_out += row.counters.bytes_out;
                    stats.counters.flows += row.counters.flows;
                    stats.counters.dropped += row.counters.dropped;
                }
                Ok(stats)
            })
            .collect()
    }

    /// Walks the flow table. Rows that come and go meanwhile may be missed.
    pub fn each_flow(&self, mut visit: impl FnMut(FlowKey, FlowRow)) -> Result<()> {
        let flows = self.flows()?;
        for entry in &flows {
            match entry {
                Ok((Wire(key), Wire(row))) => visit(key, row),
                // The row that the walk stood on was evicted; the kernel starts over, which for counting is worse than
                // stopping.
                Err(MapError::KeyNotFound) => break,
                Err(error) => return Err(Error::system(format!("walk {}", name::FLOWS), error)),
            }
        }
        Ok(())
    }

    /// Dropped packets and bytes by reason, of all CPUs together.
    pub fn drops(&self) -> Result<Vec<(Reason, CounterRow)>> {
        let what = || format!("read {}", name::DROPS);
        let map = Map::PerCpuArray(self.open(name::DROPS)?);
        let rows: PerCpuArray<MapData, Wire<CounterRow>> = PerCpuArray::try_from(map).doing(what)?;
        Reason::ALL
            .into_iter()
            .map(|reason| {
                let cpus = rows.get(&(reason as u32), 0).doing(what)?;
                let sum = cpus.iter().fold(CounterRow::default(), |sum, Wire(cpu)| CounterRow {
                    packets: sum.packets + cpu.packets,
                    bytes: sum.bytes + cpu.bytes,
                    ..sum
                });
                Ok((reason, sum))
            })
            .collect()
    }

    /// How full the flow table is.
    pub fn flow_fill(&self) -> Result<Fill> {
        let mut rows = 0;
        self.each_flow(|_key, _row| rows += 1)?;
        Ok(Fill { rows, capacity: netd_common::tables::capacity::FLOWS })
    }
}

/// The time now, in ticks of the flow table's clock.
fn now() -> Result<u32> {
    let time =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).doing(|| "read the clock".into())?;
    let nanos = u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec()).unwrap_or(0);
    Ok(tick::of_nanos(nanos))
}

fn subnet_key(subnet: ipnet::Ipv4Net) -> Key<Wire<SubnetKey>> {
    Key::new(u32::from(subnet.prefix_len()), Wire(SubnetKey { address: subnet.network().into() }))
}

/// A publication's keys in the table of single addresses: the fewest aligned blocks of ports that make up its range.
fn bound_keys(address: Ipv4Addr, publication: &Publication) -> impl Iterator<Item = Key<Wire<BoundPortKey>>> {
    let protocol = Be16::new(u16::from(publication.protocol));
    blocks(publication.host_port, publication.host_port_end).into_iter().map(move |(first, bits)| {
        let data = BoundPortKey { address: address.into(), protocol, port: Be16::new(first) };
        Key::new(BoundPortKey::BITS - bits, Wire(data))
    })
}

/// The fewest aligned blocks that make up `first..=last`: where each starts, and the power of two of its length.
fn blocks(first: u16, last: u16) -> Vec<(u16, u32)> {
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    let mut blocks = Vec::new();
    while next < end {
        let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
        let fitting = (end - next).ilog2();
        let bits = aligned.min(fitting).min(16);
        if let Ok(start) = u16::try_from(next) {
            blocks.push((start, bits));
        }
        next += 1 << bits;
    }
    blocks
}

/// What is to be removed may be gone already.
fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_cover_a_range_once_and_stay_aligned(a: u16, b: u16) {
            let (first, last) = (a.min(b), a.max(b));
            let mut next = u32::from(first);
            let blocks = blocks(first, last);
            prop_assert!(blocks.len() <= 31);
            for (start, bits) in blocks {
                prop_assert_eq!(u32::from(start), next);
                prop_assert_eq!(u32::from(start) % (1 << bits), 0);
                next += 1 << bits;
            }
            prop_assert_eq!(next, u32::from(last) + 1);
        }
    }
}
