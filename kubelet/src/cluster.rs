//! This node in the cluster: its labels are written, one of them is read, and Events report about it.
//!
//! The API server takes no part in allocating slices. While it cannot be reached everything else goes on, and what is
//! to be written is written later. Nothing is ever listed and nothing is polled: one watch of one node's metadata is all
//! that is open, so a cluster of many nodes costs the API server little (docs/scale.md).

mod api_client;
mod backoff;
mod events;
mod node_metadata;
mod tasks;

pub use api_client::ApiError;
pub use events::EventType;

use crate::error::Error;
use api_client::ApiClient;
use events::{EventQueue, NodeEvent};
use node_metadata::{DesiredMetadata, NodeObject, check_label};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

pub(crate) use backoff::about;
pub(crate) use events::truncate;

/// Label that names the desired layout, by the contract of the GPU operator's MIG manager.
pub const CONFIG: &str = "nvidia.com/mig.config";
/// Label with the progress of that layout: `pending`, `success` or `failed`.
pub const STATE: &str = "nvidia.com/mig.config.state";
/// Annotation with the reason why the layout failed.
pub const REASON: &str = "nvidia.com/mig-cdi.config.reason";
/// Annotation with the layout that was applied last, and the boot id of the machine then.
pub const LAST: &str = "nvidia.com/mig-cdi.config.last";

/// Age from which on a newer version of the node no longer rules out an older one. In a cluster with several API
/// servers one may lag, by far less than this; versions that stay lower are those of a cluster that was restored from
/// a backup.
const VERSION_LAG: Duration = Duration::from_secs(300);

/// Receiver of lines for the log.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Request for a layout, in the node's labels and annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Value of the label [`CONFIG`].
    pub config: Option<String>,
    /// Value of the label [`STATE`].
    pub state: Option<String>,
    /// Value of the annotation [`LAST`].
    pub last: Option<String>,
}

/// Delays between tries after failures. They double from the first up to the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDelays {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay.
    pub limit: Duration,
}

/// Timing of the requests. Each wait is a random part of what is given here, so that the nodes of a cluster do not
/// send their requests at the same moment.
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

/// Connection of this node to its cluster. Clones share it; the last one to be dropped ends its tasks.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        // The tasks keep `Shared` alive, and would run for ever.
        self.0.abort();
    }
}

/// State that the handles and the tasks share.
struct Shared {
    node: String,
    client: ApiClient,
    log: LogSink,
    timing: Timing,
    desired_metadata: Mutex<DesiredMetadata>,
    /// Number of changes of `desired_metadata`.
    changes: watch::Sender<u64>,
    /// The node and when it was received; `None` before the first answer, and while the node does not exist.
    object: watch::Sender<Option<(NodeObject, Instant)>>,
    desired: watch::Sender<Option<Desired>>,
    events: Mutex<EventQueue>,
    has_event: Notify,
    /// Labels that were reported as not accepted.
    rejected: Mutex<BTreeSet<String>>,
}

impl Cluster {
    /// Starts the tasks on the current runtime. They use `kubeconfig` or, without one, the service account of the pod.
    /// Neither the API server nor the kubeconfig has to exist yet.
    #[must_use]
    pub fn connect(
        node: &str,
        kubeconfig: Option<PathBuf>,
        timing: Timing,
        log: LogSink,
    ) -> Cluster {
        let client = ApiClient::new(node.to_owned(), kubeconfig);
        let shared = Arc::new(Shared {
            node: node.to_owned(),
            client,
            log,
            timing,
            desired_metadata: Mutex::default(),
            changes: watch::Sender::new(0),
            object: watch::Sender::new(None),
            desired: watch::Sender::new(None),
            events: Mutex::default(),
            has_event: Notify::new(),
            rejected: Mutex::default(),
        });
        // Three independent tasks: a write that is refused delays neither the watch nor Events.
        let own = shared.clone();
        let tasks = async move {
            tokio::join!(tasks::watch(own.clone()), tasks::write(own.clone()), tasks::post(own))
        };
        let task = tokio::spawn(tasks).abort_handle();
        Cluster { shared, _task: Arc::new(Task(task)) }
    }

