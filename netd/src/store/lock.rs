//! The folder of an instance's state, and its lock.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Result};
use crate::model::digest;
use crate::private;

/// The name of an instance, for its pins: the cookie of its namespace, and a digest of its state folder. The folder
/// need not exist.
pub(crate) fn instance(state_dir: &Path, cookie: u64) -> Result<String> {
    let what = || format!("find {}", state_dir.display());
    let path = match fs::canonicalize(state_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::path::absolute(state_dir).doing(what)?
        }
        path => path.doing(what)?,
    };
    Ok(format!("{cookie}-{}", digest(path.as_os_str().as_encoded_bytes())))
}

/// The folder of the state of the namespace with this cookie.
pub(super) fn folder(state_dir: &Path, cookie: u64) -> PathBuf {
    state_dir.join(cookie.to_string())
}

/// Locks the folder of a namespace's state, making it as needed.
pub(super) fn lock(state_dir: &Path, cookie: u64) -> Result<(PathBuf, File)> {
    let folder = folder(state_dir, cookie);
    loop {
        private::create_folder(&folder)?;
        match private::lock(&folder.join("lock")) {
            // The previous holder has removed the folder.
            Err(_) if !folder.exists() => {}
            locked => return Ok((folder, locked?)),
        }
    }
}

/// The kernel's ID of this boot.
pub(super) fn boot() -> Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").doing(|| "read the boot ID".into())?;
    Ok(boot.trim().to_owned())
}
