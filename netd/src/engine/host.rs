//! One instance on one host, opened for one command: the only room that sees interfaces and the dataplane both.
//!
//! Everything netd makes is described by a record in the state, and there is one way to take it away: the teardown of its
//! record, which takes absent parts for done, goes on after a failure and reports all of them. A step that fails half way
//! is undone by it, a command that was killed is cleaned up after by it, and `rm` is it.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netd_common::abi::capacity;
use netd_common::flow::Handle;
use nix::unistd::Uid;

use crate::dataplane::{self, Dataplane, HookPoint, Log, TcHook};
use crate::error::{Doing as _, Error, Kind, Result};
use crate::link::{Address, Interface, Netlink};
use crate::netns::Netns;
use crate::spec::{IfName, Mac, Name, TimeoutSpec, Timeouts, XdpMode};
use crate::store::{self, Owner, Phase, Store, folder_key};

/// The oldest kernel that netd works on.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// What every command is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The network namespace that is the host.
    pub host: Netns,
    /// The state folder.
    pub state_dir: PathBuf,
    /// The uplinks that the user chose; all that hold routes if empty.
    pub uplinks: Vec<IfName>,
    /// For how many connections the tables are to have room when they are made; as they are, or as by default, if none.
    pub max_connections: Option<u32>,
    /// Which uplinks are to have the XDP stage; as before if none.
    pub xdp: Option<XdpMode>,
    /// How TC programs are attached.
    pub tc: TcHook,
}

/// An instance, locked for one command.
#[derive(Debug)]
pub struct Host {
    pub(super) settings: Settings,
    pub(super) netns: Netns,
    pub(super) netlink: Netlink,
    pub(super) store: Store,
    pub(super) dataplane: Option<Dataplane>,
}

impl Host {
    /// Opens the instance of the current namespace, waits for a command that is at work, and repairs what a command that
    /// died has left. Works without a trace if netd was never used here.
    pub async fn open(settings: &Settings) -> Result<Self> {
        check_machine()?;
        let netns = settings.host.clone();
        let cookie = netns.cookie()?;
        let netlink = Netlink::open(&netns)?;
        let store = Store::open(&settings.state_dir, cookie)?;
        let dataplane = Dataplane::open(&store.instance, &netns, settings.tc)?;
        if let (Some(dataplane), Some(wanted)) = (&dataplane, settings.max_connections) {
            check_room(dataplane.tables.max_connections()?, wanted)?;
        }
        let mut host = Self { settings: settings.clone(), netns, netlink, store, dataplane };
        host.repair().await?;
        host.end_drained()?;
        if host.dataplane.is_some() {
            host.follow().await?;
        }
        Ok(host)
    }

    /// Opens the instance for being taken down: whatever of it cannot be understood is no obstacle.
    pub fn open_to_remove(settings: &Settings) -> Result<Self> {
        check_machine()?;
        let netns = settings.host.clone();
        let cookie = netns.cookie()?;
        let netlink = Netlink::open(&netns)?;
        let store = Store::open_to_remove(&settings.state_dir, cookie)?;
        // Tables of another version are not read, only removed.
        let dataplane = Dataplane::open(&store.instance, &netns, settings.tc).unwrap_or_default();
        Ok(Self { settings: settings.clone(), netns, netlink, store, dataplane })
    }

    /// What the programs report; none before first use.
    pub fn log(&self) -> Result<Option<Log>> {
        self.dataplane.as_ref().map(Dataplane::log).transpose()
    }

    /// The folder of this namespace's state.
    pub fn folder(&self) -> &Path {
        self.store.folder()
    }

    /// Removes a container, if it is still there.
    pub async fn remove_if_there(&mut self, name: &Name) -> Result<()> {
        self.tear_down_container(name).await
    }

    /// Closes the instance; a folder that holds nothing is removed again.
    pub fn close(self) -> Result<()> {
        if self.store.state.is_empty() && self.dataplane.is_none() { self.store.remove() } else { Ok(()) }
    }

    /// The dataplane, loaded if this is the first use.
    pub(super) async fn ensure_dataplane(&mut self) -> Result<()> {
        if self.dataplane.is_none() {
            tracing::info!("loading the BPF programs");
            let room = self.settings.max_connections.unwrap_or(capacity::CONNECTIONS);
            let timeouts = &self.store.state.timeouts;
            let dataplane = Dataplane::open_or_load(
                &self.store.instance,
                &self.netns,
                self.settings.tc,
                room,
                |state| timeouts.seconds(state),
            )?;
            self.dataplane = Some(dataplane);
            self.follow().await?;
        }
        Ok(())
    }