    /// Sets all labels that describe the node, and removes those that an earlier call or an earlier run set and that
    /// are not among `labels`. They are written later, and only where the node differs.
    pub fn set_labels(&self, labels: &BTreeMap<String, String>) {
        let is_accepted = |(key, value): &(&String, &String)| match check_label(key, value) {
            Ok(()) => true,
            Err(error) => {
                let line = error.to_string();
                if lock(&self.shared.rejected).insert(line.clone()) {
                    (self.shared.log)(&line);
                }
                false
            }
        };
        let accepted = labels.iter().filter(is_accepted);
        let accepted = accepted.map(|(key, value)| (key.clone(), value.clone())).collect();
        self.shared.change(|desired| desired.labels = Some(accepted));
    }

    /// Sends an Event about the node. One with the same reason and message is sent once in ten minutes.
    pub fn event(&self, reason: &str, message: &str, event_type: EventType) {
        let event = NodeEvent::new(reason, message, event_type);
        if lock(&self.shared.events).add(event, Instant::now()) {
            self.shared.has_event.notify_one();
        }
    }

    /// Subscribes to the request in the node's labels. The value is `None` before the first answer of the API server,
    /// and while the node does not exist.
    #[must_use]
    pub fn desired(&self) -> watch::Receiver<Option<Desired>> {
        self.shared.desired.subscribe()
    }

    /// Sets the progress of a layout. `None` removes the label or annotation.
    pub(crate) fn set_state(&self, state: Option<&str>, reason: Option<&str>, last: Option<&str>) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        self.shared.change(|desired| {
            desired.states.insert(STATE.to_owned(), own(state));
            let reason = reason.map(|text| truncate(text, 1000));
            desired.annotations.insert(REASON.to_owned(), reason);
            desired.annotations.insert(LAST.to_owned(), own(last));
        });
    }

    /// Waits until everything that was set is written. Returns false when that takes longer than `limit`.
    pub async fn written(&self, limit: Duration) -> bool {
        let mut object = self.shared.object.subscribe();
        let written = object.wait_for(|object| {
            let desired = lock(&self.shared.desired_metadata);
            object.as_ref().is_some_and(|(object, _)| desired.patch(object).is_none())
        });
        matches!(tokio::time::timeout(limit, written).await, Ok(Ok(_)))
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut DesiredMetadata)) {
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
    fn store(&self, object: NodeObject) {
        let now = Instant::now();
        let is_stored = self.object.send_if_modified(|stored| {
            let is_outdated = stored.as_ref().is_some_and(|(newer, received)| {
                // A node with another UID was deleted and created again: versions of the two do not compare.
                newer.metadata.uid == object.metadata.uid
                    && !object.follows(newer)
                    && now.saturating_duration_since(*received) < VERSION_LAG
            });
            if !is_outdated {
                *stored = Some((object.clone(), now));
            }
            !is_outdated
        });
        // Also after our own patch, whose answer is the newest version.
        if is_stored {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let desired = Desired {
                config: own(object.label(CONFIG)),
                state: own(object.label(STATE)),
                last: own(object.annotation(LAST)),
            };
            self.publish_desired(Some(desired));
        }
    }

    /// Records that the node was deleted.
    fn delete(&self) {
        self.object.send_replace(None);
        self.publish_desired(None);
    }

    fn publish_desired(&self, desired: Option<Desired>) {
        self.desired.send_if_modified(|stored| {
            let has_changed = *stored != desired;
            *stored = desired;
            has_changed
        });
    }
}

/// Log of the failures of one kind of request: a failure that repeats, with the same status code, is written once.
#[derive(Default)]
struct FailureLog(Option<Option<u16>>);

impl FailureLog {
    fn failed(&mut self, shared: &Shared, operation: &'static str, cause: &ApiError) {
        if self.0 != Some(cause.code) {
            let error = Error::Api { operation, node: shared.node.clone(), cause: cause.clone() };
            (shared.log)(&format!("{error}; retrying"));
            self.0 = Some(cause.code);
        }
    }

    fn succeeded(&mut self) {
        self.0 = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
