//! Partitioning of one node, from desired layouts to the refreshed spec, under the lock of the journal.

use crate::{
    container_holders::not_examined,
    gpu_change::GpuChange,
    holders::{CapabilityAccess, Holders, LazyHolders, capability_query},
    in_use::InUse,
    journal::{JournalDir, LOCK_TIMEOUT, expect_root},
    layout_source::{DesiredGpu, DesiredGpus, LayoutSource},
    node_gpus::NodeGpus,
    restored_layout::{self, restored},
    step_runner::StepRunner,
};
use mig_cdi_config::layouts::GpuLayoutSetting;
use mig_cdi_gen::{
    Error, ErrorKind, MessageSink, NoMessages, NodeSource, Result,
    device_nodes::{self, NodesMode},
    discover::{self, Source},
    generate::{GenerateOptions, Generator, OnConflict},
    watch::{self, status::Status},
};
use mig_cdi_sys::{Root, is_root, nvml::GpuPartitioning};
use serde::{Deserialize, Serialize};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Time before the second try while holders are waited for. Neither NVML nor procfs reports that a client has gone.
const HOLDER_POLL: Duration = Duration::from_millis(200);
/// Longest time between two tries. A try that only the driver refuses may destroy and restore slices that nobody uses.
const LONGEST_HOLDER_POLL: Duration = Duration::from_secs(2);
/// Longest wait for a running watch to refresh the spec. It takes a second at most, unless something is wrong.
const WATCH_LIMIT: Duration = Duration::from_secs(5);
/// Time between two reads of the watch's status.
const WATCH_POLL: Duration = Duration::from_millis(5);

/// Places where holders of slices are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderOptions {
    /// Directory that stands for `/` when `/proc` is read.
    pub host_root: PathBuf,
    /// Slices that the caller declares in use.
    #[serde(default)]
    pub in_use: Vec<InUse>,
    /// Directory of the watch's state; `leases` in it holds the leases.
    pub state_dir: PathBuf,
    /// Whether every slice counts as in use where only the processes of a PID namespace can be seen.
    #[serde(default)]
    pub must_see_machine: bool,
}

impl HolderOptions {
    /// Directory of the leases.
    #[must_use]
    pub fn leases_dir(&self) -> PathBuf {
        self.state_dir.join("leases")
    }
}

/// Options of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyOptions {
    /// Places where holders are recorded.
    pub holders: HolderOptions,
    /// Directory of the journal.
    pub journal_dir: PathBuf,
    /// Longest wait for the holders of a slice that has to be destroyed. Nothing is stopped: they have to release it themselves.
    pub wait: Duration,
    /// Options of the spec that is written after the change; with `None` the spec and the device nodes stay as they are.
    pub refresh: Option<GenerateOptions>,
}

/// Result of an apply.
#[derive(Debug)]
pub struct ApplyOutcome {
    /// Change of each GPU that the source selects, those without a step included.
    pub changes: Vec<GpuChange>,
    /// GPUs that NVML could not describe, and those of a checkpoint that the node does not have, an error for each.
    pub omitted: Vec<Error>,
    /// GPUs that could not be restored from a checkpoint, an error for each.
    pub failed: Vec<Error>,
    /// False when the refresh could not confirm or make everything: slices are missing in the spec, or device nodes on the host.
    pub is_refresh_complete: bool,
}

impl ApplyOutcome {
    /// True when every GPU and every slice was dealt with.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.omitted.is_empty() && self.failed.is_empty() && self.is_refresh_complete
    }
}

/// Result of a resumed apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Number of GPUs that have their desired layout now.
    pub gpus: usize,
    /// As [`ApplyOutcome::is_refresh_complete`].
    pub is_refresh_complete: bool,
}

/// Result of a plan: changes that were not made.
pub struct PlannedChanges {
    /// Change of each GPU that the source selects, those without a step included.
    pub changes: Vec<GpuChange>,
    /// GPUs of the node as they are.
    pub gpus: NodeGpus,
}

/// Partitions the GPUs of one node.
///
/// On a simulated node it plans and takes steps as on a real one, and nothing of it is kept.
pub struct NodePartitioner<'a> {
    /// The node.
    pub node: &'a NodeSource,
    /// Receiver of messages.
    pub messages: &'a dyn MessageSink,
}

