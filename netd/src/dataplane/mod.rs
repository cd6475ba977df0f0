//! The BPF side of one instance: programs, maps and links, pinned so that they outlive every command.
//!
//! The rest of netd uses only what this file exports, and nothing of aya.

mod attach;
mod bpf;
mod bpffs;
mod connections;
mod flows;
mod log;
mod object;
mod pins;
mod publish;
mod sockets;
mod tables;
mod version;
mod wire;

use std::path::{Path, PathBuf};

use attach::Hooks;
pub(crate) use attach::{AttachedProgram, CLSACT_PRIORITY, HookPoint};
pub use attach::{TcHook, cgroup_root};
pub(crate) use bpffs::has_bpf_fs;
pub(crate) use connections::{Connection, Direction};
pub(crate) use log::Log;
use netd_common::flow::state::State;
use object::Setup;
pub use object::load;
pub(crate) use publish::{NO_INTERFACE, PublishedPorts};
pub(crate) use tables::{Fill, PublicationStats, TableFill, Tables, Uplink};

use crate::error::Result;
use crate::model::Quota;
use crate::netns::Netns;

/// The pinned programs, maps and links of one instance.
#[derive(Debug)]
pub(crate) struct Dataplane {
    pins: PathBuf,
    host: Netns,
    tc: TcHook,
    /// The maps.
    pub tables: Tables,
}

impl Dataplane {
    /// Opens the instance's dataplane, or loads it if it is not loaded. `host` is the namespace that netd serves, `tc`
    /// says how to attach TC programs. `connections`, `quota` and `timeout` apply only if it is loaded: the number of
    /// established IPv4 connections, how much of each flow table one container may have, and the idle timeout of each
    /// state in seconds.
    pub(crate) fn open_or_load(
        instance: &str,
        host: &Netns,
        tc: TcHook,
        connections: u32,
        quota: Quota,
        timeout: impl Fn(State) -> u32,
    ) -> Result<Self> {
        let _lock = bpffs::lock()?;
        let pins = bpffs::ensure()?.join(instance);
        if pins.exists() {
            version::check(&pins)?;
        } else {
            let setup = Setup { host: host.cookie()?, connections, quota, timeout: &timeout };
            object::load_and_pin(&pins, setup)?;
        }
        Ok(Self::at(pins, host, tc))
    }

    /// Opens the instance's dataplane if it is loaded.
    pub(crate) fn open(instance: &str, host: &Netns, tc: TcHook) -> Result<Option<Self>> {
        let pins = bpffs::root().join(instance);
        if !pins.exists() {
            return Ok(None);
        }
        version::check(&pins)?;
        Ok(Some(Self::at(pins, host, tc)))
    }

    fn at(pins: PathBuf, host: &Netns, tc: TcHook) -> Self {
        Self { tables: Tables::new(&pins), host: host.clone(), pins, tc }
    }

    /// The folder of the pins.
    pub(crate) fn pins(&self) -> &Path {
        &self.pins
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks {
            instance: &self.pins,
            programs: pins::programs(&self.pins, object::DIGEST),
            host: &self.host,
            tc: self.tc,
        }
    }

    /// Attaches the TC program of `point` to an interface of the host, if it is not attached yet.
    pub(crate) fn attach(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<()> {
        self.hooks().attach(point, ifindex, ifname)
    }

    /// Forgets a clsact filter that somebody has removed.
    pub(crate) fn forget_filter(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<()> {
        self.hooks().forget_filter(point, ifindex, ifname)
    }

    /// The kernel's number of a TC program.
    pub(crate) fn program_id(&self, point: HookPoint) -> Result<u32> {
        self.hooks().program_id(point)
    }

    /// Attaches the socket programs to the root of cgroup v2, if it is mounted and they are not attached yet.
    pub(crate) fn attach_sockets(&self) -> Result<()> {
        self.hooks().attach_sockets()
    }

    /// Detaches the TC program. Returns whether a clsact qdisc that netd added is left on the interface.
    pub(crate) fn detach(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<bool> {
        self.hooks().detach(point, ifindex, ifname)
    }

    /// The interfaces that have the program of `point`, by index.
    pub(crate) fn attached(&self, point: HookPoint) -> Result<Vec<(u32, String)>> {
        Ok(self.hooks().attached(point)?.into_iter().collect())
    }

    /// The programs' reports.
    pub(crate) fn log(&self) -> Result<Log> {
        Log::open(&self.pins)
    }

    /// Attaches the XDP program to an interface of the host, in its driver. Fails if the driver does not support XDP,
    /// or if another program is attached.
    pub(crate) fn attach_xdp(&self, ifindex: u32, ifname: &str) -> Result<()> {
        self.hooks().attach_xdp(ifindex, ifname)
    }

    /// Detaches the XDP program, which may be absent.
    pub(crate) fn detach_xdp(&self, ifindex: u32, ifname: &str) -> Result<()> {
        self.hooks().detach_xdp(ifindex, ifname)
    }

    /// The kernel's number of the XDP program.
    pub(crate) fn xdp_id(&self) -> Result<u32> {
        self.hooks().xdp_id()
    }

    /// Every program and whether it is attached.
    pub(crate) fn attachments(&self) -> Result<Vec<AttachedProgram>> {
        self.hooks().list()
    }

    /// The program of somebody else that sees the packets of an interface before netd's; none without tcx.
    pub(crate) fn before(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<Option<String>> {
        self.hooks().before(point, ifindex, ifname)
    }
}

/// Removes everything that an instance has pinned, also by another version of netd, and the BPF file system's mount if
/// netd made it and it is empty. Links are removed first, so that no program runs on half-removed tables.
pub(crate) fn remove(instance: &str) -> Result<()> {
    let _lock = bpffs::lock()?;
    let instance = bpffs::root().join(instance);
    attach::release_all(&pins::links(&instance))?;
    pins::remove_tree(&instance)?;
    pins::remove_tree(&pins::staging(&instance))?;
    bpffs::leave()
}

/// The instances that have pins, of all state folders and namespaces.
pub(crate) fn instances() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(bpffs::root()) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
