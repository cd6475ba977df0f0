//! The state folder: what this instance has made, so that every later command finds it, and one lock around it.
//!
//! ```text
//! DIR/                      --state-dir
//! └─ COOKIE/                one folder for each network namespace that is a host: namespaces' inodes are reused, cookies not
//!    ├─ lock                held by the command that is at work
//!    ├─ state.json          replaced as a whole, never half written: everything but the publications themselves
//!    └─ publications        a row each, see [`publications`]
//! ```
//!
//! A record is written *before* what it describes is touched, marked as being added; so a command that dies leaves a
//! record behind, and the next one knows what to take away.

mod publications;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use netd_common::flow::Handle;
use publications::{Note, RowFile};
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::ports::Ports;
use crate::spec::{Access, GatewayMode, IfName, Mac, Name, PortRange, Protocol, Timeouts, XdpMode};

/// Version of the state file; another one is refused rather than guessed at.
const SCHEMA: u32 = 4;
/// The state file, in its namespace's folder.
const FILE: &str = "state.json";
/// The file of publications, beside it.
const ROWS: &str = "publications";

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

/// The network namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// The host's own.
    Host,
    /// Another one.
    Namespace {
        /// Where it is found: an absolute path. It may lead to another namespace by now: a process below /proc may have ended,
        /// and a name may have been given again.
        path: PathBuf,
        /// Its cookie, which no other namespace of this boot has. It proves that the namespace at the path is the recorded one.
        cookie: u64,
        /// Whether netd made it.
        made: bool,
    },
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
    /// Its network namespace.
    pub sandbox: Sandbox,
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

/// How ports are published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Who may use them; empty if all, or if the instance's lists say.
    #[serde(default, skip_serializing_if = "Access::is_empty")]
    pub access: Access,
    /// The one interface that their clients come in by; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<IfName>,
}

impl Terms {
    /// As a publication has them.
    pub fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }
}

