//! Publications in the maps. Many are written with about as few system calls as one.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use aya::maps::MapData;
use aya::maps::lpm_trie::Key;
use netd_common::abi::{
    BoundPortKey, EndpointRow, FamilyRows as _, PortRow, PublicationCounters, PublicationRow, TargetPortKey,
    name, port_index, publication_flag,
};
use netd_common::flow::Handle;
use netd_common::wire::bytes::{Address, Be16, Ipv4, Ipv6};

use super::bpf::{self, ANY};
use super::tables::{Tables, absent_is_fine};
use super::wire::Wire;
use crate::error::{Doing as _, Result};

/// Rows of an array that are at most this far apart are read with one system call.
const CLOSE: u32 = 64;
/// How many publications' counters are read before the next ones.
const AT_ONCE: usize = 4096;

/// A publication: a host port, or a range of host ports, that leads to the same number of ports of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublishedPorts {
    /// Protocol number.
    pub protocol: u8,
    /// Its host address, or an unspecified one for all addresses of a family; all addresses if `None`.
    pub host_address: Option<IpAddr>,
    /// First host port.
    pub host_port: u16,
    /// Last host port.
    pub host_port_end: u16,
    /// The target port of the first host port.
    pub target_port: u16,
    /// Index of the interface on which its clients must arrive; any if `None`.
    pub interface: Option<u32>,
    /// The target's handle.
    pub endpoint: Handle,
}

/// An interface index that no interface has, so that no packet arrives on it.
pub(crate) const NO_INTERFACE: u32 = u32::MAX;

impl Tables {
    /// Publishes: writes the publications' rows, then the ports that lead to them.
    pub(crate) fn publish(&self, publications: &[(Handle, PublishedPorts)]) -> Result<()> {
        let fresh = |(handle, publication): &(Handle, PublishedPorts)| {
            (u32::from(handle.slot()), row(*handle, publication, PublicationCounters::default()))
        };
        self.put(name::PUBLICATIONS, publications.iter().map(fresh))?;
        self.put_targets(publications)?;
        // The counter in the port's row is written before the row that it counts: if a command dies in between, the
        // result is only an unnecessary lookup.
        self.change_ports(publications, |handle, publication, row| match publication.host_address {
            Some(_) => PortRow { bound: row.bound + 1, ..row },
            None => PortRow { any: handle, ..row },
        })?;
        self.bind(publications)?;
        self.begin_epoch()
    }

    /// Moves the ports of another publication, which then accepts no new connections. At every moment the ports lead to
    /// one of the two. The same call with both exchanged reverts it.
    pub(crate) fn take_over(&self, handle: Handle, publication: &PublishedPorts, from: Handle) -> Result<()> {
        let slot = u32::from(handle.slot());
        let before = self.at::<PublicationRow>(name::PUBLICATIONS, &[slot])?;
        let counted = before.first().filter(|row| row.handle == handle).map(|row| row.counters);
        let row = row(handle, publication, counted.unwrap_or_default());
        self.put(name::PUBLICATIONS, [(slot, row)])?;
        let one = [(handle, *publication)];
        self.put_targets(&one)?;
        self.set_publication(from, |row| row.flags |= publication_flag::DRAINING)?;
        self.bind(&one)?;
        self.change_ports(
            &one,
            |_, _, row| if row.any == from { PortRow { any: handle, ..row } } else { row },
        )?;
        self.begin_epoch()
    }

    /// Those of these publications that have a row.
    pub(crate) fn present(&self, handles: &[Handle]) -> Result<HashSet<Handle>> {
        let mut slots: Vec<u32> = handles.iter().map(|handle| u32::from(handle.slot())).collect();
        slots.sort_unstable();
        let rows = self.at::<PublicationRow>(name::PUBLICATIONS, &slots)?;
        Ok(rows.into_iter().map(|row| row.handle).collect())
    }

