//! Events of the node: what `kubectl describe node` shows. Few: the same words come once in a while only.

use super::backoff::random;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long the same words are not said again. The API server forgets an Event after an hour.
const QUIET: Duration = Duration::from_secs(600);
/// How many Events there may be in that time, and how many may wait while the API server is away. The log has
/// all of them.
const KEPT: usize = 32;
/// Events are no place for essays; `kubectl` shows them on a line.
const LENGTH: usize = 1000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is wrong.
    Normal,
    /// Somebody should look.
    Warning,
}

/// An Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    reason: String,
    message: String,
    severity: Severity,
    time: Timestamp,
    name: String,
}

impl Note {
    pub(crate) fn new(reason: &str, message: &str, severity: Severity) -> Note {
        let name = format!("mig-cdi.{:08x}{:08x}", random(), random());
        let message = short(message, LENGTH);
        Note { reason: reason.to_owned(), message, severity, time: Timestamp::now(), name }
    }

    /// The request's body. Events of nodes lie in the namespace default and have the name for the UID, as
    /// the kubelet's do.
    pub(crate) fn body(&self, node: &str) -> Value {
        let severity = match self.severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        let time = Timestamp::from_second(self.time.as_second()).unwrap_or(self.time).to_string();
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": self.name, "namespace": "default"},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
            "reason": self.reason, "message": self.message, "type": severity,
            "firstTimestamp": time, "lastTimestamp": time, "count": 1,
            "source": {"component": "mig-cdi-kubelet", "host": node},
            "reportingComponent": "mig-cdi-kubelet", "reportingInstance": node,
        })
    }
}

/// Events that are to be sent, and the words that were sent.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    waiting: VecDeque<Note>,
    said: VecDeque<(Instant, String)>,
}

impl Notes {
    /// Takes one up, unless the same was said a short while ago, or too much. Of too many that wait the oldest
    /// goes.
    pub(crate) fn add(&mut self, note: Note, now: Instant) -> bool {
        let words = format!("{} {}", note.reason, note.message);
        self.said.retain(|(when, _)| now.saturating_duration_since(*when) < QUIET);
        if self.said.len() == KEPT || self.said.iter().any(|(_, said)| *said == words) {
            return false;
        }
        self.said.push_back((now, words));
        self.waiting.push_back(note);
        if self.waiting.len() > KEPT {
            self.waiting.pop_front();
        }
        true
    }

    /// The oldest that waits.
    pub(crate) fn first(&self) -> Option<Note> {
        self.waiting.front().cloned()
    }

    /// It was sent, or is given up.
    pub(crate) fn done(&mut self, note: &Note) {
        self.waiting.retain(|waiting| waiting.name != note.name);
    }
}

/// The start of a text, whole characters.
pub(crate) fn short(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes.saturating_sub('…'.len_utf8())).rev().find(|&i| text.is_char_boundary(i));
    format!("{}…", &text[..end.unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        Note::new("RepartitionFailed", message, Severity::Warning)
    }

    #[test]
    fn the_same_words_come_once_in_a_while() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        assert!(notes.add(note("a"), now) && notes.add(note("b"), now));
        assert!(!notes.add(note("a"), now + QUIET / 2));
        assert!(notes.add(note("a"), now + QUIET));
        let first = notes.first().unwrap();
        assert_eq!(first.message, "a");
        notes.done(&first);
        assert_eq!(notes.first().unwrap().message, "b");
    }

    #[test]
    fn nothing_grows_without_end() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        for i in 0..1000 {
            notes.add(note(&i.to_string()), now);
        }
        assert_eq!((notes.waiting.len(), notes.said.len()), (KEPT, KEPT));
        assert_eq!(notes.first().unwrap().message, "0");
        assert!(notes.add(note("later"), now + QUIET));
        assert_eq!((notes.waiting.len(), notes.said.len()), (KEPT, 1));
        assert_eq!(notes.first().unwrap().message, "1");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(short("kurz", 4), "kurz");
        assert_eq!(short("größer", 6), "gr…");
        assert_eq!(note(&"ü".repeat(4000)).message.len(), LENGTH - 1);
    }
}
