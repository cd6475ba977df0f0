//! The follower: the process that follows the changes of a host and puts right what differs from the records. It keeps nothing
//! between two looks: if it is killed, another one goes on.

mod silent;

use std::collections::HashSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use netd_common::flow::Handle;

use crate::apply::{Effort, Transaction};
use crate::dataplane::own_version;
use crate::error::{Error, Result, StateError};
use crate::link::Changes;
use crate::metrics::Server;
use crate::model::report::Repaired;
use crate::netns::cpu_time;
use crate::session::Session;
use crate::settings::Settings;
use crate::store::{FollowerNote, Presence, follower, unix_millis};
use silent::Silent;

/// How long the host must be quiet after a change. One command changes many things.
const QUIET: Duration = Duration::from_millis(20);
/// How long a host that is never quiet waits.
const IMPATIENT: Duration = Duration::from_millis(200);
/// How often what the kernel does not announce is looked at.
const SILENT: Duration = Duration::from_secs(1);
/// How much of a CPU's time looking may take, as one part in this many: on a large host it looks less often.
const SHARE: u32 = 10;
/// The same of what the kernel does not announce.
const SILENT_SHARE: u32 = 500;
/// How long it waits after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How often it asks whether somebody else still uses the namespace.
const LONELY: Duration = Duration::from_secs(10);

/// What came of one look.
#[derive(Debug)]
pub struct Pass {
    /// What was found and put right.
    pub repaired: Repaired,
    /// What failed.
    pub error: Option<Error>,
    /// Why metrics are not served everywhere where they should be.
    pub metrics_problem: Option<String>,
}

/// The one follower of an instance.
pub struct Follower {
    settings: Settings,
    cookie: u64,
    presence: Presence,
    changes: Changes,
    metrics: Server,
    note: FollowerNote,
}

/// Why the follower has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Nothing is left that netd made.
    Empty,
    /// Nobody else uses the host's namespace any more.
    HostGone,
    /// Somebody has removed its mark, so that commands start another one.
    Replaced,
    /// Another version of netd has put its programs in place.
    Superseded,
    /// It was asked to stop.
    Stopped,
}

/// What follows a wait.
enum Wake {
    /// A look at the host.
    Look,
    /// These publications have no connections left.
    Drained(HashSet<Handle>),
    /// The end.
    End(End),
}

impl Follower {
    /// Becomes the follower of an instance; none if it has one. `ends` says whether it ends with the last thing that netd has
    /// made. One that stays takes the place of one that ends. Needs a tokio runtime.
    pub fn become_one(settings: &Settings, pid: i32, ends: bool) -> Result<Option<Self>> {
        let (state_dir, cookie) = (&settings.state_dir, settings.host.cookie()?);
        let mut presence = Presence::take(state_dir, cookie)?;
        while presence.is_none() && !ends && follower(state_dir, cookie)?.is_none_or(|one| one.ends) {
            presence = Presence::take_over(state_dir, cookie)?;
        }
        let Some(mut presence) = presence else { return Ok(None) };
        let changes = Changes::of(&settings.host)?;
        let programs = own_version().digest;
        let note = FollowerNote { pid, ends, programs, ..FollowerNote::default() };
        presence.tell(&note)?;
        let metrics = Server::start(settings, cookie)?;
        Ok(Some(Self { settings: settings.clone(), cookie, presence, changes, metrics, note }))
    }

