//! The driver's events of changed MIG instances and critical errors, read from a child process.
//!
//! The child ([`crate::listen`]) keeps NVML open and does nothing else. The watch itself never opens NVML, and goes on polling
//! when the child ends: events make it react sooner, it never depends on them.

use crate::{
    Error, NodeRoots, Result, child,
    listen::{ListenRequest, ListenerMessage},
    refresh::GpuInMode,
};
use mig_cdi_model::Backoff;
use mig_cdi_sys::{
    ChildLines, NewLines,
    nvml::{DriverEvent, EventCoverage, Xid},
    own_image,
};
use std::{
    collections::BTreeSet,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// Wait before the listener is started again: doubled after each failure, so that a lost GPU does not cost a process a second.
const RESTART: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Output of the listener since the last call of [`DriverEventListener::read_events`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ListenerOutput {
    /// Number of events that report changed MIG instances.
    pub changes: u64,
    /// Critical errors.
    pub xids: Vec<Xid>,
    /// True when the listener has failed, which it does when a GPU is lost.
    pub has_failed: bool,
    /// Message for the log: the coverage has changed, or why there is none.
    pub message: Option<String>,
}

/// Events to subscribe to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EventSelection {
    /// Changes of MIG instances, on GPUs where an open NVML client blocks nothing.
    pub changes: bool,
    /// Critical errors of every GPU. They keep all GPUs open, so changes are reported too.
    pub errors: bool,
}

impl EventSelection {
    fn is_empty(self) -> bool {
        !self.changes && !self.errors
    }
}

/// The listener process: starts it, starts it again when it ends, and reads its messages.
pub(crate) struct DriverEventListener {
    selection: EventSelection,
    /// Roots of the machine whose NVML is opened.
    roots: Option<NodeRoots>,
    /// UUIDs of the GPUs when the listener was started. Another set may have other events.
    gpus: BTreeSet<GpuInMode>,
    process: Option<ChildLines>,
    changes: EventCoverage,
    errors: EventCoverage,
    /// True while the listener skips GPUs because a change of their MIG mode is pending.
    skips_gpus: bool,
    /// Time of the next start, when one is due.
    restart_at: Option<Instant>,
    backoff: Backoff,
    /// Last message of a listener that ends; its end is noticed later.
    ending: Option<Ending>,
}

/// Reason that a listener gives before it ends.
enum Ending {
    NoEvents,
    MigModePending,
    Failed(Error),
}

impl DriverEventListener {
    pub(crate) fn new() -> DriverEventListener {
        DriverEventListener {
            selection: EventSelection::default(),
            roots: None,
            gpus: BTreeSet::new(),
            process: None,
            changes: EventCoverage::None,
            errors: EventCoverage::None,
            skips_gpus: false,
            restart_at: None,
            backoff: RESTART,
            ending: None,
        }
    }

    /// GPUs whose changes are reported; `None` when no event is subscribed to.
    pub(crate) fn change_coverage(&self) -> Option<EventCoverage> {
        (!self.selection.is_empty()).then_some(self.changes)
    }

    /// GPUs whose critical errors are reported; `None` when they are not subscribed to.
    pub(crate) fn error_coverage(&self) -> Option<EventCoverage> {
        self.selection.errors.then_some(self.errors)
    }

    /// Process id of the listener.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ChildLines::pid)
    }

    /// Subscribes to the events of these GPUs, with a new listener when anything about them has changed.
    pub(crate) fn subscribe(
        &mut self,
        selection: EventSelection,
        gpus: &BTreeSet<GpuInMode>,
        roots: &NodeRoots,
    ) {
        // A listener registers when it starts and never again: GPUs that it skipped need another one.
        if (selection, gpus, self.skips_gpus) == (self.selection, &self.gpus, false) {
            return;
        }
        self.stop();
        (self.selection, self.gpus) = (selection, gpus.clone());
        self.roots = Some(roots.clone());
        // Without a GPU there is nothing to register, and NVML would be loaded for nothing.
        self.restart_at = (!selection.is_empty() && !self.gpus.is_empty()).then(Instant::now);
    }

    /// Ends the listener, until the next [`DriverEventListener::subscribe`].
    pub(crate) fn stop(&mut self) {
        *self = DriverEventListener::new();
    }

    /// Starts the listener when that is due. Returns a message for the log when it cannot be started.
    pub(crate) fn start_if_due(&mut self, now: Instant) -> Option<String> {
        if self.restart_at.is_none_or(|at| now < at) {
            return None;
        }
        self.restart_at = None;
        let roots = self.roots.clone()?;
        match start(&ListenRequest { roots, wants_errors: self.selection.errors }) {
            Ok(process) => {
                self.process = Some(process);
                None
            }
            Err(error) => Some(self.retry_later(&error.to_string(), now)),
        }
    }

    /// Descriptor that can be read when the listener has sent a message or has ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(ChildLines::fd)
    }

    /// Reads the messages since the last call. Does not block.
    pub(crate) fn read_events(&mut self, now: Instant) -> ListenerOutput {
        let mut output = ListenerOutput::default();
        let Some(process) = &mut self.process else { return output };
        let NewLines { lines, is_open } = process.read_lines();
        for line in lines {
            // Both ends are one program: a line of another form is the rest of one that was cut when the listener was killed.
            match serde_json::from_str(&line) {
                Ok(ListenerMessage::Event(event)) => self.handle(event, &mut output),
                Ok(ListenerMessage::Failed(error)) => self.ending = Some(Ending::Failed(error)),
                Err(_) => {}
            }
        }
        if !is_open {
            self.process = None;
            self.ended(now, &mut output);
        }
        output
    }

    fn handle(&mut self, event: DriverEvent, output: &mut ListenerOutput) {
        match event {
            DriverEvent::MigConfigChange => output.changes += 1,
            DriverEvent::Xid(xid) => output.xids.push(xid),
            DriverEvent::NoEvents { skips_gpus } => {
                (self.ending, self.skips_gpus) = (Some(Ending::NoEvents), skips_gpus);
            }
            DriverEvent::MigModePending => self.ending = Some(Ending::MigModePending),
            DriverEvent::Listening { changes, errors, skips_gpus } => {
                (self.changes, self.errors, self.skips_gpus) = (changes, errors, skips_gpus);
                // A listener that has registered works: its next failure is a new one.
                self.backoff.reset();
                output.message = Some(coverage_message(changes, errors));
            }
        }
    }

    fn ended(&mut self, now: Instant, output: &mut ListenerOutput) {
        let cause = match self.ending.take() {
            Some(Ending::MigModePending) => {
                (self.changes, self.errors) = (EventCoverage::None, EventCoverage::None);
                // At once: the new listener skips that GPU and serves the others.
                self.restart_at = Some(now);
                let message =
                    "a gpu waits to be reset for another mig mode: stopped listening to it";
                output.message = Some(message.to_owned());
                return;
            }
            // Not started again: it would find the same. Another set of GPUs in MIG mode is the next chance.
            Some(Ending::NoEvents) if self.backoff.failures() == 0 => {
                let message = "no gpu can send driver events without blocking its own reset, so changes are polled for";
                output.message = Some(message.to_owned());
                return;
            }
            Some(Ending::NoEvents) => "no gpu can send them".to_owned(),
            Some(Ending::Failed(error)) => error.to_string(),
            None => "the listener process has ended".to_owned(),
        };
        output.has_failed = true;
        output.message = Some(self.retry_later(&cause, now));
    }

    fn retry_later(&mut self, cause: &str, now: Instant) -> String {
        (self.changes, self.errors) = (EventCoverage::None, EventCoverage::None);
        let wait = self.backoff.next_wait();
        self.restart_at = Some(now + wait);
        format!("listen to the driver's events: {cause}; next try in {} s", wait.as_secs())
    }
}

