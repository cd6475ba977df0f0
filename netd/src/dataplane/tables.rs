//! The maps of one instance: endpoints, subnets, access lists, uplinks, counters and flows. Publications are in
//! `publish`.

use std::collections::hash_map::Entry;
use std::collections::{HashMap as Table, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netd_common::abi::{
    AllowedAddressKey, DenyCacheRow, DropRow, EndpointRow, FillRow, LimitRow, LocalPorts, SourceKey,
    TrustKey, UplinkRow, UsageRow, access, capacity, counted, local, name, table, tick, uplink_flag,
};
use netd_common::flow::state::State;
use netd_common::flow::{FlowKey, Handle};
use netd_common::verdict::Reason;
use netd_common::wire::bytes::{Address, Ipv4, Ipv6};
use netd_common::wire::ethernet::mac_words;

use super::bpf::ANY;
use super::object;
use super::pins;
use super::wire::Wire;
use crate::error::{Doing as _, Result};
use crate::model::{Access, Quota};

/// An interface that leads outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    /// Its index.
    pub ifindex: u32,
    /// MTU, bytes.
    pub mtu: u32,
    /// The source address of IPv4 connections that are masqueraded on it.
    pub address4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub address6: Option<Ipv6Addr>,
    /// Its MAC address; zero if it has none.
    pub mac: [u8; 6],
    /// Whether XDP may redirect frames to it.
    pub takes_frames: bool,
    /// Whether answers to what comes in by it must leave by it.
    pub strict_reverse_path: bool,
}

/// The usage of the flow tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Rows in use.
    pub rows: u64,
    /// Rows in total.
    pub capacity: u64,
    /// The maximum number of established IPv4 connections.
    pub max_connections: u32,
}

/// How full a flow table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableFill {
    /// Whether its connections are established.
    pub is_established: bool,
    /// Whether its connections are of IPv6.
    pub is_v6: bool,
    /// Its connections, or those of one container.
    pub connections: u64,
    /// Connections it has room for.
    pub capacity: u32,
    /// How many the container may have while the others keep theirs; of a whole table, one without connections.
    pub quota: u64,
}

/// A flow table with its number.
struct TableTotal {
    number: u32,
    limits: LimitRow,
    connections: u64,
}

impl TableTotal {
    /// Reports this many of its connections, and the quota of a container that has `own`.
    fn report(&self, connections: u64, own: u64) -> TableFill {
        TableFill {
            is_established: matches!(self.number, table::FLOWS | table::FLOWS6),
            is_v6: matches!(self.number, table::FLOWS6 | table::UNREPLIED6),
            connections,
            capacity: self.limits.room,
            quota: self.limits.quota(self.connections, own),
        }
    }
}

/// The maps of one instance. Each is opened by its pin when it is needed.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    folder: PathBuf,
}

impl Tables {
    pub(super) fn new(instance: &Path) -> Self {
        Self { folder: pins::maps(instance) }
    }

    pub(super) fn open(&self, name: &str) -> Result<MapData> {
        let path = self.folder.join(name);
        MapData::from_pin(&path).doing(|| format!("open BPF map {}", path.display()))
    }

    pub(super) fn array<T: bytemuck::Pod>(&self, name: &'static str) -> Result<Array<MapData, Wire<T>>> {
        Array::try_from(Map::Array(self.open(name)?)).doing(|| format!("open BPF map {name}"))
    }

    pub(super) fn hash<K: bytemuck::Pod, V: bytemuck::Pod>(
        &self,
        name: &'static str,
    ) -> Result<HashMap<MapData, Wire<K>, Wire<V>>> {
        HashMap::try_from(Map::HashMap(self.open(name)?)).doing(|| format!("open BPF map {name}"))
    }

    pub(super) fn lru<K: bytemuck::Pod, V: bytemuck::Pod>(
        &self,
        name: &'static str,
    ) -> Result<HashMap<MapData, Wire<K>, Wire<V>>> {
        HashMap::try_from(Map::LruHashMap(self.open(name)?)).doing(|| format!("open BPF map {name}"))
    }

