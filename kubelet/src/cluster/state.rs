//! State that the handles and the tasks of a [`super::Cluster`] share, and the state of retries of one kind of request.

use super::{
    api_client::ApiClient,
    backoff::{RetryDelays, jittered},
    events::EventQueue,
    node_metadata::{DesiredMetadata, LayoutRequest, NodeObject},
};
use crate::error::{ApiError, Error};
use mig_cdi_model::Backoff;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// Age from which on a newer version of the node no longer rules out an older one. In a cluster with several API
/// servers one may lag, by far less than this; versions that stay lower are those of a cluster that was restored from
/// a backup.
const VERSION_LAG: Duration = Duration::from_secs(300);

/// Receiver of lines for the log.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Timing of the requests. Each wait is a random part of a time in here, so that the nodes of a cluster do not send
/// their requests at the same moment.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Length of one watch request.
    pub watch: Duration,
    /// Delays after failed requests.
    pub retry: RetryDelays,
    /// Shortest time between two writes.
    pub write_interval: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            watch: Duration::from_secs(3600),
            retry: RetryDelays { first: Duration::from_secs(20), limit: Duration::from_secs(300) },
            write_interval: Duration::from_secs(1),
        }
    }
}

/// Node as the API server sent it last.
#[derive(Debug, Clone)]
pub(super) struct StoredNode {
    pub object: NodeObject,
    pub received: Instant,
}

/// State that the handles and the tasks share.
pub(super) struct ClusterState {
    pub node: String,
    pub client: ApiClient,
    pub log: LogSink,
    pub timing: Timing,
    pub desired_metadata: Mutex<DesiredMetadata>,
    /// Number of changes of `desired_metadata`.
    pub changes: watch::Sender<u64>,
    /// `None` before the first answer, and while the node does not exist.
    pub stored: watch::Sender<Option<StoredNode>>,
    pub layout_request: watch::Sender<Option<LayoutRequest>>,
    pub events: Mutex<EventQueue>,
    pub has_event: Notify,
    /// Labels that were reported as not accepted.
    pub rejected: Mutex<BTreeSet<String>>,
}

impl ClusterState {
    pub(super) fn new(node: &str, client: ApiClient, timing: Timing, log: LogSink) -> ClusterState {
        ClusterState {
            node: node.to_owned(),
            client,
            log,
            timing,
            desired_metadata: Mutex::default(),
            changes: watch::Sender::new(0),
            stored: watch::Sender::new(None),
            layout_request: watch::Sender::new(None),
            events: Mutex::default(),
            has_event: Notify::new(),
            rejected: Mutex::default(),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut DesiredMetadata)) {
        let mut desired = lock(&self.desired_metadata);
        let before = desired.clone();
        change(&mut desired);
        let has_changed = *desired != before;
        drop(desired);
        // A counter, not a notification: a change during a write is not missed.
        if has_changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Stores the node as the API server sent it, unless a newer version is stored.
    pub(super) fn store(&self, object: NodeObject) {
        let received = Instant::now();
        let desired = object.layout_request();
        let is_stored = self.stored.send_if_modified(|stored| {
            let is_outdated = stored.as_ref().is_some_and(|newer| {
                // A node with another UID was deleted and created again: versions of the two do not compare.
                newer.object.metadata.uid == object.metadata.uid
                    && !object.follows(&newer.object)
                    && received.saturating_duration_since(newer.received) < VERSION_LAG
            });
            if !is_outdated {
                *stored = Some(StoredNode { object, received });
            }
            !is_outdated
        });
        // Also after our own patch, whose answer is the newest version.
        if is_stored {
            self.update_layout_request(Some(desired));
        }
    }

    /// Records that the node was deleted.
    pub(super) fn delete(&self) {
        self.stored.send_replace(None);
        self.update_layout_request(None);
    }

    fn update_layout_request(&self, desired: Option<LayoutRequest>) {
        self.layout_request.send_if_modified(|stored| {
            let has_changed = *stored != desired;
            *stored = desired;
            has_changed
        });
    }
}

/// State of the retries of one kind of request: the waits after failures, and their log, in which a failure that repeats with the
/// same status code is written once.
pub(super) struct RetryState {
    operation: &'static str,
    backoff: Backoff,
    /// Status code of the failure that was written last.
    logged: Option<Option<u16>>,
}

impl RetryState {
    pub(super) fn new(operation: &'static str, timing: &Timing) -> RetryState {
        RetryState { operation, backoff: timing.retry.backoff(), logged: None }
    }

    pub(super) fn log(&mut self, shared: &ClusterState, cause: &ApiError) {
        if self.logged != Some(cause.code) {
            let (operation, node) = (self.operation, shared.node.clone());
            let error = Error::Api { operation, node, cause: cause.clone() };
            (shared.log)(&format!("{error}; retrying"));
            self.logged = Some(cause.code);
        }
    }

    /// Logs a failure. Returns the time until the next try.
    pub(super) fn failed(&mut self, shared: &ClusterState, cause: &ApiError) -> Duration {
        self.log(shared, cause);
        self.wait(cause.retry_after)
    }

    /// Time until the next try.
    pub(super) fn wait(&mut self, retry_after: Option<Duration>) -> Duration {
        jittered(&mut self.backoff, retry_after)
    }

    /// Records an answer: the next failure is written, whatever its code.
    pub(super) fn answered(&mut self) {
        self.logged = None;
    }

    /// Makes the next wait a first one again.
    pub(super) fn reset_waits(&mut self) {
        self.backoff.reset();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