    /// What each of these publications has counted, without what its live connections have counted in this tick. Costs the same
    /// for any number of connections.
    pub(crate) fn publication_counters(&self, handles: &[Handle]) -> Result<Vec<PublicationCounters>> {
        let mut order: Vec<usize> = (0..handles.len()).collect();
        let slot = |at: &usize| handles.get(*at).map_or(0, |handle| u32::from(handle.slot()));
        order.sort_unstable_by_key(slot);
        let mut counters = vec![PublicationCounters::default(); handles.len()];
        for part in order.chunks(AT_ONCE) {
            let slots: Vec<u32> = part.iter().map(slot).collect();
            let rows = self.at::<PublicationRow>(name::PUBLICATIONS, &slots)?;
            for (at, row) in part.iter().zip(rows) {
                if let (Some(handle), Some(place)) = (handles.get(*at), counters.get_mut(*at))
                    && row.handle == *handle
                {
                    *place = row.counters;
                }
            }
        }
        Ok(counters)
    }

    /// The rows of endpoints in these slots.
    pub(crate) fn endpoints(&self, slots: &[u32]) -> Result<Vec<EndpointRow>> {
        self.at(name::ENDPOINTS, slots)
    }

    /// Sets the interface on which a publication's clients must arrive.
    pub(crate) fn set_interface(&self, handle: Handle, interface: u32) -> Result<()> {
        self.set_publication(handle, |row| row.interface = interface)
    }

    /// Sets whether another publication leads to one of its target's ports, in IPv4 and in IPv6.
    pub(crate) fn set_shared(&self, handle: Handle, [four, six]: [bool; 2]) -> Result<()> {
        const SHARED: u32 = publication_flag::SHARED_TARGET;
        let flag = |is_shared, flag| if is_shared { flag } else { 0 };
        let shared = flag(four, Ipv4::flag(SHARED)) | flag(six, Ipv6::flag(SHARED));
        self.set_publication(handle, |row| row.flags = (row.flags & publication_flag::DRAINING) | shared)
    }

    /// Changes a publication's row, if it exists. Packets that are counted meanwhile may be missing in the counters.
    fn set_publication(&self, handle: Handle, change: impl FnOnce(&mut PublicationRow)) -> Result<()> {
        let slot = u32::from(handle.slot());
        let Some(before) = self.at::<PublicationRow>(name::PUBLICATIONS, &[slot])?.pop() else {
            return Ok(());
        };
        let mut row = before;
        change(&mut row);
        if row == before || row.handle != handle {
            Ok(())
        } else {
            self.put(name::PUBLICATIONS, [(slot, row)])?;
            self.begin_epoch()
        }
    }

    /// Writes which publication each target port belongs to. If several have the same one, the last wins.
    pub(crate) fn put_targets(&self, publications: &[(Handle, PublishedPorts)]) -> Result<()> {
        self.insert(name::TARGET_PORTS, keyed(publications, target_keys))
    }

    /// Writes the ports of publications on single host addresses.
    fn bind(&self, publications: &[(Handle, PublishedPorts)]) -> Result<()> {
        self.insert(name::BOUND_PORTS, keyed(publications, bound_keys::<Ipv4>))?;
        self.insert(name::BOUND_PORTS6, keyed(publications, bound_keys::<Ipv6>))
    }

    /// Unpublishes: removes the ports, then clears the publications' rows, which makes all of their flows stale. They
    /// may be absent.
    pub(crate) fn unpublish(&self, publications: &[(Handle, PublishedPorts)]) -> Result<()> {
        let mut bound = self.remove_own(name::BOUND_PORTS, keyed(publications, bound_keys::<Ipv4>))?;
        bound.extend(self.remove_own(name::BOUND_PORTS6, keyed(publications, bound_keys::<Ipv6>))?);
        self.change_ports(publications, |handle, publication, row| match publication.host_address {
            Some(_) if bound.contains(&handle) => PortRow { bound: row.bound.saturating_sub(1), ..row },
            None if row.any == handle => PortRow { any: Handle::NONE, ..row },
            _ => row,
        })?;
        self.remove_own(name::TARGET_PORTS, keyed(publications, target_keys))?;
        let mut handles: Vec<Handle> = publications.iter().map(|(handle, _)| *handle).collect();
        handles.sort_unstable_by_key(|handle| handle.slot());
        let slots: Vec<u32> = handles.iter().map(|handle| u32::from(handle.slot())).collect();
        let rows = self.at::<PublicationRow>(name::PUBLICATIONS, &slots)?;
        let own = handles.iter().zip(rows).filter(|(handle, row)| row.handle == **handle);
        self.put(
            name::PUBLICATIONS,
            own.map(|(handle, _)| (handle.slot().into(), PublicationRow::default())),
        )?;
        self.begin_epoch()
    }

