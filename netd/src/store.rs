//! The state folder: what this instance has made, so that every later command finds it, and one lock around it.
//!
//! ```text
//! DIR/                      --state-dir
//! └─ COOKIE/                one folder for each network namespace that is a host: namespaces' inodes are reused, cookies not
//!    ├─ lock                held by the command that is at work
//!    └─ state.json          replaced as a whole, never half written
//! ```
//!
//! A record is written *before* what it describes is touched, marked as being added; so a command that dies leaves a
//! record behind, and the next one knows what to take away.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use netd_common::flow::Handle;
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::spec::{Access, GatewayMode, IfName, Mac, Name, PortRange, Protocol, Timeouts, XdpMode};

/// Version of the state file; another one is refused rather than guessed at.
const SCHEMA: u32 = 2;
/// The state file, in its namespace's folder.
const FILE: &str = "state.json";

/// How far something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being made; if no command is at work, one died over it.
    Adding,
    /// Whole.
    Ready,
    /// Of a publication: another one has its ports, and only its connections are left.
    Draining,
    /// Being taken away.
    Removing,
}

/// A network of the user's, or `bridge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: Name,
    /// How far it has come.
    pub phase: Phase,
    /// Its number in the tables; never zero.
    pub number: u32,
    /// Its bridge.
    pub bridge: IfName,
    /// The bridge's MAC address: proof, with the name, that the interface is the one that netd made.
    pub mac: Mac,
    /// Its subnets: one of IPv4, and one of IPv6 if it has that.
    pub subnets: Vec<Subnet>,
    /// MTU, bytes; none: that of the default route's interface.
    pub mtu: u32,
    /// No way out and no published ports.
    pub internal: bool,
    /// Whether containers on it reach each other directly.
    pub icc: bool,
    /// Whether containers' connections to outside leave in the host's name.
    pub masquerade: bool,
    /// The interfaces by which published ports are reached by the containers' own addresses as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<IfName>,
}

/// A network in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its addresses.
    pub net: IpNet,
    /// The bridge's; in [`GatewayMode::Isolated`] kept free, and nobody's.
    pub gateway: IpAddr,
    /// What the gateway does for the containers.
    #[serde(default)]
    pub mode: GatewayMode,
    /// In whose name connections leave; if none, in that of the interface they leave by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snat: Option<IpAddr>,
}

impl Network {
    /// Its subnet in the family of `address`.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.gateway.is_ipv4() == address.is_ipv4())
    }

    /// The subnets on which the host has an address.
    pub fn gated(&self) -> impl Iterator<Item = &Subnet> {
        self.subnets.iter().filter(|subnet| subnet.mode != GatewayMode::Isolated)
    }
}

/// How a container is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attachment {
    /// In the host's own namespace.
    Host,
    /// In a namespace with nothing but loopback.
    None,
    /// On a bridge network.
    Bridge(Box<Link>),
}

/// A container's veth pair and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The host's end.
    pub host_interface: IfName,
    /// The host's end's MAC address: proof, with the name, that the interface is the one that netd made.
    pub host_mac: Mac,
    /// The container's end's MAC address.
    pub mac: Mac,
    /// The container's addresses: one in each subnet of its network.
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Slot of its row in the tables.
    pub slot: u16,
    /// Which owner of the slot it is.
    pub generation: u16,
}

impl Link {
    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }
}

/// A process: its number, and when it started, since numbers are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process number.
    pub pid: i32,
    /// Start time, clock ticks after boot (`starttime` of proc(5)).
    pub start: u64,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: Name,
    /// How far it has come.
    pub phase: Phase,
    /// The network it is on: a record's, or `host` or `none`.
    pub network: Name,
    /// Path of its network namespace.
    pub sandbox: PathBuf,
    /// Whether netd made that namespace.
    pub sandbox_made: bool,
    /// How it is attached.
    pub attachment: Attachment,
    /// For `netd run`: the process that takes it down when its command ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

impl Container {
    /// Its veth pair and address, if it has one.
    pub fn link(&self) -> Option<&Link> {
        match &self.attachment {
            Attachment::Bridge(link) => Some(link),
            Attachment::Host | Attachment::None => None,
        }
    }
}

