//! Partitioning by label, by the contract of the GPU operator's MIG manager: the label `nvidia.com/mig.config` names a
//! layout, `nvidia.com/mig.config.state` is `pending`, `success` or `failed`.
//!
//! Slices that pods hold are never destroyed. A layout that has no room for them is `failed`, with the reason, and is
//! applied once the pods have ended.

mod allocation_gate;
pub mod child;

pub use allocation_gate::{AllocationGate, AllocationPause};

use crate::{
    cluster::{Cluster, EventType, LayoutRequest, LayoutState, LogSink, RetryDelays, equal_jitter},
    error, pod_resources,
};
use child::{RepartitionRequest, RepartitionStep};
use mig_cdi_gen::{Error, NodeRoots, generate::GenerateOptions, watch::WatchSetup};
use mig_cdi_partition::{ApplyOptions, HolderOptions, InUse, LayoutFile};
use mig_cdi_sys::{Root, read_regular};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep},
};

/// Largest file that is read, far above any layout file.
const TEXT_LIMIT: usize = 4 << 20;
/// Longest time for which partitioning waits until `pending` is written. It goes on without the API server.
const PENDING_TIMEOUT: Duration = Duration::from_secs(2);
/// Holder of a slice that was allocated and that the kubelet does not list yet.
const STARTING: &str = "a pod that is being started";

/// Settings of partitioning.
#[derive(Debug, Clone)]
pub struct RepartitionSettings {
    /// Program that takes each step in a child process; `None` for the image of this process.
    pub program: Option<PathBuf>,
    /// Path of the layout file.
    pub layouts: PathBuf,
    /// Roots of the node.
    pub roots: NodeRoots,
    /// Options of the spec that follows a change where no watch runs.
    pub generate: GenerateOptions,
    /// Directory of the watch's state.
    pub state_dir: PathBuf,
    /// Directory of the journal.
    pub journal_dir: PathBuf,
    /// Path of the kubelet's pod-resources socket; see [`pod_resources::SOCKET`].
    pub pod_resources: PathBuf,
    /// Root below which the machine's `/proc` is, for the boot id.
    pub host_root: PathBuf,
    /// Directory that stands for `/` in the search for holders of slices.
    pub holders_root: PathBuf,
    /// Longest time for one step. It is killed then, and the next step completes what it began.
    pub step_timeout: Duration,
    /// Interval of requests to the kubelet while pods are in the way of a layout.
    pub poll: Duration,
    /// Delays between tries while nothing changes.
    pub retry: RetryDelays,
}

impl RepartitionSettings {
    /// Makes the default settings for a layout file and the watch of the plugin.
    #[must_use]
    pub fn new(layouts: PathBuf, setup: &WatchSetup, state_dir: &Path) -> RepartitionSettings {
        RepartitionSettings {
            program: None,
            layouts,
            roots: setup.node.roots.clone(),
            generate: setup.generate.clone(),
            state_dir: state_dir.to_owned(),
            journal_dir: "/var/lib/mig-cdi".into(),
            pod_resources: pod_resources::SOCKET.into(),
            host_root: "/".into(),
            holders_root: "/".into(),
            step_timeout: Duration::from_secs(600),
            poll: Duration::from_secs(10),
            retry: RetryDelays { first: Duration::from_secs(60), limit: Duration::from_secs(900) },
        }
    }
}

/// Task that partitions GPUs to the layout that the label names.
pub struct Repartitioner {
    cluster: Cluster,
    settings: RepartitionSettings,
    gate: AllocationGate,
    log: LogSink,
    /// Boot id of the machine. No GPU instance survives a reboot, so a layout has to be applied again after one.
    boot: String,
}

/// Holders of devices, by device id.
type Held = BTreeMap<String, String>;

/// Failed try to apply a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FailedAttempt {
    reason: String,
    /// Slices that the layout has no room for and that pods held at the time, with the pod.
    in_the_way: Held,
    /// Hash of the layout file at the time.
    layouts: Option<u64>,
}

/// Action that follows from the label and from what was done.
#[derive(Debug, PartialEq, Eq)]
enum NextAction {
    /// No action.
    Nothing,
    /// Remove the state: no layout is requested any more. The GPUs stay as they are.
    Clear,
    /// Record a layout that an earlier run of the plugin applied since the last boot.
    RecordApplied(String),
    /// Apply a layout.
    Apply(String),
}

fn next_action(desired: &LayoutRequest, done: Option<&str>, boot: &str) -> NextAction {
    let Some(config) = desired.config.as_deref().filter(|config| !config.is_empty()) else {
        return match desired.state.is_some() || desired.last.is_some() || done.is_some() {
            true => NextAction::Clear,
            false => NextAction::Nothing,
        };
    };
    let recorded = desired.last.as_deref() == Some(&applied_annotation(config, boot));
    if done == Some(config) {
        NextAction::Nothing
    } else if done.is_none() && recorded && desired.state.as_deref() == Some("success") {
        NextAction::RecordApplied(config.to_owned())
    } else {
        NextAction::Apply(config.to_owned())
    }
}

