//! Decides when the next refresh is due: the driver's tree or a file has changed, the driver has sent an event, a signal has
//! come, or the time is up. It never refreshes anything itself.

use super::driver_events::DriverEventListener;
use mig_cdi_model::Backoff;
use mig_cdi_sys::{
    DirEvents, Events, Fingerprint, Result, Root, SdNotify, Wakeup,
    nvml::{EventCoverage, Xid},
};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Every Nth poll is a full scan. The others are one `stat` of each GPU's directory and see GPU instances alone; a full scan is
/// one of each instance and reads files too (`docs/watch.md`), and what it sees in addition can wait for a second.
const FULL_SCAN_EVERY: u64 = 5;
/// Time after a refresh, or after an event of the driver, during which each poll is a full scan. A change seldom comes alone: a
/// GPU instance is followed by its compute instances, which only a full scan sees.
const SETTLING_TIME: Duration = Duration::from_secs(2);
/// Time between polls while the driver sends events for all GPUs. Polls remain necessary: changes of MIG mode, resets of a GPU
/// and an unloaded driver raise no event.
const POLL_WITH_EVENTS: Duration = Duration::from_secs(1);
/// Time between polls after an event, until the tree shows the change. Nothing promises that `/proc` has changed when the event
/// arrives, and the event does not state what has (nvml.h, `nvmlEventMigConfigChange`).
const POLL_AFTER_EVENT: Duration = Duration::from_millis(10);
/// Time for which the tree has to stay the same before a change counts as complete: one `nvidia-smi mig -cgi 9,14 -C` creates
/// several instances, one after the other.
const STABLE_FOR: Duration = Duration::from_millis(5);
/// Longest wait for a tree that stays the same. A spec of half a change that comes now is better than none: the next refresh
/// corrects it.
const STABLE_LIMIT: Duration = Duration::from_millis(100);
/// Time after a refresh before a changed file causes another: a package that is installed writes many files.
const FILE_CHANGE_DELAY: Duration = Duration::from_secs(1);
/// XID of a GPU that has fallen off the bus (NVIDIA's list of XID errors).
const XID_OFF_THE_BUS: u64 = 79;
/// Wait before a refresh that failed is repeated: doubled after each failure.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Reason why [`RefreshTrigger::wait`] has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TriggerEvent {
    /// A refresh is due.
    Refresh,
    /// The listener of the driver's events has a message for the log. No refresh is due.
    Message(String),
    /// A GPU has a critical error. No refresh is due.
    Xid(Xid),
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
}

/// Sources of events, and the time of the next refresh.
pub(crate) struct RefreshTrigger {
    events: Events,
    /// Time between two polls.
    interval: Duration,
    /// Time between two refreshes when nothing changes.
    resync: Duration,
    /// The driver's events.
    pub driver_events: DriverEventListener,
    /// Number of times that the process woke up.
    pub wakeups: u64,
    /// Number of events that reported changed MIG instances.
    pub change_events: u64,
    /// End of the last refresh.
    refreshed_at: Instant,
    backoff: Backoff,
    /// Time of the next refresh if nothing happens before.
    due: Instant,
    /// End of the fast polls for a change that the driver has reported and the tree does not show yet.
    expects_change_until: Option<Instant>,
    /// Message to return before the next wait.
    message: Option<String>,
    /// Errors to return before the next wait.
    xids: VecDeque<Xid>,
    /// Time of the last message to the service manager's watchdog.
    watchdog_at: Instant,
}

impl RefreshTrigger {
    pub(crate) fn new(interval: Duration, resync: Duration) -> Result<RefreshTrigger> {
        let now = Instant::now();
        Ok(RefreshTrigger {
            events: Events::new()?,
            interval,
            resync,
            driver_events: DriverEventListener::new(),
            wakeups: 0,
            change_events: 0,
            refreshed_at: now,
            backoff: RETRY,
            due: now,
            expects_change_until: None,
            message: None,
            xids: VecDeque::new(),
            watchdog_at: now,
        })
    }

    /// Watches a directory.
    pub(crate) fn watch_dir(&mut self, dir: &Path, events: DirEvents) {
        self.events.watch(dir, events);
    }

    /// Records that a refresh begins: it sees every change that the driver has reported by now.
    pub(crate) fn refresh_begins(&mut self) {
        self.expects_change_until = None;
    }

    /// Records that a refresh has ended, and sets the time of the next.
    pub(crate) fn refresh_ended(&mut self, has_succeeded: bool) {
        self.refreshed_at = Instant::now();
        let wait = if has_succeeded {
            self.backoff.reset();
            self.resync
        } else {
            // A failure is not repeated later than a success would be.
            self.backoff.next_wait().min(self.resync)
        };
        self.due = self.refreshed_at + wait;
    }

    /// Makes the next refresh due as after a changed file: at once, or [`FILE_CHANGE_DELAY`] after the last one.
    pub(crate) fn schedule_after_file_change(&mut self, now: Instant) {
        self.due = self.due.min(now.max(self.refreshed_at + FILE_CHANGE_DELAY));
    }

