//! What is kept of detached runs: their output, and how they ended. It outlives the container, and is not in the state folder,
//! which is usually in memory.
//!
//! ```text
//! LOG_DIR/INSTANCE/     one folder for each instance, named like its pins
//! ├─ .lock              held while a run's folder is made or removed
//! └─ NAME/              a run; a later one of the same name replaces it
//!    ├─ run.json        the command and how it ended; locked while the run is written, see [`record`]
//!    ├─ log             the newest output, see [`line`]
//!    └─ log.1           the output before that
//! ```

mod capture;
mod file;
mod line;
mod read;
mod record;

use std::fs::{self, File};
use std::io::{self, PipeWriter};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use self::file::OutputFiles;
use self::record::{Keeper, RECORD, Seen};
use crate::error::{ContainerError, Doing as _, Error, Result};
use crate::model::report::{KeptRun, Run, RunStatus};
use crate::model::{Name, RunRecord};
use crate::private;

pub use self::capture::Capture;
pub use self::read::Output;

/// How large each of a run's two files may become, bytes.
const FILE_LIMIT: u64 = 5 * 1024 * 1024;
/// Of how many ended runs something is kept; the oldest go.
const KEPT: usize = 32;
/// The lock's name, which no run has.
const LOCK: &str = ".lock";
/// The name of a run's folder while it is made.
const NEW: &str = ".new";

/// What is kept of an instance's detached runs.
#[derive(Clone, Debug)]
pub struct Runs {
    folder: PathBuf,
}

impl Runs {
    /// Of the instance with this name.
    pub(crate) fn new(log_dir: &Path, instance: &str) -> Self {
        Self { folder: log_dir.join(instance) }
    }

    /// Begins to keep a run's output, in the place of an earlier run of this name. Returns what the command gets for standard
    /// output and error.
    pub fn begin(
        &self,
        name: &Name,
        command: &[impl AsRef<std::ffi::OsStr>],
    ) -> Result<(Capture, [PipeWriter; 2])> {
        let _lock = self.lock()?;
        let (place, new) = (self.place(name.as_str()), self.place(NEW));
        for old in [&place, &new] {
            remove(old)?;
        }
        self.remove_oldest(KEPT)?;
        let made = Self::make(&new, command).and_then(|parts| {
            fs::rename(&new, &place).doing(|| format!("create {}", place.display()))?;
            Ok(parts)
        });
        match made {
            Ok((files, keeper)) => Capture::start(files, keeper),
            Err(error) => {
                // The first failure is the one to report.
                let _second = remove(&new);
                Err(error)
            }
        }
    }

    fn make(folder: &Path, command: &[impl AsRef<std::ffi::OsStr>]) -> Result<(OutputFiles, Keeper)> {
        let what = || format!("write to {}", folder.display());
        private::create_folder(folder)?;
        let record = RunRecord {
            command: record::words(command),
            started: Timestamp::now(),
            end: None,
            problem: None,
            dropped_bytes: 0,
        };
        let keeper = Keeper::begin(&folder.join(RECORD), record).doing(what)?;
        let files = File::open(folder).and_then(|held| OutputFiles::begin(held, FILE_LIMIT)).doing(what)?;
        Ok((files, keeper))
    }

    /// What is kept of one run; none if nothing is.
    pub fn find(&self, name: &Name) -> Result<Option<KeptRun>> {
        self.seen(name.as_str())
    }

    /// What is kept of every run, by name.
    pub fn list(&self) -> Result<Vec<KeptRun>> {
        let mut found = Vec::new();
        for name in self.names()? {
            found.extend(self.seen(&name)?);
        }
        Ok(found)
    }

