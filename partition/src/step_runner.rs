//! Takes the steps of changes. A GPU ends in its desired layout, or as it was.
//!
//! A failed change is undone by planning the way back from the instances that exist then; no list of inverse steps is kept.

use crate::{
    gpu_change::{GpuChange, ModeStep, current_layout, gpu_label},
    holders::{Holders, LazyHolders, SliceKey, slice_keys},
    in_use::{InUse, declared_holders_of_gpu},
    journal::{JournalDir, JournalEntry},
    processes::processes_with_gpu_open,
    restored_layout::restored,
};
use mig_cdi_config::layouts::GpuLayoutSetting;
use mig_cdi_gen::{Error, ErrorKind, MessageSink, Result};
use mig_cdi_layout::{Action, ParentInstance, Step};
use mig_cdi_model::Placement;
use mig_cdi_sys::{
    Root,
    nvml::{CallError, GpuPartitioning, ModeChange, Partitioner},
};
use std::collections::{BTreeMap, BTreeSet};

/// Ids of the GPU instances that a run has created, by placement. The driver chooses the ids (`kmigmgr_ga100.c:308-353`).
type CreatedInstances = BTreeMap<Placement, u32>;

/// Finds the containers that can use the instances of a GPU.
type FindAccessors<'a> = dyn Fn(&GpuPartitioning) -> Result<Holders> + 'a;

/// Takes the planned steps on the GPUs of a node.
pub(crate) struct StepRunner<'a> {
    /// NVML, or a simulated node.
    pub partitioner: &'a dyn Partitioner,
    /// GPUs of the node before the first step. Their instances show which compute instances a profile can have.
    pub all: &'a [GpuPartitioning],
    /// Holders, which no step may disturb.
    pub holders: &'a LazyHolders<'a>,
    /// Declared holders.
    pub in_use: &'a [InUse],
    /// Root of the machine's `/proc`; `None` on a simulated node, which no process has open.
    pub host: Option<&'a Root>,
    /// Finds the containers that can use the instances of a GPU as they are now; `None` on a simulated node.
    pub accessors: Option<&'a FindAccessors<'a>>,
    /// Takes the instances that were destroyed out of the spec; `None` where there is none.
    pub withdraw: Option<&'a dyn Fn()>,
    /// Whether the run goes on with the next GPU when one fails.
    pub goes_on: bool,
    /// Whether layouts are of a checkpoint, and so reached as [`restored`].
    pub restores: bool,
    /// Receiver of messages.
    pub messages: &'a dyn MessageSink,
}

/// A GPU that has not reached its layout.
struct FailedChange {
    error: Error,
    /// True when it is as it was before.
    is_undone: bool,
}

impl FailedChange {
    /// Returns the error of a run that it ends, with the number of GPUs that were to follow.
    fn with_others(self, count: usize) -> Error {
        let others = match count {
            0 => return self.error,
            1 => "1 more gpu was not changed".to_owned(),
            count => format!("{count} more gpus were not changed"),
        };
        let cause = format!("{}; {others}", self.error.cause);
        Error { cause, ..self.error }
    }
}

/// A GPU that has reached its layout.
pub(crate) struct ChangedGpu {
    gpu: GpuPartitioning,
    /// The instances that it did not have before.
    created: BTreeSet<SliceKey>,
}

