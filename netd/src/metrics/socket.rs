//! The Unix socket at which metrics are served.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::error::{Doing as _, Result};

/// The place of a socket that this process has made. It is removed with this.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    inode: u64,
}

impl Place {
    /// Makes a socket that only root can open; one that a killed process has left is replaced. The folder must be there. Needs a
    /// tokio runtime.
    pub(super) fn make(path: &Path) -> Result<(Self, UnixListener)> {
        let what = || format!("listen on {}", path.display());
        // Under another name first: until its rights are set, others could open it, if they could get into the folder.
        let staging = path.with_extension("new");
        match fs::remove_file(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).doing(what),
            _ => {}
        }
        let listener = UnixListener::bind(&staging).doing(what)?;
        let inode = fs::set_permissions(&staging, Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(&staging))
            .and_then(|made| fs::rename(&staging, path).map(|()| made.ino()))
            .doing(what)?;
        Ok((Self { path: path.to_owned(), inode }, listener))
    }

    /// Whether it is still there.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_there() {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_roots_and_leaves_nothing() {
        let folder = std::env::temp_dir().join(format!("netd-metrics-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("metrics.sock");
        let (first, _listener) = Place::make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A killed process leaves its socket.
        let (second, listener) = Place::make(&path).unwrap();
        assert!(second.is_there() && !first.is_there());
        drop(first);
        let (_client, accepted) = tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
        accepted.unwrap();
        drop(second);
        fs::remove_dir(&folder).unwrap();
    }
}
