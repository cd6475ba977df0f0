//! The description of the maps' rows that is pinned with them, and the conversion of rows between two versions: by the names of
//! their fields.

use std::path::Path;

use aya::maps::{Array, Map as AyaMap, MapData};
use bytemuck::Zeroable as _;
use netd_common::abi::{Field, Kind, LayoutRow, MAPS, Map, name};
use serde::{Deserialize, Serialize};

use super::pins;
use super::wire::Wire;
use crate::error::{Doing as _, Result};

/// The form of the description.
const FORMAT: u32 = 1;

/// What is read of the old set while connections are carried over, and counted by both sets: it is shared, or nothing can be carried
/// over.
const READ_MEANWHILE: [&str; 5] =
    [name::FILL, name::LIMITS, name::USAGE, name::UNREPLIED_RING, name::UNREPLIED_RING6];

/// What a set of programs says of its maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    format: u32,
    maps: Vec<MapLayout>,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MapLayout {
    /// Its name.
    pub(super) name: String,
    /// `enum bpf_map_type`.
    kind: u32,
    /// Length of a key, bytes.
    key: u32,
    /// Length of a row, bytes.
    value: u32,
    /// Its capacity, as the contract has it.
    rows: u32,
    flags: u32,
    key_fields: Vec<FieldLayout>,
    value_fields: Vec<FieldLayout>,
}

/// A field: its name, where it begins, and its length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FieldLayout(String, u32, u32);

impl Layout {
    /// That of this netd.
    pub(super) fn own() -> Self {
        Self { format: FORMAT, maps: MAPS.iter().map(MapLayout::of).collect() }
    }

    /// That of a pinned set; none if its netd has not left one, or in a form that this netd does not know.
    pub(super) fn pinned(instance: &Path) -> Result<Option<Self>> {
        let path = pins::maps(instance).join(name::LAYOUT);
        if !path.exists() {
            return Ok(None);
        }
        let what = || format!("read {}", path.display());
        let map = AyaMap::Array(MapData::from_pin(&path).doing(what)?);
        let rows: Array<MapData, Wire<LayoutRow>> = Array::try_from(map).doing(what)?;
        let Wire(words) = rows.get(&0, 0).doing(what)?;
        let text: &[u8] = bytemuck::cast_slice(&words);
        let len = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let known: Option<Self> = text.get(..len).and_then(|text| serde_json::from_slice(text).ok());
        Ok(known.filter(|layout| layout.format == FORMAT))
    }

    /// As the row that is pinned; none if there is no room for it.
    pub(super) fn row(&self) -> Result<Option<LayoutRow>> {
        let text = serde_json::to_vec(self).doing(|| "describe the maps".into())?;
        let mut row = LayoutRow::zeroed();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut row);
        // A zero ends it.
        let Some((place, [_zero, ..])) = bytes.split_at_mut_checked(text.len()) else { return Ok(None) };
        place.copy_from_slice(&text);
        Ok(Some(row))
    }

    /// All maps of it.
    pub(super) fn maps(&self) -> impl Iterator<Item = &MapLayout> {
        self.maps.iter()
    }

    /// A map of it whose rows are needed, and cannot be made from those of another set.
    pub(super) fn lacks_rows_of(&self, before: &Self) -> Option<&str> {
        let is_carried = |to: &&MapLayout| {
            let is_converted =
                |from: &MapLayout| from.converts_to(to) && !READ_MEANWHILE.contains(&to.name.as_str());
            before
                .map(&to.name)
                .is_none_or(|from| from == *to || is_converted(from) || from.may_begin_anew(to))
        };
        self.maps.iter().find(|to| !is_carried(to)).map(|map| map.name.as_str())
    }

    /// A map of it.
    pub(super) fn map(&self, name: &str) -> Option<&MapLayout> {
        self.maps.iter().find(|map| map.name == name)
    }
}

impl MapLayout {
    fn of(map: &Map) -> Self {
        let fields = |fields: &[Field]| {
            fields.iter().map(|one| FieldLayout(one.name.to_owned(), one.at, one.size)).collect()
        };
        let Map { name, kind, key, value, rows, flags, key_fields, value_fields } = *map;
        Self {
            name: name.to_owned(),
            kind: kind as u32,
            key,
            value,
            rows,
            flags,
            key_fields: fields(key_fields),
            value_fields: fields(value_fields),
        }
    }