    /// The output of a run.
    pub fn output(&self, name: &Name) -> Result<Output> {
        let place = self.place(name.as_str());
        match Output::open(place.clone()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ContainerError::NoOutput { name: name.to_string(), others: self.names()? }.into())
            }
            output => output.doing(|| format!("read the output in {}", place.display())),
        }
    }

    /// Whether something is kept of a run.
    pub(crate) fn has(&self, name: &Name) -> bool {
        self.place(name.as_str()).exists()
    }

    /// Removes what is kept of a run, if something is. One that goes on is not recorded any more.
    pub fn forget(&self, name: &Name) -> Result<()> {
        if !self.has(name) {
            return Ok(());
        }
        let _lock = self.lock()?;
        remove(&self.place(name.as_str()))
    }

    /// Removes what is kept of the ended runs that are too many.
    pub fn forget_oldest(&self) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.remove_oldest(KEPT)
    }

    /// Removes everything; returns the names of the runs.
    pub(crate) fn remove(&self) -> Result<Vec<String>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let (names, mut errors) = (self.names()?, Vec::new());
        for name in names.iter().map(String::as_str).chain([NEW]) {
            errors.extend(remove(&self.place(name)).err());
        }
        Error::all(errors)?;
        Ok(names)
    }

    /// Removes the ended runs beyond this number, the oldest first. The caller holds the lock.
    fn remove_oldest(&self, number: usize) -> Result<()> {
        let names = self.names()?;
        if names.len() <= number {
            return Ok(());
        }
        let mut ended = Vec::new();
        for name in names {
            match self.read(&name)? {
                Some(Seen { is_held: true, .. }) => {}
                Some(Seen { record, .. }) => {
                    ended.push((record.end.map_or(record.started, |end| end.at), name));
                }
                // Half removed.
                None => ended.push((Timestamp::MIN, name)),
            }
        }
        ended.sort();
        let many = ended.len().saturating_sub(number);
        let outcomes = ended.iter().take(many).map(|(_, name)| remove(&self.place(name)));
        Error::all(outcomes.filter_map(Result::err).collect())
    }

    /// The names of the runs of which something is kept, in order.
    fn names(&self) -> Result<Vec<String>> {
        let what = || format!("read {}", self.folder.display());
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(what)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.doing(what)?.file_name();
            names.extend(name.into_string().ok().filter(|name| name.parse::<Name>().is_ok()));
        }
        names.sort();
        Ok(names)
    }

    fn seen(&self, name: &str) -> Result<Option<KeptRun>> {
        let log = self.place(name).display().to_string();
        Ok(self.read(name)?.map(|seen| KeptRun { name: name.to_owned(), run: reported(seen, log) }))
    }

    fn read(&self, name: &str) -> Result<Option<Seen>> {
        let path = self.place(name).join(RECORD);
        record::read(&path).doing(|| format!("read {}", path.display()))
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn lock(&self) -> Result<Lock<'_>> {
        Ok(Lock { folder: &self.folder, _file: private::lock_folder(&self.folder, LOCK)? })
    }
}

/// The instances of which something is kept.
pub(crate) fn instances(log_dir: &Path) -> Result<Vec<String>> {
    let what = || format!("read {}", log_dir.display());
    let entries = match fs::read_dir(log_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(what)?,
    };
    let mut instances = Vec::new();
    for entry in entries {
        instances.extend(entry.doing(what)?.file_name().into_string().ok());
    }
    Ok(instances)
}

/// The lock, held.
struct Lock<'a> {
    folder: &'a Path,
    _file: File,
}

impl Drop for Lock<'_> {
    /// Removes the folder if nothing else is in it, and the folder of all instances in the same way.
    fn drop(&mut self) {
        let is_empty = fs::read_dir(self.folder)
            .is_ok_and(|entries| entries.flatten().all(|one| one.file_name() == LOCK));
        if is_empty {
            let _gone = fs::remove_file(self.folder.join(LOCK));
            let _in_use = fs::remove_dir(self.folder);
            if let Some(log_dir) = self.folder.parent() {
                let _in_use = fs::remove_dir(log_dir);
            }
        }
    }
}

