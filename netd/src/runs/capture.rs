//! Reads what a run writes and writes it to its files, on a thread of its own: whatever the disk does, the run's end is noticed.

use std::io::{PipeReader, PipeWriter, Read as _, pipe};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::file::OutputFiles;
use super::line::{self, Splitter};
use super::record::Keeper;
use crate::error::{Doing as _, Result};
use crate::model::{RunEnd, Stream};

/// How much is read at once, bytes: what a pipe holds (pipe(7)).
const CHUNK: usize = 64 * 1024;
/// How much of each stream is read after the run's end, bytes. What still runs then belongs to nobody, and may write for ever.
const LAST: usize = 1024 * 1024;

/// A run's output that is being kept, until this is dropped.
#[derive(Debug)]
pub struct Capture {
    keeper: Arc<Mutex<Keeper>>,
    /// Closed to end the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts to read; returns what the command gets for standard output and error.
    pub(super) fn start(files: OutputFiles, keeper: Keeper) -> Result<(Self, [PipeWriter; 2])> {
        let what = || "make a pipe for the run's output".to_owned();
        let (stdout, out) = pipe().doing(what)?;
        let (stderr, err) = pipe().doing(what)?;
        let (stopped, stop) = pipe().doing(what)?;
        let keeper = Arc::new(Mutex::new(keeper));
        let sources = [Source::new(Stream::Stdout, stdout), Source::new(Stream::Stderr, stderr)];
        let mut pump = Pump { sources, stopped, files, keeper: Arc::clone(&keeper), chunk: vec![0; CHUNK] };
        let thread = std::thread::Builder::new().name("output".to_owned()).spawn(move || pump.run());
        let thread = thread.doing(|| "start a thread for the run's output".into())?;
        Ok((Self { keeper, stop: Some(stop), thread: Some(thread) }, [out, err]))
    }

    /// Records how the command has ended.
    pub fn ended(&self, status: ExitStatus) {
        let signal = status.signal().map(|number| match Signal::try_from(number) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => format!("signal {number}"),
        });
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        let exit_status = code.and_then(|code| u8::try_from(code).ok());
        let end = RunEnd { at: Timestamp::now(), exit_status, signal };
        change(&self.keeper, |keeper| keeper.change(|record| record.end = Some(end)));
    }

    /// Records what has failed.
    pub fn failed(&self, problem: &str) {
        change(&self.keeper, |keeper| keeper.change(|record| record.problem = Some(problem.to_owned())));
    }
}

impl Drop for Capture {
    /// Writes what is still in the pipes.
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _panic = thread.join();
        }
    }
}

/// Changes the record; a failure has nobody who could be told.
fn change(keeper: &Mutex<Keeper>, change: impl FnOnce(&mut Keeper) -> std::io::Result<()>) {
    let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = change(&mut keeper) {
        tracing::warn!("cannot write the run's record: {error}");
    }
}

/// One stream of the run.
struct Source {
    stream: Stream,
    /// None once it has ended.
    pipe: Option<PipeReader>,
    splitter: Splitter,
}

impl Source {
    fn new(stream: Stream, pipe: PipeReader) -> Self {
        Self { stream, pipe: Some(pipe), splitter: Splitter::default() }
    }
}

/// The thread's work.
struct Pump {
    sources: [Source; 2],
    stopped: PipeReader,
    files: OutputFiles,
    keeper: Arc<Mutex<Keeper>>,
    chunk: Vec<u8>,
}

impl Pump {
    fn run(&mut self) {
        while self.sources.iter().any(|source| source.pipe.is_some()) {
            let (ready, is_stopped) = self.wait(PollTimeout::NONE);
            for index in ready {
                self.read(index);
            }
            if is_stopped {
                self.drain();
                break;
            }
        }
        for index in 0..self.sources.len() {
            self.take(index, &[]);
        }
    }

    /// Reads what is in the pipes now.
    fn drain(&mut self) {
        let mut room = LAST;
        while room > 0 {
            let (ready, _) = self.wait(PollTimeout::ZERO);
            if ready.is_empty() {
                break;
            }
            for index in ready {
                self.read(index);
                room = room.saturating_sub(CHUNK);
            }
        }
    }

    /// Waits until something can be read. Returns the streams of which that is true, and whether to stop.
    fn wait(&self, timeout: PollTimeout) -> (Vec<usize>, bool) {
        let open: Vec<(usize, &PipeReader)> = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| Some((index, source.pipe.as_ref()?)))
            .collect();
        let pipes = open.iter().map(|(_, pipe)| *pipe).chain([&self.stopped]);
        let mut polled: Vec<PollFd<'_>> =
            pipes.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        // A signal interrupts it; then nothing is ready.
        let _interrupted = poll(&mut polled, timeout);
        let ready: Vec<bool> = polled.iter().map(|one| one.any().unwrap_or(false)).collect();
        let streams = open.iter().zip(&ready).filter(|(_, ready)| **ready).map(|((index, _), _)| *index);
        (streams.collect(), ready.last().copied().unwrap_or(false))
    }

    /// Reads once from a stream that has something.
    fn read(&mut self, index: usize) {
        let Some(source) = self.sources.get_mut(index) else { return };
        let Some(pipe) = &mut source.pipe else { return };
        let mut chunk = std::mem::take(&mut self.chunk);
        match pipe.read(&mut chunk) {
            Ok(0) => source.pipe = None,
            Ok(length) => self.take(index, chunk.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => source.pipe = None,
        }
        self.chunk = chunk;
    }

    /// Writes what has come out of a stream; nothing means that it has ended.
    fn take(&mut self, index: usize, bytes: &[u8]) {
        let Self { sources, files, keeper, .. } = self;
        let Some(Source { stream, splitter, .. }) = sources.get_mut(index) else { return };
        let (now, mut lost) = (line::time(Timestamp::now()), 0);
        let mut each = |text: &[u8], is_whole| lost += files.push(&now, *stream, text, is_whole);
        if bytes.is_empty() {
            splitter.finish(&mut each);
        } else {
            splitter.push(bytes, &mut each);
        }
        lost += files.flush();
        if lost > 0 {
            change(keeper, |keeper| keeper.change(|record| record.dropped_bytes += lost));
        }
    }
}