    /// Follows until `stop` is ready, or until there is nothing more to follow. A look that has begun is finished first. `tell`
    /// hears of each look.
    pub async fn follow(
        mut self,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(&Pass),
    ) -> Result<End> {
        let mut stop = pin!(stop);
        let mut retry = RETRY.0;
        loop {
            self.note_change()?;
            let start = cpu_time();
            let (repaired, error, session) =
                match Transaction::repair(&self.settings, Effort::Following).await {
                    Err(Error::State(StateError::Superseded)) => return Ok(End::Superseded),
                    Ok((repaired, session)) => (repaired, None, Some(session)),
                    Err(error) => (Repaired::default(), Some(error), None),
                };
            let pass = Pass { repaired, error, metrics_problem: self.metrics.problem() };
            // What it puts right is not done again.
            let is_usual = pass.repaired.repaired.is_empty();
            let cost = if is_usual { cpu_time().saturating_sub(start) } else { Duration::ZERO };
            self.note.passes += 1;
            self.note.repaired += pass.repaired.repaired.len() as u64;
            self.note.problem = pass.error.as_ref().map(Error::chain);
            self.note.metrics_problem.clone_from(&pass.metrics_problem);
            self.note.last_pass = Some(unix_millis());
            if pass.error.is_none() {
                self.note.waiting_since = None;
            }
            self.presence.tell(&self.note)?;
            tell(&pass);
            if self.note.ends && session.as_ref().is_some_and(Session::is_idle) {
                drop(self.presence);
                // A command that has just made something may have seen the mark, and started nobody.
                if Session::open(&self.settings)?.is_idle() {
                    return Ok(End::Empty);
                }
                match Presence::take(&self.settings.state_dir, self.cookie)? {
                    Some(presence) => self.presence = presence,
                    None => return Ok(End::Empty),
                }
                continue;
            }
            let again = pass.error.is_some().then(|| Instant::now() + retry);
            retry = if pass.error.is_some() { (retry * 2).min(RETRY.1) } else { RETRY.0 };
            let wake = tokio::select! {
                wake = self.wait(session.as_ref(), again, cost) => wake?,
                () = &mut stop => Wake::End(End::Stopped),
            };
            match wake {
                Wake::Look => {}
                Wake::Drained(ended) => {
                    if let Err(error) = Transaction::end_drains(&self.settings, &ended).await {
                        tracing::warn!("{}", error.chain());
                    }
                }
                Wake::End(end) => return Ok(end),
            }
        }
    }

    /// Tells that a change waits to be looked at.
    fn note_change(&mut self) -> Result<()> {
        if self.note.waiting_since.is_some() {
            return Ok(());
        }
        self.note.waiting_since = Some(unix_millis());
        self.presence.tell(&self.note)
    }

    /// Waits until it is time to look again, or to end.
    async fn wait(
        &mut self,
        session: Option<&Session>,
        again: Option<Instant>,
        cost: Duration,
    ) -> Result<Wake> {
        let earliest = Instant::now() + cost * SHARE;
        let look = || Silent::read(&self.settings.host, session.and_then(Session::dataplane));
        let start = cpu_time();
        let before = look().ok();
        let period = SILENT.max(cpu_time().saturating_sub(start) * SILENT_SHARE);
        let mut lonely = Instant::now() + LONELY;
        let mut drains = Instant::now() + SILENT;
        loop {
            let tick =
                again.map_or(period, |again| period.min(again.saturating_duration_since(Instant::now())));
            tokio::select! {
                heard = self.changes.next() => {
                    heard?;
                    break;
                }
                () = tokio::time::sleep(tick) => {}
            }
            if again.is_some_and(|again| again <= Instant::now())
                || look().ok() != before
                || self.metrics.problem() != self.note.metrics_problem
            {
                return Ok(Wake::Look);
            }
            if let Some(session) = session.filter(|one| one.has_draining() && drains <= Instant::now()) {
                let start = cpu_time();
                match session.drained() {
                    Ok(ended) if ended.is_empty() => {}
                    Ok(ended) => return Ok(Wake::Drained(ended)),
                    // The tables have gone.
                    Err(_) => return Ok(Wake::Look),
                }
                drains = Instant::now() + cpu_time().saturating_sub(start) * SHARE;
            }
            if !self.presence.is_seen() {
                return Ok(Wake::End(End::Replaced));
            }
            if lonely <= Instant::now() {
                lonely = Instant::now() + LONELY;
                if !self.settings.host.is_used_by_others()? {
                    return Ok(Wake::End(End::HostGone));
                }
            }
        }
        self.note_change()?;
        let patience = Instant::now() + IMPATIENT;
        loop {
            let now = Instant::now();
            let pause = if now < patience { QUIET } else { Duration::ZERO };
            let pause = pause.max(earliest.saturating_duration_since(now));
            match tokio::time::timeout(pause, self.changes.next()).await {
                Ok(heard) => heard?,
                Err(_quiet) => return Ok(Wake::Look),
            }
            if pause.is_zero() {
                return Ok(Wake::Look);
            }
        }
    }
}
