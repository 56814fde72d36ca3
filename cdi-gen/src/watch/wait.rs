//! When to look again: the driver's tree has changed, or a file, or a signal came, or it is time.

use mig_cdi_sys::{Events, Fingerprint, Manager, Result, Root, Woken};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Of so many looks at the tree one is thorough.
const THOROUGH: u64 = 6;
/// After a refresh every look is thorough for so long.
const RESTLESS: Duration = Duration::from_secs(2);
/// A change is over when the tree holds for so long; one command of nvidia-smi makes several instances.
const CALM: Duration = Duration::from_millis(5);
/// But nobody waits longer than this.
const PATIENCE: Duration = Duration::from_millis(100);
/// Files come in crowds, as when a package is installed.
const CROWD: Duration = Duration::from_secs(1);
/// After a failure, and twice as long after each one that follows.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Why a refresh is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Something has changed, or it is time.
    Refresh,
    /// SIGHUP.
    Reload,
    /// SIGTERM.
    Stop,
}

/// What is waited for, and since when.
pub(crate) struct Waiter {
    events: Events,
    interval: Duration,
    resync: Duration,
    /// How often the process woke up.
    pub wakeups: u64,
    refreshed: Instant,
    failures: u32,
    hurry: bool,
    told: Instant,
}

impl Waiter {
    pub(crate) fn new(interval: Duration, resync: Duration) -> Result<Waiter> {
        let now = Instant::now();
        let events = Events::new()?;
        let (failures, hurry) = (0, false);
        Ok(Waiter {
            events,
            interval,
            resync,
            wakeups: 0,
            refreshed: now,
            failures,
            hurry,
            told: now,
        })
    }

    /// Changes in this directory count from now on, those of content when `written`.
    pub(crate) fn listen(&mut self, dir: &Path, written: bool) {
        self.events.watch(dir, written);
    }

    /// A refresh has ended.
    pub(crate) fn refreshed(&mut self, good: bool) {
        self.refreshed = Instant::now();
        self.failures = if good { 0 } else { self.failures.saturating_add(1) };
    }

    /// The next one is due as after a change of files.
    pub(crate) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Waits for the next refresh. `is_foreign` tells whether a file that has changed is none of our own.
    pub(crate) fn wait(
        &mut self,
        seen: &Fingerprint,
        proc: &Root,
        manager: &Manager,
        is_foreign: impl Fn(&Path) -> bool,
    ) -> Result<Due> {
        let retry = match self.failures {
            0 => self.resync,
            n => RETRY.saturating_mul(1 << (n - 1).min(6)).min(RETRY_MOST).min(self.resync),
        };
        let mut due = self.refreshed + retry;
        if std::mem::take(&mut self.hurry) {
            due = due.min(self.refreshed + CROWD);
        }
        loop {
            self.tell_alive(manager);
            let Woken { stop, reload, files } = self.events.wait(self.interval)?;
            self.wakeups += 1;
            if stop {
                return Ok(Due::Stop);
            }
            if reload {
                return Ok(Due::Reload);
            }
            if files.iter().map(PathBuf::as_path).any(&is_foreign) {
                due = due.min(Instant::now().max(self.refreshed + CROWD));
            }
            // A change seldom comes alone: a GPU instance, and then what is in it.
            let thorough =
                self.wakeups.is_multiple_of(THOROUGH) || self.refreshed.elapsed() < RESTLESS;
            let holds = match thorough {
                true => seen.holds(proc),
                false => seen.holds_at_a_glance(self.wakeups),
            };
            if !holds {
                settle(proc);
                return Ok(Due::Refresh);
            }
            if Instant::now() >= due {
                return Ok(Due::Refresh);
            }
        }
    }

    fn tell_alive(&mut self, manager: &Manager) {
        if manager.watchdog().is_some_and(|every| self.told.elapsed() >= every) {
            manager.tell("WATCHDOG=1\n");
            self.told = Instant::now();
        }
    }
}

/// Lets a change come to its end, within reason.
fn settle(proc: &Root) {
    let begin = Instant::now();
    let mut seen = Fingerprint::take(proc);
    while begin.elapsed() < PATIENCE {
        std::thread::sleep(CALM);
        if seen.holds(proc) {
            return;
        }
        seen = Fingerprint::take(proc);
    }
}
