//! Carries out `netd serve`: the process that follows the host. Commands start it when there is something to follow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netd::report::Repaired;
use netd::{Doing as _, End, Follower, Pass, Result, Session, Settings, StateError, Transaction};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// The cgroup of followers that commands have started. Systemd leaves cgroups alone that it has not made.
const CGROUP: &str = "netd";
/// How long `netd down` waits for the follower to end, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(5);

/// Follows the host until a signal comes. `background` is for a follower that a command has started.
pub(super) async fn serve(settings: &Settings, background: bool) -> Result<()> {
    let left = if background { leave_caller() } else { None };
    if !background {
        // A new version begins as a service.
        Transaction::upgrade(settings).await?;
    }
    let pid = nix::unistd::getpid().as_raw();
    let Some(follower) = Follower::become_one(settings, pid, background)? else {
        return if background { Ok(()) } else { Err(StateError::Followed.into()) };
    };
    let mut terminate = signal(SignalKind::terminate()).doing(|| "listen for signals".into())?;
    let mut interrupt = signal(SignalKind::interrupt()).doing(|| "listen for signals".into())?;
    let mut last = None;
    let told = |pass: &Pass| {
        tell(pass, &mut last);
        if !background {
            // The first look is the start of a service; READY does nothing after that.
            notify(&[NotifyState::Ready]);
        }
    };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let ended = tokio::select! {
        ended = follower.follow(stop, told) => ended,
        () = feed_watchdog(background) => Ok(End::Stopped),
    };
    if !background {
        notify(&[NotifyState::Stopping]);
    }
    if let Some(cgroup) = left {
        // The last process cannot remove the cgroup that it is in.
        cgroup.parent().map(move_to);
        // It stays if another follower is in it.
        let _in_use = fs::remove_dir(cgroup);
    }
    match ended? {
        // A service manager starts the version that is installed now.
        End::Superseded if !background => return Err(StateError::Superseded.into()),
        End::HostGone => tracing::info!("nobody uses this network namespace any more"),
        End::Stopped => {}
        _ => tracing::info!("there is nothing more to follow"),
    }
    Ok(())
}

/// Tells a service manager, if one has started this process.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}

/// Shows a service manager that wants to know that this process is not stuck.
async fn feed_watchdog(background: bool) {
    match sd_notify::watchdog_enabled().filter(|_| !background) {
        Some(limit) => loop {
            notify(&[NotifyState::Watchdog]);
            tokio::time::sleep(limit / 2).await;
        },
        None => std::future::pending().await,
    }
}

/// Waits until the follower has ended, now that nothing is left to follow. One that a service manager has started stays.
pub(super) async fn wait_for_end(settings: &Settings) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && Session::open(settings)?.follower()?.is_some_and(|one| one.ends) {
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}

/// Tells of a look at the host: what it has put right, and of a failure once.
fn tell(pass: &Pass, last: &mut Option<String>) {
    let Repaired { repaired, left, .. } = &pass.repaired;
    for difference in repaired {
        tracing::warn!("{difference}: repaired");
    }
    let failure = pass.error.as_ref().map(netd::Error::chain);
    let unserved = pass.metrics_problem.as_ref().map(|problem| format!("metrics are not served: {problem}"));
    let problems: Vec<String> =
        failure.into_iter().chain(left.iter().map(ToString::to_string)).chain(unserved).collect();
    let said = (!problems.is_empty()).then(|| problems.join("; "));
    if let Some(text) = said.as_ref().filter(|_| said != *last) {
        tracing::warn!("{text}");
    }
    *last = said;
}

/// Starts a follower if the instance has something to follow and nobody follows it. One of another version of netd, which commands
/// have started, gives way.
pub(super) async fn ensure(settings: &Settings) -> Result<()> {
    let session = Session::open(settings)?;
    if session.is_idle() || !session.serves() {
        return Ok(());
    }
    let own = netd::own_version().digest;
    let deadline = Instant::now() + PATIENCE;
    while let Some(follower) = session.follower()? {
        if !follower.ends || follower.programs == own || Instant::now() > deadline {
            return Ok(());
        }
        // It may have ended meanwhile.
        let _gone = kill(Pid::from_raw(follower.pid), Signal::SIGTERM);
        tokio::time::sleep(STEP).await;
    }
    // It works in another folder.
    let absolute = |path: &Path| std::path::absolute(path).doing(|| format!("find {}", path.display()));
    let (state_dir, log_dir) = (absolute(&settings.state_dir)?, absolute(&settings.log_dir)?);
    let mut command = Command::new("/proc/self/exe");
    command.arg("--quiet").arg("--state-dir").arg(state_dir).arg("--log-dir").arg(log_dir);
    command.args(["serve", "--background"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    // They are for the service that has called netd.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
    // The caller does not wait for it: it belongs to nobody.
    command.spawn().map(|_child| ()).doing(|| "start the process that follows the host".into())
}

/// Leaves the session and the cgroup of whoever started it: the end of a terminal, or of a service that has called netd, ends
/// all processes there. Returns the cgroup that it has made.
fn leave_caller() -> Option<PathBuf> {
    // Fails for the leader of a process group, which a child is not.
    let _leader = setsid();
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    // The line of cgroup v2; "/" is not a service's.
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = netd::cgroup_root().ok().flatten().filter(|_| path != "/")?;
    let cgroup = root.join(CGROUP);
    let _present = fs::create_dir(&cgroup);
    if move_to(&cgroup) {
        return Some(cgroup);
    }
    let _in_use = fs::remove_dir(&cgroup);
    None
}

/// Moves this process to a cgroup.
fn move_to(cgroup: &Path) -> bool {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).is_ok()
}
