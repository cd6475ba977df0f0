//! The two files, read and written as one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lock;
use super::rows::{self, Note, RowFile};
use crate::error::{Doing as _, Error, Result, StateError};
use crate::model::{State, Target, TargetSet};
use crate::private;

/// Version of the state file; another one is refused.
const SCHEMA: u32 = 4;
/// The state file, in its namespace's folder.
const FILE: &str = "state.json";
/// The file of publications, beside it.
const ROWS: &str = "publications";

/// The content of the state file.
#[derive(Serialize, Deserialize)]
struct Text<S> {
    schema: u32,
    /// The boot to which the records belong: a reboot removes everything that they describe.
    boot: String,
    state: S,
    /// The targets of publications, by the number of their set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    target_sets: BTreeMap<u32, [Target; 1]>,
    /// Data of publications that is not in their rows, by slot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<u16, Note>,
}

/// Reads the text of the state file at `path` and the bytes of the file of publications beside it, as [`write()`] makes
/// them.
pub fn parse(text: &[u8], rows: &[u8], path: &Path) -> Result<State> {
    let text = parse_text(text, path)?;
    let rows =
        rows::rows(rows).ok_or_else(|| not_understood(&path.with_file_name(ROWS), rows::HALF_A_ROW))?;
    with_publications(text, &rows, path)
}

/// The bytes of both files, as [`parse`] reads them.
pub fn write(state: &State, boot: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((text_of(state, boot)?, rows::encode(&state.publications)))
}

fn text_of(state: &State, boot: &str) -> Result<Vec<u8>> {
    let text = Text {
        schema: SCHEMA,
        boot: boot.to_owned(),
        state,
        target_sets: rows::target_sets(&state.publications),
        notes: rows::notes(&state.publications),
    };
    serde_json::to_vec(&text).doing(|| "encode the state".into())
}

fn parse_text(text: &[u8], path: &Path) -> Result<Text<State>> {
    // Files of older versions have the schema in another place.
    #[derive(Deserialize)]
    struct Version {
        schema: Option<u32>,
        state: Option<Inner>,
    }
    #[derive(Deserialize)]
    struct Inner {
        schema: Option<u32>,
    }
    let other = |found| Error::from(StateError::Schema { path: path.to_owned(), found, expected: SCHEMA });
    match serde_json::from_slice::<Text<State>>(text) {
        Ok(text) if text.schema == SCHEMA => Ok(text),
        Ok(text) => Err(other(text.schema)),
        Err(error) => {
            let version: Option<Version> = serde_json::from_slice(text).ok();
            let schema = version.and_then(|text| text.schema.or_else(|| text.state?.schema));
            match schema {
                Some(schema) if schema != SCHEMA => Err(other(schema)),
                _ => Err(not_understood(path, &error.to_string())),
            }
        }
    }
}

fn with_publications(text: Text<State>, table: &[rows::Row], path: &Path) -> Result<State> {
    let Text { mut state, target_sets, notes, .. } = text;
    if let Some((id, [lost])) = target_sets.iter().find(|(_, [target])| state.endpoint(target).is_none()) {
        return Err(not_understood(path, &format!("target set {id}: {lost} has no interface")));
    }
    let sets = target_sets.into_iter().map(|(id, members)| (id, Arc::new(TargetSet { id, members })));
    state.publications =
        rows::decode(table, notes, &sets.collect()).map_err(|why| not_understood(path, &why))?;
    Ok(state)
}

fn not_understood(path: &Path, why: &str) -> Error {
    StateError::NotUnderstood { path: path.to_owned(), why: why.to_owned() }.into()
}

/// The state of the namespace with this cookie, read without the lock: the last state that a transaction has written,
/// also while another one writes. Reads both files, and again if the state file was replaced meanwhile. Rows change in
/// place, but only in ways that are consistent with the current state file.
pub(crate) fn read(state_dir: &Path, cookie: u64) -> Result<State> {
    /// How often to try. A transaction replaces the file a few times.
    const TRIES: u32 = 1000;
    let folder = lock::folder(state_dir, cookie);
    let path = folder.join(FILE);
    let mut tries = 0;
    loop {
        tries += 1;
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            file => file.doing(|| format!("read {}", path.display()))?,
        };
        // The file is kept open, so its inode cannot be that of the next one.
        let state = read_pair(&file, &folder);
        let is_current = match (file.metadata(), fs::metadata(&path)) {
            (Ok(held), Ok(present)) => held.ino() == present.ino(),
            _ => false,
        };
        // A row that is being written may be read in part; it is complete the next time.
        if (is_current && state.is_ok()) || tries == TRIES {
            return Ok(state?.0);
        }
        if is_current {
            std::thread::sleep(Duration::from_millis(1));
            if tries >= 50 {
                return Ok(state?.0);
            }
        }
    }
}