    pub(super) fn dataplane(&self) -> Result<&Dataplane> {
        self.dataplane.as_ref().ok_or_else(|| {
            Error::new(Kind::System, "the BPF programs of this instance are gone")
                .hint("`netd down` removes what is left, then set up anew")
        })
    }

    /// Changes how long connections may be idle; those that there are as well.
    pub fn change_timeouts(&mut self, changes: &[TimeoutSpec], reset: bool) -> Result<()> {
        let timeouts = &mut self.store.state.timeouts;
        let before = timeouts.clone();
        if reset {
            *timeouts = Timeouts::default();
        }
        for change in changes {
            timeouts.change(*change);
        }
        if *timeouts == before {
            return Ok(());
        }
        self.store.save()?;
        match &self.dataplane {
            Some(dataplane) => {
                dataplane.tables.set_timeouts(|phase| self.store.state.timeouts.seconds(phase))
            }
            // They are written when the programs are loaded.
            None => Ok(()),
        }
    }

    /// Follows the host: programs on uplinks that have appeared, the host's addresses for the socket hooks, the indices of
    /// interfaces that networks trust.
    pub(super) async fn follow(&mut self) -> Result<()> {
        if !self.settings.uplinks.is_empty() && self.store.state.uplinks != self.settings.uplinks {
            self.store.state.uplinks.clone_from(&self.settings.uplinks);
            self.store.save()?;
        }
        let interfaces = self.netlink.interfaces().await?;
        let uplinks = self.uplinks(&interfaces).await?;
        let addresses = self.netlink.addresses().await?;
        self.follow_xdp(&uplinks, &interfaces)?;
        let dataplane = self.dataplane()?;
        for (index, name) in dataplane.attached(HookPoint::Uplink)? {
            if !uplinks.iter().any(|uplink| uplink.index == index) {
                let qdisc = dataplane.detach(HookPoint::Uplink, index, &name)?;
                if qdisc {
                    self.netlink.delete_clsact(index).await?;
                }
            }
        }
        for uplink in uplinks.iter().filter(|uplink| uplink.ethernet) {
            dataplane.attach(HookPoint::Uplink, uplink.index, &uplink.name)?;
        }
        let own: Vec<IpAddr> = addresses.iter().map(|address| address.net.addr()).collect();
        dataplane.tables.set_locals(&own)?;
        let rows: Vec<_> = uplinks
            .iter()
            .filter(|uplink| uplink.ethernet)
            .map(|uplink| {
                Ok(dataplane::Uplink {
                    ifindex: uplink.index,
                    mac: uplink.mac.map_or([0; 6], Mac::bytes),
                    takes_frames: self.takes_frames(uplink)?,
                    mtu: uplink.mtu,
                    address4: source(&addresses, uplink.index, |address| match address {
                        IpAddr::V4(address) => Some(address),
                        IpAddr::V6(_) => None,
                    }),
                    address6: source(&addresses, uplink.index, |address| match address {
                        IpAddr::V4(_) => None,
                        IpAddr::V6(address) => Some(address),
                    }),
                })
            })
            .collect::<Result<_>>()?;
        dataplane.tables.set_uplinks(&rows)?;
        let trusted = self.store.state.networks.values().flat_map(|network| {
            let trusts =
                |interface: &&Interface| network.trusted.iter().any(|name| name.as_str() == interface.name);
            interfaces.iter().filter(trusts).map(|interface| (network.number, interface.index))
        });
        dataplane.tables.set_trusted(trusted)?;
        for publication in &self.store.state.publications {
            let Some(name) = publication.interface() else { continue };
            let index = interfaces.iter().find(|one| one.name == name.as_str()).map(|one| one.index);
            dataplane.tables.set_interface(publication.handle(), index.unwrap_or(dataplane::NO_INTERFACE))?;
        }
        dataplane.attach_sockets()
    }

