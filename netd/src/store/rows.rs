//! The file of publications: one row each, by slot, so that a command reads and writes little even if there are many.
//!
//! A row holds data that does not change during the life of a publication, except that a file may ask for it later. The lifecycle is in the state file, with
//! data that only some publications have ([`Note`]) and with the sets of targets. So many publications become ready, or
//! are removed, in one step. Rows of new publications are written after the state file has their notes; rows of removed
//! ones are cleared before their notes are deleted. So a row without a note is a complete publication, and a note
//! without a row is ignored.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use netd_common::abi::capacity;
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::model::{Lifecycle, Policy, Protocol, Publication, Target, TargetSet};
use crate::private;

/// Data that only some publications have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    lifecycle: Lifecycle,
    #[serde(flatten)]
    policy: Policy,
}

/// The notes, by slot.
pub(super) fn notes(publications: &[Publication]) -> BTreeMap<u16, Note> {
    let plain = |one: &&Publication| one.lifecycle == Lifecycle::Ready && one.policy.is_none();
    let note = |one: &Publication| Note {
        lifecycle: one.lifecycle,
        policy: one.policy.as_deref().cloned().unwrap_or_default(),
    };
    publications.iter().filter(|one| !plain(one)).map(|one| (one.slot, note(one))).collect()
}

/// The sets of targets, by number.
pub(super) fn target_sets(publications: &[Publication]) -> BTreeMap<u32, [Target; 1]> {
    let mut sets = BTreeMap::new();
    let mut last = 0;
    for set in publications.iter().map(|one| &one.targets) {
        if set.id != last {
            sets.entry(set.id).or_insert_with(|| set.members.clone());
            last = set.id;
        }
    }
    sets
}

/// A publication in the file, in the machine's byte order, since the file is valid only for one boot. Its size divides
/// the page size, so that a killed command leaves a row complete or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Row {
    /// Its number; zero in an empty row.
    number: u64,
    /// The host address, IPv4 in its mapped form.
    host_address: [u8; 16],
    /// The number of its set of targets.
    targets: u32,
    generation: u16,
    host_port: u16,
    host_port_end: u16,
    target_port: u16,
    /// The protocol's number.
    protocol: u8,
    /// [`flag`]s.
    flags: u8,
    unused: [u8; 26],
}

const _: () = assert!(4096 % size_of::<Row>() == 0, "a row lies in one page");

/// Flags: which fields of a row are set, and the mark of a file's publication.
mod flag {
    pub(super) const HOST4: u8 = 1;
    pub(super) const HOST6: u8 = 2;
    pub(super) const APPLIED: u8 = 4;
}

impl Row {
    fn of(publication: &Publication) -> Self {
        let (mut host_address, mut flags) = ([0; 16], 0);
        if let Some(address) = publication.host_ip {
            host_address = octets(address);
            flags |= if address.is_ipv4() { flag::HOST4 } else { flag::HOST6 };
        }
        if publication.applied {
            flags |= flag::APPLIED;
        }
        Self {
            number: publication.number,
            host_address,
            targets: publication.targets.id,
            generation: publication.generation,
            host_port: publication.host_port,
            host_port_end: publication.host_port_end,
            target_port: publication.target_port,
            protocol: publication.proto.number(),
            flags,
            unused: [0; 26],
        }
    }

    const fn is_empty(&self) -> bool {
        self.number == 0
    }

