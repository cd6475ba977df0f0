//! Files and folders that only root can open, and locks on them: whoever can open a file can hold its lock.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::Uid;

use crate::error::{Doing as _, Error, Result, StateError};

/// How long a lock is waited for. The longest transaction takes down a host with a thousand containers.
const PATIENCE: Duration = Duration::from_mins(2);
/// After which time somebody is told of the wait.
const NOTICE: Duration = Duration::from_secs(2);

/// Makes a folder that only root can look into: whoever could open the lock could hold it.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    let what = || format!("create {}", folder.display());
    match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Err(error) if is_out_of_room(&error) && folder.is_dir() => return Ok(()),
        created => created.doing(what)?,
    }
    let found = fs::symlink_metadata(folder).doing(what)?;
    if !found.is_dir() || found.uid() != Uid::effective().as_raw() {
        return Err(Error::system(format!("use {}", folder.display()), "another user owns it"));
    }
    if found.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).doing(what)?;
    }
    Ok(())
}

/// Opens a file of netd's own for reading and writing, making it as needed. Follows no symbolic link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    own(options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?)
}

/// Opens a file of netd's own for reading. Follows no symbolic link: another user may be able to write to the folder, and may
/// have put something else there.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    own(options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?)
}

/// A file, if it is one of root's.
fn own(file: File) -> io::Result<File> {
    let found = file.metadata()?;
    if found.is_file() && found.uid() == Uid::effective().as_raw() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a file of root's"))
    }
}

/// Whether nothing more can be written: the disk is full, or read-only.
fn is_out_of_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Locks a folder that only root can look into, by this file in it. Makes both as needed: who holds the lock may remove them.
pub(crate) fn lock_folder(folder: &Path, file: &str) -> Result<File> {
    loop {
        create_folder(folder)?;
        match lock(&folder.join(file)) {
            // The previous holder has removed the folder.
            Err(_) if !folder.exists() => {}
            locked => return locked,
        }
    }
}

/// Locks a file that only root can open, making it as needed. Waits for another process, but not for ever. The holder's process
/// number is in the file.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let what = || format!("lock {}", path.display());
    loop {
        let file = match open(path) {
            // It can be locked all the same, so that what is there can be removed.
            Err(error) if is_out_of_room(&error) => File::open(path).doing(what)?,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir) =>
            {
                continue;
            }
            file => file.doing(what)?,
        };
        let Some(file) = lock_within(file, PATIENCE).doing(what)? else {
            return Err(StateError::Busy { path: path.to_owned(), holder: holder(path) }.into());
        };
        // The previous holder may have removed it; then this lock is on a deleted file.
        match fs::metadata(path) {
            Ok(present) if present.ino() == file.metadata().doing(what)?.ino() => {
                tell(&file);
                return Ok(file);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::system(what(), error));
            }
            _ => {}
        }
    }
}

/// Locks a file; none if that takes longer than `limit`.
fn lock_within(file: File, limit: Duration) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // The kernel gives the lock to whoever has waited longest, but it has no wait with a limit.
    let (give, get) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = file.lock().map(|()| file);
        // If nobody waits any more, the file is closed, and the lock is free again.
        let _too_late = give.send(locked);
    });
    match get.recv_timeout(NOTICE) {
        Ok(locked) => return locked.map(Some),
        Err(_) => tracing::info!("waiting for another netd command"),
    }
    match get.recv_timeout(limit) {
        Ok(locked) => locked.map(Some),
        Err(_) => Ok(None),
    }
}

/// Writes who holds the lock.
fn tell(mut file: &File) {
    let pid = std::process::id().to_string();
    // It only helps whoever waits.
    let _full = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
}

/// The process that holds a lock, with its command.
fn holder(path: &Path) -> Option<String> {
    let pid = fs::read_to_string(path).ok()?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    Some(format!("process {pid} ({})", command.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(label: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("netd-private-{}-{label}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_lock_is_waited_for_but_not_for_ever() {
        let folder = place("lock");
        let path = folder.join("lock");
        let held = lock(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        assert!(holder(&path).unwrap().starts_with(&format!("process {} (", std::process::id())));
        let other = || open(&path).unwrap();
        assert!(lock_within(other(), Duration::ZERO).unwrap().is_none());
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock_within(other(), PATIENCE).unwrap());
            drop(held);
            waiting.join().unwrap()
        });
        assert!(waiting.is_some());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn others_can_neither_open_it_nor_lead_it_elsewhere() {
        let folder = place("rights");
        let inner = folder.join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
        create_folder(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        let _lock = lock(&inner.join("lock")).unwrap();
        assert_eq!(fs::metadata(inner.join("lock")).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(folder.join("victim"), inner.join("link")).unwrap();
        assert!(open(&inner.join("link")).is_err());
        assert!(!folder.join("victim").exists());
        std::os::unix::fs::symlink(&inner, folder.join("folder")).unwrap();
        assert!(create_folder(&folder.join("folder")).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
