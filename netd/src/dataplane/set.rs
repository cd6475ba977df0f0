//! A loaded set of programs with its maps and links.

use std::path::{Path, PathBuf};

use netd_common::abi::VersionRow;

use super::attach::{AttachedProgram, HookPoint, Hooks, TcHook};
use super::layout::Layout;
use super::log::Log;
use super::object::{self, Setup};
use super::tables::Tables;
use super::{bpffs, pins, version};
use crate::error::Result;
use crate::model::ProgramsVersion;
use crate::netns::Netns;

/// The pinned programs, maps and links of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Dataplane {
    pub(super) pins: PathBuf,
    pub(super) version: VersionRow,
    pub(super) host: Netns,
    pub(super) tc: TcHook,
    /// The maps.
    pub tables: Tables,
}

impl Dataplane {
    /// Opens the instance's dataplane, or loads it if it is not loaded. `host` is the namespace that netd serves, `tc`
    /// says how to attach TC programs. `setup` applies only if it is loaded.
    pub(crate) fn open_or_load(instance: &str, host: &Netns, tc: TcHook, setup: Setup<'_>) -> Result<Self> {
        let _lock = bpffs::lock()?;
        let pins = bpffs::ensure()?.join(instance);
        let version = if pins.exists() {
            version::check(&pins)?
        } else {
            object::load_and_pin(&pins, setup)?;
            object::version()
        };
        Ok(Self::at(pins, version, host, tc))
    }

    /// Opens the instance's dataplane if it is loaded. Its programs may be those of another build, if their contract is that of
    /// this netd.
    pub(crate) fn open(instance: &str, host: &Netns, tc: TcHook) -> Result<Option<Self>> {
        let pins = bpffs::root().join(instance);
        if !pins.exists() {
            return Ok(None);
        }
        let version = version::check(&pins)?;
        Ok(Some(Self::at(pins, version, host, tc)))
    }

    /// The same, whatever its contract is: only to be replaced. None if it does not say which version it is of.
    pub(crate) fn open_any(instance: &str, host: &Netns, tc: TcHook) -> Result<Option<Self>> {
        let pins = bpffs::root().join(instance);
        pins::recover(&pins)?;
        Ok(version::pinned(&pins)?.map(|version| Self::at(pins, version, host, tc)))
    }

    pub(super) fn at(pins: PathBuf, version: VersionRow, host: &Netns, tc: TcHook) -> Self {
        Self { tables: Tables::new(&pins), version, host: host.clone(), pins, tc }
    }

    /// Whether its programs are those of this netd.
    pub(crate) fn is_own(&self) -> bool {
        self.version == object::version()
    }

    /// Whether this netd can read and write its tables.
    pub(crate) fn has_own_contract(&self) -> bool {
        self.version.abi == object::version().abi
    }

    /// Which netd its programs are of.
    pub(crate) fn version(&self) -> ProgramsVersion {
        told(&self.version)
    }

    /// The same, as the pins have it now; none if they have gone.
    pub(crate) fn pinned_version(&self) -> Result<Option<ProgramsVersion>> {
        Ok(version::pinned(&self.pins)?.as_ref().map(told))
    }

    /// What its tables look like.
    pub(super) fn layout(&self) -> Result<Layout> {
        Layout::pinned(&self.pins)?.ok_or_else(|| version::is_other(&self.version))
    }

    /// The pin of a program, or of a map that belongs to the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.hooks().programs.join(name)
    }

    /// The folder of the pins.
    pub(crate) fn pins(&self) -> &Path {
        &self.pins
    }

    pub(super) fn hooks(&self) -> Hooks<'_> {
        Hooks {
            instance: &self.pins,
            programs: pins::programs(&self.pins, &self.version().digest),
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

    /// Whether TC programs are filters of clsact.
    pub(crate) fn has_filters(&self) -> bool {
        self.tc == TcHook::Clsact
    }

    /// The kernel's number of a TC program.
    pub(crate) fn program_id(&self, point: HookPoint) -> Result<u32> {
        self.hooks().program_id(point)
    }

    /// Attaches the socket programs to the root of cgroup v2, if it is mounted and they are not attached yet.
    pub(crate) fn attach_sockets(&self) -> Result<()> {
        self.hooks().attach_sockets()
    }

    /// Whether attaching makes a clsact qdisc, if the interface has none, that is not marked as netd's yet.
    pub(crate) fn may_make_qdisc(&self, point: HookPoint, ifindex: u32, ifname: &str) -> bool {
        self.hooks().may_make_qdisc(point, ifindex, ifname)
    }

    /// Marks the clsact qdisc that an interface is to get as netd's.
    pub(crate) fn mark_qdisc(&self, ifindex: u32) -> Result<()> {
        self.hooks().mark_qdisc(ifindex)
    }

    /// Forgets netd's clsact qdisc of an interface, which is gone.
    pub(crate) fn forget_qdisc(&self, ifindex: u32) -> Result<()> {
        self.hooks().forget_qdisc(ifindex)
    }

    /// The interfaces with a clsact qdisc of netd's in which netd has no filter.
    pub(crate) fn idle_qdiscs(&self) -> Result<Vec<u32>> {
        self.hooks().idle_qdiscs()
    }

    /// Detaches the TC program. Returns whether a clsact qdisc of netd's is left on the interface without a filter of netd's.
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

/// The version of this netd's own programs.
pub fn own_version() -> ProgramsVersion {
    told(&object::version())
}

/// A version as reports tell it.
fn told(row: &VersionRow) -> ProgramsVersion {
    let VersionRow { abi, digest, version } = row;
    let text = String::from_utf8_lossy(version);
    ProgramsVersion {
        version: text.trim_end_matches('\0').to_owned(),
        abi: *abi,
        digest: version::digits(digest),
        is_own: *row == object::version(),
    }
}
