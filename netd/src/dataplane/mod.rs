//! The BPF side of one instance: programs, maps and links, pinned so that they outlive every command.
//!
//! The only face that other rooms see; nothing of aya leaves it.

mod attach;
mod bpf;
mod bpffs;
mod connections;
mod log;
mod object;
mod publish;
mod tables;
mod wire;

use std::path::{Path, PathBuf};

use attach::Hooks;
pub use attach::{Attachment, Place, cgroup_root, has_tcx};
pub use connections::{Connection, Direction};
pub use log::{Dropped, Log};
use netd_common::track::State;
pub use object::load;
pub use publish::{NO_INTERFACE, Publication};
pub use tables::{Fill, PublicationStats, Tables, Uplink};

use crate::error::Result;

/// The pinned programs, maps and links of one instance.
#[derive(Debug)]
pub struct Dataplane {
    pins: PathBuf,
    /// The maps.
    pub tables: Tables,
}

impl Dataplane {
    /// Opens the instance's dataplane, or loads it if this is the first command. `host_netns` is the cookie of the
    /// network namespace that is the host, `connections` for how many there is to be room.
    pub fn open_or_load(instance: &str, host_netns: u64, connections: u32) -> Result<Self> {
        let _lock = bpffs::lock()?;
        let pins = bpffs::ensure()?.join(instance);
        if pins.exists() {
            object::check_layout(&pins)?;
        } else {
            object::load_and_pin(&pins, host_netns, connections)?;
            Tables::new(&pins).set_timeouts(State::default_timeout)?;
        }
        Ok(Self { tables: Tables::new(&pins), pins })
    }

    /// Opens the instance's dataplane if it is loaded.
    pub fn open(instance: &str) -> Result<Option<Self>> {
        let pins = bpffs::root().join(instance);
        if !pins.exists() {
            return Ok(None);
        }
        object::check_layout(&pins)?;
        Ok(Some(Self { tables: Tables::new(&pins), pins }))
    }

    /// The folder of the pins.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks { pins: &self.pins }
    }

    /// Puts the program of `place` on an interface of the current namespace. Doing it twice is fine.
    pub fn attach(&self, place: Place, ifindex: u32, ifname: &str) -> Result<()> {
        self.hooks().attach(place, ifindex, ifname)
    }

    /// Puts the socket programs on the root of cgroup v2, if it is mounted. Doing it twice is fine.
    pub fn attach_sockets(&self) -> Result<()> {
        self.hooks().attach_sockets()
    }

    /// Takes it off. Tells whether a clsact qdisc that netd added is left on the interface.
    pub fn detach(&self, place: Place, ifindex: u32, ifname: &str) -> Result<bool> {
        self.hooks().detach(place, ifindex, ifname)
    }

    /// The interfaces that have the program of `place`, by index.
    pub fn attached(&self, place: Place) -> Result<Vec<(u32, String)>> {
        Ok(self.hooks().attached(place)?.into_iter().collect())
    }

    /// What the programs report.
    pub fn log(&self) -> Result<Log> {
        Log::open(&self.pins)
    }

    /// Puts the XDP program on an interface of the current namespace, in its driver; fails if the driver cannot, or if there
    /// is another program.
    pub fn attach_xdp(&self, ifindex: u32, ifname: &str) -> Result<()> {
        self.hooks().attach_xdp(ifindex, ifname)
    }

    /// Takes it off; absent is fine.
    pub fn detach_xdp(&self, ifindex: u32, ifname: &str) -> Result<()> {
        self.hooks().detach_xdp(ifindex, ifname)
    }

    /// The kernel's number of the XDP program.
    pub fn xdp_id(&self) -> Result<u32> {
        self.hooks().xdp_id()
    }

    /// Every program and whether it sits where it should; `has_xdp` tells which interfaces have the XDP program.
    pub fn attachments(&self, has_xdp: impl Fn(u32) -> bool) -> Result<Vec<Attachment>> {
        self.hooks().list(has_xdp)
    }
}

/// Removes everything an instance has pinned, whatever state it is in, and the BPF file system's mount if netd made it
/// and nobody else needs it. Links go first, so that no program runs on half-removed tables.
pub fn remove(instance: &str) -> Result<()> {
    let _lock = bpffs::lock()?;
    let pins = bpffs::root().join(instance);
    attach::release_all(&pins.join(object::LINKS))?;
    object::remove_tree(&pins)?;
    object::remove_tree(&object::staging(&pins))?;
    bpffs::leave()
}

/// The instances that have pins, of whatever state folder and namespace.
pub fn instances() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(bpffs::root()) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
