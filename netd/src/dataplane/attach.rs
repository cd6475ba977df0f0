//! Programs on their hooks: tcx where the kernel has it (6.6), clsact below; sockets on the root of cgroup v2.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcAttachType};
use aya::programs::xdp::{Xdp, XdpMode};
use aya::programs::{CgroupAttachMode, CgroupSock, CgroupSockAddr, LinkOrder, SchedClassifier};
use aya::util::KernelVersion;
use aya_obj::programs::XdpAttachType;

use super::bpf::detach;
use super::object::{LINKS, PROGRAMS, program};
use crate::error::{Doing as _, Error, Result};

/// The priority of netd's clsact filters: the first that others are unlikely to have taken.
const CLSACT_PRIORITY: u16 = 7;

/// Where a program sits on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An interface that leads outside.
    Uplink,
    /// The host's end of a container's veth pair.
    Container,
    /// An interface that leads outside, before the stack sees its packets.
    Xdp,
}

impl Place {
    const fn program(self) -> &'static str {
        match self {
            Self::Uplink => program::UPLINK_INGRESS,
            Self::Container => program::CONTAINER_INGRESS,
            Self::Xdp => program::UPLINK_XDP,
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Container => "container",
            Self::Xdp => "xdp",
        }
    }
}

/// A program on a hook.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Attachment {
    /// The program's name.
    pub program: String,
    /// The interface or cgroup.
    pub on: String,
    /// The mechanism: tcx, clsact, xdp or cgroup.
    pub hook: &'static str,
    /// Whether the kernel has it there now.
    pub attached: bool,
}

/// Whether TC programs are chained by links (tcx, kernel 6.6). `NETD_TC=clsact` says no, to try what older kernels get.
pub fn has_tcx() -> bool {
    let kernel = KernelVersion::current().unwrap_or(KernelVersion::new(0, 0, 0));
    kernel >= KernelVersion::new(6, 6, 0) && std::env::var_os("NETD_TC").is_none_or(|tc| tc != "clsact")
}

/// The hooks of one instance.
#[derive(Debug)]
pub(super) struct Hooks<'a> {
    pub(super) pins: &'a Path,
}