    /// Changes the port rows of these publications.
    fn change_ports(
        &self,
        publications: &[(Handle, PublishedPorts)],
        change: impl Fn(Handle, &PublishedPorts, PortRow) -> PortRow,
    ) -> Result<()> {
        let mut indices: Vec<u32> = publications
            .iter()
            .flat_map(|(_, publication)| {
                let ports = publication.host_port..=publication.host_port_end;
                ports.filter_map(|port| port_index(publication.protocol, Be16::new(port)))
            })
            .collect();
        indices.sort_unstable();
        indices.dedup();
        let before = self.at::<PortRow>(name::PORTS, &indices)?;
        let mut after = before.clone();
        for (handle, publication) in publications {
            let first = port_index(publication.protocol, Be16::new(publication.host_port));
            let Some(Ok(place)) = first.map(|first| indices.binary_search(&first)) else { continue };
            let count = usize::from(publication.host_port_end - publication.host_port) + 1;
            for row in after.iter_mut().skip(place).take(count) {
                *row = change(*handle, publication, *row);
            }
        }
        let rows = indices.into_iter().zip(before.iter().zip(after));
        self.put(
            name::PORTS,
            rows.filter(|(_, (before, after))| *before != after).map(|(index, (_, after))| (index, after)),
        )
    }

    /// The rows of an array at these ascending indices.
    pub(super) fn at<T: bytemuck::Pod>(&self, name: &'static str, indices: &[u32]) -> Result<Vec<T>> {
        if let Ok(rows) = close_rows(&self.open(name)?, indices) {
            return Ok(rows);
        }
        let rows = self.array::<T>(name)?;
        let at = |index: &u32| rows.get(index, 0).map(|Wire(row)| row);
        indices.iter().map(|index| at(index).doing(|| format!("read row {index} of {name}"))).collect()
    }

    /// Writes rows of an array.
    fn put<T: bytemuck::Pod>(
        &self,
        name: &'static str,
        rows: impl IntoIterator<Item = (u32, T)>,
    ) -> Result<()> {
        let (indices, rows): (Vec<u32>, Vec<Wire<T>>) =
            rows.into_iter().map(|(index, row)| (index, Wire(row))).unzip();
        if rows.is_empty() || bpf::write_rows(&self.open(name)?, &indices, &rows).is_ok() {
            return Ok(());
        }
        let mut array = self.array::<T>(name)?;
        indices.into_iter().zip(rows).try_for_each(|(index, row)| {
            array.set(index, row, ANY).doing(|| format!("write row {index} of {name}"))
        })
    }

    /// Writes rows of a trie, whether or not they exist.
    fn insert<K: bytemuck::Pod>(
        &self,
        name: &'static str,
        rows: impl Iterator<Item = (Key<Wire<K>>, Handle)>,
    ) -> Result<()> {
        let (keys, rows): (Vec<_>, Vec<_>) = rows.map(|(key, handle)| (key, Wire(handle))).unzip();
        if rows.is_empty() || bpf::write_rows(&self.open(name)?, &keys, &rows).is_ok() {
            return Ok(());
        }
        let mut trie = self.trie::<K, Handle>(name)?;
        keys.iter()
            .zip(rows)
            .try_for_each(|(key, row)| trie.insert(key, row, ANY).doing(|| format!("write to {name}")))
    }

    /// Removes the rows that lead to the handle given with them; returns these handles.
    fn remove_own<K: bytemuck::Pod>(
        &self,
        name: &'static str,
        rows: impl Iterator<Item = (Key<Wire<K>>, Handle)>,
    ) -> Result<HashSet<Handle>> {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(HashSet::new());
        }
        let mut trie = self.trie::<K, Handle>(name)?;
        let is_own = |(key, handle): &(Key<Wire<K>>, Handle)| {
            trie.get(key, 0).is_ok_and(|Wire(found)| found == *handle)
        };
        let (keys, handles): (Vec<_>, HashSet<_>) = rows.filter(is_own).unzip();
        if bpf::remove_rows(&self.open(name)?, &keys).is_err() {
            for key in &keys {
                absent_is_fine(trie.remove(key)).doing(|| format!("remove a row of {name}"))?;
            }
        }
        Ok(handles)
    }
}

