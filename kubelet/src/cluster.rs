//! Connection to the API server: writes the labels of this node, reads one of them, and creates Events about it.
//!
//! The API server takes no part in allocating slices. While it cannot be reached everything else goes on, and what is
//! to be written is written later. Nothing is ever listed and nothing is polled: one watch of one node's metadata is all
//! that is open, so a cluster of many nodes costs the API server little (docs/scale.md).

mod api_client;
mod backoff;
mod events;
mod node_metadata;
mod state;
mod tasks;

pub use backoff::RetryDelays;
pub use events::EventType;
pub use node_metadata::{CONFIG, LAST, LayoutRequest, REASON, STATE};
pub use state::{LogSink, Timing};

use api_client::ApiClient;
use events::NodeEvent;
use mig_cdi_model::one_line;
use node_metadata::check_label;
use state::{ClusterState, lock};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::AbortHandle};

pub(crate) use backoff::equal_jitter;
pub(crate) use events::truncate;

/// State of the layout that the label requests.
pub(crate) enum LayoutState<'a> {
    /// No layout is requested.
    NotRequested,
    /// Partitioning has begun.
    Pending,
    /// The GPUs have the layout.
    Success {
        /// Record of it, for the next start of the plugin.
        last: &'a str,
    },
    /// The layout could not be reached.
    Failed {
        /// Cause and cure.
        reason: &'a str,
    },
}

/// Connection of this node to its cluster. Clones share it; the last one to be dropped ends its tasks.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<ClusterState>,
    _task: Arc<Task>,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        // The tasks keep `ClusterState` alive, and would run for ever.
        self.0.abort();
    }
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
        let shared = Arc::new(ClusterState::new(node, client, timing, log));
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
    pub fn send_event(&self, reason: &str, message: &str, event_type: EventType) {
        let event = NodeEvent::new(reason, message, event_type);
        if lock(&self.shared.events).add(event, Instant::now()) {
            self.shared.has_event.notify_one();
        }
    }

    /// Subscribes to the request in the node's labels. The value is `None` before the first answer of the API server,
    /// and while the node does not exist.
    #[must_use]
    pub fn layout_request(&self) -> watch::Receiver<Option<LayoutRequest>> {
        self.shared.layout_request.subscribe()
    }

    /// Sets the label and the annotations that report the state of the requested layout.
    pub(crate) fn set_state(&self, state: LayoutState<'_>) {
        let (label, reason, last) = match state {
            LayoutState::NotRequested => (None, None, None),
            LayoutState::Pending => (Some("pending"), None, None),
            LayoutState::Success { last } => (Some("success"), None, Some(last)),
            LayoutState::Failed { reason } => (Some("failed"), Some(reason), None),
        };
        // `None` removes the label or annotation.
        self.shared.change(|desired| {
            desired.states.insert(STATE.to_owned(), label.map(str::to_owned));
            let reason = reason.map(|text| truncate(&one_line(text), 1000));
            desired.annotations.insert(REASON.to_owned(), reason);
            desired.annotations.insert(LAST.to_owned(), last.map(str::to_owned));
        });
    }

    /// Waits until everything that was set is written. Returns false when that takes longer than `limit`.
    pub async fn wait_written(&self, limit: Duration) -> bool {
        let mut stored = self.shared.stored.subscribe();
        let written = stored.wait_for(|stored| {
            let desired = lock(&self.shared.desired_metadata);
            stored.as_ref().is_some_and(|node| desired.patch(&node.object).is_none())
        });
        matches!(tokio::time::timeout(limit, written).await, Ok(Ok(_)))
    }
}
