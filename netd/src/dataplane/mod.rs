//! The BPF side of one instance: programs, maps and links, pinned so that they outlive every command.
//!
//! The rest of netd uses only what this file exports, and nothing of aya.

mod attach;
mod bpf;
mod bpffs;
mod connections;
mod flows;
mod layout;
mod log;
mod object;
mod pins;
mod publish;
mod replacement;
mod set;
mod sockets;
mod tables;
mod version;
mod wire;

pub(crate) use attach::{AttachedProgram, CLSACT_PRIORITY, HookPoint};
pub use attach::{TcHook, cgroup_root};
pub(crate) use bpffs::has_bpf_fs;
pub(crate) use connections::{Connection, Direction};
pub(crate) use flows::Live;
pub(crate) use log::Log;
pub(crate) use object::Setup;
pub use object::load;
pub(crate) use publish::{NO_INTERFACE, PublishedPorts};
pub(crate) use replacement::Replacement;
pub(crate) use set::Dataplane;
pub use set::own_version;
pub(crate) use tables::{Fill, TableFill, Tables, Uplink};

use crate::error::Result;

/// Removes everything that an instance has pinned, also by another version of netd, and the BPF file system's mount if
/// netd made it and it is empty. Links are removed first, so that no program runs on half-removed tables.
pub(crate) fn remove(instance: &str) -> Result<()> {
    let _lock = bpffs::lock()?;
    let instance = bpffs::root().join(instance);
    // The programs of a set that takes over may be on some of the hooks.
    let sets = [instance.clone(), pins::next(&instance), pins::staging(&instance)];
    sets.iter().try_for_each(|set| attach::release_all(&pins::links(set)))?;
    sets.iter().try_for_each(|set| pins::remove_tree(set))?;
    bpffs::leave()
}

/// The instances that have pins, of all state folders and namespaces.
pub(crate) fn instances() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(bpffs::root()) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // Sets that take over belong to the instance whose name is before.
    let own = |name: &String| !name.ends_with("-next") && !name.ends_with("-new");
    names.filter(own).collect()
}