    pub(super) fn trie<K: bytemuck::Pod, V: bytemuck::Pod>(
        &self,
        name: &'static str,
    ) -> Result<LpmTrie<MapData, Wire<K>, Wire<V>>> {
        LpmTrie::try_from(Map::LpmTrie(self.open(name)?)).doing(|| format!("open BPF map {name}"))
    }

    /// Writes the row of an endpoint; its handle is live from now on.
    pub(crate) fn put_endpoint(&self, row: &EndpointRow) -> Result<()> {
        let slot = u32::from(row.handle.slot());
        let what = || format!("write row {slot} of {}", name::ENDPOINTS);
        let mut endpoints = self.array::<EndpointRow>(name::ENDPOINTS)?;
        let Wire(before) = endpoints.get(&slot, 0).doing(what)?;
        if before.handle != row.handle {
            // The connections of the slot's earlier owner are not its own.
            let none = Wire(UsageRow::default());
            self.array(name::USAGE)?.set(slot, none, ANY).doing(|| format!("write to {}", name::USAGE))?;
        }
        endpoints.set(slot, Wire(*row), ANY).doing(what)?;
        if row.is_remote() {
            return Ok(());
        }
        let mut by_interface = self.hash::<u32, Handle>(name::ENDPOINT_OF)?;
        by_interface.insert(Wire(row.ifindex), Wire(row.handle), ANY).doing(what)?;
        let mut by_address = self.hash::<Ipv6, Handle>(name::ADDRESSES)?;
        addresses(row).try_for_each(|address| {
            by_address
                .insert(Wire(address), Wire(row.handle), ANY)
                .doing(|| format!("write to {}", name::ADDRESSES))
        })
    }

    /// Clears the row of an endpoint: all of its flows are stale from now on. It may be absent.
    pub(crate) fn remove_endpoint(&self, handle: Handle) -> Result<()> {
        let slot = u32::from(handle.slot());
        let what = || format!("clear row {slot} of {}", name::ENDPOINTS);
        let mut endpoints = self.array::<EndpointRow>(name::ENDPOINTS)?;
        let Wire(row) = endpoints.get(&slot, 0).doing(what)?;
        if row.handle != handle {
            return Ok(());
        }
        endpoints.set(slot, Wire(EndpointRow::default()), ANY).doing(what)?;
        absent_is_fine(self.hash::<u32, Handle>(name::ENDPOINT_OF)?.remove(&Wire(row.ifindex)))
            .doing(what)?;
        let mut by_address = self.hash::<Ipv6, Handle>(name::ADDRESSES)?;
        addresses(&row).try_for_each(|address| {
            absent_is_fine(by_address.remove(&Wire(address)))
                .doing(|| format!("remove a row of {}", name::ADDRESSES))
        })
    }

    /// Writes what a container may use besides its own addresses.
    pub(crate) fn allow_addresses(&self, endpoint: Handle, nets: &[IpNet]) -> Result<()> {
        if nets.is_empty() {
            return Ok(());
        }
        let mut rows = self.trie::<AllowedAddressKey, u32>(name::ALLOWED)?;
        nets.iter().try_for_each(|net| {
            rows.insert(&allowed_key(endpoint, *net), Wire(1), ANY)
                .doing(|| format!("write to {}", name::ALLOWED))
        })
    }

    /// Removes it. Absent is fine.
    pub(crate) fn forget_addresses(&self, endpoint: Handle, nets: &[IpNet]) -> Result<()> {
        if nets.is_empty() {
            return Ok(());
        }
        let mut rows = self.trie::<AllowedAddressKey, u32>(name::ALLOWED)?;
        nets.iter().try_for_each(|net| {
            absent_is_fine(rows.remove(&allowed_key(endpoint, *net)))
                .doing(|| format!("remove a row of {}", name::ALLOWED))
        })
    }

