//! Repartition by label, by the contract of the GPU operator's MIG manager: `nvidia.com/mig.config` names a
//! layout, `nvidia.com/mig.config.state` says `pending`, `success` or `failed`. Slices of pods stay, whatever
//! the label says: what cannot be done without them is `failed` with the reason, and is done when they are
//! gone.

mod dividing;

pub use dividing::{Dividing, Running};

use crate::{
    cluster::{Backoff, Cluster, Desired, Say, Severity, about},
    pod_resources,
};
use mig_cdi_sys::{Ran, Root, read_regular, run as run_program};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
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
    /// The program that takes `apply` and its words.
    pub program: PathBuf,
    /// The file of layouts.
    pub layouts: PathBuf,
    /// Words for `plan` and `apply` besides the layout: where things are on the node.
    pub words: Vec<OsString>,
    /// Words for `apply` alone.
    pub change_words: Vec<OsString>,
    /// The kubelet's socket; see [`pod_resources::SOCKET`].
    pub pod_resources: PathBuf,
    /// Where the machine's `/proc` is.
    pub host_root: PathBuf,
    /// How long a run may take. It is killed then, and the next one ends what it began.
    pub limit: Duration,
    /// How often it is looked whether what was in the way is gone: the kubelet is asked then, not the API
    /// server.
    pub look: Duration,
    /// The first wait until it is tried again anyway, and the longest: they double.
    pub retry: (Duration, Duration),
}

impl Settings {
    /// The usual ones for a program and a file.
    #[must_use]
    pub fn new(program: PathBuf, layouts: PathBuf) -> Settings {
        Settings {
            program,
            layouts,
            words: Vec::new(),
            change_words: Vec::new(),
            pod_resources: pod_resources::SOCKET.into(),
            host_root: "/".into(),
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
    /// What pods held then, by id.
    held: Held,
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
                    let wait = about(backoff.next());
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
        let fail = |reason, held: &Held| Failed { reason, held: held.clone(), layouts };
        let mut file = OsString::from("--file=");
        file.push(&self.settings.layouts);
        let wish = [file, format!("--layout={config}").into()];
        let held = self.held().await.map_err(|e| fail(e.to_string(), &Held::new()))?;
        {
            // What an earlier run began, before this program or the machine went down, is ended first.
            let _running = self.dividing.begin(config);
            let resumed = self.run_program("apply", &["--resume".into()], &held).await;
            resumed.map_err(|why| fail(why, &held))?;
        }
        let plan = self.run_program("plan", &[&wish[..], &["--json".into()]].concat(), &held).await;
        if is_done(&plan.map_err(|why| fail(why, &held))?) {
            return Ok(false);
        }
        let _running = self.dividing.begin(config);
        let held = self.held().await.map_err(|e| fail(e.to_string(), &held))?;
        self.run_program("apply", &wish, &held).await.map_err(|why| fail(why, &held))?;
        Ok(true)
    }

    /// Runs a command; gives what it says, or why it failed.
    async fn run_program(
        &self,
        command: &str,
        wish: &[OsString],
        held: &Held,
    ) -> Result<String, String> {
        let in_use = held.iter().map(|(id, who)| OsString::from(format!("--in-use={id}={who}")));
        let mut args = vec![OsString::from(command)];
        args.extend(wish.iter().chain(&self.settings.words).cloned().chain(in_use));
        if command == "apply" {
            args.extend(self.settings.change_words.iter().cloned());
        }
        let (program, limit) = (self.settings.program.clone(), self.settings.limit);
        let ran = tokio::task::spawn_blocking(move || run_program(&program, &args, limit)).await;
        match ran {
            Ok(Ok(ran)) if ran.code == Some(0) => Ok(ran.stdout),
            Ok(Ok(ran)) => Err(reason(&ran)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(format!("run {}: {error}", self.settings.program.display())),
        }
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

    /// One that the reason names has not what it had. Of others it does not matter: each try holds up pods.
    async fn has_let_go(&self, failed: &Failed) -> bool {
        let named = failed.held.iter().filter(|(_, who)| failed.reason.contains(who.as_str()));
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            return false;
        }
        let held = self.held().await;
        held.is_ok_and(|held| named.into_iter().any(|(id, who)| held.get(id) != Some(who)))
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

/// True when a plan has no step for any GPU, nor another mode.
fn is_done(plan: &str) -> bool {
    let plan: Vec<Planned> = serde_json::from_str(plan).unwrap_or_default();
    !plan.is_empty() && plan.iter().all(|gpu| gpu.steps.is_empty() && gpu.mode.is_none())
}

/// Of what `plan --json` says of a GPU.
#[derive(Debug, serde::Deserialize)]
struct Planned {
    steps: Vec<serde::de::IgnoredAny>,
    mode: Option<String>,
}

/// What a run that failed says is in the last line of its errors.
fn reason(ran: &Ran) -> String {
    let mut lines = ran.stderr.lines().rev().filter_map(|line| line.strip_prefix("error: "));
    let last = lines.next().or(ran.stderr.lines().next_back()).unwrap_or_default();
    match (last.is_empty(), ran.code) {
        (false, _) => last.to_owned(),
        (true, Some(code)) => format!("mig-cdi apply ended with exit code {code}"),
        (true, None) => "mig-cdi apply was ended by a signal".to_owned(),
    }
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

    #[test]
    fn the_reason_is_the_last_error() {
        let ran = |code, stderr: &str| {
            reason(&Ran { code, stdout: String::new(), stderr: stderr.to_owned() })
        };
        assert_eq!(ran(Some(5), "warning: x\nerror: gpu 0: in use\n"), "gpu 0: in use");
        assert_eq!(ran(Some(2), "wrong words\n"), "wrong words");
        assert_eq!(ran(Some(3), ""), "mig-cdi apply ended with exit code 3");
        assert_eq!(ran(None, ""), "mig-cdi apply was ended by a signal");
    }
}
