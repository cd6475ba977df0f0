//! The record of a run: a file that is written in place, so that a full disk does not keep it from being written. Its writer
//! holds a lock on it until everything is written; the kernel gives that back if the writer is killed.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::model::RunRecord;
use crate::private;

/// Its name in the run's folder.
pub(super) const RECORD: &str = "run.json";
/// Room for the end of a run, bytes: the file does not grow when that is written.
const ROOM: usize = 4096;
/// The file's size is a multiple of this, bytes.
const BLOCK: usize = 4096;
/// The longest command that is recorded, bytes.
const LONGEST: usize = 4096;
/// The longest problem that is recorded, bytes. In JSON each may become six.
const PROBLEM: usize = 512;

/// A record that is being kept.
#[derive(Debug)]
pub(super) struct Keeper {
    file: File,
    size: usize,
    record: RunRecord,
}

impl Keeper {
    /// Writes a record where none is, and locks it.
    pub(super) fn begin(path: &Path, record: RunRecord) -> io::Result<Self> {
        let file = private::open(path)?;
        file.lock()?;
        let size = (serde_json::to_vec(&record)?.len() + ROOM).next_multiple_of(BLOCK);
        let mut keeper = Self { file, size, record };
        keeper.write()?;
        Ok(keeper)
    }

    /// Changes the record.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut RunRecord)) -> io::Result<()> {
        change(&mut self.record);
        if let Some(problem) = &mut self.record.problem {
            cut(problem, PROBLEM);
        }
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.record)?;
        self.size = self.size.max(text.len());
        // Blanks behind it make it as long as the text before.
        text.resize(self.size, b' ');
        self.file.write_all_at(&text, 0)
    }
}

/// The words of a command for its record. Very long ones are cut.
pub(super) fn words(command: &[impl AsRef<std::ffi::OsStr>]) -> Vec<String> {
    let (mut words, mut room) = (Vec::new(), LONGEST);
    for word in command {
        let mut word = word.as_ref().to_string_lossy().into_owned();
        if word.len() > room {
            cut(&mut word, room);
            word.push('…');
            words.push(word);
            break;
        }
        room -= word.len();
        words.push(word);
    }
    words
}

/// Cuts a text to at most so many bytes.
fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

/// A record as others see it.
pub(super) struct Seen {
    pub(super) record: RunRecord,
    /// Whether its writer is still there.
    pub(super) is_held: bool,
}

/// Reads a record; none if there is none, or if it makes no sense.
pub(super) fn read(path: &Path) -> io::Result<Option<Seen>> {
    /// How often to try, and how long to wait between: it may be half written.
    const TRIES: usize = 10;
    const PAUSE: Duration = Duration::from_millis(1);
    let mut file = match private::open_to_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    for _try in 0..TRIES {
        // Asked first: what is written before the end is then read.
        let is_held = is_held(&file)?;
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        if let Ok(record) = serde_json::from_slice(&text) {
            return Ok(Some(Seen { record, is_held }));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

/// Whether the writer of a record is still there.
pub(super) fn is_held(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::tests::Place;
    use super::*;
    use crate::model::RunEnd;

    fn record() -> RunRecord {
        RunRecord {
            command: words(&["sh", "-c", "exit 3"]),
            started: Timestamp::UNIX_EPOCH,
            end: None,
            problem: None,
            dropped_bytes: 0,
        }
    }

    #[test]
    fn a_record_is_changed_in_place_and_held_until_its_writer_has_gone() {
        let place = Place::new("record");
        let path = place.0.join(RECORD);
        assert!(read(&path).unwrap().is_none());
        let mut keeper = Keeper::begin(&path, record()).unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        let end =
            RunEnd { at: Timestamp::UNIX_EPOCH, exit_status: Some(137), signal: Some("SIGKILL".into()) };
        keeper
            .change(|record| {
                record.end = Some(end.clone());
                record.problem = Some("\u{1}".repeat(10_000));
            })
            .unwrap();
        assert!(read(&path).unwrap().unwrap().is_held);
        drop(keeper);
        let seen = read(&path).unwrap().unwrap();
        assert!(!seen.is_held);
        assert_eq!(seen.record.end, Some(end));
        assert_eq!(seen.record.problem.unwrap().len(), PROBLEM);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
    }

    #[test]
    fn a_record_that_makes_no_sense_is_none() {
        let place = Place::new("nonsense");
        std::fs::write(place.0.join(RECORD), "{").unwrap();
        assert!(read(&place.0.join(RECORD)).unwrap().is_none());
    }

    #[test]
    fn a_long_command_is_cut() {
        assert_eq!(words(&["a", "", "b c"]), ["a", "", "b c"]);
        let long = "ä".repeat(LONGEST);
        let cut = words(&["sh", &long, "more"]);
        assert_eq!(cut.len(), 2);
        assert!(cut[1].ends_with('…') && cut[1].len() <= LONGEST + 3, "{}", cut[1].len());
    }
}