/// Value of the annotation that records an applied layout: its name and the boot id.
fn applied_annotation(config: &str, boot: &str) -> String {
    format!("{config} {boot}")
}

impl Repartitioner {
    /// Makes the task. `gate` is that of the servers.
    #[must_use]
    pub fn new(
        cluster: Cluster,
        settings: RepartitionSettings,
        gate: AllocationGate,
        log: LogSink,
    ) -> Repartitioner {
        let read = |root: Root| root.read("/proc/sys/kernel/random/boot_id", TEXT_LIMIT).ok()?;
        let boot = Root::open(&settings.host_root).ok().and_then(read).unwrap_or_default();
        let boot = String::from_utf8_lossy(&boot).trim().to_owned();
        Repartitioner { cluster, settings, gate, log, boot }
    }

    /// Applies the layout that the label names, whenever that changes. Ends with the cluster.
    pub async fn run(self) {
        let mut desired = self.cluster.layout_request();
        let mut done: Option<String> = None;
        loop {
            let now = desired.borrow_and_update().clone();
            let next = now
                .map_or(NextAction::Nothing, |now| next_action(&now, done.as_deref(), &self.boot));
            match next {
                NextAction::Nothing => {}
                NextAction::Clear => {
                    done = None;
                    self.cluster.set_state(LayoutState::NotRequested);
                }
                NextAction::RecordApplied(config) => {
                    let last = applied_annotation(&config, &self.boot);
                    self.cluster.set_state(LayoutState::Success { last: &last });
                    done = Some(config);
                }
                NextAction::Apply(config) => {
                    done = self.apply(&config, &mut desired).await.then_some(config);
                    continue;
                }
            }
            if desired.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tries until the layout is applied. Returns false when another one is requested first. Layouts that were requested
    /// and replaced during a try are never begun: only the newest label counts.
    async fn apply(&self, config: &str, desired: &mut Receiver<Option<LayoutRequest>>) -> bool {
        (self.log)(&format!("nvidia.com/mig.config={config}: partitioning gpus"));
        self.cluster.set_state(LayoutState::Pending);
        self.cluster.wait_written(PENDING_TIMEOUT).await;
        let mut backoff = self.settings.retry.backoff();
        let mut logged = None;
        loop {
            let attempt = self.attempt(config).await;
            // The result of a layout that nobody requests any more is not reported.
            if !requests(desired, config) {
                return false;
            }
            match attempt {
                Ok(changed) => {
                    let last = applied_annotation(config, &self.boot);
                    self.cluster.set_state(LayoutState::Success { last: &last });
                    if changed {
                        let message = format!("gpus are partitioned to layout {config:?}");
                        self.cluster.send_event("Repartitioned", &message, EventType::Normal);
                    }
                    (self.log)(&format!("nvidia.com/mig.config={config}: done"));
                    return true;
                }
                Err(failed) => {
                    let reason = Some(failed.reason.clone());
                    if logged != reason {
                        (self.log)(&format!("nvidia.com/mig.config={config}: {}", failed.reason));
                        logged = reason;
                    }
                    self.cluster.set_state(LayoutState::Failed { reason: &failed.reason });
                    self.cluster.send_event(
                        "RepartitionFailed",
                        &failed.reason,
                        EventType::Warning,
                    );
                    let wait = equal_jitter(backoff.next_wait());
                    if !self.wait(config, &failed, wait, desired).await {
                        return false;
                    }
                }
            }
        }
    }

    /// Makes one try. Returns true when something was changed. Allocations are paused only for steps that change GPUs:
    /// a layout that is applied already, or that cannot be applied, delays no pod.
    async fn attempt(&self, config: &str) -> Result<bool, FailedAttempt> {
        let layouts = self.layouts();
        let fail = |reason, holders: Vec<String>, held: &Held| {
            let held = held.iter().filter(|(_, holder)| holders.contains(holder));
            let in_the_way = held.map(|(id, holder)| (id.clone(), holder.clone())).collect();
            FailedAttempt { reason, in_the_way, layouts }
        };
        let held = self.held().await.map_err(|e| fail(e.to_string(), Vec::new(), &Held::new()))?;
        let step = |step, held: Held| async move {
            let reached = self.take(step, config, &held).await;
            reached.map_err(|failure| fail(failure.to_string(), failure.holders.into_vec(), &held))
        };
        {
            // A change that was cut off, with this program or the machine, is completed first.
            let _pause = self.gate.pause(config);
            step(RepartitionStep::Resume, held.clone()).await?;
        }
        if step(RepartitionStep::Plan, held.clone()).await? {
            return Ok(false);
        }
        let _pause = self.gate.pause(config);
        // Read again: a pod may have got a slice before the pause began.
        let held = self.held().await.map_err(|e| fail(e.to_string(), Vec::new(), &held))?;
        step(RepartitionStep::Apply, held).await?;
        Ok(true)
    }

    /// Takes a step in a child process. Returns true when the layout is reached.
    async fn take(&self, step: RepartitionStep, config: &str, held: &Held) -> Result<bool, Error> {
        let settings = &self.settings;
        // The step finds processes by itself. A pod that was admitted and has no process yet is known to the kubelet only.
        let in_use =
            held.iter().map(|(id, holder)| InUse { slice: id.clone(), holder: holder.clone() });
        let holders = HolderOptions {
            host_root: settings.holders_root.clone(),
            in_use: in_use.collect(),
            state_dir: settings.state_dir.clone(),
            // A node may be a container itself, as those of kind: the pods are in its PID namespace then.
            must_see_machine: false,
        };
        let request = RepartitionRequest {
            step,
            layout: LayoutFile { path: settings.layouts.clone(), layout: config.to_owned() },
            roots: settings.roots.clone(),
            options: ApplyOptions {
                holders,
                journal_dir: settings.journal_dir.clone(),
                wait: Duration::ZERO,
                refresh: Some(settings.generate.clone()),
            },
        };
        // It blocks until the child ends, and the servers share this thread.
        let (program, limit) = (settings.program.clone(), settings.step_timeout);
        let call = move || child::call(program.as_deref(), &request, limit);
        let ended = tokio::task::spawn_blocking(call).await;
        ended.unwrap_or_else(|error| Err(Error::failed("partition", "gpus").because(error)))
    }

    /// Waits until another try may succeed: a pod has released what it held, the file has changed, or `time` is over.
    /// Returns false when another layout is requested.
    async fn wait(
        &self,
        config: &str,
        failed: &FailedAttempt,
        time: Duration,
        desired: &mut Receiver<Option<LayoutRequest>>,
    ) -> bool {
        let end = Instant::now() + time;
        loop {
            tokio::select! {
                changed = desired.changed() => if changed.is_err() || !requests(desired, config) {
                    return false;
                },
                () = sleep(self.settings.poll.min(end.saturating_duration_since(Instant::now()))) => {
                    let changed = self.layouts() != failed.layouts;
                    if changed || Instant::now() >= end || self.is_released(failed).await {
                        return true;
                    }
                }
            }
        }
    }

    /// Returns true when a pod that was in the way has released its slice. Other pods do not count, because each try
    /// pauses allocations.
    async fn is_released(&self, failed: &FailedAttempt) -> bool {
        if failed.in_the_way.is_empty() {
            return false;
        }
        let held = self.held().await;
        held.is_ok_and(|held| {
            failed.in_the_way.iter().any(|(id, holder)| held.get(id) != Some(holder))
        })
    }

    /// Devices that pods hold, by the kubelet and by recent allocations.
    async fn held(&self) -> error::Result<Held> {
        let held = pod_resources::held(&self.settings.pod_resources).await?;
        let mut held: Held = held.into_iter().map(|(id, holder)| (id, holder.pod)).collect();
        for id in self.gate.recent_allocations() {
            held.entry(id).or_insert_with(|| STARTING.to_owned());
        }
        Ok(held)
    }

    /// Hash of the layout file; `None` when it cannot be read.
    fn layouts(&self) -> Option<u64> {
        let text = read_regular(&self.settings.layouts, TEXT_LIMIT).ok()?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// Returns true while the label names this layout.
fn requests(desired: &Receiver<Option<LayoutRequest>>, config: &str) -> bool {
    desired.borrow().as_ref().is_some_and(|desired| desired.config.as_deref() == Some(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(config: Option<&str>, state: Option<&str>, last: Option<&str>) -> LayoutRequest {
        let own = |text: Option<&str>| text.map(str::to_owned);
        LayoutRequest { config: own(config), state: own(state), last: own(last) }
    }

    #[test]
    fn the_action_depends_on_label_and_record() {
        let apply = |config: &str| NextAction::Apply(config.to_owned());
        let was = |state, last| desired(Some("a"), state, last);
        let cases = [
            (desired(None, None, None), None, NextAction::Nothing),
            (desired(None, Some("success"), Some("a boot")), None, NextAction::Clear),
            (desired(None, None, None), Some("a"), NextAction::Clear),
            (desired(Some(""), Some("success"), None), None, NextAction::Clear),
            (was(None, None), None, apply("a")),
            (was(Some("success"), Some("a boot")), None, NextAction::RecordApplied("a".to_owned())),
            // The success of another program, of another layout, and of an earlier boot.
            (was(Some("success"), None), None, apply("a")),
            (was(Some("success"), Some("b boot")), None, apply("a")),
            (was(Some("success"), Some("a earlier")), None, apply("a")),
            (was(Some("pending"), Some("a boot")), None, apply("a")),
            (was(Some("failed"), Some("a boot")), None, apply("a")),
            // The layout decides, not what another program wrote into the state.
            (was(Some("failed"), None), Some("a"), NextAction::Nothing),
            (was(Some("success"), Some("a boot")), Some("b"), apply("a")),
        ];
        for (desired, done, expected) in cases {
            assert_eq!(next_action(&desired, done, "boot"), expected, "{desired:?} {done:?}");
        }
    }
}