/// A published port, or an equal-length range of them. Kept small: a command may read tens of thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// How far it has come.
    pub phase: Phase,
    /// Its place in the order in which they were made; never zero.
    pub number: u64,
    /// Protocol.
    pub proto: Protocol,
    /// The one host address it is on, or an unspecified one for all of a family; all if none.
    pub host_ip: Option<IpAddr>,
    /// How it is published, if not for everybody.
    pub terms: Option<Arc<Terms>>,
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Remote {
    /// Its address.
    pub address: IpAddr,
    /// Whether it sees the clients' own addresses.
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

    /// Who may use it.
    pub fn access(&self) -> &Access {
        static EVERYBODY: Access = Access { allow: Vec::new(), deny: Vec::new() };
        self.terms.as_ref().map_or(&EVERYBODY, |terms| &terms.access)
    }

    /// The one interface that its clients come in by; any if none.
    pub fn interface(&self) -> Option<&IfName> {
        self.terms.as_ref()?.interface.as_ref()
    }

    /// Whether the two want a host port in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.shares(other.proto, other.host_ip, other.host_ports())
    }

    /// Whether it has one of these ports.
    pub fn shares(&self, proto: Protocol, host_ip: Option<IpAddr>, ports: RangeInclusive<u16>) -> bool {
        self.proto == proto
            && self.host_port <= *ports.end()
            && *ports.start() <= self.host_port_end
            && meet(self.host_ip, host_ip)
    }

    /// Its host ports.
    pub const fn host_ports(&self) -> RangeInclusive<u16> {
        self.host_port..=self.host_port_end
    }

    /// The target's.
    pub const fn target_ports(&self) -> RangeInclusive<u16> {
        self.target_port..=self.target_port_end()
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
pub fn meet(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
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
    #[serde(skip)]
    pub publications: Vec<Publication>,
}

/// What the state file says.
#[derive(Serialize, Deserialize)]
struct Text<S> {
    state: S,
    /// Of publications, by slot, what their rows do not say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<u16, Note>,
}

/// A publication's place: the handle of its row in the tables, and its number in the order of making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The handle.
    pub handle: Handle,
    /// The number.
    pub number: u64,
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

    /// Reads the text of the state file at `path` and the bytes of the file of publications beside it, as [`Store::save`]
    /// writes them.
    pub fn parse(text: &[u8], rows: &[u8], path: &Path) -> Result<Self> {
        let (state, notes) = Self::parse_text(text, path)?;
        let rows = publications::rows(rows)
            .ok_or_else(|| not_understood(&path.with_file_name(ROWS), publications::HALF_A_ROW.into()))?;
        state.with_publications(&rows, notes, path)
    }

    /// The bytes of both files, as [`Self::parse`] reads them.
    pub fn write(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let rows = publications::encode(&self.publications, |target| self.endpoint(target));
        Ok((self.text()?, rows))
    }

    fn text(&self) -> Result<Vec<u8>> {
        let text = Text { state: self, notes: publications::notes(&self.publications) };
        serde_json::to_vec(&text).doing(|| "write down the state".into())
    }

    fn parse_text(text: &[u8], path: &Path) -> Result<(Self, BTreeMap<u16, Note>)> {
        // A file of an older version looks otherwise, but says which it is in the same place or at the top.
        #[derive(Deserialize)]
        struct Version {
            schema: Option<u32>,
        }
        let Text { state, notes } = match serde_json::from_slice::<Text<Self>>(text) {
            Ok(text) => text,
            Err(error) => match serde_json::from_slice(text) {
                Ok(Version { schema: Some(schema) }) => return Err(other_schema(path, schema)),
                _ => return Err(not_understood(path, error.into())),
            },
        };
        if state.schema != SCHEMA {
            return Err(other_schema(path, state.schema));
        }
        Ok((state, notes))
    }

    fn with_publications(
        mut self,
        rows: &[publications::Row],
        notes: BTreeMap<u16, Note>,
        path: &Path,
    ) -> Result<Self> {
        let handles = self
            .containers
            .values()
            .filter_map(|container| container.link().map(|link| (link.handle(), container.name.clone())));
        self.publications = publications::decode(rows, notes, &handles.collect())
            .map_err(|why| not_understood(path, why.into()))?;
        Ok(self)
    }

    /// The handle of what a publication leads to.
    fn endpoint(&self, target: &Target) -> Option<Handle> {
        match target {
            Target::Container(name) => self.containers.get(name)?.link().map(Link::handle),
            Target::Remote(remote) => Some(remote.handle()),
        }
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
        let slot = free_slot(taken, netd_common::abi::capacity::ENDPOINTS)
            .ok_or_else(|| full("containers", netd_common::abi::capacity::ENDPOINTS))?;
        Ok(self.hand_out(slot))
    }

    /// Places for new publications.
    pub fn places(&mut self, count: usize) -> Result<Vec<Place>> {
        let mut taken = Ports::default();
        for publication in &self.publications {
            taken.insert(publication.slot..=publication.slot);
        }
        let slots: Vec<u16> =
            (0..=u16::MAX).filter(|slot| !taken.holds_any(*slot..=*slot)).take(count).collect();
        if slots.len() < count {
            return Err(full("publications", netd_common::abi::capacity::PUBLICATIONS));
        }
        let newest = self.publications.last().map_or(0, |publication| publication.number);
        Ok((newest.saturating_add(1)..)
            .zip(slots)
            .map(|(number, slot)| Place { handle: self.hand_out(slot), number })
            .collect())
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
    // Several publications may lead to one host.
    taken.dedup();
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
    rows: RowFile,
    /// Held for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens and locks the state of the namespace with this cookie below `state_dir`, making folders as needed. Waits for
    /// a command that is at work.
    pub fn open(state_dir: &Path, cookie: u64) -> Result<Self> {
        let (folder, lock) = lock(state_dir, cookie)?;
        let (state, rows) = read(&folder)?;
        Ok(Self { instance: instance(state_dir, cookie)?, folder, state, rows, _lock: lock })
    }

    /// As [`Self::open`], for taking everything down: a state file that cannot be understood counts as empty.
    pub fn open_to_remove(state_dir: &Path, cookie: u64) -> Result<Self> {
        let (folder, lock) = lock(state_dir, cookie)?;
        let (state, rows) = read(&folder).or_else(|error| {
            tracing::warn!("{}; going on without it", error.chain());
            Ok::<_, Error>((State::new(boot()?), RowFile::empty(folder.join(ROWS))?))
        })?;
        Ok(Self { instance: instance(state_dir, cookie)?, folder, state, rows, _lock: lock })
    }

    /// Writes the state down, whole or not at all. Of publications only those are written that came or went.
    pub fn save(&mut self) -> Result<()> {
        let path = self.folder.join(FILE);
        let staging = path.with_extension("json.new");
        let what = || format!("write {}", path.display());
        let text = self.state.text()?;
        self.rows.forget(&self.state.publications)?;
        File::create(&staging).and_then(|mut file| file.write_all(&text)).doing(what)?;
        fs::rename(&staging, &path).doing(what)?;
        let state = &self.state;
        self.rows.add(&state.publications, |target| state.endpoint(target))
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

fn read(folder: &Path) -> Result<(State, RowFile)> {
    let (path, rows) = (folder.join(FILE), folder.join(ROWS));
    let boot = boot()?;
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((State::new(boot), RowFile::empty(rows)?));
        }
        Err(error) => return Err(Error::system(format!("read {}", path.display()), error)),
    };
    let (state, notes) = State::parse_text(&text, &path)?;
    // A folder on disk outlives a reboot; namespaces, interfaces and pins do not.
    if state.boot != boot {
        return Ok((State::new(boot), RowFile::empty(rows)?));
    }
    let rows = RowFile::read(rows)?;
    Ok((state.with_publications(rows.rows(), notes, &path)?, rows))
}

fn not_understood(path: &Path, why: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::system(format!("understand {}", path.display()), why)
        .hint("`netd down` removes what netd can still find; then remove the file")
}

fn other_schema(path: &Path, schema: u32) -> Error {
    Error::conflict(format!("{} has schema {schema}, this netd speaks {SCHEMA}", path.display()))
        .hint("use the version of netd that wrote it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str) -> Container {
        Container {
            name: name.parse().unwrap(),
            phase: Phase::Ready,
            network: "bridge".parse().unwrap(),
            sandbox: Sandbox::Namespace {
                path: PathBuf::from("/run/netns").join(name),
                cookie: 5,
                made: true,
            },
            attachment: Attachment::Bridge(Box::new(Link {
                host_interface: "veth0".parse().unwrap(),
                host_mac: Mac::local([0; 4]),
                mac: Mac::local([1; 4]),
                addresses: Vec::new(),
                mtu: 1500,
                slot: 3,
                generation: 7,
            })),
            owner: None,
        }
    }

    fn publication(host: (u16, u16), target_port: u16, slot: u16) -> Publication {
        Publication {
            phase: Phase::Ready,
            number: u64::from(slot) + 1,
            proto: Protocol::Tcp,
            host_ip: None,
            terms: None,
            host_port: host.0,
            host_port_end: host.1,
            target: Target::Container("web".parse().unwrap()),
            target_port,
            slot,
            generation: 1,
        }
    }

    fn state(publications: Vec<Publication>) -> State {
        let mut state = State::new(boot().unwrap());
        state.containers.insert("web".parse().unwrap(), container("web"));
        state.publications = publications;
        state
    }

    fn parsed(state: &State) -> Result<State> {
        let (text, rows) = state.write().unwrap();
        State::parse(&text, &rows, Path::new(FILE))
    }

    #[test]
    fn a_slot_is_never_handed_out_twice_in_the_same_generation() {
        let mut state = State::new(String::new());
        let first = state.places(2).unwrap();
        let second = state.places(2).unwrap();
        assert_eq!(first[0].handle.slot(), second[0].handle.slot());
        assert_ne!(first[0].handle, second[0].handle);
        assert_ne!(first[0].handle.generation(), first[1].handle.generation());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let web = publication((8080, 8081), 80, 0);
        let remote =
            Remote { address: "192.0.2.10".parse().unwrap(), keep_source: true, slot: 4, generation: 2 };
        let far = Publication {
            phase: Phase::Removing,
            host_ip: Some("::1".parse().unwrap()),
            terms: Terms { interface: Some("up0".parse().unwrap()), ..Terms::default() }.shared(),
            target: Target::Remote(remote),
            proto: Protocol::Sctp,
            ..publication((9, 9), 9, 1)
        };
        let bound = Publication {
            phase: Phase::Adding,
            host_ip: Some("127.0.0.1".parse().unwrap()),
            terms: Terms {
                access: Access::new(vec!["10.0.0.0/8".parse().unwrap()], Vec::new()).unwrap(),
                interface: None,
            }
            .shared(),
            proto: Protocol::Udp,
            ..publication((1, u16::MAX), 1, 5)
        };
        let state = state(vec![web, far, bound]);
        assert_eq!(parsed(&state).unwrap(), state);
    }

    #[test]
    fn a_publication_without_ports_is_not_understood() {
        for (first, last, target) in [(80, 80, 80), (1, u16::MAX, 1), (8000, 8010, u16::MAX - 10)] {
            let state = state(vec![publication((first, last), target, 0)]);
            assert_eq!(parsed(&state).unwrap(), state);
        }
        for (first, last, target) in [(81, 80, 80), (0, 0, 80), (80, 80, 0), (8000, 8010, u16::MAX - 9)] {
            let error = parsed(&state(vec![publication((first, last), target, 0)])).unwrap_err();
            assert_eq!(error.chain(), "understand state.json: a publication of web has no ports");
        }
    }

    #[test]
    fn a_command_that_dies_between_two_files_leaves_what_the_next_can_repair() {
        let folder = std::env::temp_dir().join(format!("netd-store-{}", std::process::id()));
        let open = || Store::open(&folder, 1).unwrap();
        let mut store = open();
        store.state = state(vec![publication((80, 80), 80, 0)]);
        store.save().unwrap();
        let rows = folder.join("1").join(ROWS);
        let one = fs::read(&rows).unwrap();
        // More are being added: the state file knows them before they have rows.
        let adding =
            |slot| Publication { phase: Phase::Adding, ..publication((81 + slot, 81 + slot), 80, slot) };
        store.state.publications.extend([adding(1), adding(2)]);
        store.save().unwrap();
        drop(store);
        let three = fs::read(&rows).unwrap();
        fs::write(&rows, &one).unwrap();
        assert_eq!(open().state.publications, [publication((80, 80), 80, 0)]);
        // One row of two.
        fs::write(&rows, &three[..one.len() * 2]).unwrap();
        let mut store = open();
        assert_eq!(store.state.publications, [publication((80, 80), 80, 0), adding(1)]);
        // They are gone from the rows first, and a row that is the last leaves no trace.
        store.state.publications.truncate(1);
        store.save().unwrap();
        assert_eq!(fs::read(&rows).unwrap(), one);
        store.state.publications.clear();
        store.save().unwrap();
        assert!(fs::read(&rows).unwrap().is_empty());
        store.remove().unwrap();
    }

    #[test]
    fn folders_have_different_names() {
        assert_ne!(folder_key(Path::new("/run/netd")), folder_key(Path::new("/run/netd2")));
        assert_eq!(folder_key(Path::new("/run/netd")).len(), 16);
    }
}