/// A published port, or an equal-length range of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// How far it has come.
    pub phase: Phase,
    /// Protocol.
    pub proto: Protocol,
    /// The one host address it is on, or an unspecified one for all of a family; all if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// Who may use it; empty if all, or if the instance's lists say.
    #[serde(default, skip_serializing_if = "Access::is_empty")]
    pub access: Access,
    /// The one interface that its clients come in by; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<IfName>,
    /// First host port.
    pub host_port: u16,
    /// Last host port.
    pub host_port_end: u16,
    /// What it leads to.
    pub target: Target,
    /// The target's port for the first host port.
    pub target_port: u16,
    /// Slot of its row in the tables.
    pub slot: u16,
    /// Which owner of the slot it is.
    pub generation: u16,
}

/// What a publication leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// A container.
    Container(Name),
    /// A host beyond this one.
    Remote(Remote),
}

impl Target {
    /// Whether it is the container of this name.
    pub fn is(&self, container: &Name) -> bool {
        matches!(self, Self::Container(name) if name == container)
    }

    /// The host beyond this one, if it is one.
    pub const fn remote(&self) -> Option<&Remote> {
        match self {
            Self::Container(_) => None,
            Self::Remote(remote) => Some(remote),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => name.fmt(f),
            Self::Remote(remote) => remote.address.fmt(f),
        }
    }
}

/// A host beyond this one that a publication leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Its address.
    pub address: IpAddr,
    /// Whether it sees the clients' own addresses.
    #[serde(default)]
    pub keep_source: bool,
    /// Slot of its row in the tables.
    pub slot: u16,
    /// Which owner of the slot it is.
    pub generation: u16,
}

impl Remote {
    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }
}

impl Publication {
    /// The handle of its row.
    pub const fn handle(&self) -> Handle {
        Handle::new(self.slot, self.generation)
    }

    /// Whether the two want a host port in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.shares(other.proto, other.host_ip, other.host_port..=other.host_port_end)
    }

    /// Whether it has one of these ports.
    pub fn shares(&self, proto: Protocol, host_ip: Option<IpAddr>, ports: RangeInclusive<u16>) -> bool {
        self.proto == proto
            && self.host_port <= *ports.end()
            && *ports.start() <= self.host_port_end
            && meet(self.host_ip, host_ip)
    }

    /// Whether its ports are another's by now.
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Whether its ports are some: from the first host port to the last, and as many of the target's.
    fn has_ports(&self) -> bool {
        let room = u32::from(u16::MAX - self.target_port) + 1;
        self.target_port != 0
            && PortRange::new(self.host_port, self.host_port_end).is_some_and(|host| host.count() <= room)
    }

    /// The target's port for the last host port.
    pub const fn target_port_end(&self) -> u16 {
        self.target_port.saturating_add(self.host_port_end - self.host_port)
    }
}

/// Whether two publications have a host address in common.
fn meet(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    one == other || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
}

/// Everything that an instance has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    schema: u32,
    /// The boot that the records are of: a reboot took everything they describe.
    boot: String,
    /// Generation of the row handed out last.
    generation: u16,
    /// The uplinks that the user chose; all that hold routes if empty.
    #[serde(default)]
    pub uplinks: Vec<IfName>,
    /// Which uplinks have the XDP stage.
    #[serde(default)]
    pub xdp: XdpMode,
    /// Who may use the publications that do not say it themselves.
    #[serde(default)]
    pub access: Access,
    /// How long connections may be idle, where it is not as by default.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Networks by name, `bridge` among them once it is used.
    pub networks: BTreeMap<Name, Network>,
    /// Containers by name.
    pub containers: BTreeMap<Name, Container>,
    /// Publications, oldest first.
    pub publications: Vec<Publication>,
}

impl State {
    fn new(boot: String) -> Self {
        Self {
            schema: SCHEMA,
            boot,
            generation: 0,
            uplinks: Vec::new(),
            xdp: XdpMode::default(),
            access: Access::default(),
            timeouts: Timeouts::default(),
            networks: BTreeMap::new(),
            containers: BTreeMap::new(),
            publications: Vec::new(),
        }
    }

