//! Carries out `netd run`: a command in a new container, which is removed when the command ends.
//!
//! ```text
//! netd run ──── supervise ──── become ⇒ CMD
//! ```
//!
//! The supervisor adds the container, waits for the command and removes the container. If `netd run` is killed, the
//! supervisor ends the command and removes the container all the same. If the supervisor is killed, the kernel kills the
//! command, and `netd run` removes the container, or else the next command that changes something: the container's record
//! names the supervisor.
//!
//! A detached run has no terminal. Its supervisor keeps what the command prints, and how it has ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid, setsid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::change::{change, take_away};
use super::container::{checked, interface, replace_self};
use crate::cli::{Become, Run, Supervise};
use crate::output::{Output, Published, Text as _, note, raw};
use netd::{
    Capture, ContainerRequest, Doing as _, Error, Name, Netns, NetworkMode, Result, Runs, Session, Settings,
    Source, this_process,
};

/// How long a command has to end by SIGTERM once `netd run` is gone, before it is killed. Docker waits ten seconds, but there
/// a user has asked for the end and waits; here nobody does.
const GRACE: Duration = Duration::from_secs(2);
/// Exit status for a command that is not found (POSIX, Shell Command Language, 2.8.2).
pub(super) const NOT_FOUND: u8 = 127;
/// Exit status for a command that cannot be executed (the same).
const NOT_EXECUTABLE: u8 = 126;

/// Starts the supervisor, forwards signals to it, and returns its exit status.
pub(super) async fn launch(settings: &Settings, output: Output, run: Run, serves: bool) -> Result<u8> {
    let name = match &run.name {
        Some(name) => name.clone(),
        None => format!("run-{}", getpid()).parse()?,
    };
    let detach = run.detach;
    let mut supervisor = Command::new("/proc/self/exe");
    if output.is_json() {
        supervisor.arg("--json");
    }
    if !serves {
        supervisor.arg("--no-serve");
    }
    supervisor.args(arguments(settings, &name, run));
    if detach {
        supervisor.stdin(Stdio::null()).stdout(Stdio::piped());
    }
    let mut supervisor = supervisor.spawn().doing(|| "start the run's supervisor".into())?;
    if detach {
        return detached(settings, output, &name, supervisor).await;
    }
    let mut signals = Signals::new()?;
    let status = loop {
        tokio::select! {
            status = supervisor.wait() => break status.doing(|| "wait for the run's supervisor".into())?,
            signal = signals.next() => forward(&supervisor, signal),
        }
    };
    if status.code().is_none() {
        // The supervisor was killed. A transaction removes what it left.
        change(settings, async |_host| Ok(())).await?;
    }
    Ok(exit_status(status))
}

/// The supervisor's command line.
fn arguments(settings: &Settings, name: &Name, run: Run) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["--state-dir".into(), settings.state_dir.clone().into()];
    words.extend(["--log-dir".into(), settings.log_dir.clone().into()]);
    words.extend(["supervise".into(), "--parent".into(), getpid().to_string().into()]);
    words.extend(["--name".into(), name.as_str().into(), "--network".into(), run.network.as_str().into()]);
    for address in &run.attach.ip {
        words.extend(["--ip".into(), address.to_string().into()]);
    }
    for net in &run.attach.allowed_address {
        words.extend(["--allowed-address".into(), net.to_string().into()]);
    }
    if let Some(mac) = run.attach.mac {
        words.extend(["--mac".into(), mac.to_string().into()]);
    }
    for Source(net) in &run.attach.terms.access.allow {
        words.extend(["--allow".into(), net.to_string().into()]);
    }
    for Source(net) in &run.attach.terms.access.deny {
        words.extend(["--deny".into(), net.to_string().into()]);
    }
    if let Some(interface) = &run.attach.terms.interface {
        words.extend(["--interface".into(), interface.as_str().into()]);
    }
    for port in &run.attach.publish {
        words.extend(["--publish".into(), port.to_string().into()]);
    }
    if run.detach {
        words.push("--detach".into());
    }
    words.push("--".into());
    words.extend(run.command);
    words
}

