//! Repartition by label, by the contract of the GPU operator's MIG manager: `nvidia.com/mig.config` names a
//! layout, `nvidia.com/mig.config.state` says `pending`, `success` or `failed`. Slices of pods stay, whatever
//! the label says: what cannot be done without them is `failed` with the reason, and is done when they are
//! gone.

pub mod child;
mod dividing;

pub use dividing::{Dividing, Running};

use crate::{
    cluster::{Cluster, Desired, Say, Severity, about},
    pod_resources,
};
use child::{RepartitionRequest, Step};
use mig_cdi_gen::{Error, NodeRoots, generate::GenerateOptions, watch::WatchSetup};
use mig_cdi_model::Backoff;
use mig_cdi_partition::{
    InUse, LayoutFile,
    run::{ChangeOptions, HolderOptions},
};
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

/// Far above any file of layouts.
const TEXT_LIMIT: usize = 4 << 20;
/// How long dividing waits for the API server to say `pending`.
const PATIENCE: Duration = Duration::from_secs(2);
/// Whoever is given a slice that the kubelet does not list yet.
const STARTING: &str = "a pod that is being started";

/// How GPUs are divided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The plugin's own program, which takes each step in a child.
    pub program: PathBuf,
    /// The file of layouts.
    pub layouts: PathBuf,
    /// Roots of the node.
    pub roots: NodeRoots,
    /// Options of the spec that follows a change where no watch runs.
    pub generate: GenerateOptions,
    /// Directory of the watch's state.
    pub state_dir: PathBuf,
    /// Directory of the journal.
    pub journal_dir: PathBuf,
    /// The kubelet's socket; see [`pod_resources::SOCKET`].
    pub pod_resources: PathBuf,
    /// Where the machine's `/proc` is, for the identity of its boot.
    pub host_root: PathBuf,
    /// Directory that stands for `/` when holders of slices are looked for.
    pub holders_root: PathBuf,
    /// How long a run may take. It is killed then, and the next one ends what it began.
    pub limit: Duration,
    /// How often it is looked whether what was in the way is gone: the kubelet is asked then, not the API
    /// server.
    pub look: Duration,
    /// The first wait until it is tried again anyway, and the longest: they double.
    pub retry: (Duration, Duration),
}

impl Settings {
    /// The usual settings for a program, a file of layouts, and the watch that the program is.
    #[must_use]
    pub fn new(
        program: PathBuf,
        layouts: PathBuf,
        setup: &WatchSetup,
        state_dir: &Path,
    ) -> Settings {
        Settings {
            program,
            layouts,
            roots: setup.node.roots.clone(),
            generate: setup.generate.clone(),
            state_dir: state_dir.to_owned(),
            journal_dir: "/var/lib/mig-cdi".into(),
            pod_resources: pod_resources::SOCKET.into(),
            host_root: "/".into(),
            holders_root: "/".into(),
            limit: Duration::from_secs(600),
            look: Duration::from_secs(10),
            retry: (Duration::from_secs(60), Duration::from_secs(900)),
        }
    }
}

/// Whoever divides GPUs as the label says.
pub struct Repartition {
    cluster: Cluster,
    settings: Settings,
    dividing: Dividing,
    say: Say,
    /// Which start of the machine: no GPU instance outlives it.
    boot: String,
}

/// Who holds what, by id.
type Held = BTreeMap<String, String>;

/// Why it is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    reason: String,
    /// Slices that pods held then and that had to go, by id, with the pod.
    in_the_way: Held,
    /// What the file of layouts said then.
    layouts: Option<u64>,
}

/// What a label asks for, given what was done.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Rest,
    /// No layout is asked for any more: the GPUs stay, and nothing is said of them.
    Clear,
    /// It was done before this start.
    IsDone(String),
    Divide(String),
}

fn next(desired: &Desired, done: Option<&str>, boot: &str) -> Next {
    let Some(config) = desired.config.as_deref().filter(|config| !config.is_empty()) else {
        return match desired.state.is_some() || desired.last.is_some() || done.is_some() {
            true => Next::Clear,
            false => Next::Rest,
        };
    };
    let recorded = desired.last.as_deref() == Some(&record(config, boot));
    if done == Some(config) {
        Next::Rest
    } else if done.is_none() && recorded && desired.state.as_deref() == Some("success") {
        Next::IsDone(config.to_owned())
    } else {
        Next::Divide(config.to_owned())
    }
}

