//! The embedded object: loaded once per instance, then pinned; every later command opens the pins.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use netd_common::abi::{ABI, LimitRow, MAPS, VersionRow, capacity, name, stage, tick, xdp_stage};
use netd_common::flow::state::State;

use super::attach::has_kernel_for;
use super::bpf::{self, ANY};
use super::layout::Layout;
use super::pins::{self, remove_tree};
use super::wire::Wire;
use crate::error::{Doing as _, Error, Lack, Result, StateError};
use crate::model::Quota;

/// The BPF programs, compiled by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETD_DATAPLANE_OBJECT"));

/// SHA-256 of [`OBJECT`], in hexadecimal digits.
pub(crate) const DIGEST: &str = env!("NETD_DATAPLANE_DIGEST");

/// The parameters of an instance's maps.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The cookie of the host's namespace.
    pub(crate) host: u64,
    /// The number of established IPv4 connections.
    pub(crate) connections: u32,
    /// How much of each flow table one container may have.
    pub(crate) quota: Quota,
    /// The idle timeout of each state, seconds.
    pub(crate) timeout: &'a dyn Fn(State) -> u32,
}

/// The version of this netd.
pub(super) fn version() -> VersionRow {
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(DIGEST.as_bytes().chunks(2)) {
        // build.rs writes nothing but hexadecimal digits.
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    let mut version = [0; 28];
    version.iter_mut().zip(env!("CARGO_PKG_VERSION").bytes()).for_each(|(place, byte)| *place = byte);
    VersionRow { abi: ABI, digest, version }
}

/// Parses the object, makes its maps and loads its programs; nothing is pinned yet. `host_netns` is the cookie of the
/// host's namespace, `connections` the number of established IPv4 connections.
pub fn load(host_netns: u64, connections: u32) -> Result<Ebpf> {
    load_with(host_netns, connections, &[])
}

/// As [`load`], with maps that are pinned elsewhere in the place of new ones.
fn load_with(host_netns: u64, connections: u32, shared: &[(&str, PathBuf)]) -> Result<Ebpf> {
    let cookie = Wire(host_netns);
    let mut parser = EbpfLoader::new();
    for (map, pin) in shared {
        parser.map_pin_path(map, pin.as_path());
    }
    for table in capacity::flows(connections) {
        parser.map_max_entries(table.name, table.rows).map_max_entries(table.ring, table.places);
    }
    let mut object = parser
        .override_global("HOST_NETNS", &cookie, true)
        .verifier_log_level(VerifierLogLevel::DEBUG)
        .load(OBJECT)
        .map_err(|error| refused("load the BPF object", error))?;
    load_programs(&mut object)?;
    fill_stages(&mut object, name::STAGES, &stage::PROGRAMS)?;
    fill_stages(&mut object, name::XDP_STAGES, &xdp_stage::PROGRAMS)?;
    Ok(object)
}

/// Loads the programs, on all CPUs: nearly all of the time is the verifier's, and it takes one program for each caller.
fn load_programs(object: &mut Ebpf) -> Result<()> {
    let left = Mutex::new(object.programs_mut().filter(|(name, _)| has_kernel_for(name)));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let load_all = || {
        std::iter::from_fn(next).try_for_each(|(name, program)| {
            let loaded = match program {
                Program::SchedClassifier(program) => program.load(),
                Program::Xdp(program) => program.load(),
                Program::CgroupSockAddr(program) => program.load(),
                Program::CgroupSock(program) => program.load(),
                _ => Ok(()),
            };
            loaded.map_err(|error| refused(&format!("load BPF program {name}"), error))
        })
    };
    let helpers = thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1);
    thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(load_all)).collect();
        let own = load_all();
        helpers
            .into_iter()
            .map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .fold(own, Result::and)
    })
}

/// Writes each stage's program to its number in a program array.
fn fill_stages(object: &mut Ebpf, array: &str, stages: &[&str]) -> Result<()> {
    let what = || format!("fill BPF map {array}");
    let mut programs = Vec::new();
    for (number, name) in (0..).zip(stages) {
        let program = object.program(name).ok_or_else(|| missing("program", name))?;
        let fd = program.fd().doing(what)?.try_clone().doing(what)?;
        programs.push((number, fd));
    }
    let map = object.map_mut(array).ok_or_else(|| missing("map", array))?;
    let mut stages = ProgramArray::try_from(map).doing(what)?;
    programs.iter().try_for_each(|(number, program)| stages.set(*number, program, 0)).doing(what)
}

/// The kernel refused a program or map. The advice to the user depends on whether a capability is missing.
fn refused(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let denied = {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut denied = false;
        while let Some(error) = cause {
            denied |= error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied);
            cause = error.source();
        }
        denied
    };
    let error = Error::system(what, error);
    if denied { error.lacks(Lack::BpfCapabilities) } else { error.lacks(Lack::BpfSupport) }
}

/// Loads the object and pins everything below `instance`, all or nothing: the folder is renamed when it is complete.
pub(super) fn load_and_pin(instance: &Path, setup: Setup<'_>) -> Result<()> {
    let staging = pins::staging(instance);
    pin_to(&staging, setup, &[])?;
    fs::rename(&staging, instance).doing(|| format!("rename {} to {}", staging.display(), instance.display()))
}

