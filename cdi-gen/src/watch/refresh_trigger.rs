//! When to look again: the driver's tree has changed, or a file, or the driver says so, or a signal came,
//! or it is time.

use super::driver_events::{Ear, Hearing};
use mig_cdi_sys::{Events, Fingerprint, Result, Root, SdNotify, Wakeup, nvml::Xid};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Of so many looks at the tree one is thorough.
const THOROUGH: u64 = 5;
/// After a refresh every look is thorough for so long.
const RESTLESS: Duration = Duration::from_secs(2);
/// While the driver tells of changes, looks are for what it does not tell of: modes, resets.
const TOLD: Duration = Duration::from_secs(1);
/// Once it has told of one, looks follow each other so fast, until the tree shows it.
const ALERT: Duration = Duration::from_millis(10);
/// A change that goes on under a refresh is over when the tree holds for so long; one command of nvidia-smi
/// makes several instances.
const CALM: Duration = Duration::from_millis(5);
/// But nobody waits longer than this.
const PATIENCE: Duration = Duration::from_millis(100);
/// Files come in crowds, as when a package is installed.
const CROWD: Duration = Duration::from_secs(1);
/// The GPU has fallen off the bus (NVIDIA's list of XIDs).
const OFF_THE_BUS: u64 = 79;
/// After a failure, and twice as long after each one that follows.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Why a wait is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// Something has changed, or it is time: a refresh is due.
    Refresh,
    /// Nothing is to be done, and this is to be said.
    News(String),
    /// Nothing is to be done, and a GPU has an error.
    Xid(Xid),
    /// SIGHUP.
    Reload,
    /// SIGTERM.
    Stop,
}

/// What is waited for, and since when.
pub(crate) struct RefreshTrigger {
    events: Events,
    interval: Duration,
    resync: Duration,
    /// What the driver says.
    pub ear: Ear,
    /// How often the process woke up.
    pub wakeups: u64,
    /// How many changes the driver told of.
    pub told_changes: u64,
    refreshed: Instant,
    failures: u32,
    due: Instant,
    /// The driver told of a change that is not seen yet; nobody waits for it for longer than this.
    alert: Option<Instant>,
    /// To be said before the next wait.
    news: Option<String>,
    /// To be told before the next wait.
    xids: VecDeque<Xid>,
    told: Instant,
}

impl RefreshTrigger {
    pub(crate) fn new(interval: Duration, resync: Duration) -> Result<RefreshTrigger> {
        let now = Instant::now();
        Ok(RefreshTrigger {
            events: Events::new()?,
            interval,
            resync,
            ear: Ear::new(),
            wakeups: 0,
            told_changes: 0,
            refreshed: now,
            failures: 0,
            due: now,
            alert: None,
            news: None,
            xids: VecDeque::new(),
            told: now,
        })
    }

    /// Changes in this directory count from now on, those of content when `written`.
    pub(crate) fn listen(&mut self, dir: &Path, written: bool) {
        self.events.watch(dir, written);
    }

    /// A refresh begins: what the driver told of before, it will see.
    pub(crate) fn begin(&mut self) {
        self.alert = None;
    }

    /// A refresh has ended.
    pub(crate) fn refreshed(&mut self, good: bool) {
        self.refreshed = Instant::now();
        self.failures = if good { 0 } else { self.failures.saturating_add(1) };
        let retry = match self.failures {
            0 => self.resync,
            n => RETRY.saturating_mul(1 << (n - 1).min(6)).min(RETRY_MOST).min(self.resync),
        };
        self.due = self.refreshed + retry;
    }

    /// The next one is due as after a change of files.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now.max(self.refreshed + CROWD));
    }

    /// Waits for the next refresh. `is_foreign` tells whether a file that has changed is none of our own.
    pub(crate) fn wait(
        &mut self,
        seen: &Fingerprint,
        proc: &Root,
        manager: &SdNotify,
        is_foreign: impl Fn(&Path) -> bool,
    ) -> Result<Due> {
        let mut now = Instant::now();
        loop {
            self.tell_alive(manager, now);
            if let Some(xid) = self.xids.pop_front() {
                return Ok(Due::Xid(xid));
            }
            let line = self.news.take().or_else(|| self.ear.revive(now));
            if let Some(line) = line {
                return Ok(Due::News(line));
            }
            let limit = self.limit(now);
            let woken = self.events.wait(limit, self.ear.fd())?;
            self.wakeups += 1;
            now = Instant::now();
            let Wakeup { stop, reload, also, files } = woken;
            if stop {
                return Ok(Due::Stop);
            }
            if reload {
                return Ok(Due::Reload);
            }
            if files.iter().map(PathBuf::as_path).any(&is_foreign) {
                self.hurry(now);
            }
            if also {
                self.hear(now);
            }
            if !self.look(seen, proc, now, also) || now >= self.due {
                return Ok(Due::Refresh);
            }
        }
    }

    /// What the driver tells of is not yet to be seen in the tree, perhaps.
    fn hear(&mut self, now: Instant) {
        let news = self.ear.hear(now);
        if news.changes > 0 {
            self.told_changes += news.changes;
            self.alert = Some(now + RESTLESS);
        }
        // That a GPU is lost is seen by asking for it.
        let lost = news.failed || news.xids.iter().any(|error| error.xid == OFF_THE_BUS);
        if lost && self.ear.errors().is_some() {
            self.hurry(now);
        }
        self.xids.extend(news.xids);
        self.news = news.line.or(self.news.take());
    }

    /// Errors that are known and have not been told: whatever is looked at next, it comes after them.
    pub(crate) fn errors(&mut self) -> Vec<Xid> {
        self.hear(Instant::now());
        self.xids.drain(..).collect()
    }

    /// How long to wait at most.
    fn limit(&mut self, now: Instant) -> Duration {
        self.alert = self.alert.filter(|until| now < *until);
        let is_told = self.ear.hearing() == Some(Hearing::All);
        match self.alert {
            Some(_) => self.interval.min(ALERT),
            None if is_told && !self.is_restless(now) => self.interval.max(TOLD),
            None => self.interval,
        }
    }

    /// A change seldom comes alone: a GPU instance, and then what is in it.
    fn is_restless(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.refreshed) < RESTLESS
    }

    /// True when the tree is as it was.
    fn look(&self, seen: &Fingerprint, proc: &Root, now: Instant, told: bool) -> bool {
        let is_told = told || self.alert.is_some() || self.ear.hearing() == Some(Hearing::All);
        match is_told || self.wakeups.is_multiple_of(THOROUGH) || self.is_restless(now) {
            true => seen.is_unchanged(proc),
            false => seen.is_unchanged_quick(),
        }
    }

    fn tell_alive(&mut self, manager: &SdNotify, now: Instant) {
        if manager.watchdog().is_some_and(|every| now.duration_since(self.told) >= every) {
            manager.notify("WATCHDOG=1\n");
            self.told = now;
        }
    }
}

/// Lets a change come to its end, within reason, and gives what it has come to.
pub(crate) fn settled(proc: &Root) -> Fingerprint {
    let begin = Instant::now();
    let mut seen = Fingerprint::take(proc);
    while begin.elapsed() < PATIENCE {
        std::thread::sleep(CALM);
        if seen.is_unchanged(proc) {
            break;
        }
        seen = Fingerprint::take(proc);
    }
    seen
}
