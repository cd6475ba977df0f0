//! Lines of output: cut from what comes out of a pipe, and written as container runtimes do (Kubernetes, the CRI logging format):
//! `2026-01-31T12:00:00.000000000Z stdout F text`. The tag says whether a newline follows (`F`), or the text goes on with the
//! stream's next entry (`P`). Pure.

use jiff::Timestamp;

use crate::model::{OutputLine, Stream};

/// The longest text of an entry, bytes, as containerd and Docker have it. A longer line has several entries.
pub(super) const PIECE: usize = 16 * 1024;
/// More than an entry has besides its text, bytes.
const FRAME: usize = 64;
/// The longest entry, bytes.
pub(super) const ENTRY: usize = PIECE + FRAME;

/// Cuts a stream into lines, and long lines into pieces. It keeps what has no newline yet, at most [`PIECE`] bytes.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Takes the stream's next bytes. `each` gets a text, and whether a newline follows.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, is_whole) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            while self.rest.len() + text.len() > PIECE {
                let (now, later) = text.split_at(PIECE - self.rest.len());
                self.rest.extend_from_slice(now);
                each(&self.rest, false);
                self.rest.clear();
                text = later;
            }
            self.rest.extend_from_slice(text);
            if is_whole {
                each(&self.rest, true);
                self.rest.clear();
            }
        }
    }

    /// The stream has ended: `each` gets what has no newline.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&[u8], bool)) {
        if !self.rest.is_empty() {
            each(&self.rest, false);
            self.rest.clear();
        }
    }
}

/// A time as an entry has it.
pub(super) fn time(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// Appends an entry with its newline.
pub(super) fn write(entries: &mut Vec<u8>, time: &str, stream: Stream, text: &[u8], is_whole: bool) {
    let stream: &[u8] = match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    };
    let tag: &[u8] = if is_whole { b"F " } else { b"P " };
    for part in [time.as_bytes(), stream, tag, text] {
        entries.extend_from_slice(part);
    }
    entries.push(b'\n');
}

/// Reads an entry, without its newline; none if it is not one.
pub(super) fn parse(entry: &[u8]) -> Option<OutputLine> {
    let mut words = entry.splitn(4, |byte| *byte == b' ');
    let mut word = || words.next();
    let time = str::from_utf8(word()?).ok()?.parse().ok()?;
    let stream = match word()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let is_whole = match word()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(OutputLine { time, stream, text: word()?.to_vec(), is_whole })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (mut splitter, mut pieces) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, |text, is_whole| pieces.push((text.to_vec(), is_whole)));
        }
        splitter.finish(|text, is_whole| pieces.push((text.to_vec(), is_whole)));
        pieces
    }

    fn lines(chunks: &[&[u8]]) -> Vec<(String, bool)> {
        let text = |(text, is_whole)| (String::from_utf8(text).unwrap(), is_whole);
        pieces(chunks).into_iter().map(text).collect()
    }

    #[test]
    fn lines_may_come_in_any_parts() {
        let line = |text: &str, is_whole| (text.to_owned(), is_whole);
        assert_eq!(
            lines(&[b"one\n\ntw", b"o\nthr", b"ee"]),
            [line("one", true), line("", true), line("two", true), line("three", false)]
        );
        assert_eq!(lines(&[b"one", b"\n"]), [line("one", true)]);
        assert_eq!(lines(&[]), []);
    }

    #[test]
    fn a_long_line_is_cut_and_never_kept_as_a_whole() {
        let long = vec![b'x'; 3 * PIECE + 1];
        let mut splitter = Splitter::default();
        for chunk in long.chunks(1000) {
            splitter.push(chunk, |text, is_whole| {
                assert_eq!((text.len(), is_whole), (PIECE, false));
            });
            assert!(splitter.rest.len() <= PIECE);
        }
        let ends: Vec<_> = lines(&[&long, b"\n"]).iter().map(|(text, whole)| (text.len(), *whole)).collect();
        assert_eq!(ends, [(PIECE, false), (PIECE, false), (PIECE, false), (1, true)]);
        // A newline behind a full piece belongs to it.
        assert_eq!(pieces(&[&long[..PIECE], b"\n"]), [(vec![b'x'; PIECE], true)]);
    }

    #[test]
    fn an_entry_is_a_line_of_the_cri_format() {
        let mut entries = Vec::new();
        let noon = time("2026-01-31T12:00:00.5Z".parse().unwrap());
        write(&mut entries, &noon, Stream::Stderr, b"two words", true);
        assert_eq!(entries, b"2026-01-31T12:00:00.500000000Z stderr F two words\n");
        let mut longest = Vec::new();
        write(&mut longest, &time(Timestamp::MIN), Stream::Stdout, &[b'x'; PIECE], false);
        assert!(longest.len() <= ENTRY, "{}", longest.len());
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for text in ["", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z stdout F", "now stdout F x"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        for text in ["2026-01-31T12:00:00Z stdin F x", "2026-01-31T12:00:00Z stdout X x"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), at in 0..200_usize) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            let mut again = Vec::new();
            for (text, is_whole) in pieces(&[first, second]) {
                let (mut entry, at) = (Vec::new(), Timestamp::UNIX_EPOCH);
                write(&mut entry, &time(at), Stream::Stdout, &text, is_whole);
                let line = parse(entry.strip_suffix(b"\n").unwrap()).unwrap();
                prop_assert_eq!((line.time, line.stream, line.is_whole), (at, Stream::Stdout, is_whole));
                again.extend(line.text);
                if is_whole {
                    again.push(b'\n');
                }
            }
            prop_assert_eq!(again, bytes);
        }
    }
}
