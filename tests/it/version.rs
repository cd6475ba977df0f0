//! Pins of another version of netd are refused with an error that names both versions, and `down` removes them.

use std::fs;

use aya::maps::{Array, Map, MapData};
use netd_common::abi::{ABI, Kind, MAPS, VersionRow, name};
use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server, tcp_first_line};
use netd_tests::snapshot::Snapshot;

/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;

/// A row in the form that aya accepts.
type Bytes = [u8; size_of::<VersionRow>()];

/// Makes an instance and changes its pins by `change`. Checks that the error contains all of `texts`, and that the
/// instance can be removed and made again.
#[track_caller]
fn refused(change: impl FnOnce(&Lab), texts: &[&str]) {
    let lab = Lab::new();
    let before = Snapshot::of(&lab);
    lab.container("web", &["-p", "8080:80"]);
    change(&lab);
    for words in [&["ports"][..], &["unpublish", "8080"]] {
        for text in texts {
            lab.netd(words).fails(1, text);
        }
    }
    lab.netd(&["down"]).ok();
    Snapshot::of(&lab).assert_same_as(&before);
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
}

/// Replaces a pinned map by one with another definition.
fn replace(lab: &Lab, name: &str, kind: Kind, flags: u32) -> MapData {
    let of = MAPS.iter().find(|map| map.name == name).unwrap();
    let look = aya_obj::Map::new_from_params(kind as u32, of.key, of.value, of.rows, flags);
    let map = MapData::create(look, name, None).unwrap();
    let path = lab.pins().join("maps").join(name);
    fs::remove_file(&path).unwrap();
    map.pin(&path).unwrap();
    map
}

/// The version that is pinned.
fn pinned(lab: &Lab) -> VersionRow {
    let map = MapData::from_pin(lab.pins().join("maps").join(name::VERSION)).unwrap();
    let rows: Array<_, Bytes> = Array::try_from(Map::Array(map)).unwrap();
    bytemuck::pod_read_unaligned(&rows.get(&0, 0).unwrap())
}

/// Pins another version.
fn pin(lab: &Lab, version: VersionRow) {
    let map = replace(lab, name::VERSION, Kind::Array, 0);
    let mut rows: Array<_, Bytes> = Array::try_from(Map::Array(map)).unwrap();
    let bytes: Bytes = bytemuck::bytes_of(&version).try_into().unwrap();
    rows.set(0, bytes, 0).unwrap();
}

#[test]
fn another_abi_number_without_a_description_of_the_rows_is_refused() {
    let change = |lab: &Lab| {
        let maps = lab.pins().join("maps");
        pin(lab, VersionRow { abi: ABI + 1, ..pinned(lab) });
        fs::remove_file(maps.join(name::LAYOUT)).unwrap();
    };
    refused(
        change,
        &[&format!("pinned is ABI {}, programs", ABI + 1), &format!("this netd has ABI {ABI}, programs")],
    );
}

#[test]
fn pins_without_a_version_are_refused() {
    let change = |lab: &Lab| fs::remove_file(lab.pins().join("maps").join(name::VERSION)).unwrap();
    refused(change, &["pinned is no ABI number", &format!("this netd has ABI {ABI}")]);
}

#[test]
fn a_map_of_other_flags_is_refused() {
    refused(
        |lab| drop(replace(lab, name::TRUSTED, Kind::Hash, NO_PREALLOC)),
        &[
            "pinned is map TRUSTED of type 1, key 8, value 4, 4096 rows, flags 0x1",
            "this netd has type 1, key 8, value 4, 4096 rows, flags 0x0",
        ],
    );
}

#[test]
fn a_map_of_another_kind_is_refused() {
    refused(
        |lab| drop(replace(lab, name::TRUSTED, Kind::LruHash, 0)),
        &["pinned is map TRUSTED of type 9, key 8", "this netd has type 1, key 8"],
    );
}

#[test]
fn the_pinned_version_cannot_be_changed() {
    let lab = Lab::new();
    lab.container("web", &["-p", "8080:80"]);
    let version = pinned(&lab);
    assert_eq!(version.abi, ABI);
    let map = MapData::from_pin(lab.pins().join("maps").join(name::VERSION)).unwrap();
    let mut rows: Array<_, Bytes> = Array::try_from(Map::Array(map)).unwrap();
    rows.set(0, [0; size_of::<VersionRow>()], 0).unwrap_err();
    assert_eq!(pinned(&lab), version);
}