/// Rows of an array; those with close indices are read with one system call.
fn close_rows<T: bytemuck::Pod>(map: &MapData, indices: &[u32]) -> io::Result<Vec<T>> {
    let mut rows = Vec::with_capacity(indices.len());
    for run in indices.chunk_by(|one, next| next.abs_diff(*one) <= CLOSE) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let mut window = vec![Wire(T::zeroed()); last.abs_diff(*first) as usize + 1];
        bpf::read_rows(map, *first, &mut window)?;
        rows.extend(
            run.iter().filter_map(|index| window.get(index.abs_diff(*first) as usize)).map(|Wire(row)| *row),
        );
    }
    Ok(rows)
}

/// The keys of these publications, each with its publication's handle.
fn keyed<K, I: IntoIterator<Item = K>>(
    publications: &[(Handle, PublishedPorts)],
    keys: impl Fn(&PublishedPorts) -> I,
) -> impl Iterator<Item = (K, Handle)> {
    publications
        .iter()
        .flat_map(move |(handle, publication)| keys(publication).into_iter().map(|key| (key, *handle)))
}

/// A publication's row.
fn row(handle: Handle, publication: &PublishedPorts, counters: PublicationCounters) -> PublicationRow {
    PublicationRow {
        handle,
        endpoint: publication.endpoint,
        host_port: Be16::new(publication.host_port),
        target_port: Be16::new(publication.target_port),
        ports: u32::from(publication.host_port_end - publication.host_port) + 1,
        address: match publication.host_address {
            None => Ipv6::UNSPECIFIED,
            Some(IpAddr::V4(address)) if address.is_unspecified() => Ipv6::UNSPECIFIED,
            Some(IpAddr::V4(address)) => Ipv6::mapped(address.into()),
            Some(IpAddr::V6(address)) => address.into(),
        },
        interface: publication.interface.unwrap_or(0),
        flags: 0,
        counters,
    }
}

/// The family of a single host address.
trait Bound: Address {
    /// The address, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;
}

impl Bound for Ipv4 {
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }
}

impl Bound for Ipv6 {
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.into()),
        }
    }
}

/// A publication's keys in a family's map of single addresses: the fewest aligned blocks of ports that make up its
/// range.
fn bound_keys<A: Bound>(publication: &PublishedPorts) -> Vec<Key<Wire<BoundPortKey<A>>>> {
    let Some(address) = publication.host_address.and_then(A::of) else { return Vec::new() };
    let protocol = Be16::new(u16::from(publication.protocol));
    let key = |(first, bits)| {
        let data = BoundPortKey { address, protocol, port: Be16::new(first) };
        Key::new(BoundPortKey::<A>::BITS - bits, Wire(data))
    };
    blocks(publication.host_port, publication.host_port_end).into_iter().map(key).collect()
}

/// A publication's keys in the map of target ports, for the families in which other hosts can reach it.
fn target_keys(publication: &PublishedPorts) -> Vec<Key<Wire<TargetPortKey>>> {
    let is_reached = |four: bool| match publication.host_address {
        None => true,
        Some(address) => !address.is_loopback() && address.is_ipv4() == four,
    };
    let PublishedPorts { endpoint, protocol, target_port, host_port, host_port_end, .. } = *publication;
    let mut keys = Vec::new();
    for (first, bits) in blocks(target_port, target_port.saturating_add(host_port_end - host_port)) {
        let port = Be16::new(first);
        let four = is_reached(true).then(|| TargetPortKey::new::<Ipv4>(endpoint, protocol, port));
        let six = is_reached(false).then(|| TargetPortKey::new::<Ipv6>(endpoint, protocol, port));
        keys.extend(four.into_iter().chain(six).map(|data| Key::new(TargetPortKey::BITS - bits, Wire(data))));
    }
    keys
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