/// Both files, whose rows may be newer than the state file.
fn read_pair(mut file: &File, folder: &Path) -> Result<(State, RowFile)> {
    let (path, rows) = (folder.join(FILE), folder.join(ROWS));
    let mut text = Vec::new();
    file.read_to_end(&mut text).doing(|| format!("read {}", path.display()))?;
    let text = parse_text(&text, &path)?;
    // A folder on disk survives a reboot; namespaces, interfaces and pins do not.
    if text.boot != lock::boot()? {
        return Ok((State::default(), RowFile::absent(rows)));
    }
    let rows = RowFile::read(rows)?;
    Ok((with_publications(text, rows.rows(), &path)?, rows))
}

/// Tells one version of a state file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    /// When it was changed last: seconds and nanoseconds.
    changed: (i64, i64),
}

/// The version of an instance's state file; none if there is none. It is replaced as a whole.
pub(crate) fn stamp(state_dir: &Path, cookie: u64) -> Option<Stamp> {
    let found = fs::metadata(lock::folder(state_dir, cookie).join(FILE)).ok()?;
    Some(Stamp { inode: found.ino(), changed: (found.mtime(), found.mtime_nsec()) })
}

/// The state of one instance, locked.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    boot: String,
    /// The records.
    pub state: State,
    rows: RowFile,
    /// Whether there are records that cannot be read.
    is_unreadable: bool,
    /// The lock; held while the store is open.
    _lock: File,
}

impl Store {
    /// Locks and opens the state of the namespace with this cookie below `state_dir`, making folders as needed. Waits
    /// for another transaction.
    pub(crate) fn open(state_dir: &Path, cookie: u64) -> Result<Self> {
        Self::open_or(state_dir, cookie, Err)
    }

    /// As [`Self::open`], for `down`: a state file that cannot be read counts as empty.
    pub(crate) fn open_to_remove(state_dir: &Path, cookie: u64) -> Result<Self> {
        let mut is_unreadable = false;
        let mut store = Self::open_or(state_dir, cookie, |error| {
            tracing::warn!("{}; going on without it", error.chain());
            is_unreadable = true;
            Ok(State::default())
        })?;
        store.is_unreadable = is_unreadable;
        Ok(store)
    }

    /// Keeps records that cannot be read under another name, so that the user can look at them and the next transaction begins
    /// anew. None if they could be read.
    pub(crate) fn set_aside(&self) -> Result<Option<PathBuf>> {
        if !self.is_unreadable {
            return Ok(None);
        }
        let (path, aside) = (self.folder.join(FILE), self.folder.join("state.json.unreadable"));
        fs::rename(&path, &aside).doing(|| format!("rename {}", path.display()))?;
        Ok(Some(aside))
    }

    fn open_or(state_dir: &Path, cookie: u64, recover: impl FnOnce(Error) -> Result<State>) -> Result<Self> {
        let (folder, lock) = lock::lock(state_dir, cookie)?;
        let (path, rows) = (folder.join(FILE), folder.join(ROWS));
        let found = match File::open(&path) {
            Ok(file) => read_pair(&file, &folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok((State::default(), RowFile::absent(rows.clone())))
            }
            Err(error) => Err(Error::system(format!("read {}", path.display()), error)),
        };
        let (state, rows) = match found {
            Ok(found) => found,
            Err(error) => (recover(error)?, RowFile::absent(rows)),
        };
        rows.clear_if_absent()?;
        Ok(Self { folder, boot: lock::boot()?, state, rows, is_unreadable: false, _lock: lock })
    }