/// Waits until the container is ready (the supervisor then closes its output) and prints the container's name.
async fn detached(settings: &Settings, output: Output, name: &Name, mut supervisor: Child) -> Result<u8> {
    let mut said = String::new();
    if let Some(mut stdout) = supervisor.stdout.take() {
        use tokio::io::AsyncReadExt as _;
        stdout.read_to_string(&mut said).await.doing(|| "read from the run's supervisor".into())?;
    }
    if !said.contains(READY) {
        // Its failure as JSON; as text it has been on stderr.
        raw(&said)?;
        return Ok(exit_status(supervisor.wait().await.doing(|| "wait for the run's supervisor".into())?));
    }
    match Session::open(settings)?.report_container(name).await {
        Ok(container) => {
            output
                .print_or(&container, || format!("{name}\n{}", Published(container.ports.clone()).text()))?;
        }
        // The command may have ended already, and its container with it.
        Err(_) => raw(&format!("{name}\n"))?,
    }
    Ok(0)
}

/// What the supervisor prints when the container is ready.
const READY: &str = "ready";

/// The supervisor: adds the container, runs the command, removes the container.
pub(super) async fn supervise(
    settings: &Settings,
    output: Output,
    request: Supervise,
    serves: bool,
) -> Result<u8> {
    let Supervise { parent, run } = request;
    let mut signals = Signals::new()?;
    if !run.detach {
        set_pdeathsig(Signal::SIGHUP).doing(|| "ask for a signal when netd run ends".into())?;
        if getppid().as_raw() != parent {
            return Ok(NOT_EXECUTABLE);
        }
    }
    let name = run.name.clone().ok_or_else(|| Error::malformed("a supervised run has a name"))?;
    let network = NetworkMode::of(&run.network, |network| interface(network, &run.attach))?;
    let request = ContainerRequest {
        name: name.clone(),
        key: None,
        sandbox: None,
        network: checked(network, &run.attach)?,
        ports: run.attach.publish,
        policy: super::publish::policy(run.attach.terms)?,
        run: Some(this_process()?),
    };
    let runs = Session::runs(settings)?;
    let (_, session) = change(settings, async |host| host.add_container(request).await).await?;
    if serves {
        warn_of(super::serve::ensure(settings).await);
    }
    let sandbox = session.namespace(&name)?;
    let published = Published(session.report_ports(Some(&name), false)?);
    drop(session);
    let mut command = become_of(sandbox.as_ref(), output.is_json() && !run.detach, run.command.clone());
    let mut capture = None;
    if run.detach {
        capture = keep_output(&runs, &name, &run.command, &mut command);
        leave_terminal()?;
    } else {
        // What is kept of this name is an earlier run's.
        warn_of(runs.forget(&name));
        note(&published.text());
    }
    let started = command.spawn().doing(|| "start the run's command".into());
    // It has the other ends of the pipes, and nobody else may have them.
    drop(command);
    let outcome = match started {
        Ok(child) => attend(child, &mut signals, (!run.detach).then_some(parent)).await,
        Err(error) => Err(error),
    };
    if let (Some(capture), Ok(status)) = (&capture, &outcome) {
        capture.ended(*status);
    }
    let removed = take_away(settings, async |host| host.remove_if_there(&name).await).await;
    if let Some(capture) = capture {
        if let Some(error) = outcome.as_ref().err().or(removed.as_ref().err()) {
            capture.failed(&error.chain());
        }
        // What the container's last processes have printed is written as well.
        drop(capture);
        warn_of(runs.forget_oldest());
    }
    removed?;
    outcome.map(exit_status)
}