    /// Reads the text of the state file at `path`, as [`Store::save`] writes it.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self> {
        let not_understood = |why: Box<dyn std::error::Error + Send + Sync>| {
            Error::system(format!("understand {}", path.display()), why)
                .hint("`netd down` removes what netd can still find; then remove the file")
        };
        let state: Self = serde_json::from_slice(text).map_err(|error| not_understood(error.into()))?;
        if state.schema != SCHEMA {
            return Err(Error::conflict(format!(
                "{} has schema {}, this netd speaks {SCHEMA}",
                path.display(),
                state.schema
            ))
            .hint("use the version of netd that wrote it"));
        }
        if let Some(odd) = state.publications.iter().find(|publication| !publication.has_ports()) {
            return Err(not_understood(format!("a publication of {} has no ports", odd.target).into()));
        }
        Ok(state)
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.access.is_empty()
            && self.timeouts.is_empty()
            && self.networks.is_empty()
            && self.containers.is_empty()
            && self.publications.is_empty()
    }

    /// A free slot for the row of a container, or of a target that is none, and its generation.
    pub fn endpoint_slot(&mut self) -> Result<Handle> {
        let links = self.containers.values().filter_map(|container| container.link().map(|link| link.slot));
        let remotes =
            self.publications.iter().filter_map(|one| one.target.remote().map(|remote| remote.slot));
        let taken = links.chain(remotes).collect();
        let slot = free_slot(taken, netd_common::tables::capacity::ENDPOINTS)
            .ok_or_else(|| full("containers", netd_common::tables::capacity::ENDPOINTS))?;
        Ok(self.hand_out(slot))
    }

    /// Free slots for publications' rows and their generations.
    pub fn publication_slots(&mut self, count: usize) -> Result<Vec<Handle>> {
        let mut taken: Vec<u16> = self.publications.iter().map(|publication| publication.slot).collect();
        taken.sort_unstable();
        let mut taken = taken.into_iter().peekable();
        let mut slots = Vec::with_capacity(count);
        for slot in 0..=u16::MAX {
            if slots.len() == count {
                break;
            }
            if taken.next_if_eq(&slot).is_none() {
                slots.push(slot);
            }
        }
        if slots.len() < count {
            return Err(full("publications", netd_common::tables::capacity::PUBLICATIONS));
        }
        Ok(slots.into_iter().map(|slot| self.hand_out(slot)).collect())
    }

    /// A number that no network has.
    pub fn network_number(&self) -> u32 {
        let taken: Vec<u32> = self.networks.values().map(|network| network.number).collect();
        (1..=u32::MAX).find(|number| !taken.contains(number)).unwrap_or(u32::MAX)
    }

    fn hand_out(&mut self, slot: u16) -> Handle {
        let handle = Handle::new(slot, self.generation).next();
        self.generation = handle.generation();
        handle
    }
}

fn free_slot(mut taken: Vec<u16>, capacity: u32) -> Option<u16> {
    taken.sort_unstable();
    let mut taken = taken.into_iter().peekable();
    (0..=u16::MAX).take(capacity as usize).find(|slot| taken.next_if_eq(slot).is_none())
}

fn full(what: &str, capacity: u32) -> Error {
    Error::conflict(format!("there is no room for more {what}: {capacity} are the most"))
}

/// The state of one instance, locked.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Name of the instance: for its pins.
    pub instance: String,
    /// What is recorded.
    pub state: State,
    /// Held for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens and locks the state of the namespace with this cookie below `state_dir`, making folders as needed. Waits for
    /// a command that is at work.
    pub fn open(state_dir: &Path, cookie: u64) -> Result<Self> {
        let (folder, lock) = lock(state_dir, cookie)?;
        let state = read(&folder.join(FILE))?;
        Ok(Self { instance: instance(state_dir, cookie)?, folder, state, _lock: lock })
    }

    /// As [`Self::open`], for taking everything down: a state file that cannot be understood counts as empty.
    pub fn open_to_remove(state_dir: &Path, cookie: u64) -> Result<Self> {
        let (folder, lock) = lock(state_dir, cookie)?;
        let state = read(&folder.join(FILE)).or_else(|error| {
            tracing::warn!("{}; going on without it", error.chain());
            Ok::<_, Error>(State::new(boot()?))
        })?;
        Ok(Self { instance: instance(state_dir, cookie)?, folder, state, _lock: lock })
    }

    /// Writes the state down, whole or not at all.
    pub fn save(&self) -> Result<()> {
        let path = self.folder.join(FILE);
        let staging = path.with_extension("json.new");
        let what = || format!("write {}", path.display());
        let text = serde_json::to_vec(&self.state).doing(what)?;
        File::create(&staging).and_then(|mut file| file.write_all(&text)).doing(what)?;
        fs::rename(&staging, &path).doing(what)
    }

    /// The folder of this namespace's state.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the state, and the state folder if nothing else is in it.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).doing(|| format!("remove {}", self.folder.display()))?;
        if let Some(parent) = self.folder.parent() {
            // Another namespace's state in it is a reason to leave it.
            let _in_use = fs::remove_dir(parent);
        }
        Ok(())
    }
}

