//! Attaching programs: to interfaces by tcx (kernel 6.6) or by clsact on older kernels, to uplinks also by XDP, and to
//! the root of cgroup v2 for sockets.
//!
//! A BPF link takes an interface's index in the namespace of the thread that makes it. So everything that uses an
//! interface runs on a thread that enters the host's namespace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aya::programs::CgroupSockAddrAttachType as AddrHook;
use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcAttachType};
use aya::programs::xdp::{Xdp, XdpMode};
use aya::programs::{
    CgroupAttachMode, CgroupSock, CgroupSockAddr, CgroupSockAttachType, LinkOrder, SchedClassifier,
};
use aya::util::KernelVersion;
use aya_obj::programs::XdpAttachType;
use netd_common::abi::hook;

use super::bpf;
use super::pins;
use crate::error::{Doing as _, Error, Result};
use crate::model::LinkLayer;
use crate::netns::Netns;

/// The priority of netd's clsact filters: a number that others are unlikely to use.
pub(crate) const CLSACT_PRIORITY: u16 = 7;

/// The programs on the cgroup that translate socket addresses, and their attach types.
const SOCKET_ADDRESS: [(&str, AddrHook); 8] = [
    (hook::CONNECT4, AddrHook::Connect4),
    (hook::CONNECT6, AddrHook::Connect6),
    (hook::SENDMSG4, AddrHook::UDPSendMsg4),
    (hook::SENDMSG6, AddrHook::UDPSendMsg6),
    (hook::RECVMSG4, AddrHook::UDPRecvMsg4),
    (hook::RECVMSG6, AddrHook::UDPRecvMsg6),
    (hook::GETPEERNAME4, AddrHook::GetPeerName4),
    (hook::GETPEERNAME6, AddrHook::GetPeerName6),
];

/// The programs on the cgroup that reserve published ports, and their attach types. They need `bpf_set_retval` (kernel 6.1).
const RESERVATION: [(&str, AddrHook); 2] = [(hook::BIND4, AddrHook::Bind4), (hook::BIND6, AddrHook::Bind6)];

/// Whether this kernel runs a program; only those that reserve ports need more than others.
pub(super) fn has_kernel_for(program: &str) -> bool {
    let kernel = KernelVersion::current().unwrap_or(KernelVersion::new(0, 0, 0));
    let reserves = RESERVATION.iter().any(|(name, _)| *name == program);
    !reserves || kernel >= KernelVersion::new(6, 1, 0)
}

/// The programs on the cgroup that take socket addresses, those that this kernel runs.
fn on_socket_addresses() -> impl Iterator<Item = (&'static str, AddrHook)> {
    SOCKET_ADDRESS.into_iter().chain(RESERVATION).filter(|(name, _)| has_kernel_for(name))
}

/// The hook of an interface that a program is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookPoint {
    /// The TC ingress of an uplink.
    Uplink,
    /// The TC ingress of an uplink whose packets have no link-layer header.
    Tunnel,
    /// The TC ingress of the host's end of a container's veth pair.
    Container,
    /// The TC egress of a network's bridge.
    Bridge,
    /// The XDP hook of an uplink.
    Xdp,
}

impl HookPoint {
    /// All of them, in the order in which they are listed.
    const ALL: [Self; 5] = [Self::Xdp, Self::Uplink, Self::Tunnel, Self::Container, Self::Bridge];

    /// Those of TC.
    pub(crate) const TC: [Self; 4] = [Self::Uplink, Self::Tunnel, Self::Container, Self::Bridge];

    /// Where the TC program of an uplink goes; none if no program can read its packets.
    pub(crate) const fn of(layer: LinkLayer) -> Option<Self> {
        match layer {
            LinkLayer::Ethernet => Some(Self::Uplink),
            LinkLayer::Ip => Some(Self::Tunnel),
            LinkLayer::Other => None,
        }
    }

