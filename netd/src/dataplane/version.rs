//! Checks that the pins have the contract of this version of netd. With maps of another layout memory would be corrupted, since
//! the kernel copies as many bytes as *its* row has.

use std::fmt;
use std::path::Path;

use aya::maps::{Array, Map as AyaMap, MapData, MapInfo};
use netd_common::abi::{MAPS, Map, VersionRow, hook, name, previous, stage, xdp_stage};

use super::attach::has_kernel_for;
use super::wire::Wire;
use super::{object, pins};
use crate::error::{Doing as _, Error, Result, StateError};

/// The pinned version. Fails unless its contract is that of this netd: compares kind, sizes, flags and capacity of every map, and the
/// ABI number. The programs may be those of another build.
pub(super) fn check(instance: &Path) -> Result<VersionRow> {
    let found = pinned(instance)?;
    let own = object::version();
    let is_gone = match found {
        Some(version) => version.abi == own.abi && !is_complete(instance, &version),
        None => !MAPS.iter().any(|map| pins::maps(instance).join(map.name).exists()),
    };
    if is_gone {
        return Err(StateError::ProgramsGone.into());
    }
    let Some(version) = found.filter(|version| version.abi == own.abi) else {
        return Err(other_version(&Shown(found), &Shown(Some(own))));
    };
    for map in MAPS.iter().filter(|map| !map.is_of_programs()) {
        check_map(instance, map)?;
    }
    Ok(version)
}

/// Whether every pin of this version is there.
fn is_complete(instance: &Path, version: &VersionRow) -> bool {
    let maps = MAPS.iter().filter(|map| !map.is_of_programs());
    let programs = pins::programs(instance, &digits(&version.digest));
    let names = stage::PROGRAMS.into_iter().chain(xdp_stage::PROGRAMS).chain(hook::ALL);
    let names = names.chain([previous::HOLD]);
    maps.map(|map| pins::maps(instance).join(map.name))
        .chain(names.filter(|name| has_kernel_for(name)).map(|name| programs.join(name)))
        .all(|pin| pin.exists())
}

/// A digest in hexadecimal digits.
pub(super) fn digits(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}

/// The version that is pinned with the maps; none if there are no pins, or an older netd has made them.
pub(super) fn pinned(instance: &Path) -> Result<Option<VersionRow>> {
    let path = pins::maps(instance).join(name::VERSION);
    if !path.exists() {
        return Ok(None);
    }
    let what = || format!("read {}", path.display());
    if MapInfo::from_pin(&path).doing(what)?.value_size() as usize != size_of::<VersionRow>() {
        return Ok(None);
    }
    let map = AyaMap::Array(MapData::from_pin(&path).doing(what)?);
    let rows: Array<MapData, Wire<VersionRow>> = Array::try_from(map).doing(what)?;
    let Wire(row) = rows.get(&0, 0).doing(what)?;
    Ok(Some(row))
}

/// Fails unless a pinned map has the expected definition.
fn check_map(instance: &Path, expected: &Map) -> Result<()> {
    let path = pins::maps(instance).join(expected.name);
    let what = || format!("inspect {}", path.display());
    let info = MapInfo::from_pin(&path).doing(what)?;
    let found = Look {
        kind: info.map_type().doing(what)? as u32,
        key: info.key_size(),
        value: info.value_size(),
        rows: info.max_entries(),
        flags: info.map_flags(),
    };
    // The capacity of the flow tables is chosen by the user.
    let rows = if expected.is_sized_by_user() { found.rows } else { expected.rows };
    let Map { kind, key, value, flags, .. } = *expected;
    let own = Look { kind: kind as u32, key, value, rows, flags };
    if found == own {
        return Ok(());
    }
    Err(other_version(&format_args!("map {} of {found}", expected.name), &format_args!("{own}")))
}

/// The kernel's definition of a map.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    /// `enum bpf_map_type`.
    kind: u32,
    key: u32,
    value: u32,
    rows: u32,
    flags: u32,
}

impl fmt::Display for Look {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, value, rows, flags } = self;
        write!(to, "type {kind}, key {key}, value {value}, {rows} rows, flags {flags:#x}")
    }
}

/// A version as text.
struct Shown(Option<VersionRow>);

impl fmt::Display for Shown {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(VersionRow { abi, digest, .. }) = self.0 else { return write!(to, "no ABI number") };
        write!(to, "ABI {abi}, programs {:.12}", digits(&digest))
    }
}

/// The error that a set of programs of this version cannot be used.
pub(super) fn is_other(found: &VersionRow) -> Error {
    other_version(&Shown(Some(*found)), &Shown(Some(object::version())))
}

fn other_version(pinned: &impl fmt::Display, own: &impl fmt::Display) -> Error {
    StateError::OtherVersion { difference: format!("pinned is {pinned}; this netd has {own}") }.into()
}