    /// Adds a network's subnet: packets from outside may neither come from it nor go straight to it.
    pub(crate) fn put_subnet(&self, subnet: IpNet, network: u32) -> Result<()> {
        let what = || format!("write {subnet} to the table of subnets");
        match subnet {
            IpNet::V4(net) => {
                self.trie(name::SUBNETS)?.insert(&subnet_key4(net), Wire(network), ANY).doing(what)
            }
            IpNet::V6(net) => {
                self.trie(name::SUBNETS6)?.insert(&subnet_key6(net), Wire(network), ANY).doing(what)
            }
        }
    }

    /// Removes a subnet. It may be absent.
    pub(crate) fn remove_subnet(&self, subnet: IpNet) -> Result<()> {
        let removed = match subnet {
            IpNet::V4(net) => self.trie::<Ipv4, u32>(name::SUBNETS)?.remove(&subnet_key4(net)),
            IpNet::V6(net) => self.trie::<Ipv6, u32>(name::SUBNETS6)?.remove(&subnet_key6(net)),
        };
        absent_is_fine(removed).doing(|| format!("remove {subnet} from the table of subnets"))
    }

    /// Writes the access list of a publication; that of [`Handle::NONE`] applies to publications without their own
    /// list. Rows of an earlier list stay.
    pub(crate) fn set_access(&self, publication: Handle, access: &Access) -> Result<()> {
        if access.is_empty() {
            return Ok(());
        }
        let what = || format!("write to {}", name::SOURCES);
        let mut sources = self.trie::<SourceKey, u32>(name::SOURCES)?;
        for (key, allowed) in source_keys(publication, access) {
            let row = if allowed { access::ALLOW } else { access::DENY };
            sources.insert(&key, Wire(row), ANY).doing(what)?;
        }
        self.begin_epoch()
    }

    /// Removes the rows of an access list. They may be absent.
    pub(crate) fn forget_access(&self, publication: Handle, access: &Access) -> Result<()> {
        self.forget_sources(source_keys(publication, access))
    }

    /// Writes the access list of publications without their own, and removes every other row of such a list: also those that a
    /// killed command has left.
    pub(crate) fn set_default_access(&self, access: &Access) -> Result<()> {
        self.set_access(Handle::NONE, access)?;
        let place = |key: &Key<Wire<SourceKey>>| (key.prefix_len(), key.data().0);
        let wanted: HashSet<_> = source_keys(Handle::NONE, access).map(|(key, _)| place(&key)).collect();
        let sources = self.trie::<SourceKey, u32>(name::SOURCES)?;
        let mut gone = Vec::new();
        for key in sources.keys() {
            let key = key.doing(|| format!("read {}", name::SOURCES))?;
            if key.data().0.publication.is_none() && !wanted.contains(&place(&key)) {
                gone.push((key, false));
            }
        }
        self.forget_sources(gone.into_iter())
    }

