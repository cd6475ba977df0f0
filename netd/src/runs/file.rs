//! The two files of a run's output. When the newer one is full, it takes the place of the older one. What cannot be written is
//! dropped and counted: a full disk stops nobody.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::line;
use crate::model::Stream;
use crate::private;

/// The newer file.
pub(super) const NEWER: &str = "log";
/// The older one.
pub(super) const OLDER: &str = "log.1";

/// Output that is being written.
#[derive(Debug)]
pub(super) struct OutputFiles {
    /// The run's folder, held: a later run of the same name has another one.
    folder: File,
    /// The newer file; none if it could not be made yet.
    file: Option<File>,
    /// How much is in it, bytes.
    size: u64,
    /// How much may be in each file, bytes.
    limit: u64,
    /// Entries that are not written yet.
    entries: Vec<u8>,
    /// Of each of them where it ends, and how long its text is.
    ends: Vec<(usize, u64)>,
}

impl OutputFiles {
    /// Begins the newer file in a folder that has none.
    pub(super) fn begin(folder: File, limit: u64) -> io::Result<Self> {
        let mut files = Self { folder, file: None, size: 0, limit, entries: Vec::new(), ends: Vec::new() };
        files.file = Some(private::open(&path(&files.folder, NEWER))?);
        Ok(files)
    }

    /// Takes an entry with its time as text, which [`Self::flush`] writes at the latest. Returns how many bytes of text are lost.
    pub(super) fn push(&mut self, time: &str, stream: Stream, text: &[u8], is_whole: bool) -> u64 {
        let length = text.len() as u64 + u64::from(is_whole);
        let start = self.entries.len();
        line::write(&mut self.entries, time, stream, text, is_whole);
        let mut lost = 0;
        if self.size + self.entries.len() as u64 > self.limit {
            let entry = self.entries.split_off(start);
            lost = self.flush();
            if self.size + entry.len() as u64 > self.limit && self.rotate().is_err() {
                return lost + length;
            }
            self.entries = entry;
        }
        self.ends.push((self.entries.len(), length));
        lost
    }

    /// Writes what it has taken. Returns how many bytes of text are lost.
    pub(super) fn flush(&mut self) -> u64 {
        // The reason is the disk's: it is full, or broken.
        let written = self.write().unwrap_or(0);
        self.size += written as u64;
        let lost = self.ends.iter().filter(|(end, _)| *end > written).map(|(_, length)| length).sum();
        self.entries.clear();
        self.ends.clear();
        lost
    }

    /// Writes whole entries only; returns how many bytes they have.
    fn write(&mut self) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(private::open(&path(&self.folder, NEWER))?),
        };
        let mut written = 0;
        while let Some(rest) = self.entries.get(written..).filter(|rest| !rest.is_empty()) {
            match file.write_at(rest, self.size + written as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(more) => written += more,
            }
        }
        if written == self.entries.len() {
            return Ok(written);
        }
        let whole = self.ends.iter().map(|(end, _)| *end).take_while(|end| *end <= written).last();
        let whole = whole.unwrap_or(0);
        // A reader would take a part of an entry for a whole one once the next one follows.
        file.set_len(self.size + whole as u64)?;
        Ok(whole)
    }

    /// Begins another file, and forgets the older one. If the new one cannot be made, it is tried again with the next entries.
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(path(&self.folder, NEWER), path(&self.folder, OLDER))?;
        (self.file, self.size) = (None, 0);
        self.file = Some(private::open(&path(&self.folder, NEWER))?);
        Ok(())
    }
}

/// The path of a file in an open folder, wherever the folder is now.
pub(super) fn path(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Place;
    use super::*;

    const LIMIT: u64 = 1000;

    fn begun(place: &Place) -> OutputFiles {
        OutputFiles::begin(File::open(&place.0).unwrap(), LIMIT).unwrap()
    }

    fn write(files: &mut OutputFiles, text: &str) -> u64 {
        files.push("1970-01-01T00:00:00.000000000Z", Stream::Stdout, text.as_bytes(), true)
    }

    fn texts(place: &Place, name: &str) -> Vec<String> {
        let text = fs::read_to_string(place.0.join(name)).unwrap();
        text.lines().map(|line| line.rsplit_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn the_newest_lines_are_kept_within_the_limit() {
        let place = Place::new("rotation");
        let mut files = begun(&place);
        for number in 0..1000 {
            assert_eq!(write(&mut files, &number.to_string()), 0);
            if number % 7 == 0 {
                assert_eq!(files.flush(), 0);
            }
            for name in [NEWER, OLDER] {
                assert!(fs::metadata(place.0.join(name)).map_or(0, |file| file.len()) <= LIMIT);
            }
        }
        assert_eq!(files.flush(), 0);
        let mut kept = texts(&place, OLDER);
        assert!(kept.len() > 10, "{kept:?}");
        kept.extend(texts(&place, NEWER));
        let last: Vec<_> = (1000 - kept.len()..1000).map(|number| number.to_string()).collect();
        assert_eq!(kept, last);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let place = Place::new("lost");
        let mut files = begun(&place);
        fs::remove_dir_all(&place.0).unwrap();
        // It is written to a file that nobody sees any more, until that is full.
        let lost: u64 = (0..100).map(|_| write(&mut files, "0123456789")).sum();
        assert!(lost > 0 && lost.is_multiple_of(11), "{lost}");
        assert!(!place.0.exists());
    }
}
