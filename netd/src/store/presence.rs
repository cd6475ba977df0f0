//! The mark of the process that follows an instance's host.
//!
//! It is beside the folder of the instance, which is removed when the instance holds nothing.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::private;

/// What the follower tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerNote {
    /// Its process number.
    pub pid: i32,
    /// Whether it ends when nothing is left to follow.
    pub ends: bool,
    /// The digest of the programs that it knows.
    #[serde(default)]
    pub programs: String,
    /// How often it has looked at the host.
    pub passes: u64,
    /// How many differences it has put right.
    pub repaired: u64,
    /// Why its last look failed; none if it did not.
    pub problem: Option<String>,
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

    /// Writes what the follower tells of itself.
    pub(crate) fn tell(&mut self, note: &FollowerNote) -> Result<()> {
        let what = || format!("write {}", self.path.display());
        let text = serde_json::to_vec(note).doing(what)?;
        let mut file = &self.file;
        file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&text)).doing(what)
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
    let mut text = Vec::new();
    file.read_to_end(&mut text).doing(what)?;
    // It may be about to write.
    Ok(Some(serde_json::from_slice(&text).unwrap_or_default()))
}

fn path(state_dir: &Path, cookie: u64) -> PathBuf {
    state_dir.join(format!("{cookie}.serve"))
}