/// The process that becomes the run's command.
fn become_of(sandbox: Option<&Netns>, json: bool, command: Vec<OsString>) -> Command {
    let mut process = Command::new("/proc/self/exe");
    if json {
        process.arg("--json");
    }
    process.args(["become", "--parent", &getpid().to_string()]);
    if let Some(sandbox) = sandbox {
        // By this process's descriptor: a path could lead to another namespace by now.
        let descriptor = sandbox.as_fd().as_raw_fd();
        process.args(["--sandbox", &format!("/proc/{}/fd/{descriptor}", getpid())]);
    }
    process.arg("--").args(command);
    process
}

/// Has the output of a command kept. If that is not possible, the run does without.
fn keep_output(runs: &Runs, name: &Name, words: &[OsString], command: &mut Command) -> Option<Capture> {
    match runs.begin(name, words) {
        Ok((capture, [stdout, stderr])) => {
            command.stdout(stdout).stderr(stderr);
            Some(capture)
        }
        Err(error) => {
            tracing::warn!("the output of {name} is not kept: {}", error.chain());
            None
        }
    }
}

/// Tells of a failure that does not stop the run.
fn warn_of(outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!("{}", error.chain());
    }
}

/// Detaches from the terminal and the pipes of the caller.
fn leave_terminal() -> Result<()> {
    let what = || "open /dev/null".to_owned();
    // Fails for the leader of a process group, which has no controlling terminal of the caller's.
    let _leader = setsid();
    raw(&format!("{READY}\n"))?;
    let null = File::options().read(true).write(true).open("/dev/null").doing(what)?;
    dup2_stdin(&null).doing(what)?;
    dup2_stdout(&null).doing(what)?;
    dup2_stderr(&null).doing(what)
}

/// Waits for the command and forwards signals to it. Once `parent` is gone, the command has [`GRACE`] to end.
async fn attend(mut child: Child, signals: &mut Signals, parent: Option<i32>) -> Result<ExitStatus> {
    let mut deadline = None;
    loop {
        let overdue = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = child.wait() => {
                return status.doing(|| "wait for the run's command".into());
            }
            signal = signals.next() => {
                if parent.is_some_and(|parent| getppid().as_raw() != parent) {
                    deadline.get_or_insert(tokio::time::Instant::now() + GRACE);
                    send(&child, Signal::SIGTERM);
                } else {
                    forward(&child, signal);
                }
            }
            () = overdue => {
                deadline = None;
                send(&child, Signal::SIGKILL);
            }
        }
    }
}

/// Becomes the command of a run. Returns only if that fails.
pub(super) fn become_command(request: &Become) -> Error {
    match prepare(request) {
        Ok(()) => replace_self(&request.command),
        Err(error) => error,
    }
}

fn prepare(request: &Become) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).doing(|| "ask for a signal when the supervisor ends".into())?;
    if getppid().as_raw() != request.parent {
        return Err(Error::malformed("the run's supervisor is gone"));
    }
    match &request.sandbox {
        Some(sandbox) => Netns::open(sandbox)?.enter(),
        None => Ok(()),
    }
}

/// The exit status of shells for a command that could not be started. None for other failures.
pub(super) fn status_of(error: &Error) -> Option<u8> {
    let cause = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?;
    match cause.kind() {
        std::io::ErrorKind::NotFound => Some(NOT_FOUND),
        std::io::ErrorKind::PermissionDenied => Some(NOT_EXECUTABLE),
        _ => None,
    }
}

/// An exit status as shells return it: 128 plus the signal's number for a process that was killed.
fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The signals that are forwarded.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).doing(|| "listen for signals".into());
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
            quit: on(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.quit.recv() => Signal::SIGQUIT,
        }
    }
}

/// Forwards a signal, unless the terminal has sent it to the whole process group already.
fn forward(child: &Child, signal: Signal) {
    let from_terminal = matches!(signal, Signal::SIGINT | Signal::SIGQUIT) && std::io::stdin().is_terminal();
    if !from_terminal {
        send(child, signal);
    }
}

fn send(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // The process may have ended meanwhile.
        let _gone = kill(Pid::from_raw(pid), signal);
    }
}