/// The name of an instance: its namespace's cookie, and the state folder it belongs to.
pub fn instance(state_dir: &Path, cookie: u64) -> Result<String> {
    let path = fs::canonicalize(state_dir).doing(|| format!("find {}", state_dir.display()))?;
    Ok(format!("{cookie}-{}", folder_key(&path)))
}

/// A short name for a folder that stays the same across versions of netd: FNV-1a of its path.
pub fn folder_key(path: &Path) -> String {
    let hash = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Locks the folder of a namespace's state, making it as needed.
fn lock(state_dir: &Path, cookie: u64) -> Result<(PathBuf, File)> {
    let folder = state_dir.join(cookie.to_string());
    let path = folder.join("lock");
    let what = || format!("lock {}", path.display());
    loop {
        fs::create_dir_all(&folder).doing(|| format!("create {}", folder.display()))?;
        let file = match File::create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.doing(what)?,
        };
        file.lock().doing(what)?;
        // Whoever held it may have taken the folder down; then this is a lock on nothing.
        match fs::metadata(&path) {
            Ok(present) if present.ino() == file.metadata().doing(what)?.ino() => return Ok((folder, file)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::system(what(), error));
            }
            _ => {}
        }
    }
}

/// The number of this boot of the kernel.
fn boot() -> Result<String> {
    let boot =
        fs::read_to_string("/proc/sys/kernel/random/boot_id").doing(|| "read the boot's number".into())?;
    Ok(boot.trim().to_owned())
}

fn read(path: &Path) -> Result<State> {
    let boot = boot()?;
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::new(boot)),
        Err(error) => return Err(Error::system(format!("read {}", path.display()), error)),
    };
    let state = State::parse(&text, path)?;
    // A folder on disk outlives a reboot; namespaces, interfaces and pins do not.
    if state.boot == boot { Ok(state) } else { Ok(State::new(boot)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_never_handed_out_twice_in_the_same_generation() {
        let mut state = State::new(String::new());
        let first = state.publication_slots(2).unwrap();
        let second = state.publication_slots(2).unwrap();
        assert_eq!(first[0].slot(), second[0].slot());
        assert_ne!(first[0], second[0]);
        assert_ne!(first[0].generation(), first[1].generation());
    }

    #[test]
    fn a_publication_without_ports_is_not_understood() {
        let parse = |host_port: u16, host_port_end: u16, target_port: u16| {
            let mut state = State::new("boot".to_owned());
            state.publications.push(Publication {
                phase: Phase::Ready,
                proto: Protocol::Tcp,
                host_ip: None,
                access: Access::default(),
                interface: None,
                host_port,
                host_port_end,
                target: Target::Container("web".parse().unwrap()),
                target_port,
                slot: 0,
                generation: 1,
            });
            State::parse(&serde_json::to_vec(&state).unwrap(), Path::new(FILE)).map(|parsed| parsed == state)
        };
        for (first, last, target) in [(80, 80, 80), (1, u16::MAX, 1), (8000, 8010, u16::MAX - 10)] {
            assert!(parse(first, last, target).unwrap());
        }
        for (first, last, target) in [(81, 80, 80), (0, 0, 80), (80, 80, 0), (8000, 8010, u16::MAX - 9)] {
            let error = parse(first, last, target).unwrap_err();
            assert_eq!(error.chain(), "understand state.json: a publication of web has no ports");
        }
    }

    #[test]
    fn folders_have_different_names() {
        assert_ne!(folder_key(Path::new("/run/netd")), folder_key(Path::new("/run/netd2")));
        assert_eq!(folder_key(Path::new("/run/netd")).len(), 16);
    }
}
