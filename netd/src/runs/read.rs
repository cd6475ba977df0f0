//! Reads the output of a run, while it is written or later.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::file::{NEWER, OLDER};
use super::line::{self, ENTRY};
use super::record;
use crate::error::{Doing as _, Result};
use crate::model::OutputLine;
use crate::private;

/// The output of a run, read from its oldest line on.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    /// The run's record, whose lock tells whether somebody still writes.
    record: File,
    file: BufReader<File>,
    inode: u64,
    /// Where in the file the next entry begins.
    position: u64,
    /// Whether there is a newer file, to which nothing is added that should be here.
    is_complete: bool,
    entry: Vec<u8>,
}

impl Output {
    /// Opens the output in a run's folder.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        let record = private::open_to_read(&folder.join(record::RECORD))?;
        let file = oldest(&folder)?;
        let inode = file.metadata()?.ino();
        let file = BufReader::new(file);
        Ok(Self { folder, record, file, inode, position: 0, is_complete: false, entry: Vec::new() })
    }

    /// Whether nothing more is going to be written. What was written before is there when this is true.
    pub fn is_over(&self) -> Result<bool> {
        Ok(!record::is_held(&self.record).doing(|| self.what())?)
    }

    /// The next line; none if there is none yet.
    pub fn next_line(&mut self) -> Result<Option<OutputLine>> {
        loop {
            if self.read_entry().doing(|| self.what())? {
                // What is no entry was half written when the machine stopped.
                if let Some(line) = self.entry.strip_suffix(b"\n").and_then(line::parse) {
                    return Ok(Some(line));
                }
            } else if !self.go_on().doing(|| self.what())? {
                return Ok(None);
            }
        }
    }

    /// Reads an entry, with its newline. False if there is none, or only a part of one: its writer may take that back.
    fn read_entry(&mut self) -> io::Result<bool> {
        self.entry.clear();
        let length = (&mut self.file).take(ENTRY as u64).read_until(b'\n', &mut self.entry)?;
        if length < ENTRY && !self.entry.ends_with(b"\n") {
            self.file.seek(SeekFrom::Start(self.position))?;
            return Ok(false);
        }
        self.position += length as u64;
        Ok(true)
    }

    /// Goes on with the next file, after the end of this one was seen. False if there is none.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(newer) = open(&self.folder.join(NEWER))? else { return Ok(false) };
        if newer.metadata()?.ino() == self.inode {
            return Ok(false);
        }
        if !self.is_complete {
            // Something may have been added to this file since its end was seen.
            self.is_complete = true;
            return Ok(true);
        }
        let older = open(&self.folder.join(OLDER))?;
        let next = match older {
            // This one is not there any more: it was read too slowly, and what was between is lost.
            Some(older) if older.metadata()?.ino() != self.inode => older,
            _ => newer,
        };
        self.inode = next.metadata()?.ino();
        (self.file, self.position, self.is_complete) = (BufReader::new(next), 0, false);
        Ok(true)
    }

    fn what(&self) -> String {
        format!("read the output in {}", self.folder.display())
    }
}

/// The older file, or the newer one if it is the only one.
fn oldest(folder: &Path) -> io::Result<File> {
    loop {
        let (newer, older) = (open(&folder.join(NEWER))?, open(&folder.join(OLDER))?);
        let Some(newer) = newer else {
            // The writer is between two steps, or was killed there.
            return older.ok_or_else(|| io::ErrorKind::NotFound.into());
        };
        // Otherwise the files have changed their places meanwhile.
        if fs::symlink_metadata(folder.join(NEWER)).is_ok_and(|file| inode_of(&newer) == Some(file.ino())) {
            return Ok(older.unwrap_or(newer));
        }
        // The folder may be gone.
        fs::symlink_metadata(folder)?;
    }
}

fn inode_of(file: &File) -> Option<u64> {
    file.metadata().ok().map(|file| file.ino())
}

/// Opens a file; none if it is not there.
fn open(path: &Path) -> io::Result<Option<File>> {
    match private::open_to_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}