    /// The name of its program.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Uplink => hook::UPLINK_INGRESS,
            Self::Tunnel => hook::TUNNEL_INGRESS,
            Self::Container => hook::CONTAINER_INGRESS,
            Self::Bridge => hook::BRIDGE_EGRESS,
            Self::Xdp => hook::UPLINK_XDP,
        }
    }

    /// The prefix of the names of its links' pins.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Tunnel => "tunnel",
            Self::Container => "container",
            Self::Bridge => "bridge",
            Self::Xdp => "xdp",
        }
    }

    /// How its program is attached, as reports name it.
    const fn mechanism(self, tc: TcHook) -> &'static str {
        match (self, tc) {
            (Self::Xdp, _) => "xdp",
            (Self::Bridge, TcHook::Tcx) => "tcx egress",
            (_, TcHook::Tcx) => "tcx ingress",
            (Self::Bridge, TcHook::Clsact) => "clsact egress",
            (_, TcHook::Clsact) => "clsact ingress",
        }
    }

    /// Which packets of the interface a TC program sees.
    pub(super) const fn direction(self) -> TcAttachType {
        match self {
            Self::Bridge => TcAttachType::Egress,
            Self::Uplink | Self::Tunnel | Self::Container | Self::Xdp => TcAttachType::Ingress,
        }
    }
}

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcHook {
    /// By links that the kernel chains (kernel 6.6).
    Tcx,
    /// As filters of a clsact qdisc.
    Clsact,
}

impl TcHook {
    /// tcx if this kernel has it.
    pub fn of_kernel() -> Self {
        let kernel = KernelVersion::current().unwrap_or(KernelVersion::new(0, 0, 0));
        if kernel >= KernelVersion::new(6, 6, 0) { Self::Tcx } else { Self::Clsact }
    }
}

/// A program and its hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttachedProgram {
    /// The program's name.
    pub program: &'static str,
    /// The interface or cgroup.
    pub on: String,
    /// The mechanism: tcx, clsact, xdp or cgroup.
    pub hook: &'static str,
    /// Whether it is attached now. Of a clsact filter: whether netd has added it.
    pub attached: bool,
    /// The hook of an interface, and the interface's index; none on a cgroup.
    pub place: Option<(HookPoint, u32)>,
}

impl AttachedProgram {
    /// Whether it is a clsact filter.
    pub(crate) fn is_filter(&self) -> bool {
        self.hook.starts_with("clsact")
    }
}

/// The hooks of one instance.
#[derive(Debug)]
pub(super) struct Hooks<'a> {
    /// The instance's pins.
    pub(super) instance: &'a Path,
    /// The folder of the pinned programs.
    pub(super) programs: PathBuf,
    /// The host's namespace.
    pub(super) host: &'a Netns,
    /// How TC programs are attached.
    pub(super) tc: TcHook,
}

/// What the names of marks of clsact qdiscs begin with.
const QDISC: &str = "qdisc";