    fn forget_sources(&self, keys: impl Iterator<Item = (Key<Wire<SourceKey>>, bool)>) -> Result<()> {
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return Ok(());
        }
        let mut sources = self.trie::<SourceKey, u32>(name::SOURCES)?;
        for (key, _) in keys {
            absent_is_fine(sources.remove(&key)).doing(|| format!("remove a row of {}", name::SOURCES))?;
        }
        self.begin_epoch()
    }

    /// How often the hand of a flow table's ring has moved to the next place.
    pub(super) fn hand(&self, table: u32) -> Result<u64> {
        let Wire(fill) =
            self.array::<FillRow>(name::FILL)?.get(&table, 0).doing(|| format!("read {}", name::FILL))?;
        Ok(fill.hand)
    }

    /// The keys at the places of a flow table's ring that its hand has passed since, and where it is now. Some places may be free.
    pub(super) fn ring_since<A: Address>(
        &self,
        ring: &'static str,
        table: u32,
        since: u64,
    ) -> Result<(Vec<FlowKey<A>>, u64)> {
        let what = || format!("read {ring}");
        let hand = self.hand(table)?;
        let Wire(limits) = self.array::<LimitRow>(name::LIMITS)?.get(&table, 0).doing(what)?;
        let places = u64::from(limits.places.max(1));
        let rows = self.array::<FlowKey<A>>(ring)?;
        let passed = since.max(hand.saturating_sub(places))..hand;
        let key = |at: u64| rows.get(&u32::try_from(at % places).unwrap_or(0), 0).map(|Wire(key)| key);
        Ok((passed.map(key).collect::<std::result::Result<_, _>>().doing(what)?, hand))
    }

    /// Invalidates the deny caches.
    pub(super) fn begin_epoch(&self) -> Result<()> {
        let what = || format!("write {}", name::EPOCH);
        let mut epoch = self.array::<u32>(name::EPOCH)?;
        let Wire(before) = epoch.get(&0, 0).doing(what)?;
        epoch.set(0, Wire(before.wrapping_add(1)), ANY).doing(what)
    }

    /// Writes the host's own addresses and local prefixes, and its broadcast addresses: for the socket hooks, which cannot ask
    /// the routing table, and for what that does not tell apart.
    pub(crate) fn set_locals(
        &self,
        own: impl Iterator<Item = IpNet>,
        broadcast: impl Iterator<Item = IpAddr>,
    ) -> Result<()> {
        let own = own.map(|net| (net, local::OWN));
        let broadcast = broadcast.map(|address| (address.into(), local::BROADCAST));
        self.set_prefixes(name::LOCALS, capacity::LOCALS, own.chain(broadcast))
    }

    /// Writes the peers that IPsec policies are for: whether a policy does more with their packets than let them pass.
    pub(crate) fn set_ipsec_peers(&self, peers: impl Iterator<Item = (IpNet, bool)>) -> Result<()> {
        self.set_prefixes(
            name::IPSEC_PEERS,
            capacity::IPSEC_PEERS,
            peers.map(|(net, is_protected)| (net, is_protected.into())),
        )
    }

    /// Writes the MTUs of routes, bytes; 0 for a route without one.
    pub(crate) fn set_route_mtus(&self, mtus: impl Iterator<Item = (IpNet, u32)>) -> Result<()> {
        self.set_prefixes(name::ROUTE_MTUS, capacity::ROUTE_MTUS, mtus)
    }

    /// Makes a trie of both families hold exactly these prefixes, of equal ones the first. If there are more than it has room for,
    /// the last ones are left out. A row that stays is never missing meanwhile.
    fn set_prefixes(
        &self,
        name: &'static str,
        room: u32,
        rows: impl Iterator<Item = (IpNet, u32)>,
    ) -> Result<()> {
        let what = || format!("write {name}");
        let mut wanted: Table<(u32, Ipv6), u32> = Table::new();
        let mut left_out = 0_usize;
        for (net, row) in rows {
            let is_full = wanted.len() == room as usize;
            match wanted.entry(unified_prefix(net)) {
                Entry::Vacant(_) if is_full => left_out += 1,
                Entry::Vacant(place) => drop(place.insert(row)),
                Entry::Occupied(_) => {}
            }
        }
        if left_out > 0 {
            tracing::warn!("{name} has room for {room} rows; {left_out} more are left out");
        }
        let mut rows = self.trie::<Ipv6, u32>(name)?;
        let present: Table<(u32, Ipv6), u32> = rows
            .iter()
            .map(|row| row.map(|(key, Wire(row))| ((key.prefix_len(), key.data().0), row)))
            .collect::<Result<_, _>>()
            .doing(what)?;
        for ((bits, net), row) in wanted.iter().filter(|(key, row)| present.get(key) != Some(row)) {
            rows.insert(&Key::new(*bits, Wire(*net)), Wire(*row), ANY).doing(what)?;
        }
        for (bits, net) in present.keys().filter(|key| !wanted.contains_key(key)) {
            absent_is_fine(rows.remove(&Key::new(*bits, Wire(*net)))).doing(what)?;
        }
        if present == wanted { Ok(()) } else { self.begin_epoch() }
    }

    /// Writes which ports the kernel gives to the host's sockets. What is cached of them is void if they change.
    pub(crate) fn set_local_ports(&self, ports: &RangeInclusive<u16>) -> Result<()> {
        let what = || format!("write {}", name::LOCAL_PORTS);
        let wanted = LocalPorts { first: *ports.start(), last: *ports.end() };
        let mut rows = self.array::<LocalPorts>(name::LOCAL_PORTS)?;
        let Wire(present) = rows.get(&0, 0).doing(what)?;
        if present == wanted {
            return Ok(());
        }
        rows.set(0, Wire(wanted), ANY).doing(what)?;
        self.begin_epoch()
    }

    /// Writes the uplinks.
    pub(crate) fn set_uplinks(&self, uplinks: &[Uplink]) -> Result<()> {
        let flag = |is_on: bool, flag: u32| if is_on { flag } else { 0 };
        let wanted = uplinks
            .iter()
            .map(|uplink| {
                let row = UplinkRow {
                    address4: uplink.address4.map_or(Ipv4::UNSPECIFIED, Into::into),
                    mtu: uplink.mtu,
                    address6: uplink.address6.map_or(Ipv6::UNSPECIFIED, Into::into),
                    mac: mac_words(uplink.mac),
                    flags: flag(uplink.takes_frames, uplink_flag::TAKES_FRAMES)
                        | flag(uplink.strict_reverse_path, uplink_flag::STRICT_REVERSE_PATH),
                };
                (uplink.ifindex, row)
            })
            .collect();
        self.set_all(name::UPLINKS, &wanted)
    }

    /// Writes the trusted interfaces: a network's number and an interface's index each.
    pub(crate) fn set_trusted(&self, trusted: impl Iterator<Item = (u32, u32)>) -> Result<()> {
        let wanted = trusted.map(|(network, ifindex)| (TrustKey { network, ifindex }, 1_u32)).collect();
        self.set_all(name::TRUSTED, &wanted)
    }

    /// Makes a map contain exactly these rows. Rows that stay are never missing in between.
    fn set_all<K: bytemuck::Pod + Eq + std::hash::Hash, V: bytemuck::Pod + PartialEq>(
        &self,
        name: &'static str,
        wanted: &Table<K, V>,
    ) -> Result<()> {
        let what = || format!("write {name}");
        let mut rows = self.hash::<K, V>(name)?;
        let present: Table<K, V> = rows
            .iter()
            .map(|row| row.map(|(Wire(key), Wire(row))| (key, row)))
            .collect::<Result<_, _>>()
            .doing(what)?;
        for (key, row) in wanted.iter().filter(|(key, row)| present.get(key) != Some(row)) {
            rows.insert(Wire(*key), Wire(*row), ANY).doing(what)?;
        }
        for gone in present.keys().filter(|key| !wanted.contains_key(key)) {
            absent_is_fine(rows.remove(&Wire(*gone))).doing(what)?;
        }
        if present == *wanted { Ok(()) } else { self.begin_epoch() }
    }

    /// Sets the idle timeout of each state, seconds.
    pub(crate) fn set_timeouts(&self, seconds: impl Fn(State) -> u32) -> Result<()> {
        let mut rows = self.array(name::TIMEOUTS)?;
        for state in State::ALL {
            let ticks = Wire(tick::of_seconds(seconds(state)));
            rows.set(state as u32, ticks, ANY).doing(|| format!("write {}", name::TIMEOUTS))?;
        }
        Ok(())
    }

    /// Packets that XDP has dropped and that are not yet in their publication's counter.
    pub(crate) fn refused(&self) -> Result<Table<Handle, u64>> {
        let mut denied = Table::new();
        self.each_denial(|_, publication, packets, _| *denied.entry(publication).or_default() += packets)?;
        Ok(denied)
    }

    /// Visits the deny caches' pending counters: reason, publication, packets, bytes.
    fn each_denial(&self, mut visit: impl FnMut(u32, Handle, u64, u64)) -> Result<()> {
        self.each_denial_of::<Ipv4>(name::DENY_CACHE, &mut visit)?;
        self.each_denial_of::<Ipv6>(name::DENY_CACHE6, &mut visit)
    }

    fn each_denial_of<A: Address>(
        &self,
        name: &'static str,
        visit: &mut impl FnMut(u32, Handle, u64, u64),
    ) -> Result<()> {
        let what = || format!("read {name}");
        let map = Map::PerCpuArray(self.open(name)?);
        let rows: PerCpuArray<MapData, Wire<DenyCacheRow<A>>> = PerCpuArray::try_from(map).doing(what)?;
        for index in 0..capacity::DENY_CACHE {
            for Wire(row) in rows.get(&index, 0).doing(what)?.iter().filter(|Wire(row)| row.pending != 0) {
                visit(row.reason, row.publication, u64::from(row.pending), row.bytes);
            }
        }
        Ok(())
    }

    /// Dropped packets and bytes by reason, of all CPUs together.
    pub(crate) fn drops(&self) -> Result<Vec<(Reason, DropRow)>> {
        let what = || format!("read {}", name::DROPS);
        let map = Map::PerCpuArray(self.open(name::DROPS)?);
        let rows: PerCpuArray<MapData, Wire<DropRow>> = PerCpuArray::try_from(map).doing(what)?;
        let mut denied: Table<u32, (u64, u64)> = Table::new();
        self.each_denial(|reason, _, packets, bytes| {
            let sum = denied.entry(reason).or_default();
            *sum = (sum.0 + packets, sum.1 + bytes);
        })?;
        Reason::ALL
            .into_iter()
            .map(|reason| {
                let cpus = rows.get(&(reason as u32), 0).doing(what)?;
                let (packets, bytes) = denied.get(&(reason as u32)).copied().unwrap_or_default();
                let sum = DropRow { packets, bytes, ..DropRow::default() };
                let sum = cpus.iter().fold(sum, |sum, Wire(cpu)| DropRow {
                    packets: sum.packets + cpu.packets,
                    bytes: sum.bytes + cpu.bytes,
                    ..sum
                });
                Ok((reason, sum))
            })
            .collect()
    }

    /// Each flow table, by number, with the quota of a container that has no connections.
    pub(crate) fn fill(&self) -> Result<Vec<TableFill>> {
        Ok(self.totals()?.iter().map(|table| table.report(table.connections, 0)).collect())
    }

    /// The same of the connections of each of these containers, which have these endpoints, with its quota.
    pub(crate) fn usage(&self, containers: &[Vec<Handle>]) -> Result<Vec<Vec<TableFill>>> {
        let tables = self.totals()?;
        let mut slots: Vec<u32> = containers.iter().flatten().map(|one| u32::from(one.slot())).collect();
        slots.sort_unstable();
        slots.dedup();
        let rows: Table<u32, UsageRow> =
            slots.iter().copied().zip(self.at::<UsageRow>(name::USAGE, &slots)?).collect();
        let own = |endpoints: &[Handle], number: usize| {
            let rows = endpoints.iter().filter_map(|one| rows.get(&u32::from(one.slot())));
            rows.filter_map(|row| row.connections.get(number)).map(|count| counted(*count)).sum()
        };
        let of = |endpoints: &Vec<Handle>| {
            let tables = tables.iter().enumerate();
            let report = |(number, table): (usize, &TableTotal)| {
                let own = own(endpoints, number);
                table.report(own, own)
            };
            tables.map(report).collect()
        };
        Ok(containers.iter().map(of).collect())
    }

    /// Each flow table, by number.
    fn totals(&self) -> Result<Vec<TableTotal>> {
        let limits = self.array::<LimitRow>(name::LIMITS)?;
        let fill = self.array::<FillRow>(name::FILL)?;
        let total = |number| {
            let (Wire(limits), Wire(fill)) = (limits.get(&number, 0)?, fill.get(&number, 0)?);
            Ok(TableTotal { number, limits, connections: counted(fill.connections) })
        };
        let totals: std::result::Result<Vec<_>, MapError> = (0..capacity::TABLES).map(total).collect();
        totals.doing(|| "read how full the flow tables are".to_owned())
    }

    /// Sets how much of the flow tables one container may have.
    pub(crate) fn set_quota(&self, quota: Quota) -> Result<()> {
        let mut limits = self.array(name::LIMITS)?;
        for (number, size) in (0..).zip(capacity::flows(self.max_connections()?)) {
            let row = Wire(object::limits(size, quota));
            limits.set(number, row, ANY).doing(|| format!("write {}", name::LIMITS))?;
        }
        Ok(())
    }

    /// The maximum number of established IPv4 connections.
    pub(crate) fn max_connections(&self) -> Result<u32> {
        Ok(self.room(name::FLOWS)? / 2)
    }

    /// The capacity of a map, rows.
    pub(super) fn room(&self, name: &'static str) -> Result<u32> {
        Ok(self.open(name)?.info().doing(|| format!("inspect {name}"))?.max_entries())
    }
}