fn record(config: &str, boot: &str) -> String {
    format!("{config} {boot}")
}

impl Repartition {
    /// `dividing` is for whoever hands out slices.
    #[must_use]
    pub fn new(cluster: Cluster, settings: Settings, dividing: Dividing, say: Say) -> Repartition {
        let read = |root: Root| root.read("/proc/sys/kernel/random/boot_id", TEXT_LIMIT).ok()?;
        let boot = Root::open(&settings.host_root).ok().and_then(read).unwrap_or_default();
        let boot = String::from_utf8_lossy(&boot).trim().to_owned();
        Repartition { cluster, settings, dividing, say, boot }
    }

    /// Does what the label says, whenever it says something else. Never ends while there is a cluster.
    pub async fn run(self) {
        let mut desired = self.cluster.desired();
        let mut done: Option<String> = None;
        loop {
            let now = desired.borrow_and_update().clone();
            let next = now.map_or(Next::Rest, |now| next(&now, done.as_deref(), &self.boot));
            match next {
                Next::Rest => {}
                Next::Clear => {
                    done = None;
                    self.cluster.set_state(None, None, None);
                }
                Next::IsDone(config) => {
                    let last = record(&config, &self.boot);
                    self.cluster.set_state(Some("success"), None, Some(&last));
                    done = Some(config);
                }
                Next::Divide(config) => {
                    done = self.divide(&config, &mut desired).await.then_some(config);
                    continue;
                }
            }
            if desired.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tries until it is so; false when something else is asked for first. What another label asked for meanwhile
    /// is never begun: the newest counts.
    async fn divide(&self, config: &str, desired: &mut Receiver<Option<Desired>>) -> bool {
        (self.say)(&format!("nvidia.com/mig.config={config}: dividing gpus"));
        self.cluster.set_state(Some("pending"), None, None);
        self.cluster.written(PATIENCE).await;
        let (first, limit) = self.settings.retry;
        let mut backoff = Backoff::new(first, limit);
        let mut told = None;
        loop {
            let tried = self.attempt(config).await;
            if !asks(desired, config) {
                return false;
            }
            match tried {
                Ok(changed) => {
                    let last = record(config, &self.boot);
                    self.cluster.set_state(Some("success"), None, Some(&last));
                    if changed {
                        let message = format!("gpus are divided as {config:?} says");
                        self.cluster.event("Repartitioned", &message, Severity::Normal);
                    }
                    (self.say)(&format!("nvidia.com/mig.config={config}: done"));
                    return true;
                }
                Err(failed) => {
                    let reason = Some(failed.reason.clone());
                    if told != reason {
                        (self.say)(&format!("nvidia.com/mig.config={config}: {}", failed.reason));
                        told = reason;
                    }
                    self.cluster.set_state(Some("failed"), Some(&failed.reason), None);
                    self.cluster.event("RepartitionFailed", &failed.reason, Severity::Warning);
                    let wait = about(backoff.next_wait());
                    if !self.wait(config, &failed, wait, desired).await {
                        return false;
                    }
                }
            }
        }
    }

    /// One try. True when something was changed. A wish that nothing has to be done for, or that cannot be
    /// done, holds up no pod.
    async fn attempt(&self, config: &str) -> Result<bool, Failed> {
        let layouts = self.layouts();
        let fail = |reason, holders: Vec<String>, held: &Held| {
            let held = held.iter().filter(|(_, who)| holders.contains(who));
            let in_the_way = held.map(|(id, who)| (id.clone(), who.clone())).collect();
            Failed { reason, in_the_way, layouts }
        };
        let held = self.held().await.map_err(|e| fail(e.to_string(), Vec::new(), &Held::new()))?;
        let step = |step, held: Held| async move {
            let reached = self.take(step, config, &held).await;
            reached.map_err(|failure| fail(failure.to_string(), failure.holders, &held))
        };
        {
            // What an earlier run began, before this program or the machine went down, is ended first.
            let _running = self.dividing.begin(config);
            step(Step::Resume, held.clone()).await?;
        }
        if step(Step::Plan, held.clone()).await? {
            return Ok(false);
        }
        let _running = self.dividing.begin(config);
        let held = self.held().await.map_err(|e| fail(e.to_string(), Vec::new(), &held))?;
        step(Step::Apply, held).await?;
        Ok(true)
    }

    /// Takes a step in a child. Returns whether the layout is reached.
    async fn take(&self, step: Step, config: &str, held: &Held) -> Result<bool, Error> {
        let settings = &self.settings;
        let in_use = held.iter().map(|(id, who)| InUse { id: id.clone(), who: who.clone() });
        let holders = HolderOptions {
            host_root: settings.holders_root.clone(),
            in_use: in_use.collect(),
            state_dir: settings.state_dir.clone(),
        };
        let request = RepartitionRequest {
            step,
            layout: LayoutFile { path: settings.layouts.clone(), layout: config.to_owned() },
            roots: settings.roots.clone(),
            options: ChangeOptions {
                holders,
                journal_dir: settings.journal_dir.clone(),
                wait: Duration::ZERO,
                refresh: Some(settings.generate.clone()),
            },
        };
        let (program, limit) = (settings.program.clone(), settings.limit);
        let call = move || child::call(&program, &request, limit);
        tokio::task::spawn_blocking(call).await.unwrap_or_else(|error| {
            let program = self.settings.program.display();
            Err(Error::failed("run", program).because(error))
        })
    }

    /// Waits until it is worth another try: a pod let go of what it held, the file says something else, or it
    /// has been long enough. False when something else is asked for.
    async fn wait(
        &self,
        config: &str,
        failed: &Failed,
        time: Duration,
        desired: &mut Receiver<Option<Desired>>,
    ) -> bool {
        let end = Instant::now() + time;
        loop {
            tokio::select! {
                changed = desired.changed() => if changed.is_err() || !asks(desired, config) {
                    return false;
                },
                () = sleep(self.settings.look.min(end.saturating_duration_since(Instant::now()))) => {
                    let changed = self.layouts() != failed.layouts;
                    if changed || Instant::now() >= end || self.has_let_go(failed).await {
                        return true;
                    }
                }
            }
        }
    }

    /// Whether a pod that was in the way has let go of its slice. Other pods do not matter: each try holds up Allocate.
    async fn has_let_go(&self, failed: &Failed) -> bool {
        if failed.in_the_way.is_empty() {
            return false;
        }
        let held = self.held().await;
        held.is_ok_and(|held| failed.in_the_way.iter().any(|(id, who)| held.get(id) != Some(who)))
    }

    /// What pods hold, and what they are just being given.
    async fn held(&self) -> Result<Held, pod_resources::Unanswered> {
        let held = pod_resources::held(&self.settings.pod_resources).await?;
        let mut held: Held = held.into_iter().map(|(id, holder)| (id, holder.pod)).collect();
        for id in self.dividing.fresh() {
            held.entry(id).or_insert_with(|| STARTING.to_owned());
        }
        Ok(held)
    }

    /// What tells the text of the file from another.
    fn layouts(&self) -> Option<u64> {
        let text = read_regular(&self.settings.layouts, TEXT_LIMIT).ok()?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Some(hasher.finish())
    }
}

fn asks(desired: &Receiver<Option<Desired>>, config: &str) -> bool {
    desired.borrow().as_ref().is_some_and(|desired| desired.config.as_deref() == Some(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(config: Option<&str>, state: Option<&str>, last: Option<&str>) -> Desired {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Desired { config: own(config), state: own(state), last: own(last) }
    }

    #[test]
    fn what_a_label_asks_for() {
        let divide = |config: &str| Next::Divide(config.to_owned());
        let was = |state, last| desired(Some("a"), state, last);
        let cases = [
            (desired(None, None, None), None, Next::Rest),
            (desired(None, Some("success"), Some("a boot")), None, Next::Clear),
            (desired(None, None, None), Some("a"), Next::Clear),
            (desired(Some(""), Some("success"), None), None, Next::Clear),
            (was(None, None), None, divide("a")),
            (was(Some("success"), Some("a boot")), None, Next::IsDone("a".to_owned())),
            // Somebody else's success, another layout's, that of an earlier start of the machine.
            (was(Some("success"), None), None, divide("a")),
            (was(Some("success"), Some("b boot")), None, divide("a")),
            (was(Some("success"), Some("a earlier")), None, divide("a")),
            (was(Some("pending"), Some("a boot")), None, divide("a")),
            (was(Some("failed"), Some("a boot")), None, divide("a")),
            // The label is what counts, not what somebody wrote into the state.
            (was(Some("failed"), None), Some("a"), Next::Rest),
            (was(Some("success"), Some("a boot")), Some("b"), divide("a")),
        ];
        for (desired, done, expected) in cases {
            assert_eq!(next(&desired, done, "boot"), expected, "{desired:?} {done:?}");
        }
    }
}
