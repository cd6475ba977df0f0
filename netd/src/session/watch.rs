//! Whether an instance's records change.

use std::path::PathBuf;

use crate::settings::Settings;
use crate::store::{self, Stamp};

/// Looks at the records of an instance now and then, without reading them.
#[derive(Debug)]
pub(crate) struct Watch {
    state_dir: PathBuf,
    cookie: u64,
    known: Option<Stamp>,
}

impl Watch {
    /// Of the instance of the namespace with this cookie. At first no record is known.
    pub(crate) fn new(settings: &Settings, cookie: u64) -> Self {
        Self { state_dir: settings.state_dir.clone(), cookie, known: None }
    }

    /// Whether there are records.
    pub(crate) const fn has_records(&self) -> bool {
        self.known.is_some()
    }

    /// Looks whether the records are others than those that are known. If `take` succeeds with the new ones, they are known from
    /// now on. It is given whether there are any.
    pub(crate) fn look<E>(&mut self, take: impl FnOnce(bool) -> Result<(), E>) -> Result<(), E> {
        let found = store::stamp(&self.state_dir, self.cookie);
        if found != self.known {
            take(found.is_some())?;
            self.known = found;
        }
        Ok(())
    }
}