/// The current time in ticks.
pub(super) fn now() -> Result<u32> {
    now_nanos().map(tick::of_nanos)
}

/// The current time in nanoseconds, by the programs' clock (`bpf_ktime_get_ns`).
pub(super) fn now_nanos() -> Result<u64> {
    let time =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).doing(|| "read the clock".into())?;
    let nanos = u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec()).unwrap_or(0);
    Ok(nanos)
}

/// An endpoint's addresses, IPv4 in its mapped form.
fn addresses(row: &EndpointRow) -> impl Iterator<Item = Ipv6> {
    let (four, six) = (row.subnet4.address(), row.subnet6.address());
    let four = (four != Ipv4::UNSPECIFIED).then(|| Ipv6::mapped(four));
    four.into_iter().chain((six != Ipv6::UNSPECIFIED).then_some(six))
}

/// An address, IPv4 in its mapped form.
pub(super) fn unified(address: IpAddr) -> Ipv6 {
    match address {
        IpAddr::V4(address) => Ipv6::mapped(address.into()),
        IpAddr::V6(address) => address.into(),
    }
}

/// A prefix, as its length and its first address; IPv4 in its mapped form.
fn unified_prefix(net: IpNet) -> (u32, Ipv6) {
    let before = if net.addr().is_ipv4() { SourceKey::MAPPED_BITS } else { 0 };
    (before + u32::from(net.prefix_len()), unified(net.network()))
}