/// Removes what is kept of a run, if it is there.
fn remove(place: &Path) -> Result<()> {
    /// How often to try: a run that still writes may make a file in a folder that is being emptied.
    const TRIES: usize = 100;
    let mut outcome = Ok(());
    for _try in 0..TRIES {
        outcome = fs::remove_dir_all(place);
        match &outcome {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !place.exists() => return Ok(()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
            Err(_) => break,
        }
    }
    outcome.doing(|| format!("remove {}", place.display()))
}

fn reported(Seen { record, is_held }: Seen, log: String) -> Run {
    let RunRecord { command, started, end, problem, dropped_bytes } = record;
    let status = if is_held && end.is_none() { RunStatus::Running } else { RunStatus::Ended };
    Run {
        status,
        command,
        started,
        ended: end.as_ref().map(|end| end.at),
        exit_status: end.as_ref().and_then(|end| end.exit_status),
        signal: end.and_then(|end| end.signal),
        problem,
        dropped_bytes,
        log,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;
    use crate::model::Stream;

    /// A folder of one test, removed at its end.
    pub(super) struct Place(pub(super) PathBuf);

    impl Place {
        pub(super) fn new(label: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("netd-runs-{}-{label}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn ended(runs: &Runs, text: &str, said: &str) {
        let (capture, [mut out, err]) = runs.begin(&name(text), &["say"]).unwrap();
        out.write_all(said.as_bytes()).unwrap();
        drop((out, err));
        capture.ended(ExitStatus::from_raw(3 << 8));
    }

    fn said(runs: &Runs, text: &str) -> Vec<(Stream, String)> {
        let mut output = runs.output(&name(text)).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = output.next_line().unwrap() {
            lines.push((line.stream, String::from_utf8(line.text).unwrap()));
        }
        lines
    }

    #[test]
    fn a_later_run_replaces_an_earlier_one_of_its_name() {
        let place = Place::new("replace");
        let runs = Runs::new(&place.0.join("logs"), "1-a");
        ended(&runs, "web", "first\n");
        let first = runs.output(&name("web")).unwrap();
        ended(&runs, "web", "second\n");
        assert!(first.is_over().unwrap());
        assert_eq!(said(&runs, "web"), [(Stream::Stdout, "second".to_owned())]);
        let KeptRun { run, .. } = runs.find(&name("web")).unwrap().unwrap();
        assert_eq!(
            (run.status, run.exit_status, run.command),
            (RunStatus::Ended, Some(3), vec!["say".to_owned()])
        );
        assert_eq!(runs.remove().unwrap(), ["web"]);
        assert!(!place.0.join("logs").exists());
    }

    #[test]
    fn both_streams_are_read_while_the_run_goes_on() {
        let place = Place::new("streams");
        let runs = Runs::new(&place.0, "1-a");
        let (capture, [mut out, mut err]) = runs.begin(&name("web"), &["say"]).unwrap();
        let mut output = runs.output(&name("web")).unwrap();
        let mut next = || loop {
            if let Some(line) = output.next_line().unwrap() {
                return (line.stream, line.text);
            }
        };
        out.write_all(b"one\n").unwrap();
        assert_eq!(next(), (Stream::Stdout, b"one".to_vec()));
        err.write_all(b"two\n").unwrap();
        assert_eq!(next(), (Stream::Stderr, b"two".to_vec()));
        assert!(!output.is_over().unwrap());
        assert_eq!(runs.find(&name("web")).unwrap().unwrap().run.status, RunStatus::Running);
        // Somebody else still has the pipe open.
        out.write_all(b"three").unwrap();
        drop(capture);
        assert!(output.is_over().unwrap());
        let last = output.next_line().unwrap().unwrap();
        assert_eq!((last.text.as_slice(), last.is_whole), (&b"three"[..], false));
        assert_eq!(output.next_line().unwrap(), None);
        let KeptRun { run, .. } = runs.find(&name("web")).unwrap().unwrap();
        assert_eq!((run.status, run.ended, run.exit_status), (RunStatus::Ended, None, None));
    }

    #[test]
    fn what_still_writes_after_the_end_does_not_put_it_off() {
        let place = Place::new("survivor");
        let runs = Runs::new(&place.0, "1-a");
        let (capture, [mut out, err]) = runs.begin(&name("web"), &["say"]).unwrap();
        drop(err);
        let survivor = std::thread::spawn(move || while out.write_all(&[b'\n'; 4096]).is_ok() {});
        let mut output = runs.output(&name("web")).unwrap();
        while output.next_line().unwrap().is_none() {}
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(capture);
            ended.send(())
        });
        end.recv_timeout(std::time::Duration::from_mins(1)).unwrap();
        survivor.join().unwrap();
    }

    #[test]
    fn a_reader_loses_nothing_when_the_files_change_their_places() {
        let place = Place::new("places");
        let folder = place.0.join("web");
        let (files, keeper) = Runs::make(&folder, &["say"]).unwrap();
        drop((files, keeper));
        let mut files = OutputFiles::begin(File::open(&folder).unwrap(), 500).unwrap();
        let mut output = Output::open(folder).unwrap();
        for number in 0..200 {
            let text = number.to_string();
            assert_eq!(
                files.push("1970-01-01T00:00:00.000000000Z", Stream::Stdout, text.as_bytes(), true),
                0
            );
            if number % 3 == 0 {
                assert_eq!(files.flush(), 0);
                let expected = if number == 0 { 0..1 } else { number - 2..number + 1 };
                for expected in expected {
                    let line = output.next_line().unwrap().unwrap();
                    assert_eq!(line.text, expected.to_string().as_bytes());
                }
                assert_eq!(output.next_line().unwrap(), None);
            }
        }
        // A slow one goes on with the oldest line that there is.
        for number in 200..300 {
            files.push("1970-01-01T00:00:00.000000000Z", Stream::Stdout, number.to_string().as_bytes(), true);
        }
        files.flush();
        let mut rest = Vec::new();
        while let Some(line) = output.next_line().unwrap() {
            rest.push(String::from_utf8(line.text).unwrap().parse::<usize>().unwrap());
        }
        assert!(rest.is_sorted() && rest.last() == Some(&299) && rest.len() < 100, "{rest:?}");
    }

    #[test]
    fn the_oldest_of_too_many_ended_runs_go_and_running_ones_stay() {
        let place = Place::new("many");
        let runs = Runs::new(&place.0, "1-a");
        let held = runs.begin(&name("first"), &["say"]).unwrap();
        for number in 0..KEPT + 3 {
            ended(&runs, &format!("r{number}"), "");
        }
        runs.forget_oldest().unwrap();
        let names: Vec<String> = runs.list().unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names.len(), KEPT + 1);
        assert!(names.contains(&"first".to_owned()));
        for number in 0..3 {
            assert!(!names.contains(&format!("r{number}")), "{names:?}");
        }
        drop(held);
    }

    #[test]
    fn only_root_can_read_it_and_no_link_is_followed() {
        let place = Place::new("rights");
        let runs = Runs::new(&place.0, "1-a");
        ended(&runs, "web", "secret\n");
        for (path, mode) in [
            ("1-a", 0o700),
            ("1-a/web", 0o700),
            ("1-a/web/log", 0o600),
            ("1-a/web/run.json", 0o600),
            ("1-a/.lock", 0o600),
        ] {
            let found = fs::metadata(place.0.join(path)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{path}");
        }
        let log = place.0.join("1-a/web/log");
        fs::rename(&log, place.0.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(place.0.join("elsewhere"), &log).unwrap();
        assert!(runs.output(&name("web")).is_err());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let place = Place::new("absent");
        let runs = Runs::new(&place.0.join("logs"), "1-a");
        assert!(runs.list().unwrap().is_empty());
        runs.forget(&name("web")).unwrap();
        assert!(!place.0.join("logs").exists(), "looking makes nothing");
        ended(&runs, "web", "");
        let error = runs.output(&name("db")).unwrap_err();
        let Error::Container(ContainerError::NoOutput { others, .. }) = error else { panic!("{error}") };
        assert_eq!(others, ["web"]);
    }
}