/// Loads the object and pins everything below `staging`, with maps that are pinned elsewhere in the place of new ones.
pub(super) fn pin_to(staging: &Path, setup: Setup<'_>, shared: &[(&str, PathBuf)]) -> Result<()> {
    remove_tree(staging)?;
    let (maps, programs) = (pins::maps(staging), pins::programs(staging, DIGEST));
    for folder in [&maps, &programs, &pins::links(staging)] {
        fs::create_dir_all(folder).doing(|| format!("create {}", folder.display()))?;
    }
    let mut object = load_with(setup.host, setup.connections, shared)?;
    fill_timeouts(&mut object, setup.timeout)?;
    fill_limits(&mut object, setup)?;
    fill_alone(&mut object, name::VERSION, version())?;
    let layout = Layout::own().row()?.ok_or_else(|| missing("room for", name::LAYOUT))?;
    fill_alone(&mut object, name::LAYOUT, layout)?;
    for map in MAPS {
        let folder = if map.is_of_programs() { &programs } else { &maps };
        let pinned = object.map(map.name).ok_or_else(|| missing("map", map.name))?;
        pinned.pin(folder.join(map.name)).doing(|| format!("pin BPF map {}", map.name))?;
    }
    for (name, program) in object.programs_mut().filter(|(name, _)| has_kernel_for(name)) {
        program.pin(programs.join(name)).doing(|| format!("pin BPF program {name}"))?;
    }
    Ok(())
}

/// Writes the idle timeouts.
fn fill_timeouts(object: &mut Ebpf, seconds: impl Fn(State) -> u32) -> Result<()> {
    let what = || format!("write {}", name::TIMEOUTS);
    let map = object.map_mut(name::TIMEOUTS).ok_or_else(|| missing("map", name::TIMEOUTS))?;
    let mut rows: Array<&mut MapData, u32> = Array::try_from(map).doing(what)?;
    State::ALL
        .into_iter()
        .try_for_each(|state| rows.set(state as u32, tick::of_seconds(seconds(state)), ANY))
        .doing(what)
}

/// Writes what the flow tables may hold.
fn fill_limits(object: &mut Ebpf, setup: Setup<'_>) -> Result<()> {
    let what = || format!("write {}", name::LIMITS);
    let map = object.map_mut(name::LIMITS).ok_or_else(|| missing("map", name::LIMITS))?;
    let mut rows: Array<&mut MapData, Wire<LimitRow>> = Array::try_from(map).doing(what)?;
    (0..)
        .zip(capacity::flows(setup.connections))
        .try_for_each(|(table, size)| rows.set(table, Wire(limits(size, setup.quota)), ANY))
        .doing(what)
}

/// What a flow table of this size may hold.
pub(super) fn limits(size: capacity::Flows, quota: Quota) -> LimitRow {
    let capacity::Flows { connections: room, places, .. } = size;
    LimitRow { room, share: quota.parts(), places, pad: 0 }
}

/// Writes the only row of a map and freezes the map.
fn fill_alone<T: bytemuck::Pod>(object: &mut Ebpf, name: &'static str, row: T) -> Result<()> {
    let what = || format!("write {name}");
    let map = object.map_mut(name).ok_or_else(|| missing("map", name))?;
    let mut rows: Array<&mut MapData, Wire<T>> = Array::try_from(&mut *map).doing(what)?;
    rows.set(0, Wire(row), ANY).doing(what)?;
    match map {
        aya::maps::Map::Array(data) => bpf::freeze(data).doing(|| format!("freeze {name}")),
        _ => Err(missing("array", name)),
    }
}

fn missing(what: &'static str, name: &str) -> Error {
    StateError::Incomplete { what, name: name.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use netd_common::abi::{Map, hook, previous};

    use super::*;

    /// The maps of the object that are not pinned: each set of programs has its own, as scratch space and caches.
    const PRIVATE: [&str; 12] = [
        "CONNECTION",
        "CONNECTION6",
        "NAT",
        "NAT6",
        "FRAGMENT_KEY",
        "FRAGMENT_KEY6",
        "PACKET",
        "FIB",
        "ANSWERS",
        "NEIGHBOURS",
        "NEIGHBOURS6",
        ".rodata",
    ];

    fn object() -> aya_obj::Object {
        aya_obj::Object::parse(OBJECT).unwrap()
    }

    #[test]
    fn the_objects_maps_are_those_of_the_contract() {
        let object = object();
        for Map { name, kind, key, value, rows, flags, .. } in MAPS {
            let map = object.maps.get(name).unwrap_or_else(|| panic!("the object has no map {name}"));
            let found =
                (map.map_type(), map.key_size(), map.value_size(), map.max_entries(), map.map_flags());
            assert_eq!(found, (kind as u32, key, value, rows, flags), "{name}");
        }
        let others = object.maps.keys().map(String::as_str);
        let others: BTreeSet<&str> =
            others.filter(|name| !MAPS.iter().any(|map| map.name == *name)).collect();
        assert_eq!(others, BTreeSet::from(PRIVATE));
    }

    #[test]
    fn the_objects_programs_are_those_of_the_contract() {
        let object = object();
        let found: BTreeSet<&str> = object.programs.keys().map(String::as_str).collect();
        let all = stage::PROGRAMS.into_iter().chain(xdp_stage::PROGRAMS).chain(hook::ALL);
        assert_eq!(found, all.chain([previous::HOLD]).collect());
        let cut: BTreeSet<&str> = found.iter().map(|name| name.get(..15).unwrap_or(name)).collect();
        assert_eq!(cut.len(), found.len(), "the kernel cuts names at 15 bytes");
    }

    #[test]
    fn the_version_has_the_digest_of_the_object() {
        let mut digits = String::new();
        for byte in version().digest {
            write!(digits, "{byte:02x}").unwrap();
        }
        assert_eq!(digits, DIGEST);
    }
}