impl StepRunner<'_> {
    /// Makes changes, GPU by GPU, and records them in the journal first.
    ///
    /// # Errors
    /// As [`StepRunner::complete`].
    pub(crate) fn apply(&self, changes: &[GpuChange], journal: &JournalDir) -> Result<Vec<Error>> {
        let entry = |change: &GpuChange| {
            let before = current_layout(&change.gpu, self.all);
            JournalEntry::new(&change.gpu, &before, &change.desired)
        };
        let entries: Vec<_> = changes.iter().map(entry).collect();
        journal.write(&entries)?;
        self.complete(&entries, journal)
    }

    /// Makes the changes of a journal, and removes it. A GPU that fails is as it was before; or that failed too, and the journal keeps it
    /// for the next run. Returns the errors of these GPUs, if the run goes on after one.
    ///
    /// # Errors
    /// That of the first GPU that fails, if it ends the run: those before it keep their new layouts, and those after it are not touched.
    pub(crate) fn complete(
        &self,
        entries: &[JournalEntry],
        journal: &JournalDir,
    ) -> Result<Vec<Error>> {
        let (mut failures, mut left) = (Vec::new(), Vec::new());
        for (i, entry) in entries.iter().enumerate() {
            if i > 0 {
                // The GPUs before it took time, in which a container or a program may have started.
                self.holders.forget();
            }
            let Err(failure) = self.change(entry, journal)? else { continue };
            left.extend(Some(entry).filter(|_| !failure.is_undone).cloned());
            let others = &entries[i + 1..];
            if !self.goes_on {
                journal.write(&left)?;
                return Err(failure.with_others(others.len()));
            }
            journal.write(&[left.as_slice(), others].concat())?;
            failures.push(failure.error);
        }
        journal.write(&left)?;
        Ok(failures)
    }

    /// Changes one GPU. NVML has no transaction: what was created before a call that fails stays (NVIDIA's MIG user guide, where
    /// `nvidia-smi mig -cgi 19,19,14,9` fails at the last). So the way back is a change of its own.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn change(
        &self,
        entry: &JournalEntry,
        journal: &JournalDir,
    ) -> Result<std::result::Result<(), FailedChange>> {
        let changed = self.reach(&entry.gpu, &entry.after(journal)?);
        let Err(failure) = changed.and_then(|changed| self.expect_free(&changed)) else {
            return Ok(Ok(()));
        };
        // A container may have been given a new instance of this GPU by now: a watch refreshes the spec at once.
        self.holders.forget();
        Ok(Err(match self.reach(&entry.gpu, &entry.before(journal)?) {
            Ok(_) => {
                self.put_back_pending_mode(entry);
                let cause = format!("{}; it is partitioned as before", failure.cause);
                FailedChange { error: Error { cause, ..failure }, is_undone: true }
            }
            Err(undo_failure) => FailedChange {
                error: not_undone(failure, undo_failure, &entry.gpu),
                is_undone: false,
            },
        }))
    }

    /// Sets the mode again that was to take effect at the next reset before a change that was undone.
    fn put_back_pending_mode(&self, entry: &JournalEntry) {
        let Some(mode) = entry.pending_mode else { return };
        // Where nothing has the GPU open any more, it takes effect at once, as it was meant to.
        if let Err(error) = self.partitioner.set_mode(&entry.gpu, mode) {
            let mode = if mode { "on" } else { "off" };
            self.messages.warn(&format!(
                "{}: mig mode was to be {mode} after the next reset, and cannot be set so again: {error}",
                entry.gpu
            ));
        }
    }

    /// Brings a GPU from whatever layout it has to another, and checks that it has it.
    ///
    /// # Errors
    /// When the layout is impossible, slices in use have no room in it, a call fails, or NVML reports another layout afterwards.
    /// Steps before a failed one are not undone.
    pub(crate) fn reach(&self, uuid: &str, desired: &GpuLayoutSetting) -> Result<ChangedGpu> {
        // Read again for each attempt: the way back starts from whatever a failed change has created.
        let mut gpu = self.partitioner.gpu(uuid).map_err(|e| nvml_error(uuid, &e))?;
        let mut change = self.plan(&gpu, desired)?;
        // Some drivers report profiles only in MIG mode, so the steps are planned again in it.
        if change.sets_mode_to == Some(true) {
            self.set_mode(&gpu, true)?;
            // By UUID: the call may unbind or reset the GPU, which then has another minor number (nvml.h, `nvmlDeviceSetMigMode`).
            gpu = self.read(&gpu)?;
            change = self.plan(&gpu, desired)?;
        }
        let label = gpu_label(&gpu);
        let steps: Vec<&Step> = change.plan.iter().flat_map(|plan| &plan.steps).collect();
        // An instance that is destroyed and created again is a new one, also with the same ids.
        let mut kept = slice_keys(&gpu);
        for step in &steps {
            match step.action {
                Action::DestroyComputeInstance { gi, ci } => {
                    kept.remove(&SliceKey { gpu: gpu.minor, gi: gi.0, ci: Some(ci.0) });
                }
                Action::DestroyGpuInstance { gi } => {
                    kept.remove(&SliceKey { gpu: gpu.minor, gi: gi.0, ci: None });
                }
                Action::CreateGpuInstance { .. } | Action::CreateComputeInstance { .. } => {}
            }
        }
        for step in &steps {
            self.messages.detail(&format!("{label}: {}, {}", step.action, step.reason));
        }
        let mut created = CreatedInstances::new();
        // The plan destroys compute instances before their GPU instance, in the order that the driver requires. A client that
        // has come since then loses nothing: the driver refuses with IN_USE while an instance has a subscriber
        // (`kernel_mig_manager.c:5627-5635,6168-6189`).
        // An interrupted run may have destroyed some before, and another program too.
        let mut is_withdrawn = false;
        for step in steps {
            if step.action.destroys() {
                is_withdrawn = false;
            } else if !std::mem::replace(&mut is_withdrawn, true) {
                // The driver gives the ids, and so the nodes, of the instances that are gone to the next ones: a container that still
                // finds an old name in the spec would be given the new instance.
                self.withdraw.iter().for_each(|withdraw| withdraw());
            }
            let taken = self.take(&gpu, &step.action, &mut created);
            taken.map_err(|e| change_error(&format!("{} on", step.action), &label, &e))?;
        }
        // After the steps: MIG mode cannot be disabled while instances exist.
        if change.sets_mode_to == Some(false) {
            self.set_mode(&gpu, false)?;
        }
        let gpu = self.read(&gpu)?;
        self.check(&gpu, desired)?;
        let created = slice_keys(&gpu).difference(&kept).copied().collect();
        Ok(ChangedGpu { gpu, created })
    }

    /// Checks that no process can use a new instance. A container may still have the right to the nodes of one that another program has
    /// destroyed: the next instance with the same ids has the same nodes.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when one can, or when that cannot be found out.
    fn expect_free(&self, ChangedGpu { gpu, created }: &ChangedGpu) -> Result<()> {
        let Some(find) = self.accessors.filter(|_| !created.is_empty()) else { return Ok(()) };
        let holders = find(gpu)?;
        let of_created = created.iter().map(|key| (key, holders.of_slice(*key)));
        let held: Vec<_> = of_created.filter(|(_, holders)| !holders.is_empty()).collect();
        held.iter().for_each(|(key, holders)| self.holders.leave_out(**key, holders));
        match held.into_iter().next() {
            None => Ok(()),
            Some((key, holders)) => {
                let cause = format!(
                    "gpu instance {} has the device nodes of an earlier one, which are in use by {}",
                    key.gi,
                    holders.join(", ")
                );
                Err(Error::refused("partition", gpu_label(gpu))
                    .because(cause)
                    .with_cure("stop them and try again")
                    .held_by(holders))
            }
        }
    }

    /// Checks that a GPU has a layout.
    fn check(&self, gpu: &GpuPartitioning, desired: &GpuLayoutSetting) -> Result<()> {
        match self.plan(gpu, desired)?.is_empty() {
            true => Ok(()),
            false => {
                let layout = current_layout(gpu, self.all);
                Err(Error::failed("check", gpu_label(gpu))
                    .because(format!("nvml reports layout {layout} after all steps"))
                    .with_cure("see dmesg for the driver's own messages"))
            }
        }
    }

    fn plan(&self, gpu: &GpuPartitioning, desired: &GpuLayoutSetting) -> Result<GpuChange> {
        match self.restores {
            true => GpuChange::plan(gpu, self.all, self.holders, &restored(desired, gpu)),
            false => GpuChange::plan(gpu, self.all, self.holders, desired),
        }
    }

    /// Reads a GPU again.
    fn read(&self, gpu: &GpuPartitioning) -> Result<GpuPartitioning> {
        self.partitioner.gpu(&gpu.uuid).map_err(|e| nvml_error(&gpu_label(gpu), &e))
    }

    /// Takes one step, which is one call of NVML.
    fn take(
        &self,
        gpu: &GpuPartitioning,
        action: &Action,
        created: &mut CreatedInstances,
    ) -> Result<(), CallError> {
        let (partitioner, uuid) = (self.partitioner, gpu.uuid.as_str());
        match *action {
            Action::DestroyComputeInstance { gi, ci } => {
                partitioner.destroy_compute_instance(uuid, gi.0, ci.0)
            }
            Action::DestroyGpuInstance { gi } => partitioner.destroy_gpu_instance(uuid, gi.0),
            Action::CreateGpuInstance { profile, placement, .. } => {
                let gi = partitioner.create_gpu_instance(uuid, profile, placement)?;
                created.insert(placement, gi);
                Ok(())
            }
            Action::CreateComputeInstance { parent, placement, .. } => {
                let gi = match parent {
                    ParentInstance::Existing(gi) => gi.0,
                    ParentInstance::Created(at) => *created.get(&at).ok_or_else(|| {
                        CallError::new("nvmlDeviceGetGpuInstanceById", "it was not created")
                    })?,
                };
                partitioner.create_compute_instance(uuid, gi, placement)
            }
        }
    }

    /// Enables or disables MIG mode.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when the GPU is in use, or NVML reports that the mode changes only
    /// at the next reset; the pending mode is taken back then.
    fn set_mode(&self, gpu: &GpuPartitioning, on: bool) -> Result<()> {
        let label = gpu_label(gpu);
        let operation = ModeStep::new(gpu, on).operation();
        self.expect_unused(gpu, on, operation)?;
        self.messages.detail(&format!("{operation} {label}"));
        let set = |on| {
            let set = self.partitioner.set_mode(&gpu.uuid, on);
            set.map_err(|e| change_error(operation, &label, &e))
        };
        match set(on)? {
            ModeChange::Done => Ok(()),
            ModeChange::Pending(why) => {
                // A pending mode would take effect at a reset that is made for another reason. One that an administrator has set stays.
                set(gpu.pending_mode.map_or(!on, |pending| pending.is_on))?;
                Err(Error::refused(operation, &label)
                    .with_cure(
                        "stop the programs that use the gpu, such as dcgm and nvsm, and try again",
                    )
                    .because_of(
                        format!("nvml reports that it needs a reset: {}", why.cause),
                        why.cure,
                    ))
            }
        }
    }

    /// Checks that a change of MIG mode would disturb no holder.
    fn expect_unused(&self, gpu: &GpuPartitioning, on: bool, operation: &str) -> Result<()> {
        let in_use = |cause: &str, holders: Vec<String>| {
            Err(Error::refused(operation, gpu_label(gpu))
                .because(format!("{cause} in use by {}", holders.join(", ")))
                .with_cure("stop them and try again")
                .held_by(holders))
        };
        let declared = declared_holders_of_gpu(self.in_use, &gpu.uuid, gpu.index);
        if !declared.is_empty() {
            return in_use("it is", declared);
        }
        // On Ampere the driver resets the GPU for it, which it does not while a process has the GPU open: the mode is
        // pending then. Hopper and later need no reset (NVIDIA's MIG user guide; nvml.h,
        // NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED).
        let is_change = gpu.mig != Some(on);
        let host = self.host.filter(|_| is_change && !gpu.resetless);
        let open = host.map(|host| processes_with_gpu_open(host, gpu.minor)).transpose()?;
        let open = open.unwrap_or_default();
        match open.is_empty() {
            true => Ok(()),
            false => in_use("it needs a reset, and is", open),
        }
    }
}

