//! The paths of an instance's pins.
//!
//! ```text
//! INSTANCE/maps/NAME              maps that every set of programs shares
//! INSTANCE/programs/DIGEST/NAME   the programs of one object, and the maps that belong to them (STAGES, XDP_STAGES)
//! INSTANCE/links/NAME             links, and marks of what is attached without one
//! INSTANCE-new                    pins that are being put together
//! INSTANCE-next                   a complete set of another version, which takes over the hooks; or the set before, with the
//!                                 mark `retired`
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Error, Result};

/// The folder of the maps.
pub(super) fn maps(instance: &Path) -> PathBuf {
    instance.join("maps")
}

/// The folder of the programs of the object with this digest.
pub(super) fn programs(instance: &Path, digest: &str) -> PathBuf {
    instance.join("programs").join(digest)
}

/// The folder of the links.
pub(super) fn links(instance: &Path) -> PathBuf {
    instance.join("links")
}

/// The folder in which an instance's pins are staged. The BPF file system allows no dots in names.
pub(super) fn staging(instance: &Path) -> PathBuf {
    let mut path = instance.as_os_str().to_owned();
    path.push("-new");
    path.into()
}

/// The folder of a set of programs that takes over, and afterwards of the set before.
pub(super) fn next(instance: &Path) -> PathBuf {
    let mut path = instance.as_os_str().to_owned();
    path.push("-next");
    path.into()
}

/// The mark of a set whose hooks have all been taken over.
pub(super) fn retired(instance: &Path) -> PathBuf {
    instance.join("retired")
}

/// Puts a complete set to its place, if the one before was moved away.
pub(super) fn recover(instance: &Path) -> Result<()> {
    let folder = next(instance);
    if instance.exists() || !folder.exists() || retired(&folder).exists() {
        return Ok(());
    }
    fs::rename(&folder, instance).doing(|| format!("rename {} to {}", folder.display(), instance.display()))
}

/// Removes a folder of pins with everything in it. It may be absent. The kernel frees objects without other references.
pub(super) fn remove_tree(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::system(format!("remove {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}