fn allowed_key(endpoint: Handle, net: IpNet) -> Key<Wire<AllowedAddressKey>> {
    let (bits, address) = unified_prefix(net);
    Key::new(AllowedAddressKey::ENDPOINT_BITS + bits, Wire(AllowedAddressKey { endpoint, address }))
}

fn subnet_key4(subnet: Ipv4Net) -> Key<Wire<Ipv4>> {
    Key::new(u32::from(subnet.prefix_len()), Wire(subnet.network().into()))
}

fn subnet_key6(subnet: Ipv6Net) -> Key<Wire<Ipv6>> {
    Key::new(u32::from(subnet.prefix_len()), Wire(subnet.network().into()))
}

/// The rows of an access list. The row for all other sources comes last, so that no source is denied before the list is
/// complete.
fn source_keys(publication: Handle, access: &Access) -> impl Iterator<Item = (Key<Wire<SourceKey>>, bool)> {
    let key = move |bits, source| {
        Key::new(SourceKey::PUBLICATION_BITS + bits, Wire(SourceKey { publication, source }))
    };
    let rules = access.rules().map(move |(net, allowed)| {
        let (bits, source) = unified_prefix(net);
        (key(bits, source), allowed)
    });
    rules.chain(access.others().map(|allowed| (key(0, Ipv6::UNSPECIFIED), allowed)))
}

/// Success if a row that should be removed was not there.
pub(super) fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