fn coverage_message(changes: EventCoverage, errors: EventCoverage) -> String {
    let part = |what, coverage| match coverage {
        EventCoverage::None => None,
        EventCoverage::Some => Some(format!("{what} of some gpus")),
        EventCoverage::All => Some(format!("{what} of all gpus")),
    };
    let parts = [part("events", changes), part("errors", errors)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("listening to the driver's {}", parts.join(", "))
}

/// Starts this program once more, with the hidden subcommand of the listener.
fn start(request: &ListenRequest) -> Result<ChildLines> {
    let args = child::args(child::LISTEN, request)?;
    Ok(ChildLines::start(&own_image()?, &args)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<ListenerMessage> {
        serde_json::from_str(line).ok()
    }

    #[test]
    fn every_message_of_the_listener_is_parsed() {
        let coverages = [EventCoverage::None, EventCoverage::Some, EventCoverage::All];
        let listening = coverages.into_iter().flat_map(|changes| {
            coverages.into_iter().flat_map(move |errors| {
                [false, true].map(|skips_gpus| DriverEvent::Listening {
                    changes,
                    errors,
                    skips_gpus,
                })
            })
        });
        let xid = |gi, ci, xid| DriverEvent::Xid(Xid { gpu: "GPU-0a-1".to_owned(), gi, ci, xid });
        let no_events = [false, true].map(|skips_gpus| DriverEvent::NoEvents { skips_gpus });
        let others = no_events
            .into_iter()
            .chain([DriverEvent::MigConfigChange, DriverEvent::MigModePending]);
        let xids = [xid(None, None, 79), xid(Some(0), None, 48), xid(Some(13), Some(7), u64::MAX)];
        let events = listening.chain(others).chain(xids).map(ListenerMessage::Event);
        let failure = Error::no_driver("query", "nvml").because("xid 48\n\"").with_cure("reboot");
        for message in events.chain([ListenerMessage::Failed(failure)]) {
            let line = child::line(&message);
            assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
            assert_eq!(parse(&line), Some(message));
        }
    }

    #[test]
    fn a_broken_message_of_the_listener_is_refused() {
        let xid = |fields: &str| format!(r#"{{"event":{{"xid":{{{fields}}}}}}}"#);
        assert!(parse(&xid(r#""gpu":"GPU-0","gi":1,"ci":1,"xid":48"#)).is_some());
        let broken = [
            String::new(),
            "xid".to_owned(),
            r#"{"event":"xid"}"#.to_owned(),
            xid(r#""gpu":"GPU-0","gi":1,"ci":1"#),
            xid(r#""gpu":"GPU-0","gi":1,"ci":1,"xid":"x""#),
            xid(r#""gpu":"GPU-0","gi":-1,"ci":0,"xid":48"#),
            r#"{"failed":{"xid":48}}"#.to_owned(),
            r#"{"event":"listening"}"#.to_owned(),
            r#"{"event":{"listening":{"changes":"all"}}}"#.to_owned(),
            r#"{"event":{"listening":{"changes":"none","errors":"all","skips_gpus":false}}}"#
                .to_owned(),
        ];
        for line in broken {
            assert_eq!(parse(&line), None, "{line:?}");
        }
    }

    #[test]
    fn coverage_is_serialised_as_status_json_names_it() {
        let coverages = [EventCoverage::None, EventCoverage::Some, EventCoverage::All];
        assert_eq!(serde_json::to_string(&coverages).unwrap(), r#"["nobody","some","all"]"#);
    }
}