    /// The interfaces that lead outside: those that the user chose, or those that hold routes and are not netd's own.
    pub(super) async fn uplinks(&self, interfaces: &[Interface]) -> Result<Vec<Interface>> {
        // Those of this command are recorded only when the programs are there.
        let given = &self.settings.uplinks;
        let chosen = if given.is_empty() { &self.store.state.uplinks } else { given };
        if !chosen.is_empty() {
            return chosen
                .iter()
                .map(|name| {
                    interfaces.iter().find(|interface| interface.name == name.as_str()).cloned().ok_or_else(
                        || {
                            Error::not_found(format!("there is no interface {name} to be an uplink"))
                                .hint("`ip link` lists them")
                        },
                    )
                })
                .collect();
        }
        let routes = self.netlink.routes().await?;
        let own: Vec<&str> =
            self.store.state.networks.values().map(|network| network.bridge.as_str()).collect();
        Ok(interfaces
            .iter()
            .filter(|interface| {
                !interface.loopback
                    && !own.contains(&interface.name.as_str())
                    && routes.iter().any(|route| route.interfaces.contains(&interface.index))
            })
            .cloned()
            .collect())
    }

    /// MTU of the default route's interface; of the best if there are several.
    pub(super) async fn default_mtu(&self) -> Result<u32> {
        const ETHERNET: u32 = 1500;
        let routes = self.netlink.routes().await?;
        let best = routes
            .iter()
            .filter(|route| route.destination.prefix_len() == 0)
            .min_by_key(|route| route.metric);
        let Some(index) = best.and_then(|route| route.interfaces.first()) else { return Ok(ETHERNET) };
        Ok(self.netlink.interface_at(*index).await?.map_or(ETHERNET, |interface| interface.mtu))
    }

    /// Takes away what commands left that died over it, and runs whose process is gone.
    async fn repair(&mut self) -> Result<()> {
        let state = &self.store.state;
        let containers: Vec<_> = state
            .containers
            .values()
            .filter(|container| {
                container.phase != Phase::Ready || container.owner.is_some_and(|owner| !is_alive(owner))
            })
            .map(|container| container.name.clone())
            .collect();
        let mut half: Vec<_> = state
            .publications
            .iter()
            .filter(|publication| matches!(publication.phase, Phase::Adding | Phase::Removing))
            .cloned()
            .collect();
        let networks: Vec<_> = state
            .networks
            .values()
            .filter(|network| network.phase != Phase::Ready)
            .map(|network| network.name.clone())
            .collect();
        let mut errors = Vec::new();
        for name in containers {
            tracing::warn!("container {name} was left half made or without its process; removing it");
            errors.extend(self.tear_down_container(&name).await.err());
        }
        // Those of the containers above are gone with them.
        let left: HashSet<Handle> =
            self.store.state.publications.iter().map(store::Publication::handle).collect();
        half.retain(|publication| left.contains(&publication.handle()));
        if !half.is_empty() {
            match half.as_slice() {
                [one] => tracing::warn!("a publication of {} was left half made; removing it", one.target),
                many => tracing::warn!("{} publications were left half made; removing them", many.len()),
            }
            errors.extend(self.give_back(&half).await.err());
        }
        for name in networks {
            tracing::warn!("network {name} was left half made; removing it");
            errors.extend(self.tear_down_network(&name).await.err());
        }
        Error::many(errors).map_or(Ok(()), Err)
    }

    /// Removes everything that this instance made. Goes on after a failure and reports every one.
    pub async fn down(mut self) -> Result<Vec<String>> {
        let mut errors = Vec::new();
        let mut removed = Vec::new();
        let containers: Vec<_> = self.store.state.containers.keys().cloned().collect();
        for name in containers {
            match self.tear_down_container(&name).await {
                Ok(()) => removed.push(format!("container {name}")),
                Err(error) => errors.push(error),
            }
        }
        let networks: Vec<_> = self.store.state.networks.keys().cloned().collect();
        for name in networks {
            match self.tear_down_network(&name).await {
                Ok(()) => removed.push(format!("network {name}")),
                Err(error) => errors.push(error),
            }
        }
        if let Some(dataplane) = &self.dataplane {
            for (index, name) in dataplane.attached(HookPoint::Uplink).unwrap_or_default() {
                match dataplane.detach(HookPoint::Uplink, index, &name) {
                    Ok(true) => errors.extend(self.netlink.delete_clsact(index).await.err()),
                    Ok(false) => {}
                    Err(error) => errors.push(error),
                }
            }
            removed.push("BPF programs and tables".to_owned());
        }
        errors.extend(dataplane::remove(&self.store.instance).err());
        // What could not be removed stays recorded, for the next attempt.
        if errors.is_empty() {
            errors.extend(self.store.remove().err());
        }
        match Error::many(errors) {
            None => Ok(removed),
            Some(error) => Err(error),
        }
    }
}

