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
mod record;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use netd_common::flow::Handle;
use publications::{Note, RowFile};
pub use record::*;
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::ports::Ports;
use crate::spec::{Access, IfName, Name, Timeouts, XdpMode};

/// Version of the state file; another one is refused rather than guessed at.
const SCHEMA: u32 = 4;
/// The state file, in its namespace's folder.
const FILE: &str = "state.json";
/// The file of publications, beside it.
const ROWS: &str = "publications";

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
    use crate::spec::{Mac, Protocol};

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