impl NodePartitioner<'_> {
    /// Brings GPUs to their desired layouts, and refreshes the spec. While a slice that has to be destroyed is in use, it tries
    /// again until the time is up.
    ///
    /// # Errors
    /// When a GPU could not reach its layout: it is as it was before, unless the error says otherwise.
    /// [`ErrorKind::Refused`] when a slice is still in use. When an earlier apply was interrupted, or the spec could not be
    /// written.
    pub fn apply(&self, source: &LayoutSource, options: &ApplyOptions) -> Result<ApplyOutcome> {
        let end = Instant::now() + options.wait;
        let mut was_reported = false;
        let mut poll = HOLDER_POLL;
        loop {
            let outcome = self.attempt(source, options);
            let failures = match &outcome {
                Ok(outcome) => &outcome.failed[..],
                Err(error) => std::slice::from_ref(error),
            };
            let refused = failures.iter().find(|error| error.kind == ErrorKind::Refused);
            match refused {
                Some(error) if Instant::now() < end => {
                    if !std::mem::replace(&mut was_reported, true) {
                        let seconds = options.wait.as_secs();
                        let message = format!("{error}; waiting up to {seconds} s");
                        self.messages.warn(&message);
                    }
                    mig_cdi_sys::sleep(poll.min(end.saturating_duration_since(Instant::now())));
                    poll = (poll * 3 / 2).min(LONGEST_HOLDER_POLL);
                }
                _ => {
                    if let Ok(ApplyOutcome { failed, .. }) = &outcome {
                        failed.iter().for_each(|error| self.messages.error(&error.to_string()));
                    }
                    return outcome;
                }
            }
        }
    }

    /// Makes one attempt. NVML is open only during it, and not while holders are waited for: a process that has NVML open keeps
    /// the driver from changing the MIG mode of an Ampere GPU, as dcgm does (NVIDIA's MIG user guide).
    fn attempt(&self, source: &LayoutSource, options: &ApplyOptions) -> Result<ApplyOutcome> {
        if self.node.is_simulated() {
            return self.simulate(source, &options.holders.in_use);
        }
        expect_root()?;
        // Before the lock is taken: a node with many processes takes time to examine, and others wait for the lock.
        let looked = self.look(source, options);
        let host = Root::open(&options.holders.host_root)?;
        let open = |limit| JournalDir::open(&options.journal_dir, &host, limit);
        let (journal, gpus, earlier) = match open(Duration::ZERO) {
            Ok(journal) => {
                let (gpus, earlier) = looked?;
                (journal, gpus.read_again(self.node, self.messages)?, earlier)
            }
            // NVML is closed while another apply is waited for. That may take a minute, so what was found is old then.
            Err(_) => {
                drop(looked?);
                (open(LOCK_TIMEOUT)?, NodeGpus::read(self.node, self.messages)?, None)
            }
        };
        let journal = journal.keep_interrupted()?;
        let DesiredGpus { gpus: desired, absent } = gpus.desired(source, self.messages)?;
        journal.expect_complete(desired.iter().map(|desired| desired.gpu))?;
        let all = &gpus.all;
        let earlier = Cell::new(earlier);
        let holders = LazyHolders::new(|gpu| {
            let (gpus, earlier) = (gpus.with(gpu), earlier.take());
            Ok(self.find_holders(&gpus, &options.holders, true, earlier.as_ref())?.0)
        });
        let (changes, mut failed) =
            plan_all(&desired, source, |gpu, layout| GpuChange::plan(gpu, all, &holders, layout))?;
        let pending: Vec<_> = changes.iter().filter(|change| !change.is_empty()).cloned().collect();
        let accessors = |gpu: &GpuPartitioning| self.accessors(gpu, &options.holders);
        let withdraw = || self.withdraw(options);
        let runner = StepRunner {
            accessors: Some(&accessors),
            withdraw: Some(&withdraw),
            is_lenient: source.is_checkpoint(),
            ..self.step_runner(&gpus, &holders, &options.holders.in_use, Some(&host))
        };
        let applied = match pending.is_empty() {
            true => Ok(()),
            false => runner.apply(&pending, &journal).map(|more| failed.extend(more)),
        };
        drop(holders);
        if source.is_checkpoint() {
            failed.extend(desired.iter().flat_map(|desired| {
                // In MIG mode by now, in which every driver reports the profiles.
                let gpu = gpus.partitioner.gpu(&desired.gpu.uuid);
                restored_layout::omitted(&desired.layout, gpu.as_ref().unwrap_or(desired.gpu))
            }));
        }
        let omitted = [gpus.unreadable.as_slice(), &absent].concat();
        // Closes NVML: `refresh` may wait for a watch.
        drop(gpus);
        let refreshed = match (&applied, pending.is_empty()) {
            (_, true) => Ok(true),
            (Ok(()), false) => self.refresh(options, self.messages),
            // What was undone is as it was before, and may be tried again and again.
            (Err(_), false) => self.refresh(options, &NoMessages),
        };
        let is_refresh_complete = applied.and(refreshed)?;
        Ok(ApplyOutcome { changes, omitted, failed, is_refresh_complete })
    }

    /// Plans the changes without the lock. Returns the GPUs, and what was found out about processes: nothing when no instance has to
    /// be destroyed.
    fn look(
        &self,
        source: &LayoutSource,
        options: &ApplyOptions,
    ) -> Result<(NodeGpus, Option<CapabilityAccess>)> {
        let found = RefCell::new(None);
        let gpus = NodeGpus::read(self.node, &NoMessages)?;
        let all = &gpus.all;
        let holders = LazyHolders::new(|_| {
            let (holders, access) = self.find_holders(all, &options.holders, true, None)?;
            found.replace(Some(access));
            Ok(holders)
        });
        let desired = gpus.desired(source, &NoMessages)?;
        plan_all(&desired.gpus, source, |gpu, layout| GpuChange::plan(gpu, all, &holders, layout))?;
        drop(holders);
        Ok((gpus, found.into_inner()))
    }

    /// Takes the steps on a simulated node, which shows that they would succeed.
    fn simulate(&self, source: &LayoutSource, in_use: &[InUse]) -> Result<ApplyOutcome> {
        let gpus = NodeGpus::read(self.node, self.messages)?;
        let DesiredGpus { gpus: desired, absent } = gpus.desired(source, self.messages)?;
        let all = &gpus.all;
        let holders = LazyHolders::new(|_| self.simulated_holders(all, in_use));
        let (changes, failed) =
            plan_all(&desired, source, |gpu, layout| GpuChange::plan(gpu, all, &holders, layout))?;
        let runner = self.step_runner(&gpus, &holders, in_use, None);
        for change in &changes {
            runner.reach(&change.gpu.uuid, &change.desired)?;
        }
        self.messages.warn("the node is simulated: all steps succeeded, and nothing is kept");
        let omitted = [gpus.unreadable.as_slice(), &absent].concat();
        Ok(ApplyOutcome { changes, omitted, failed, is_refresh_complete: true })
    }

    /// Completes an apply that was interrupted: each GPU in the journal reaches its desired layout, or else the one that it had.
    /// Returns `None` when no apply was interrupted.
    ///
    /// # Errors
    /// As [`NodePartitioner::apply`].
    pub fn resume(&self, options: &ApplyOptions) -> Result<Option<Resumed>> {
        if self.node.is_simulated() {
            return Err(Error::usage("resume", "an apply")
                .because("a simulated node keeps none that could be resumed")
                .with_cure("omit --node"));
        }
        let host = Root::open(&options.holders.host_root)?;
        let journal_dir = JournalDir::open(&options.journal_dir, &host, LOCK_TIMEOUT)?;
        let Some(journal) = journal_dir.read()? else { return Ok(None) };
        let gpus = NodeGpus::read(self.node, self.messages)?;
        let holders = LazyHolders::new(|gpu| {
            Ok(self.find_holders(&gpus.with(gpu), &options.holders, true, None)?.0)
        });
        let accessors = |gpu: &GpuPartitioning| self.accessors(gpu, &options.holders);
        let withdraw = || self.withdraw(options);
        let runner = StepRunner {
            accessors: Some(&accessors),
            withdraw: Some(&withdraw),
            // One that fails, such as one that fell off the bus, keeps no other from its layout.
            is_lenient: true,
            ..self.step_runner(&gpus, &holders, &options.holders.in_use, Some(&host))
        };
        let completed = runner.complete(&journal.gpus, &journal_dir);
        drop(holders);
        drop(gpus);
        let refreshed = self.refresh(options, self.messages);
        let mut failures = completed?;
        let is_refresh_complete = refreshed?;
        if let Some(failure) = failures.pop() {
            failures.iter().for_each(|failure| self.messages.error(&failure.to_string()));
            return Err(failure);
        }
        Ok(Some(Resumed { gpus: journal.gpus.len(), is_refresh_complete }))
    }

    /// Plans the changes to the layouts of a source, and takes no step.
    ///
    /// # Errors
    /// When a layout is impossible, or the holders of slices cannot be found.
    pub fn plan(&self, source: &LayoutSource, options: &HolderOptions) -> Result<PlannedChanges> {
        let gpus = NodeGpus::read(self.node, self.messages)?;
        let holders = self.holders(&gpus, options, false)?;
        let changes = gpus.changes(&gpus.desired(source, self.messages)?.gpus, &holders)?;
        Ok(PlannedChanges { changes, gpus })
    }

    fn step_runner<'a>(
        &'a self,
        gpus: &'a NodeGpus,
        holders: &'a LazyHolders<'a>,
        in_use: &'a [InUse],
        host: Option<&'a Root>,
    ) -> StepRunner<'a> {
        let partitioner = gpus.partitioner.as_ref();
        let (all, messages) = (&*gpus.all, self.messages);
        StepRunner {
            partitioner,
            all,
            holders,
            in_use,
            host,
            accessors: None,
            withdraw: None,
            is_lenient: false,
            messages,
        }
    }

    /// Finds the containers that can use the instances of a GPU as they are now.
    fn accessors(&self, gpu: &GpuPartitioning, options: &HolderOptions) -> Result<Holders> {
        let mut holders = Holders::default();
        let topology = discover::discover(&self.node.host()?, Source::Proc)?.topology;
        let query = capability_query(&topology, &[], options, &self.node.roots.dev);
        let access = CapabilityAccess::in_containers(query);
        if access.forbidden() > 0 {
            return Err(not_examined(access.forbidden()));
        }
        holders.add_accessors(&access, &topology);
        holders.add_undiscovered(gpu, &topology);
        Ok(holders)
    }

    /// Takes the slices that were destroyed out of the spec, and out of that of a running watch, which may be another one.
    fn withdraw(&self, options: &ApplyOptions) {
        let Some(generate) = &options.refresh else { return };
        let withdrawn = watch::withdraw_gone(self.node, generate);
        let refreshed = self.watch_after_refresh(&options.holders.state_dir, self.messages);
        if let Err(error) = withdrawn.and(refreshed) {
            self.messages
                .warn(&format!("the spec may have names of slices that are gone: {error}"));
        }
    }

    /// Finds the holders of slices. With `must_see_all`, a process that cannot be examined is an error; without, a warning.
    ///
    /// # Errors
    /// When processes or leases cannot be read.
    pub fn holders(
        &self,
        gpus: &NodeGpus,
        options: &HolderOptions,
        must_see_all: bool,
    ) -> Result<Holders> {
        if self.node.is_simulated() {
            return self.simulated_holders(&gpus.all, &options.in_use);
        }
        Ok(self.find_holders(&gpus.all, options, must_see_all, None)?.0)
    }

    fn simulated_holders(&self, gpus: &[GpuPartitioning], in_use: &[InUse]) -> Result<Holders> {
        let mut holders = Holders::simulated(gpus);
        self.add_declared(&mut holders, in_use)?;
        Ok(holders)
    }

    fn add_declared(&self, holders: &mut Holders, in_use: &[InUse]) -> Result<()> {
        if in_use.is_empty() {
            return Ok(());
        }
        // Declared slices may be named by UUID, which only NVML reports.
        let found = discover::discover(self.node.machine()?.as_ref(), Source::Nvml)?;
        holders.add_declared(in_use, &found)
    }

    fn find_holders(
        &self,
        gpus: &[GpuPartitioning],
        options: &HolderOptions,
        must_see_all: bool,
        earlier: Option<&CapabilityAccess>,
    ) -> Result<(Holders, CapabilityAccess)> {
        let mut holders = Holders::default();
        holders.add_leases(&options.leases_dir(), gpus)?;
        let topology = discover::discover(&self.node.host()?, Source::Proc)?.topology;
        self.add_declared(&mut holders, &options.in_use)?;
        let dev_root = &self.node.roots.dev;
        let query = capability_query(&topology, gpus, options, dev_root);
        let access = CapabilityAccess::find(query, earlier);
        holders.add_accessors(&access, &topology);
        gpus.iter().for_each(|gpu| holders.add_undiscovered(gpu, &topology));
        holders.add_processes(gpus, access.described());
        if access.forbidden() > 0 {
            let error = not_examined(access.forbidden());
            match must_see_all {
                true => return Err(error),
                false => self.messages.warn(&error.to_string()),
            }
        }
        Ok((holders, access))
    }

    /// Refreshes device nodes and spec. A running watch does that itself, with its own flags. Returns false when something is missing,
    /// which was reported.
    fn refresh(&self, options: &ApplyOptions, messages: &dyn MessageSink) -> Result<bool> {
        let Some(generate) = &options.refresh else { return Ok(true) };
        match self.watch_after_refresh(&options.holders.state_dir, messages)? {
            Some(WatchRefresh::Complete) => return Ok(true),
            Some(WatchRefresh::Incomplete) => return Ok(false),
            None => {}
        }
        // Nodes first. The driver creates none for a new instance (`nv-caps.c` has no `device_create`), and engines that bind-mount
        // the host's nodes would find none (NVIDIA/mig-parted issue 82).
        let nodes = match is_root() {
            true => device_nodes::apply(self.node, NodesMode::default(), messages)
                .map(|changes| changes.problems.is_empty()),
            false => Ok(true),
        };
        let generator = Generator::new(self.node, generate, messages);
        let specs = generator.generate(OnConflict::Refuse, || ())?;
        Ok(nodes? && specs.plan.is_complete())
    }

    /// Waits until a running watch reports the current slices, so that a container that is started next finds them in the spec.
    /// Returns `None` when no watch runs.
    fn watch_after_refresh(
        &self,
        state_dir: &Path,
        messages: &dyn MessageSink,
    ) -> Result<Option<WatchRefresh>> {
        let running_watch = || {
            let status = Status::read(state_dir).ok().flatten();
            status.filter(|status| status.is_running(state_dir))
        };
        if running_watch().is_none() {
            return Ok(None);
        }
        let topology = discover::discover(&self.node.host()?, Source::Nvml)?.topology;
        let uuids = topology.mig_devices().filter_map(|device| device.ci.uuid.as_ref());
        let current: BTreeSet<_> = uuids.map(ToString::to_string).collect();
        let end = Instant::now() + WATCH_LIMIT;
        while let Some(status) = running_watch() {
            // By UUID, which is independent of the styles of names. A slice that is recreated on the same engine has the UUID of
            // its predecessor (`gpu_uuid.c:91-245`): then the status may be a poll behind.
            let omitted = status.node.omitted;
            let reported = status.node.devices.into_iter().filter_map(|slice| slice.uuid);
            if reported.collect::<BTreeSet<_>>() == current {
                if omitted == 0 {
                    return Ok(Some(WatchRefresh::Complete));
                }
                let what = if omitted == 1 { "a device" } else { "devices" };
                messages
                    .warn(&format!("mig-cdi watch omits {what} from the spec; run mig-cdi doctor"));
                return Ok(Some(WatchRefresh::Incomplete));
            }
            if Instant::now() >= end {
                let seconds = WATCH_LIMIT.as_secs();
                messages.warn(&format!(
                    "mig-cdi watch has not refreshed the spec after {seconds} s; run mig-cdi status"
                ));
                return Ok(Some(WatchRefresh::Incomplete));
            }
            mig_cdi_sys::sleep(WATCH_POLL);
        }
        Ok(None)
    }
}

/// What a running watch has made of the current slices.
enum WatchRefresh {
    /// The spec has all of them.
    Complete,
    /// It omits something, or is late.
    Incomplete,
}

/// Plans the changes of GPUs. Returns those that a checkpoint is for and whose layout is impossible as errors: the others are restored.
fn plan_all(
    desired: &[DesiredGpu<'_>],
    source: &LayoutSource,
    plan: impl Fn(&GpuPartitioning, &GpuLayoutSetting) -> Result<GpuChange>,
) -> Result<(Vec<GpuChange>, Vec<Error>)> {
    let (mut changes, mut failures) = (Vec::new(), Vec::new());
    for desired in desired {
        let change = match source.is_checkpoint() {
            true => desired.change(|gpu, layout| plan(gpu, &restored(layout, gpu))),
            false => desired.change(&plan),
        };
        match change {
            Ok(change) => changes.push(change),
            Err(error) if source.is_checkpoint() => failures.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((changes, failures))
}