    /// The publication in `slot`, ready and without a policy; an error if the row is invalid.
    fn publication(
        &self,
        slot: u16,
        targets: impl FnOnce(u32) -> Option<Arc<TargetSet>>,
    ) -> std::result::Result<Publication, String> {
        let host_ip = match self.flags & (flag::HOST4 | flag::HOST6) {
            0 => None,
            flag::HOST4 => Some(Ipv6Addr::from(self.host_address).to_canonical()),
            _ => Some(IpAddr::V6(self.host_address.into())),
        };
        let targets = targets(self.targets).ok_or_else(|| format!("publication {slot} has no targets"))?;
        let proto = Protocol::from_number(self.protocol)
            .ok_or_else(|| format!("a publication of {} has no protocol", targets.target()))?;
        let publication = Publication {
            lifecycle: Lifecycle::Ready,
            number: self.number,
            proto,
            host_ip,
            policy: None,
            host_port: self.host_port,
            host_port_end: self.host_port_end,
            targets,
            target_port: self.target_port,
            slot,
            generation: self.generation,
            applied: self.flags & flag::APPLIED != 0,
        };
        if publication.has_ports() {
            Ok(publication)
        } else {
            Err(format!("a publication of {} has no ports", publication.target()))
        }
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The publications of these rows, oldest first.
pub(super) fn decode(
    rows: &[Row],
    mut notes: BTreeMap<u16, Note>,
    sets: &BTreeMap<u32, Arc<TargetSet>>,
) -> std::result::Result<Vec<Publication>, String> {
    // Capacity for all possible rows, so that the memory never moves; unused pages cost nothing.
    let mut publications = Vec::with_capacity(capacity::PUBLICATIONS as usize);
    for (slot, row) in (0..=u16::MAX).zip(rows).filter(|(_, row)| !row.is_empty()) {
        publications.push(row.publication(slot, |id| sets.get(&id).cloned())?);
    }
    for publication in &mut publications {
        if notes.is_empty() {
            break;
        }
        if let Some(Note { lifecycle, policy }) = notes.remove(&publication.slot) {
            publication.lifecycle = lifecycle;
            publication.policy = policy.shared();
        }
    }
    if !publications.is_sorted_by_key(|publication| publication.number) {
        publications.sort_by_key(|publication| publication.number);
    }
    Ok(publications)
}

/// The error for a file that is too long, or that ends within a row.
pub(super) const HALF_A_ROW: &str = "its size is not that of whole rows";

/// The number of rows in this many bytes; none if they are not whole rows or too many.
fn count(bytes: u64) -> Option<usize> {
    let bytes = usize::try_from(bytes).ok()?;
    let count = bytes / size_of::<Row>();
    (bytes.is_multiple_of(size_of::<Row>()) && count <= capacity::PUBLICATIONS as usize).then_some(count)
}

/// The rows in these bytes; none if they are not whole rows.
pub(super) fn rows(bytes: &[u8]) -> Option<Vec<Row>> {
    let mut rows = vec![Row::default(); count(bytes.len() as u64)?];
    bytemuck::cast_slice_mut(&mut rows).copy_from_slice(bytes);
    Some(rows)
}

/// The bytes of these publications' rows.
pub(super) fn encode(publications: &[Publication]) -> Vec<u8> {
    let mut table = Vec::new();
    for publication in publications {
        set(&mut table, usize::from(publication.slot), Row::of(publication));
    }
    bytemuck::cast_slice(&table).to_vec()
}

fn set(table: &mut Vec<Row>, slot: usize, row: Row) {
    if table.len() <= slot {
        table.resize(slot + 1, Row::default());
    }
    table[slot] = row;
}

/// The file and its rows.
#[derive(Debug)]
pub(super) struct RowFile {
    path: PathBuf,
    rows: Vec<Row>,
}

impl RowFile {
    /// Reads the file; a missing file has no rows.
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let what = || format!("read {}", path.display());
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::absent(path)),
            file => file.doing(what)?,
        };
        let count = count(file.metadata().doing(what)?.len());
        let mut rows = vec![Row::default(); count.ok_or_else(|| Error::system(what(), HALF_A_ROW))?];
        file.read_exact(bytemuck::cast_slice_mut(&mut rows)).doing(what)?;
        Ok(Self { path, rows })
    }

    /// A file without rows. An existing file at its path is ignored.
    pub(super) const fn absent(path: PathBuf) -> Self {
        Self { path, rows: Vec::new() }
    }

    /// Removes a file whose rows are ignored, before rows of this instance are added.
    pub(super) fn clear_if_absent(&self) -> Result<()> {
        if !self.rows.is_empty() || !self.path.exists() {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::system(format!("remove {}", self.path.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// The rows, by slot.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Clears the rows of all publications except these.
    pub(super) fn forget(&mut self, kept: &[Publication]) -> Result<()> {
        let mut gone: Vec<bool> = self.rows.iter().map(|row| !row.is_empty()).collect();
        for publication in kept {
            if let Some(gone) = gone.get_mut(usize::from(publication.slot)) {
                *gone = false;
            }
        }
        let emptied: Vec<(usize, Row)> =
            (0..).zip(gone).filter(|(_, gone)| *gone).map(|(slot, _)| (slot, Row::default())).collect();
        self.put(&emptied)?;
        let used = self.rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
        if used < self.rows.len() {
            let file = open(&self.path)?;
            file.set_len((used * size_of::<Row>()) as u64)
                .doing(|| format!("truncate {}", self.path.display()))?;
            self.rows.truncate(used);
        }
        Ok(())
    }

    /// Writes the rows of these publications that are not in the file yet, or have another mark there.
    pub(super) fn add(&mut self, publications: &[Publication]) -> Result<()> {
        let is_new = |one: &&Publication| {
            let row = self.rows.get(usize::from(one.slot));
            let is_marked = |row: &Row| row.flags & flag::APPLIED != 0;
            row.is_none_or(|row| {
                (row.number, row.generation, is_marked(row)) != (one.number, one.generation, one.applied)
            })
        };
        let mut new: Vec<(usize, Row)> =
            publications.iter().filter(is_new).map(|one| (usize::from(one.slot), Row::of(one))).collect();
        new.sort_unstable_by_key(|(slot, _)| *slot);
        self.put(&new)
    }

    /// Writes rows, sorted by slot; those next to each other at once.
    fn put(&mut self, rows: &[(usize, Row)]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let file = open(&self.path)?;
        for run in rows.chunk_by(|one, next| one.0 + 1 == next.0) {
            let block: Vec<Row> = run.iter().map(|(_, row)| *row).collect();
            let place = run.first().map_or(0, |(slot, _)| slot * size_of::<Row>());
            file.write_all_at(bytemuck::cast_slice(&block), place as u64)
                .doing(|| format!("write {}", self.path.display()))?;
            for (slot, row) in run {
                set(&mut self.rows, *slot, *row);
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<File> {
    private::open(path).doing(|| format!("open {}", path.display()))
}
