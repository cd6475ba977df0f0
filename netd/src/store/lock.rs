//! The folder of an instance's state, and its lock.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Error, Result};
use crate::model::digest;
use crate::private;

/// The name of an instance, for its pins and for what is kept of its runs: the cookie of its namespace, and the key of its
/// state folder.
pub(crate) fn instance(state_dir: &Path, cookie: u64) -> Result<String> {
    Ok(format!("{cookie}-{}", key(state_dir)?))
}

/// A digest of a state folder's path, without symbolic links. The folder need not exist.
pub(crate) fn key(state_dir: &Path) -> Result<String> {
    let what = || format!("find {}", state_dir.display());
    let mut path = std::path::absolute(state_dir).doing(what)?;
    let mut present = path.as_path();
    loop {
        match fs::canonicalize(present) {
            Ok(found) => {
                // Joined to nothing, a path would end with a slash.
                path =
                    found.components().chain(path.strip_prefix(present).doing(what)?.components()).collect();
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match present.parent() {
                Some(parent) => present = parent,
                None => break,
            },
            Err(error) => return Err(Error::system(what(), error)),
        }
    }
    Ok(digest(path.as_os_str().as_encoded_bytes()))
}

/// The folder of the state of the namespace with this cookie.
pub(super) fn folder(state_dir: &Path, cookie: u64) -> PathBuf {
    state_dir.join(cookie.to_string())
}

/// Locks the folder of a namespace's state, making it as needed.
pub(super) fn lock(state_dir: &Path, cookie: u64) -> Result<(PathBuf, File)> {
    let folder = folder(state_dir, cookie);
    let lock = private::lock_folder(&folder, "lock")?;
    Ok((folder, lock))
}

/// The kernel's ID of this boot.
pub(super) fn boot() -> Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").doing(|| "read the boot ID".into())?;
    Ok(boot.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_has_one_key_by_whatever_path_and_before_it_is_there() {
        let folder = std::env::temp_dir().join(format!("netd-key-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, folder.join("link")).unwrap();
        let before = key(&folder.join("state")).unwrap();
        assert_eq!(key(&folder.join("link/state")).unwrap(), before);
        assert_ne!(key(&folder.join("other")).unwrap(), before);
        fs::create_dir(folder.join("state")).unwrap();
        assert_eq!(key(&folder.join("link/state")).unwrap(), before);
        fs::remove_dir_all(folder).unwrap();
    }
}