/// Makes the error of a change that the driver did not make. Somebody may have the GPU or the instance open who is in no list.
fn change_error(operation: &str, gpu: &str, error: &CallError) -> Error {
    let kind = if error.is_in_use() { ErrorKind::Refused } else { ErrorKind::Failed };
    Error::of(kind, operation, gpu).because_of(error.without_cure(), error.cure)
}

fn nvml_error(gpu: &str, error: &CallError) -> Error {
    Error::failed("query nvml about", gpu).because_of(error.without_cure(), error.cure)
}

/// Makes the error of a change that failed, as did undoing it.
fn not_undone(failure: Error, undo_failure: Error, gpu: &str) -> Error {
    const RESUME: &str = "run mig-cdi apply --resume";
    let cause = format!(
        "{}, and undoing it failed: {}; {gpu} may have neither the old nor the new layout",
        failure.cause,
        undo_failure.without_cure()
    );
    let cure = match undo_failure.cure.or(failure.cure) {
        Some(cure) => format!("{cure}; then {RESUME}"),
        None => RESUME.to_owned(),
    };
    let holders = [failure.holders, undo_failure.holders].concat().into();
    // Not the kind of the failure: a refusal would promise that nothing was changed.
    Error { kind: ErrorKind::Failed, cause, cure: Some(cure), holders, ..failure }
}
