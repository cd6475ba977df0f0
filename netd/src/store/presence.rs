//! The mark of the process that follows an instance's host.
//!
//! It is beside the folder of the instance, which is removed when the instance holds nothing.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::private;

/// How often a note is read that is being written.
const LOOKS: u32 = 100;

/// What the follower tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowerNote {
    /// Its process number.
    pub pid: i32,
    /// Whether it ends when nothing is left to follow.
    pub ends: bool,
    /// The digest of the programs that it knows.
    pub programs: String,
    /// How often it has looked at the host.
    pub passes: u64,
    /// How many differences it has put right.
    pub repaired: u64,
    /// Why its last look failed; none if it did not.
    pub problem: Option<String>,
    /// When its last look ended, milliseconds of Unix time; none before that.
    pub last_pass: Option<u64>,
    /// Since when a change waits to be looked at, milliseconds of Unix time; none if none waits.
    pub waiting_since: Option<u64>,
    /// Why it does not serve metrics as it should; none if it does.
    pub metrics_problem: Option<String>,
}

/// The time, milliseconds of Unix time, as [`FollowerNote`] has it.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The mark, held. There is one holder.
#[derive(Debug)]
pub(crate) struct Presence {
    path: PathBuf,
    file: File,
}

impl Presence {
    /// Takes the mark; none if another process holds it.
    pub(crate) fn take(state_dir: &Path, cookie: u64) -> Result<Option<Self>> {
        let path = path(state_dir, cookie);
        let what = || format!("lock {}", path.display());
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(state_dir)
                .doing(|| format!("create {}", state_dir.display()))?;
            let file = match private::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.doing(what)?,
            };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                locked => locked.map_err(io::Error::from).doing(what)?,
            }
            // The previous holder removes the file; then this lock is on a deleted one.
            match fs::metadata(&path) {
                Ok(present) if present.ino() == file.metadata().doing(what)?.ino() => {
                    return Ok(Some(Self { path, file }));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::system(what(), error));
                }
                _ => {}
            }
        }
    }

    /// Takes the mark from a holder, which sees that soon and ends. None if another process has taken it meanwhile.
    pub(crate) fn take_over(state_dir: &Path, cookie: u64) -> Result<Option<Self>> {
        let path = path(state_dir, cookie);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::system(format!("remove {}", path.display()), error))
            }
            _ => Self::take(state_dir, cookie),
        }
    }

    /// Writes what the follower tells of itself. The file is never empty meanwhile; the end of a longer text may stay for a moment.
    pub(crate) fn tell(&mut self, note: &FollowerNote) -> Result<()> {
        let what = || format!("write {}", self.path.display());
        let text = serde_json::to_vec(note).doing(what)?;
        let written = self.file.write_all_at(&text, 0);
        written.and_then(|()| self.file.set_len(text.len() as u64)).doing(what)
    }

    /// Whether it is still the mark that others look at. It is not if somebody has removed the file.
    pub(crate) fn is_seen(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(present), Ok(held)) => present.ino() == held.ino(),
            _ => false,
        }
    }
}

impl Drop for Presence {
    /// Gives the mark back. The folder of the states goes too if it is empty.
    fn drop(&mut self) {
        if !self.is_seen() {
            return;
        }
        // Whoever looks for a follower then makes the file again.
        let _absent = fs::remove_file(&self.path);
        if let Some(folder) = self.path.parent() {
            let _in_use = fs::remove_dir(folder);
        }
    }
}

/// The follower of an instance; none if there is none.
pub(crate) fn follower(state_dir: &Path, cookie: u64) -> Result<Option<FollowerNote>> {
    let path = path(state_dir, cookie);
    let what = || format!("read {}", path.display());
    let mut file = match private::open_to_read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.doing(what)?,
    };
    match file.try_lock_shared() {
        // It was killed.
        Ok(()) => return Ok(None),
        Err(TryLockError::WouldBlock) => {}
        Err(error) => return Err(Error::system(what(), io::Error::from(error))),
    }
    for _look in 0..LOOKS {
        let mut text = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut text)).doing(what)?;
        // It may be cutting off the rest of what it told before.
        let mut notes = serde_json::Deserializer::from_slice(&text).into_iter();
        if let Some(Ok(note)) = notes.next() {
            return Ok(Some(note));
        }
    }
    // It has not written yet.
    Ok(Some(FollowerNote::default()))
}

fn path(state_dir: &Path, cookie: u64) -> PathBuf {
    state_dir.join(format!("{cookie}.serve"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_follower_tells_can_be_read_at_every_moment() {
        let folder = std::env::temp_dir().join(format!("netd-presence-{}", std::process::id()));
        let mut presence = Presence::take(&folder, 1).unwrap().unwrap();
        let quiet = FollowerNote { pid: 1, ends: true, ..FollowerNote::default() };
        let failing = FollowerNote { problem: Some("p".repeat(300)), ..quiet.clone() };
        presence.tell(&quiet).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for _look in 0..2000 {
                    let note = follower(&folder, 1).unwrap().unwrap();
                    assert!(note == quiet || note == failing, "{note:?}");
                }
            });
            while !reader.is_finished() {
                presence.tell(&failing).unwrap();
                presence.tell(&quiet).unwrap();
            }
            reader.join().unwrap();
        });
        drop(presence);
        assert!(!folder.exists());
    }
}
