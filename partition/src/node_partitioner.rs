//! Partitioning of one node, from desired layouts to the refreshed spec, under the lock of the journal.

use crate::{
    container_holders::not_examined,
    gpu_change::GpuChange,
    holders::{CapabilityAccess, Holders, LazyHolders, capability_query},
    in_use::InUse,
    journal::{JournalDir, LOCK_TIMEOUT, expect_root},
    layout_source::{DesiredGpu, DesiredGpus, LayoutSource},
    node_gpus::NodeGpus,
    options::{ApplyOptions, HolderOptions},
    restored_layout::{omitted_instances, restored},
    step_runner::StepRunner,
};
use mig_cdi_config::layouts::GpuLayoutSetting;
use mig_cdi_gen::{
    Error, ErrorKind, MessageSink, NoMessages, NodeSource, Result,
    discover::{self, Source},
};
use mig_cdi_sys::{Root, nvml::GpuPartitioning};
use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

/// Time before the second try while holders are waited for. Neither NVML nor procfs reports that a client has gone.
const HOLDER_POLL: Duration = Duration::from_millis(200);
/// Longest time between two tries. A try that only the driver refuses may destroy and restore slices that nobody uses.
const LONGEST_HOLDER_POLL: Duration = Duration::from_secs(2);

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
            goes_on: source.is_checkpoint(),
            restores: source.is_checkpoint(),
            ..self.step_runner(&gpus, &holders, &options.holders.in_use, Some(&host))
        };
        let mut has_changed = false;
        let applied = match pending.is_empty() {
            true => Ok(()),
            false => runner.apply(&pending, &journal).map(|more| {
                has_changed = more.len() < pending.len();
                failed.extend(more);
            }),
        };
        drop(holders);
        failed.extend(omitted_instances(&gpus, &desired, source));
        let omitted = [gpus.unreadable.as_slice(), &absent].concat();
        // Closes NVML: `refresh` may wait for a watch.
        drop(gpus);
        // What was undone while holders are waited for is tried again and again, with the same lines each time.
        let is_repeated = match &applied {
            Ok(()) => !has_changed,
            Err(error) => error.kind == ErrorKind::Refused,
        };
        let messages = if is_repeated { &NoMessages } else { self.messages };
        let refreshed = if pending.is_empty() { Ok(true) } else { self.refresh(options, messages) };
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
        let (changes, mut failed) =
            plan_all(&desired, source, |gpu, layout| GpuChange::plan(gpu, all, &holders, layout))?;
        let runner = self.step_runner(&gpus, &holders, in_use, None);
        for change in &changes {
            runner.reach(&change.gpu.uuid, &change.desired)?;
        }
        failed.extend(omitted_instances(&gpus, &desired, source));
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
            goes_on: true,
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
            goes_on: false,
            restores: false,
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