impl Hooks<'_> {
    /// The pin of a link. Its name has the interface's index, which is unique in a namespace, and the interface's name,
    /// for readers.
    pub(super) fn link(&self, point: HookPoint, ifindex: u32, ifname: &str) -> PathBuf {
        // The BPF file system allows no dots in names, and interfaces allow no colons.
        pins::links(self.instance).join(format!("{}-{ifindex}-{ifname}", point.prefix()).replace('.', ":"))
    }

    /// The mark that the clsact qdisc of an interface is netd's. It is there before the qdisc, and goes after it.
    pub(super) fn qdisc(&self, ifindex: u32) -> PathBuf {
        pins::links(self.instance).join(format!("{QDISC}-{ifindex}"))
    }

    /// Attaches a TC program to an interface of the host, if it is not attached yet.
    pub(super) fn attach(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<()> {
        let pin = self.link(point, ifindex, ifname);
        self.rename_pin(point, ifindex, &pin)?;
        self.host.run(|| {
            if self.is_attached(point, ifindex, ifname)? {
                return Ok(());
            }
            match self.tc {
                TcHook::Tcx => self.attach_tcx(point, ifname, &pin),
                TcHook::Clsact => self.attach_clsact(point, ifname, &pin),
            }
        })?
    }

    /// Forgets a filter that somebody has removed. The mark of the qdisc stays: netd has made that all the same.
    pub(super) fn forget_filter(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<()> {
        release(&self.link(point, ifindex, ifname))
    }

    /// The kernel's number of a TC program.
    pub(super) fn program_id(&self, point: HookPoint) -> Result<u32> {
        let what = || format!("inspect BPF program {}", point.program());
        let program = SchedClassifier::from_pin(self.program(point.program())).doing(what)?;
        Ok(program.info().doing(what)?.id())
    }

    /// As [`Self::attach`], by a link. Runs in the host's namespace.
    fn attach_tcx(&self, point: HookPoint, ifname: &str, pin: &Path) -> Result<()> {
        let what = || format!("attach BPF program {} to {ifname}", point.program());
        // A pin whose interface is gone, or whose program another tool has detached.
        release(pin)?;
        let mut program = SchedClassifier::from_pin(self.program(point.program())).doing(what)?;
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(ifname, point.direction(), first).doing(what)?;
        let link: FdLink = program.take_link(id).doing(what)?.try_into().doing(what)?;
        link.pin(pin).doing(|| format!("pin {}", pin.display()))?;
        Ok(())
    }

    /// As [`Self::attach`], by a filter. There is no link to pin, so an empty folder in its place marks that the filter
    /// is netd's. Runs in the host's namespace.
    fn attach_clsact(&self, point: HookPoint, ifname: &str, pin: &Path) -> Result<()> {
        let what = || format!("attach BPF program {} to {ifname}", point.program());
        let mut program = SchedClassifier::from_pin(self.program(point.program())).doing(what)?;
        match tc::qdisc_add_clsact(ifname) {
            Ok(()) => {}
            Err(error) if already_there(&error) => {}
            Err(error) => return Err(Error::system(format!("add a clsact qdisc to {ifname}"), error)),
        }
        let options =
            TcAttachOptions::Netlink(NlOptions { priority: CLSACT_PRIORITY, ..NlOptions::default() });
        let id = program.attach_with_options(ifname, point.direction(), options).doing(what)?;
        // Dropping the link would remove the filter.
        std::mem::forget(program.take_link(id).doing(what)?);
        create_folder(pin)
    }

    /// Renames the pin of an interface that has been renamed.
    fn rename_pin(&self, point: HookPoint, ifindex: u32, pin: &Path) -> Result<()> {
        if pin.exists() {
            return Ok(());
        }
        let Some(name) = self.attached(point)?.remove(&ifindex) else { return Ok(()) };
        let before = self.link(point, ifindex, &name);
        if before == pin {
            return Ok(());
        }
        fs::rename(&before, pin).doing(|| format!("rename {} to {}", before.display(), pin.display()))
    }

    /// Whether attaching makes a clsact qdisc, if the interface has none, that is not marked yet.
    pub(super) fn may_make_qdisc(&self, point: HookPoint, ifindex: u32, ifname: &str) -> bool {
        self.tc == TcHook::Clsact
            && !self.qdisc(ifindex).exists()
            && !self.link(point, ifindex, ifname).exists()
    }

    /// Marks the clsact qdisc that an interface is to get as netd's.
    pub(super) fn mark_qdisc(&self, ifindex: u32) -> Result<()> {
        create_folder(&self.qdisc(ifindex))
    }

    /// Forgets netd's clsact qdisc of an interface, which is gone.
    pub(super) fn forget_qdisc(&self, ifindex: u32) -> Result<()> {
        release(&self.qdisc(ifindex))
    }

    /// The interfaces with a clsact qdisc of netd's in which netd has no filter.
    pub(super) fn idle_qdiscs(&self) -> Result<Vec<u32>> {
        let mut idle: Vec<u32> = self.pinned(QDISC)?.into_keys().collect();
        if !idle.is_empty() {
            for point in HookPoint::TC {
                let used = self.attached(point)?;
                idle.retain(|ifindex| !used.contains_key(ifindex));
            }
        }
        Ok(idle)
    }

    /// Detaches a TC program from an interface, which may be gone. Returns whether netd's own clsact qdisc has no filter of netd's
    /// any more; the caller removes it by netlink.
    pub(super) fn detach(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<bool> {
        let pin = self.link(point, ifindex, ifname);
        if pin.is_dir() {
            let detached =
                self.host.run(|| tc::qdisc_detach_program(ifname, point.direction(), point.program()))?;
            match detached {
                Err(tc::TcError::IoError(error)) if is_absent(&error) => {}
                Err(error) => {
                    return Err(Error::system(format!("detach {} from {ifname}", point.program()), error));
                }
                Ok(()) => {}
            }
        }
        release(&pin)?;
        let is_used = || HookPoint::TC.iter().any(|point| self.link(*point, ifindex, ifname).exists());
        Ok(self.qdisc(ifindex).exists() && !is_used())
    }

    /// Attaches the XDP program to an interface of the host, in its driver. An existing XDP link of this instance is
    /// replaced. Fails if the driver does not support XDP, or if another program is attached.
    pub(super) fn attach_xdp(&self, ifindex: u32, ifname: &str) -> Result<()> {
        let pin = self.link(HookPoint::Xdp, ifindex, ifname);
        self.rename_pin(HookPoint::Xdp, ifindex, &pin)?;
        release(&pin)?;
        let what = || format!("attach BPF program {} to {ifname} in native mode", hook::UPLINK_XDP);
        let mut program = self.xdp_program(what)?;
        let id = self.host.run(|| program.attach_to_if_index(ifindex, XdpMode::Driver))?.doing(what)?;
        // A link (5.9): the kernel refuses it if another program is attached, and lets no other program replace it.
        let link: FdLink = program.take_link(id).doing(what)?.try_into().doing(what)?;
        link.pin(&pin).doing(|| format!("pin {}", pin.display()))?;
        Ok(())
    }

    /// Detaches the XDP program, which may be absent.
    pub(super) fn detach_xdp(&self, ifindex: u32, ifname: &str) -> Result<()> {
        release(&self.link(HookPoint::Xdp, ifindex, ifname))
    }

    /// The kernel's number of the XDP program.
    pub(super) fn xdp_id(&self) -> Result<u32> {
        let what = || format!("inspect BPF program {}", hook::UPLINK_XDP);
        Ok(self.xdp_program(what)?.info().doing(what)?.id())
    }

    fn xdp_program(&self, what: impl FnOnce() -> String) -> Result<Xdp> {
        Xdp::from_pin(self.program(hook::UPLINK_XDP), XdpAttachType::Interface).doing(what)
    }

    /// Whether the kernel has the TC program on the interface. Of a filter its mark tells; whether the filter is there too the
    /// caller asks by netlink.
    fn is_attached(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<bool> {
        let pin = self.link(point, ifindex, ifname);
        if self.tc == TcHook::Clsact { Ok(pin.exists()) } else { link_is_attached(&pin) }
    }

    /// The program of somebody else that sees the packets of an interface before netd's; none without tcx.
    pub(super) fn before(&self, point: HookPoint, ifindex: u32, ifname: &str) -> Result<Option<String>> {
        if self.tc == TcHook::Clsact || !self.is_attached(point, ifindex, ifname)? {
            return Ok(None);
        }
        let what = || format!("inspect the BPF programs of {ifname}");
        let ours = SchedClassifier::from_pin(self.program(point.program())).doing(what)?;
        let ours = ours.info().doing(what)?.id();
        let (_, present) =
            self.host.run(|| SchedClassifier::query_tcx(ifname, point.direction()))?.doing(what)?;
        let first = present.into_iter().next().filter(|program| program.id() != ours);
        Ok(first.map(|program| program.name_as_str().unwrap_or("another program").to_owned()))
    }

    /// The interfaces that have a program at `point`, by index, with the names that they had when it was attached.
    pub(super) fn attached(&self, point: HookPoint) -> Result<BTreeMap<u32, String>> {
        self.pinned(point.prefix())
    }

    /// The interfaces that have a pin or mark with this prefix, by index, with their names at that time.
    fn pinned(&self, prefix: &str) -> Result<BTreeMap<u32, String>> {
        let folder = pins::links(self.instance);
        let mut found = BTreeMap::new();
        let entries = match fs::read_dir(&folder) {
            Err(error) if is_absent(&error) => return Ok(found),
            entries => entries.doing(|| format!("read {}", folder.display()))?,
        };
        for entry in entries {
            let name = entry.doing(|| format!("read {}", folder.display()))?.file_name();
            let name = name.to_string_lossy();
            let mut parts = name.splitn(3, '-');
            if parts.next() == Some(prefix)
                && let Some(Ok(ifindex)) = parts.next().map(str::parse)
            {
                found.insert(ifindex, parts.next().unwrap_or_default().replace(':', "."));
            }
        }
        Ok(found)
    }

    /// Attaches the socket programs to the root of the cgroup v2 hierarchy, if they are not attached yet.
    pub(super) fn attach_sockets(&self) -> Result<()> {
        let Some(root) = cgroup_root()? else {
            tracing::warn!(
                "no cgroup v2 is mounted, so published ports cannot be reached from this host itself; \
                 mount one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
            );
            return Ok(());
        };
        // Links always allow several programs (cgroup_bpf_link_attach); the kernel refuses the flag for that.
        let mode = CgroupAttachMode::Single;
        let cgroup = File::open(&root).doing(|| format!("open cgroup {}", root.display()))?;
        self.attach_socket(hook::SOCK_RELEASE, &root, |pin| {
            let mut program = CgroupSock::from_pin(pin, CgroupSockAttachType::SockRelease)?;
            let id = program.attach(&cgroup, mode)?;
            Ok(program.take_link(id)?.try_into()?)
        })?;
        for (name, attach_type) in on_socket_addresses() {
            self.attach_socket(name, &root, |pin| {
                let mut program = CgroupSockAddr::from_pin(pin, attach_type)?;
                let id = program.attach(&cgroup, mode)?;
                Ok(program.take_link(id)?.try_into()?)
            })?;
        }
        Ok(())
    }

    /// Pins the link that `attach` makes of a pinned program and the cgroup, unless it is there already.
    fn attach_socket(
        &self,
        name: &str,
        cgroup: &Path,
        attach: impl FnOnce(&Path) -> std::result::Result<FdLink, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<()> {
        let pin = self.socket_link(name);
        if link_is_attached(&pin)? {
            return Ok(());
        }
        // A pin whose program another tool has detached.
        release(&pin)?;
        let what = || format!("attach BPF program {name} to cgroup {}", cgroup.display());
        let link = attach(&self.program(name)).map_err(|error| Error::system(what(), error))?;
        link.pin(&pin).doing(|| format!("pin {}", pin.display()))?;
        Ok(())
    }

    /// The pin of a socket program's link.
    fn socket_link(&self, name: &str) -> PathBuf {
        pins::links(self.instance).join(format!("cgroup-{name}"))
    }

    /// The links of the socket programs that are there, by their programs' names.
    pub(super) fn socket_links(&self) -> Vec<(&'static str, PathBuf)> {
        let names = on_socket_addresses().map(|(name, _)| name).chain([hook::SOCK_RELEASE]);
        names.map(|name| (name, self.socket_link(name))).filter(|(_, pin)| pin.exists()).collect()
    }

    /// Every program and whether it is attached.
    pub(super) fn list(&self) -> Result<Vec<AttachedProgram>> {
        let mut list = Vec::new();
        for point in HookPoint::ALL {
            for (ifindex, ifname) in self.attached(point)? {
                let pin = self.link(point, ifindex, &ifname);
                list.push(AttachedProgram {
                    program: point.program(),
                    attached: pin.is_dir() || link_is_attached(&pin)?,
                    on: ifname,
                    place: Some((point, ifindex)),
                    hook: point.mechanism(self.tc),
                });
            }
        }
        let root = cgroup_root()?.map_or_else(|| "none".to_owned(), |root| root.display().to_string());
        let names = on_socket_addresses().map(|(name, _)| name);
        for program in names.chain([hook::SOCK_RELEASE]) {
            list.push(AttachedProgram {
                program,
                on: root.clone(),
                hook: "cgroup",
                attached: link_is_attached(&self.socket_link(program))?,
                place: None,
            });
        }
        Ok(list)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

/// Whether the link that is pinned here is attached.
fn link_is_attached(pin: &Path) -> Result<bool> {
    bpf::is_attached(pin).doing(|| format!("inspect {}", pin.display()))
}

/// The mount point of cgroup v2; on a machine with both versions it is beside that of the first.
pub fn cgroup_root() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").doing(|| "read /proc/self/mounts".into())?;
    Ok(mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
    }))
}

/// Makes a folder, which may be there.
pub(super) fn create_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::system(format!("create {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Detaches the links that are pinned in a folder, and removes the folder, which may be absent.
pub(super) fn release_all(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_absent(&error) => return Ok(()),
        entries => entries.doing(|| format!("read {}", folder.display()))?,
    };
    for entry in entries {
        release(&entry.doing(|| format!("read {}", folder.display()))?.path())?;
    }
    release(folder)
}

/// Detaches a pinned link and removes the pin, or removes an empty folder that is a mark. It may be absent.
fn release(path: &Path) -> Result<()> {
    let released = if path.is_dir() {
        fs::remove_dir(path)
    } else {
        bpf::detach(path).and_then(|()| fs::remove_file(path))
    };
    match released {
        Err(error) if !is_absent(&error) => Err(Error::system(format!("remove {}", path.display()), error)),
        _ => Ok(()),
    }
}

/// Whether the error says that the qdisc already exists; aya returns its own error or the kernel's.
fn already_there(error: &tc::TcError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.raw_os_error() == Some(libc::EEXIST))
        {
            return true;
        }
        cause = error.source();
    }
    matches!(error, tc::TcError::AlreadyAttached)
}

/// No such file, or no such interface.
fn is_absent(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