    /// Whether a row of it can become a row of `to`: the keys have fields of the same names, and both maps hold one row for all CPUs.
    pub(super) fn converts_to(&self, to: &Self) -> bool {
        let kinds = [Kind::Hash, Kind::LruHash, Kind::Array, Kind::LpmTrie].map(|kind| kind as u32);
        let names = |of: &Self| of.key_fields.iter().map(|field| field.0.clone()).collect::<Vec<_>>();
        // The length of a trie's prefix counts the bits of its fields.
        let is_trie = self.kind == Kind::LpmTrie as u32;
        self.kind == to.kind
            && kinds.contains(&self.kind)
            && names(self) == names(to)
            && (!is_trie || self.key_fields == to.key_fields)
    }

    /// Whether nothing is lost that anybody needs if the map begins anew: counters, caches, reports, and what each set has of its own.
    fn may_begin_anew(&self, to: &Self) -> bool {
        let is_of_one_set = MAPS.iter().any(|map| map.name == self.name && map.is_of_one_set());
        let kinds = [Kind::PerCpuArray, Kind::RingBuf].map(|kind| kind as u32);
        is_of_one_set || kinds.contains(&self.kind) && kinds.contains(&to.kind)
    }

    /// A key in the form of `to`.
    pub(super) fn key_to(&self, to: &Self, key: &[u8]) -> Vec<u8> {
        if self.kind == Kind::LpmTrie as u32 {
            return key.to_vec();
        }
        convert(key, &self.key_fields, &to.key_fields, to.key)
    }

    /// A row in the form of `to`: its fields by their names, those that it lacks are zero.
    pub(super) fn row_to(&self, to: &Self, row: &[u8]) -> Vec<u8> {
        convert(row, &self.value_fields, &to.value_fields, to.value)
    }
}

/// Copies fields to where those of the same name are. Of a longer or shorter one as many bytes as both have: numbers are
/// little-endian.
fn convert(bytes: &[u8], from: &[FieldLayout], to: &[FieldLayout], len: u32) -> Vec<u8> {
    let mut converted = vec![0; len as usize];
    for FieldLayout(name, at, size) in to {
        let Some(FieldLayout(_, from_at, from_size)) = from.iter().find(|field| field.0 == *name) else {
            continue;
        };
        let size = (*size).min(*from_size) as usize;
        let (from, to) = (*from_at as usize, *at as usize);
        if let (Some(source), Some(place)) = (bytes.get(from..from + size), converted.get_mut(to..to + size))
        {
            place.copy_from_slice(source);
        }
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str) -> MapLayout {
        Layout::own().map(name).unwrap().clone()
    }

    #[test]
    fn the_description_fits_and_is_read_as_it_was_written() {
        let row = Layout::own().row().unwrap().unwrap();
        let bytes: &[u8] = bytemuck::cast_slice(&row);
        let len = bytes.iter().position(|byte| *byte == 0).unwrap();
        assert!(len < bytes.len() * 3 / 4, "{len} bytes of {}: there is hardly room for more", bytes.len());
        assert_eq!(serde_json::from_slice::<Layout>(&bytes[..len]).unwrap(), Layout::own());
    }

    #[test]
    fn rows_are_converted_by_the_names_of_their_fields() {
        let (mut from, mut to) = (map(name::LIMITS), map(name::LIMITS));
        // room, share, places, pad: the old one has no `share`, and `places` before `room`.
        from.value_fields = vec![FieldLayout("places".into(), 0, 4), FieldLayout("room".into(), 4, 4)];
        from.value = 8;
        let row = [3_u32, 7].map(u32::to_ne_bytes).concat();
        assert_eq!(from.row_to(&to, &row), [7_u32, 0, 3, 0].map(u32::to_ne_bytes).concat());
        to.value_fields.clear();
        to.value = 4;
        assert_eq!(from.row_to(&to, &row), [0; 4]);
    }

    #[test]
    fn only_maps_with_the_same_keys_and_one_row_for_all_cpus_are_carried_over() {
        let flows = map(name::FLOWS);
        assert!(flows.converts_to(&flows));
        assert!(!flows.converts_to(&map(name::FLOWS_RING)));
        assert!(!map(name::DROPS).converts_to(&map(name::DROPS)));
        assert!(!map(name::EVENTS).converts_to(&map(name::EVENTS)));
        let mut other = flows.clone();
        other.key_fields[0].0 = "from".into();
        assert!(!flows.converts_to(&other));
        let (own, mut before) = (Layout::own(), Layout::own());
        assert_eq!(own.lacks_rows_of(&before), None);
        before.maps.iter_mut().find(|map| map.name == name::FLOWS).unwrap().key_fields[0].0 = "from".into();
        assert_eq!(own.lacks_rows_of(&before), Some(name::FLOWS));
        let mut trie = map(name::SOURCES);
        trie.key_fields[0].2 = 8;
        assert!(!map(name::SOURCES).converts_to(&trie));
    }
}
