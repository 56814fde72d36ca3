//! This node in the cluster: its labels are written, one of them is heeded, and Events tell of it. The API
//! server is no part of handing out slices: when it is away, everything else goes on, and what is to be
//! written is written later.
//!
//! Nothing is ever listed and nothing is polled. One watch of one node's metadata is all that is open.

mod backoff;
mod link;
mod notes;
mod seen;
mod work;

pub use notes::Severity;

use link::{Fault, Link};
use notes::{Note, Notes};
use seen::{Seen, Wanted, bad_label};
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
pub(crate) use notes::short;

/// The label that names a layout: the contract of the GPU operator's MIG manager.
pub const CONFIG: &str = "nvidia.com/mig.config";
/// The label that says how far it is: `pending`, `success` or `failed`.
pub const STATE: &str = "nvidia.com/mig.config.state";
/// The annotation that says why it failed.
pub const REASON: &str = "nvidia.com/mig-cdi.config.reason";
/// The annotation that says what was done last: the layout, and the start of the machine.
pub const LAST: &str = "nvidia.com/mig-cdi.config.last";

/// How old a newer version may be that an older one is held against: an API server that lags behind is back
/// by then, and one that was restored from a backup is believed.
const LAG: Duration = Duration::from_secs(300);

/// Where lines for the log go.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What the node's labels ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The label [`CONFIG`].
    pub config: Option<String>,
    /// The label [`STATE`].
    pub state: Option<String>,
    /// The annotation [`LAST`].
    pub last: Option<String>,
}

/// How often at most. Each wait is a random part of it.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long one request of the watch lasts.
    pub watch: Duration,
    /// The first wait after a failure, and the longest: they double.
    pub retry: (Duration, Duration),
    /// Between two writes.
    pub gap: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            watch: Duration::from_secs(3600),
            retry: (Duration::from_secs(20), Duration::from_secs(300)),
            gap: Duration::from_secs(1),
        }
    }
}

/// This node in the cluster. Clones are the same; when the last is gone, so is what it runs.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    node: String,
    link: Link,
    say: Say,
    timing: Timing,
    wanted: Mutex<Wanted>,
    /// Counts what was wanted anew.
    woken: watch::Sender<u64>,
    /// The node, once it was seen, and while it is there.
    seen: watch::Sender<Option<(Seen, Instant)>>,
    desired: watch::Sender<Option<Desired>>,
    notes: Mutex<Notes>,
    noted: Notify,
    refused: Mutex<BTreeSet<String>>,
}

impl Cluster {
    /// Begins to talk to the API server, on the runtime that this is called on, by a kubeconfig or as a pod
    /// does. Neither it nor the kubeconfig need be there yet.
    #[must_use]
    pub fn connect(node: &str, kubeconfig: Option<PathBuf>, timing: Timing, say: Say) -> Cluster {
        let link = Link::new(node.to_owned(), kubeconfig);
        let shared = Arc::new(Shared {
            node: node.to_owned(),
            link,
            say,
            timing,
            wanted: Mutex::default(),
            woken: watch::Sender::new(0),
            seen: watch::Sender::new(None),
            desired: watch::Sender::new(None),
            notes: Mutex::default(),
            noted: Notify::new(),
            refused: Mutex::default(),
        });
        let own = shared.clone();
        let work = async move {
            tokio::join!(work::watch(own.clone()), work::write(own.clone()), work::post(own))
        };
        let task = tokio::spawn(work).abort_handle();
        Cluster { shared, _task: Arc::new(Task(task)) }
    }

    /// All labels that describe the node. What an earlier call or an earlier start set and this does not name is
    /// taken away. Written soon, and only where the node says something else.
    pub fn set_labels(&self, labels: &BTreeMap<String, String>) {
        let fits = |(key, value): &(&String, &String)| match bad_label(key, value) {
            None => true,
            Some(why) => {
                if lock(&self.shared.refused).insert(why.clone()) {
                    (self.shared.say)(&why);
                }
                false
            }
        };
        let fit = labels.iter().filter(fits).map(|(key, value)| (key.clone(), value.clone()));
        let fit = fit.collect();
        self.shared.want(|wanted| wanted.labels = Some(fit));
    }

    /// Tells of something on the node. The same words are sent once in ten minutes.
    pub fn event(&self, reason: &str, message: &str, severity: Severity) {
        let note = Note::new(reason, message, severity);
        if lock(&self.shared.notes).add(note, Instant::now()) {
            self.shared.noted.notify_one();
        }
    }

    /// What the labels ask for, now and from now on. `None` until the node was seen, and while it is not
    /// there.
    #[must_use]
    pub fn desired(&self) -> watch::Receiver<Option<Desired>> {
        self.shared.desired.subscribe()
    }

    /// How far a layout is. `None` takes the label or annotation away.
    pub(crate) fn set_state(&self, state: Option<&str>, reason: Option<&str>, last: Option<&str>) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        self.shared.want(|wanted| {
            wanted.states.insert(STATE.to_owned(), own(state));
            wanted
                .annotations
                .insert(REASON.to_owned(), own(reason).map(|text| short(&text, 1000)));
            wanted.annotations.insert(LAST.to_owned(), own(last));
        });
    }

    /// Waits until all that is wanted is written. False when it takes longer.
    pub async fn written(&self, limit: Duration) -> bool {
        let mut seen = self.shared.seen.subscribe();
        let done = seen.wait_for(|seen| {
            let wanted = lock(&self.shared.wanted);
            seen.as_ref().is_some_and(|(seen, _)| wanted.patch(seen).is_none())
        });
        matches!(tokio::time::timeout(limit, done).await, Ok(Ok(_)))
    }
}

impl Shared {
    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        let mut wanted = lock(&self.wanted);
        let before = wanted.clone();
        change(&mut wanted);
        let changed = *wanted != before;
        drop(wanted);
        if changed {
            self.woken.send_modify(|count| *count += 1);
        }
    }

    /// The node is so.
    fn take(&self, seen: Seen) {
        let now = Instant::now();
        let taken = self.seen.send_if_modified(|kept| {
            let lags = kept.as_ref().is_some_and(|(newer, when)| {
                newer.metadata.uid == seen.metadata.uid
                    && !seen.follows(newer)
                    && now.saturating_duration_since(*when) < LAG
            });
            if !lags {
                *kept = Some((seen.clone(), now));
            }
            !lags
        });
        if taken {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let desired = Desired {
                config: own(seen.label(CONFIG)),
                state: own(seen.label(STATE)),
                last: own(seen.annotation(LAST)),
            };
            self.tell(Some(desired));
        }
    }

    /// The node is not there.
    fn lose(&self) {
        self.seen.send_replace(None);
        self.tell(None);
    }

    fn tell(&self, desired: Option<Desired>) {
        self.desired.send_if_modified(|kept| {
            let changed = *kept != desired;
            *kept = desired;
            changed
        });
    }
}

/// What fails again and again is said once.
#[derive(Default)]
struct Told(Option<Option<u16>>);

impl Told {
    fn fault(&mut self, shared: &Shared, what: &str, fault: &Fault) {
        if self.0 != Some(fault.code) {
            (shared.say)(&format!("{what} {}: {}; trying again", shared.node, fault.message));
            self.0 = Some(fault.code);
        }
    }

    fn well(&mut self) {
        self.0 = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