impl Hooks<'_> {
    /// The pin of a link. It carries the index, which no two interfaces of a namespace share, and the name, for people.
    fn link(&self, place: Place, ifindex: u32, ifname: &str) -> PathBuf {
        self.pins.join(LINKS).join(format!("{}-{ifindex}-{ifname}", place.prefix()).replace('.', "_"))
    }

    /// The mark that the clsact qdisc of an interface is netd's own.
    fn qdisc(&self, ifindex: u32) -> PathBuf {
        self.pins.join(LINKS).join(format!("qdisc-{ifindex}"))
    }

    /// Puts the program of `place` on an interface of the current namespace. Doing it twice is fine.
    pub(super) fn attach(&self, place: Place, ifindex: u32, ifname: &str) -> Result<()> {
        let pin = self.link(place, ifindex, ifname);
        self.follow_name(place, ifindex, &pin)?;
        if self.sits(place, ifindex, ifname)? {
            return Ok(());
        }
        let what = || format!("attach BPF program {} to {ifname}", place.program());
        let mut program = SchedClassifier::from_pin(self.program(place.program())).doing(what)?;
        if has_tcx() {
            // A pin whose interface is gone or whose program was detached by hand.
            release(&pin)?;
            let first = TcAttachOptions::TcxOrder(LinkOrder::first());
            let id = program.attach_with_options(ifname, TcAttachType::Ingress, first).doing(what)?;
            let link: FdLink = program.take_link(id).doing(what)?.try_into().doing(what)?;
            link.pin(&pin).doing(|| format!("pin {}", pin.display()))?;
            return Ok(());
        }
        // Links are what tcx has; here the folder of links holds empty folders instead, for netd to know its own.
        match tc::qdisc_add_clsact(ifname) {
            Ok(()) => create_folder(&self.qdisc(ifindex))?,
            // It is there already, and whoever made it keeps it.
            Err(error) if already_there(&error) => {}
            Err(error) => return Err(Error::system(format!("add a clsact qdisc to {ifname}"), error)),
        }
        let options =
            TcAttachOptions::Netlink(NlOptions { priority: CLSACT_PRIORITY, ..NlOptions::default() });
        let id = program.attach_with_options(ifname, TcAttachType::Ingress, options).doing(what)?;
        // The filter stays when its owner forgets it.
        std::mem::forget(program.take_link(id).doing(what)?);
        create_folder(&pin)
    }

    /// Lets the pin of an interface that has got another name since carry that one.
    fn follow_name(&self, place: Place, ifindex: u32, pin: &Path) -> Result<()> {
        let Some(name) = self.attached(place)?.remove(&ifindex) else { return Ok(()) };
        let before = self.link(place, ifindex, &name);
        if before == pin {
            return Ok(());
        }
        fs::rename(&before, pin).doing(|| format!("rename {} to {}", before.display(), pin.display()))
    }

    /// Takes the program of `place` off an interface; one that is gone took it along. Tells whether netd's own clsact
    /// qdisc is left on it, to be removed by whoever speaks netlink.
    pub(super) fn detach(&self, place: Place, ifindex: u32, ifname: &str) -> Result<bool> {
        let pin = self.link(place, ifindex, ifname);
        if pin.is_dir() {
            match tc::qdisc_detach_program(ifname, TcAttachType::Ingress, place.program()) {
                Err(tc::TcError::IoError(error)) if is_absent(&error) => {}
                Err(error) => {
                    return Err(Error::system(format!("take {} off {ifname}", place.program()), error));
                }
                Ok(()) => {}
            }
        }
        release(&pin)?;
        let qdisc = self.qdisc(ifindex);
        let ours = qdisc.exists();
        release(&qdisc)?;
        Ok(ours)
    }

    /// Puts the XDP program on an interface of the current namespace, in its driver. What was pinned for it is let go.
    /// Fails if the driver cannot, or if there is another program: that one is never replaced.
    pub(super) fn attach_xdp(&self, ifindex: u32, ifname: &str) -> Result<()> {
        let pin = self.link(Place::Xdp, ifindex, ifname);
        self.follow_name(Place::Xdp, ifindex, &pin)?;
        release(&pin)?;
        let what = || format!("attach BPF program {} to {ifname} in native mode", program::UPLINK_XDP);
        let mut program = self.xdp_program(what)?;
        let id = program.attach_to_if_index(ifindex, XdpMode::Driver).doing(what)?;
        // A link, which the kernel puts beside no other program and lets nobody replace (5.9).
        let link: FdLink = program.take_link(id).doing(what)?.try_into().doing(what)?;
        link.pin(&pin).doing(|| format!("pin {}", pin.display()))?;
        Ok(())
    }

    /// Takes it off; absent is fine.
    pub(super) fn detach_xdp(&self, ifindex: u32, ifname: &str) -> Result<()> {
        release(&self.link(Place::Xdp, ifindex, ifname))
    }

    /// The kernel's number of the XDP program.
    pub(super) fn xdp_id(&self) -> Result<u32> {
        let what = || format!("ask for BPF program {}", program::UPLINK_XDP);
        Ok(self.xdp_program(what)?.info().doing(what)?.id())
    }

    fn xdp_program(&self, what: impl FnOnce() -> String) -> Result<Xdp> {
        Xdp::from_pin(self.program(program::UPLINK_XDP), XdpAttachType::Interface).doing(what)
    }

    /// Whether the kernel has the program of `place` on the interface.
    fn sits(&self, place: Place, ifindex: u32, ifname: &str) -> Result<bool> {
        let pin = self.link(place, ifindex, ifname);
        if !has_tcx() {
            return Ok(pin.exists());
        }
        let pinned = pin.exists();
        let what = || format!("ask which BPF programs {ifname} has");
        let ours = SchedClassifier::from_pin(self.program(place.program())).doing(what)?;
        let ours = ours.info().doing(what)?.id();
        let (_, present) = SchedClassifier::query_tcx(ifname, TcAttachType::Ingress).doing(what)?;
        Ok(pinned && present.iter().any(|program| program.id() == ours))
    }

    /// The interfaces that have a program of `place`, by index, with the names they had when it was put there.
    pub(super) fn attached(&self, place: Place) -> Result<BTreeMap<u32, String>> {
        let folder = self.pins.join(LINKS);
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&folder).doing(|| format!("read {}", folder.display()))? {
            let name = entry.doing(|| format!("read {}", folder.display()))?.file_name();
            let name = name.to_string_lossy();
            let mut parts = name.splitn(3, '-');
            if parts.next() == Some(place.prefix())
                && let Some(Ok(ifindex)) = parts.next().map(str::parse)
                && let Some(ifname) = parts.next()
            {
                found.insert(ifindex, ifname.to_owned());
            }
        }
        Ok(found)
    }

    /// Puts the socket programs on the root of the cgroup v2 hierarchy. Doing it twice is fine.
    pub(super) fn attach_sockets(&self) -> Result<()> {
        let Some(root) = cgroup_root()? else {
            tracing::warn!(
                "no cgroup v2 is mounted, so published ports cannot be reached from this host itself; \
                 mount one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
            );
            return Ok(());
        };
        // A link is one of several in any case (cgroup_bpf_link_attach); the flag that says so is refused.
        let mode = CgroupAttachMode::Single;
        let cgroup = File::open(&root).doing(|| format!("open cgroup {}", root.display()))?;
        let (name, hook) = program::SOCKET_END;
        self.attach_socket(name, &root, |pin| {
            let mut program = CgroupSock::from_pin(pin, hook)?;
            let id = program.attach(&cgroup, mode)?;
            Ok(program.take_link(id)?.try_into()?)
        })?;
        for (name, hook) in program::SOCKET {
            self.attach_socket(name, &root, |pin| {
                let mut program = CgroupSockAddr::from_pin(pin, hook)?;
                let id = program.attach(&cgroup, mode)?;
                Ok(program.take_link(id)?.try_into()?)
            })?;
        }
        Ok(())
    }

    /// Pins the link that `attach` makes of a pinned program and the cgroup, unless that is there already.
    fn attach_socket(
        &self,
        name: &str,
        cgroup: &Path,
        attach: impl FnOnce(&Path) -> std::result::Result<FdLink, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<()> {
        let pin = self.socket_link(name);
        if pin.exists() {
            return Ok(());
        }
        let what = || format!("attach BPF program {name} to cgroup {}", cgroup.display());
        let link = attach(&self.program(name)).map_err(|error| Error::system(what(), error))?;
        link.pin(&pin).doing(|| format!("pin {}", pin.display()))?;
        Ok(())
    }

    /// The pin of a socket program's link.
    fn socket_link(&self, name: &str) -> PathBuf {
        self.pins.join(LINKS).join(format!("cgroup-{name}"))
    }

    /// Every program and whether it sits where it should; `has_xdp` tells which interfaces have the XDP program.
    pub(super) fn list(&self, has_xdp: impl Fn(u32) -> bool) -> Result<Vec<Attachment>> {
        let mut list = Vec::new();
        for (ifindex, ifname) in self.attached(Place::Xdp)? {
            list.push(Attachment {
                program: Place::Xdp.program().to_owned(),
                attached: has_xdp(ifindex),
                on: ifname,
                hook: "xdp",
            });
        }
        for place in [Place::Uplink, Place::Container] {
            for (ifindex, ifname) in self.attached(place)? {
                list.push(Attachment {
                    program: place.program().to_owned(),
                    attached: self.sits(place, ifindex, &ifname).unwrap_or(false),
                    on: ifname,
                    hook: if has_tcx() { "tcx ingress" } else { "clsact ingress" },
                });
            }
        }
        let root = cgroup_root()?.map_or_else(|| "none".to_owned(), |root| root.display().to_string());
        let names = program::SOCKET.iter().map(|(name, _)| *name);
        for name in names.chain([program::SOCKET_END.0]) {
            list.push(Attachment {
                program: name.to_owned(),
                on: root.clone(),
                hook: "cgroup",
                attached: self.socket_link(name).exists(),
            });
        }
        Ok(list)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.pins.join(PROGRAMS).join(name)
    }
}

/// Where cgroup v2 is mounted; on a machine with both versions it is beside the first.
pub fn cgroup_root() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").doing(|| "read /proc/self/mounts".into())?;
    Ok(mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
    }))
}

fn create_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::system(format!("create {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Takes the links that are pinned in a folder off their hooks, and removes the folder; absent is fine.
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

/// Takes a pinned link off its hook and removes the pin, or removes an empty folder that is a mark; absent is fine.
fn release(path: &Path) -> Result<()> {
    let released =
        if path.is_dir() { fs::remove_dir(path) } else { detach(path).and_then(|()| fs::remove_file(path)) };
    match released {
        Err(error) if !is_absent(&error) => Err(Error::system(format!("remove {}", path.display()), error)),
        _ => Ok(()),
    }
}

/// Whether the qdisc is there already. aya says so in its own words or in the kernel's.
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