/// In whose name connections leave by an interface: its first address that is good beyond its link, as the kernel's own
/// masquerade has it (`inet_select_addr`).
fn source<A>(addresses: &[Address], interface: u32, family: impl Fn(IpAddr) -> Option<A>) -> Option<A> {
    addresses
        .iter()
        .filter(|address| address.interface == interface && address.global)
        .find_map(|address| family(address.net.addr()))
}

/// Removes what is left of this state folder's instances whose namespaces are gone: their pins and records. A namespace
/// counts as gone if no process and no mount shows it.
pub fn remove_gone(state_dir: &Path) -> Result<Vec<String>> {
    let Ok(folder) = fs::canonicalize(state_dir) else { return Ok(Vec::new()) };
    let key = folder_key(&folder);
    let present = present_cookies()?;
    let mut removed = Vec::new();
    let mut errors = Vec::new();
    for instance in dataplane::instances() {
        let Some((cookie, owner)) = instance.split_once('-') else { continue };
        if owner != key || cookie.parse().is_ok_and(|cookie: u64| present.contains(&cookie)) {
            continue;
        }
        match dataplane::remove(&instance) {
            Ok(()) => removed.push(format!("what was left of namespace {cookie}")),
            Err(error) => errors.push(error),
        }
        let state = folder.join(cookie);
        if state.exists() {
            errors.extend(fs::remove_dir_all(&state).doing(|| format!("remove {}", state.display())).err());
        }
    }
    // Another namespace's state in it is a reason to leave it.
    let _in_use = fs::remove_dir(&folder);
    match Error::many(errors) {
        None => Ok(removed),
        Some(error) => Err(error),
    }
}

/// The cookies of the namespaces that a process is in or that are mounted somewhere.
fn present_cookies() -> Result<Vec<u64>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir("/proc").doing(|| "read /proc".into())?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.parse::<i32>().is_ok()) {
            paths.push(entry.path().join("ns/net"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").doing(|| "read /proc/self/mounts".into())?;
    paths.extend(
        mounts
            .lines()
            .filter(|line| line.starts_with("nsfs "))
            .filter_map(|line| line.split(' ').nth(1).map(PathBuf::from)),
    );
    let mut seen = Vec::new();
    let mut cookies = Vec::new();
    for path in paths {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(inode) = fs::metadata(&path).map(|metadata| metadata.ino()) else { continue };
        if seen.contains(&inode) {
            continue;
        }
        seen.push(inode);
        // A namespace of another kind, or a process that ended meanwhile.
        let Ok(netns) = Netns::open(&path) else { continue };
        cookies.push(netns.cookie()?);
    }
    Ok(cookies)
}

/// Refuses to give tables that there are another size: their connections would be lost.
fn check_room(present: u32, wanted: u32) -> Result<()> {
    if present == wanted {
        return Ok(());
    }
    Err(Error::conflict(format!("the tables are made for {present} connections, not for {wanted}"))
        .hint("leave --max-connections out, or run `netd down` first and set up anew"))
}

/// Whether the machine can run netd at all; asked before anything is touched.
fn check_machine() -> Result<()> {
    if !Uid::effective().is_root() {
        return Err(Error::new(Kind::Permission, "netd needs to be root").hint("run it with sudo"));
    }
    let release = kernel_release()?;
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if kernel < OLDEST_KERNEL {
        let (major, minor) = OLDEST_KERNEL;
        return Err(Error::unsupported(format!("kernel {release} is too old"))
            .hint(format!("netd needs Linux {major}.{minor} or newer")));
    }
    Ok(())
}

/// The kernel's release, as `uname -r` prints it.
pub(super) fn kernel_release() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .doing(|| "read /proc/sys/kernel/osrelease".into())?;
    Ok(release.trim().to_owned())
}

/// When a process started, if it is there and not a zombie.
fn start_of(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    (stat.state != 'Z').then_some(stat.starttime)
}

/// This process, as an owner.
pub fn this_process() -> Result<Owner> {
    let pid = nix::unistd::getpid().as_raw();
    let start = start_of(pid).ok_or_else(|| Error::new(Kind::System, "cannot read /proc/self/stat"))?;
    Ok(Owner { pid, start })
}

/// Whether a process is still the one that was recorded.
pub(super) fn is_alive(owner: Owner) -> bool {
    start_of(owner.pid) == Some(owner.start)
}