    /// Waits until a refresh is due or something has to be handled. `is_external` distinguishes changes of files by other programs
    /// from our own.
    pub(crate) fn wait(
        &mut self,
        before: &Fingerprint,
        proc: &Root,
        manager: &SdNotify,
        is_external: impl Fn(&Path) -> bool,
    ) -> Result<TriggerEvent> {
        let mut now = Instant::now();
        loop {
            self.notify_watchdog(manager, now);
            // Before any wait: these were read while something else was handled.
            if let Some(xid) = self.xids.pop_front() {
                return Ok(TriggerEvent::Xid(xid));
            }
            let message = self.message.take().or_else(|| self.driver_events.start_if_due(now));
            if let Some(message) = message {
                return Ok(TriggerEvent::Message(message));
            }
            let limit = self.poll_interval(now);
            let wakeup = self.events.wait(limit, self.driver_events.fd())?;
            self.wakeups += 1;
            now = Instant::now();
            let Wakeup { stop, reload, is_extra_fd_ready: has_driver_event, files } = wakeup;
            if stop {
                return Ok(TriggerEvent::Stop);
            }
            if reload {
                return Ok(TriggerEvent::Reload);
            }
            if files.iter().map(PathBuf::as_path).any(&is_external) {
                self.schedule_after_file_change(now);
            }
            // Also when the listener has ended: its pipe is closed then, and stays readable until it is read.
            if has_driver_event {
                self.read_driver_events(now);
            }
            if !self.is_unchanged(before, proc, now, has_driver_event) || now >= self.due {
                return Ok(TriggerEvent::Refresh);
            }
        }
    }

    /// Reads the driver's events. A reported change alone makes no refresh due: it would read `/proc` before the change is there.
    fn read_driver_events(&mut self, now: Instant) {
        let output = self.driver_events.read_events(now);
        if output.changes > 0 {
            self.change_events += output.changes;
            self.expects_change_until = Some(now + SETTLING_TIME);
        }
        // A lost GPU leaves the tree as it was: only a refresh, which reads NVML, shows it.
        let may_be_lost =
            output.has_failed || output.xids.iter().any(|error| error.xid == XID_OFF_THE_BUS);
        if may_be_lost && self.driver_events.error_coverage().is_some() {
            self.schedule_after_file_change(now);
        }
        self.xids.extend(output.xids);
        self.message = output.message.or(self.message.take());
    }

    /// Returns the errors that the driver has reported by now and that were not returned yet. What is read from NVML
    /// afterwards is newer than each of them.
    pub(crate) fn take_xids(&mut self) -> Vec<Xid> {
        self.read_driver_events(Instant::now());
        self.xids.drain(..).collect()
    }

    /// Longest time until the next poll.
    fn poll_interval(&mut self, now: Instant) -> Duration {
        // A change can be undone before a poll sees it: the fast polls end anyway.
        self.expects_change_until = self.expects_change_until.filter(|until| now < *until);
        match self.expects_change_until {
            Some(_) => self.interval.min(POLL_AFTER_EVENT),
            None if self.covers_all_gpus() && !self.is_settling(now) => {
                self.interval.max(POLL_WITH_EVENTS)
            }
            None => self.interval,
        }
    }

    fn covers_all_gpus(&self) -> bool {
        self.driver_events.change_coverage() == Some(EventCoverage::All)
    }

    fn is_settling(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.refreshed_at) < SETTLING_TIME
    }

    /// Polls the driver's tree: true when it is as it was.
    fn is_unchanged(
        &self,
        before: &Fingerprint,
        proc: &Root,
        now: Instant,
        has_driver_event: bool,
    ) -> bool {
        // With events polls are rare, so each can be full. A plain poll would miss compute instances.
        let is_full_scan = has_driver_event
            || self.expects_change_until.is_some()
            || self.covers_all_gpus()
            || self.wakeups.is_multiple_of(FULL_SCAN_EVERY)
            || self.is_settling(now);
        match is_full_scan {
            true => before.is_unchanged(proc),
            false => before.is_unchanged_at_plain_poll(),
        }
    }

    /// Reports to the service manager that the watch is alive, when it expects that (`WatchdogSec=`, `sd_watchdog_enabled(3)`).
    fn notify_watchdog(&mut self, manager: &SdNotify, now: Instant) {
        if manager.watchdog().is_some_and(|every| now.duration_since(self.watchdog_at) >= every) {
            manager.notify("WATCHDOG=1\n");
            self.watchdog_at = now;
        }
    }
}

/// Waits until the tree has stayed the same for [`STABLE_FOR`], at most [`STABLE_LIMIT`], and returns its fingerprint.
pub(crate) fn wait_until_stable(proc: &Root) -> Fingerprint {
    let begin = Instant::now();
    let mut fingerprint = Fingerprint::take(proc);
    // procfs reports no changes by inotify(7), so there is nothing to wait for but time.
    while begin.elapsed() < STABLE_LIMIT {
        std::thread::sleep(STABLE_FOR);
        if fingerprint.is_unchanged(proc) {
            break;
        }
        fingerprint = Fingerprint::take(proc);
    }
    fingerprint
}