    /// Writes the state, completely or not at all. Only publications that were added or removed are written.
    pub(crate) fn save(&mut self) -> Result<()> {
        let path = self.folder.join(FILE);
        let staging = path.with_extension("json.new");
        let what = || format!("write {}", path.display());
        let text = text_of(&self.state, &self.boot)?;
        self.rows.forget(&self.state.publications)?;
        // What is left of one that was not written to its end.
        match fs::remove_file(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::system(what(), error));
            }
            _ => {}
        }
        private::open(&staging).and_then(|mut file| file.write_all(&text)).doing(what)?;
        fs::rename(&staging, &path).doing(what)?;
        self.rows.add(&self.state.publications)
    }

    /// Writes the state after something was removed. If the disk is full, it overwrites the file, which needs no room; a reader
    /// may then find half of it.
    pub(crate) fn save_less(&mut self) -> Result<()> {
        let Err(error) = self.save() else { return Ok(()) };
        // As in `save`, rows go before what is written beside them: a row without its targets cannot be read.
        if self.rows.forget(&self.state.publications).is_err() {
            return Err(error);
        }
        let path = self.folder.join(FILE);
        let text = text_of(&self.state, &self.boot)?;
        let overwritten = || {
            let file = File::options().write(true).open(&path)?;
            if file.metadata()?.len() < text.len() as u64 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.write_all_at(&text, 0)?;
            file.set_len(text.len() as u64)
        };
        // The first failure is the one to report.
        overwritten().or(Err(error))?;
        let _left = fs::remove_file(path.with_extension("json.new"));
        Ok(())
    }

    /// The folder of this namespace's state.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the state, and the state folder if nothing else is in it.
    pub(crate) fn remove(self) -> Result<()> {
        let what = || format!("remove {}", self.folder.display());
        while let Err(error) = fs::remove_dir_all(&self.folder) {
            // The follower has just made its socket there. It does so once, as long as there is a state file.
            if error.kind() != io::ErrorKind::DirectoryNotEmpty {
                return Err(Error::system(what(), error));
            }
        }
        if let Some(parent) = self.folder.parent() {
            // The folder stays if it contains the state of another namespace.
            let _in_use = fs::remove_dir(parent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{
        Access, Container, Interface, Lifecycle, Mac, Policy, Protocol, Publication, Remote, Sandbox,
    };

    use super::*;

    const BOOT: &str = "boot";

    fn container(name: &str) -> Container {
        let interface = Interface {
            name: "eth0".parse().unwrap(),
            network: "bridge".parse().unwrap(),
            lifecycle: Lifecycle::Ready,
            host: "veth0".parse().unwrap(),
            host_mac: Mac::local([0; 4]),
            adopted: false,
            mac: Mac::local([1; 4]),
            addresses: Vec::new(),
            allowed: Vec::new(),
            gateways: Vec::new(),
            mtu: 1500,
            slot: 3,
            generation: 7,
        };
        Container {
            name: name.parse().unwrap(),
            key: Some("f".repeat(64).parse().unwrap()),
            lifecycle: Lifecycle::Ready,
            sandbox: Sandbox::Namespace {
                path: PathBuf::from("/run/netns").join(name),
                cookie: 5,
                made: true,
            },
            interfaces: vec![interface],
            run: None,
            applied: false,
        }
    }

    fn publication(host: (u16, u16), target_port: u16, slot: u16) -> Publication {
        Publication {
            lifecycle: Lifecycle::Ready,
            number: u64::from(slot) + 1,
            proto: Protocol::Tcp,
            host_ip: None,
            policy: None,
            host_port: host.0,
            host_port_end: host.1,
            targets: Arc::new(TargetSet { id: 1, members: [Target::Container("web".parse().unwrap())] }),
            target_port,
            slot,
            generation: 1,
            applied: slot == 1,
        }
    }

    fn state(publications: Vec<Publication>) -> State {
        let mut state = State::default();
        state.containers.insert("web".parse().unwrap(), container("web"));
        state.publications = publications;
        state
    }

    fn parsed(state: &State) -> Result<State> {
        let (text, rows) = write(state, BOOT).unwrap();
        parse(&text, &rows, Path::new(FILE))
    }

    #[test]
    fn a_written_state_is_read_again() {
        let web = publication((8080, 8081), 80, 0);
        let remote =
            Remote { address: "192.0.2.10".parse().unwrap(), keep_source: true, slot: 4, generation: 2 };
        let far = Publication {
            lifecycle: Lifecycle::Removing,
            host_ip: Some("::1".parse().unwrap()),
            policy: Policy { interface: Some("up0".parse().unwrap()), ..Policy::default() }.shared(),
            targets: Arc::new(TargetSet { id: 2, members: [Target::Remote(remote)] }),
            proto: Protocol::Sctp,
            ..publication((9, 9), 9, 1)
        };
        let bound = Publication {
            lifecycle: Lifecycle::Adding,
            host_ip: Some("127.0.0.1".parse().unwrap()),
            policy: Policy {
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
    fn a_set_of_targets_is_stored_once() {
        let (text, _) =
            write(&state(vec![publication((80, 80), 80, 0), publication((81, 81), 80, 1)]), BOOT).unwrap();
        let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(text["target_sets"], serde_json::json!({ "1": [{ "container": "web" }] }));
    }

    #[test]
    fn another_schema_is_refused_by_its_number() {
        for text in [r#"{"schema":3}"#, r#"{"state":{"schema":3,"boot":""}}"#] {
            let error = parse(text.as_bytes(), &[], Path::new(FILE)).unwrap_err();
            assert!(matches!(error, Error::State(StateError::Schema { found: 3, .. })), "{error}");
        }
    }

    #[test]
    fn a_publication_without_ports_is_refused() {
        for (first, last, target) in [(80, 80, 80), (1, u16::MAX, 1), (8000, 8010, u16::MAX - 10)] {
            let state = state(vec![publication((first, last), target, 0)]);
            assert_eq!(parsed(&state).unwrap(), state);
        }
        for (first, last, target) in [(81, 80, 80), (0, 0, 80), (80, 80, 0), (8000, 8010, u16::MAX - 9)] {
            let error = parsed(&state(vec![publication((first, last), target, 0)])).unwrap_err();
            assert_eq!(error.chain(), "cannot parse state.json: a publication of web has no ports");
        }
    }

    #[test]
    fn a_command_that_dies_between_two_files_can_be_repaired() {
        let folder = tempfile();
        let open = || Store::open(&folder, 1).unwrap();
        let mut store = open();
        store.state = state(vec![publication((80, 80), 80, 0)]);
        store.save().unwrap();
        let rows = folder.join("1").join(ROWS);
        let one = fs::read(&rows).unwrap();
        // More are being added: the state file has them before their rows are written.
        let adding = |slot| Publication {
            lifecycle: Lifecycle::Adding,
            ..publication((81 + slot, 81 + slot), 80, slot)
        };
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
        // Their rows are removed first; the file is cut after the last row in use.
        store.state.publications.truncate(1);
        store.save().unwrap();
        assert_eq!(fs::read(&rows).unwrap(), one);
        store.state.publications.clear();
        store.save().unwrap();
        assert!(fs::read(&rows).unwrap().is_empty());
        store.remove().unwrap();
    }

    #[test]
    fn a_reader_without_the_lock_sees_states_that_were_written() {
        const SLOTS: u16 = 200;
        let folder = tempfile();
        let mut store = Store::open(&folder, 1).unwrap();
        store.state = state(Vec::new());
        store.save().unwrap();
        let (done, reader) = (std::sync::atomic::AtomicBool::new(false), folder.clone());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = std::collections::HashSet::new();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let state = super::read(&reader, 1).unwrap();
                    // All ready publications belong to the same round: their target ports are those of the round.
                    let ready = state.publications.iter().filter(|one| one.lifecycle == Lifecycle::Ready);
                    let rounds: std::collections::HashSet<u16> = ready.map(|one| one.generation).collect();
                    assert!(rounds.len() <= 1, "{rounds:?}");
                    seen.extend(rounds);
                }
                seen.len()
            });
            for round in 1..=100 {
                let one = |slot| Publication { generation: round, ..publication((80, 80), 80, slot) };
                let with =
                    |lifecycle| (0..SLOTS).map(|slot| Publication { lifecycle, ..one(slot) }).collect();
                for lifecycle in [Lifecycle::Adding, Lifecycle::Ready, Lifecycle::Removing] {
                    store.state.publications = with(lifecycle);
                    store.save().unwrap();
                }
                store.state.publications.clear();
                store.save().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(reader.join().unwrap() > 1, "the reader has seen the writer at work");
        });
        store.remove().unwrap();
    }

    /// A folder of this test only.
    fn tempfile() -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("netd-store-{}-{count}", std::process::id()))
    }
}
