//! Events of the node, as `kubectl describe node` shows them, and the queue that keeps them few.

use super::backoff::random;
use k8s_openapi::jiff::Timestamp;
use mig_cdi_model::one_line;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Time for which an Event is not sent again. The API server deletes Events after an hour (kube-apiserver,
/// `--event-ttl`), so a state that lasts is reported again in time.
const REPEAT_INTERVAL: Duration = Duration::from_secs(600);
/// Largest number of Events in that time, and of Events that wait while the API server cannot be reached. The log has
/// all of them.
const LIMIT: usize = 32;
/// Longest message, in bytes. The limit of the newer `events.k8s.io/v1` is 1024 (k8s.io/kubernetes,
/// `pkg/apis/core/validation/events.go`, `NoteLengthLimit`).
const MESSAGE_LIMIT: usize = 1000;

/// Type of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Report that needs no action.
    Normal,
    /// Report of a problem.
    Warning,
}

/// An Event about the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeEvent {
    reason: String,
    message: String,
    event_type: EventType,
    time: Timestamp,
    /// Name of the object, chosen here so that a second try does not create a second Event.
    name: String,
}

impl NodeEvent {
    pub(crate) fn new(reason: &str, message: &str, event_type: EventType) -> NodeEvent {
        let name = format!("mig-cdi.{:08x}{:08x}", random(), random());
        let message = truncate(&one_line(message), MESSAGE_LIMIT);
        NodeEvent { reason: reason.to_owned(), message, event_type, time: Timestamp::now(), name }
    }

    /// Body of the request that creates it.
    pub(crate) fn body(&self, node: &str) -> Value {
        let event_type = match self.event_type {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        let time = Timestamp::from_second(self.time.as_second()).unwrap_or(self.time).to_string();
        // A node has no namespace, and Events about such objects have to be in `default` (k8s.io/kubernetes,
        // `pkg/apis/core/validation/events.go`). The UID is the name, as in the kubelet's own Events
        // (`pkg/kubelet/kubelet.go`, `nodeRef`): `kubectl describe node` searches for that.
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": self.name, "namespace": "default"},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
            "reason": self.reason, "message": self.message, "type": event_type,
            "firstTimestamp": time, "lastTimestamp": time, "count": 1,
            "source": {"component": "mig-cdi-kubelet", "host": node},
            "reportingComponent": "mig-cdi-kubelet", "reportingInstance": node,
        })
    }
}

/// Queue of Events that are to be sent, with the texts of recent ones.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    waiting: VecDeque<NodeEvent>,
    /// Reason and message of each Event of the last [`REPEAT_INTERVAL`].
    recent: VecDeque<(Instant, String)>,
}

impl EventQueue {
    /// Adds an Event, unless the same was added recently or the limit is reached. When too many wait, drops the
    /// oldest. Returns true when it was added.
    pub(crate) fn add(&mut self, event: NodeEvent, now: Instant) -> bool {
        let text = format!("{} {}", event.reason, event.message);
        self.recent.retain(|(when, _)| now.saturating_duration_since(*when) < REPEAT_INTERVAL);
        if self.recent.len() == LIMIT || self.recent.iter().any(|(_, recent)| *recent == text) {
            return false;
        }
        self.recent.push_back((now, text));
        self.waiting.push_back(event);
        if self.waiting.len() > LIMIT {
            self.waiting.pop_front();
        }
        true
    }

    /// The oldest Event that waits.
    pub(crate) fn first(&self) -> Option<NodeEvent> {
        self.waiting.front().cloned()
    }

    /// Removes an Event that was sent, or that the API server will never accept.
    pub(crate) fn remove(&mut self, event: &NodeEvent) {
        self.waiting.retain(|waiting| waiting.name != event.name);
    }
}

/// Cuts a text to at most `bytes`, at the end of a character, with `…` in place of the rest.
pub(crate) fn truncate(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes.saturating_sub('…'.len_utf8())).rev().find(|&i| text.is_char_boundary(i));
    format!("{}…", &text[..end.unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> NodeEvent {
        NodeEvent::new("RepartitionFailed", message, EventType::Warning)
    }

    #[test]
    fn the_same_event_is_sent_once_in_the_interval() {
        let (mut queue, now) = (EventQueue::default(), Instant::now());
        assert!(queue.add(event("a"), now) && queue.add(event("b"), now));
        assert!(!queue.add(event("a"), now + REPEAT_INTERVAL / 2));
        assert!(queue.add(event("a"), now + REPEAT_INTERVAL));
        let first = queue.first().unwrap();
        assert_eq!(first.message, "a");
        queue.remove(&first);
        assert_eq!(queue.first().unwrap().message, "b");
    }

    #[test]
    fn the_queue_is_bounded() {
        let (mut queue, now) = (EventQueue::default(), Instant::now());
        for i in 0..1000 {
            queue.add(event(&i.to_string()), now);
        }
        assert_eq!((queue.waiting.len(), queue.recent.len()), (LIMIT, LIMIT));
        assert_eq!(queue.first().unwrap().message, "0");
        assert!(queue.add(event("later"), now + REPEAT_INTERVAL));
        assert_eq!((queue.waiting.len(), queue.recent.len()), (LIMIT, 1));
        assert_eq!(queue.first().unwrap().message, "1");
    }

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(truncate("kurz", 4), "kurz");
        assert_eq!(truncate("größer", 6), "gr…");
        assert_eq!(event(&"ü".repeat(4000)).message.len(), MESSAGE_LIMIT - 1);
    }
}
