//! A network namespace of a test's own.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The prefix of all names that [`unique`] makes in this process.
pub fn own_prefix() -> String {
    format!("nt{}-", std::process::id())
}

/// A name that no other running test on this machine has.
pub fn unique(label: &str) -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}{count}-{label}", own_prefix())
}

/// The path of a namespace by its name.
pub fn sandbox(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// A network namespace. Removed when dropped.
#[derive(Debug)]
pub struct Netns {
    /// Its name below /run/netns.
    pub name: String,
}

impl Netns {
    /// Makes a namespace with loopback up.
    pub fn new(label: &str) -> Self {
        let name = unique(label);
        ip(&format!("netns add {name}"));
        let netns = Self { name };
        netns.ip("link set lo up");
        netns
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        sandbox(&self.name)
    }

    /// `ip` inside.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        ip(&format!("-n {} {words}", self.name))
    }

    /// A command inside. Only the network namespace changes, so that /sys and netd's pins stay visible.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    /// Runs a shell command inside and returns its output. Fails if it fails.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {line}: {}\n{stdout}{stderr}", self.name, output.status);
        stdout.into_owned()
    }

    /// Runs a shell command inside.
    pub fn try_sh(&self, line: &str) -> Output {
        self.command("sh").args(["-c", line]).stdin(Stdio::null()).output().expect("nsenter starts")
    }

    /// Starts a shell command inside. It is killed when dropped.
    pub fn spawn(&self, line: &str) -> Process {
        let mut command = self.command("sh");
        command
            .args(["-c", &format!("exec {line}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Process::new(&mut command)
    }

    /// Runs `visit` on a new thread inside. Sockets that it opens belong to the namespace.
    #[track_caller]
    pub fn run<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> T {
        run_in(&self.path(), visit)
    }
}

/// Runs `visit` on a new thread in the namespace at `path`.
#[track_caller]
pub fn run_in<T: Send>(path: &std::path::Path, visit: impl FnOnce() -> T + Send) -> T {
    let file = File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    std::thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            visit()
        });
        match visitor.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Drop for Netns {
    fn drop(&mut self) {
        // The result does not matter: after a failed test a second failure would hide the first.
        let _gone = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// A process. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a command in a new process group, so that its children are killed with it.
    pub fn new(command: &mut Command) -> Self {
        Self {
            child: command
                .process_group(0)
                .spawn()
                .unwrap_or_else(|error| panic!("start {command:?}: {error}")),
        }
    }

    /// Its process ID.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number fits")
    }

    /// Sends a signal to the process, not to its group.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("send a signal");
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("wait for a child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.pid());
        let _ended = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _reaped = self.child.wait();
    }
}

#[track_caller]
fn ip(words: &str) -> String {
    let output =
        Command::new("ip").args(words.split_whitespace()).output().expect("ip (package iproute2) starts");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
