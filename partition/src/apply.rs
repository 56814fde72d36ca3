//! Taking the steps. A GPU ends as wished, or as it was: what fails is undone by planning the way back from
//! what is there.

use crate::{
    holders::{Asked, Holders, clients},
    in_use::{InUse, of_gpu},
    journal::{Desk, Entry},
    view,
};
use mig_cdi_config::layouts::Layout;
use mig_cdi_gen::{Error, ErrorKind, MessageSink, Result};
use mig_cdi_layout::{Action, DesiredLayout, Impossible, ParentInstance, PartitionPlan, plan};
use mig_cdi_model::Placement;
use mig_cdi_sys::{
    Root,
    nvml::{CallError, GpuPartitioning, ModeChange, Partitioner},
};

/// What is to happen to a GPU.
#[derive(Debug, Clone)]
pub struct Change {
    /// As it is.
    pub gpu: GpuPartitioning,
    /// As it shall be.
    pub goal: Layout,
    /// The MIG mode that it is to be put into.
    pub mode: Option<bool>,
    /// The steps. `None` when the driver tells only in MIG mode what the GPU offers.
    pub plan: Option<PartitionPlan>,
}

impl Change {
    /// Plans it. When nothing goes, it does not matter who holds what.
    pub fn new(
        gpu: &GpuPartitioning,
        all: &[GpuPartitioning],
        holders: &Asked<'_>,
        goal: &Layout,
    ) -> Result<Change> {
        match Change::with(gpu, all, &Holders::default(), goal)? {
            change if change.destroys() => Change::with(gpu, all, holders.get()?, goal),
            change => Ok(change),
        }
    }

    /// Plans it, knowing who holds what.
    pub fn with(
        gpu: &GpuPartitioning,
        all: &[GpuPartitioning],
        holders: &Holders,
        goal: &Layout,
    ) -> Result<Change> {
        let on = gpu.mig.ok_or_else(|| {
            Error::usage("", label(gpu)).because(format!("{} cannot be divided", gpu.model))
        })?;
        let wished = matches!(goal, Layout::Partitioned(_));
        let mode = (on != wished || gpu.mig_pending == Some(!wished)).then_some(wished);
        let plan = match goal {
            Layout::Partitioned(wish) if on || !gpu.profiles.is_empty() => {
                Some(steps(gpu, all, holders, wish)?)
            }
            Layout::Partitioned(_) => None,
            Layout::Off if on => Some(steps(gpu, all, holders, &DesiredLayout::default())?),
            Layout::Off => Some(PartitionPlan::default()),
        };
        Ok(Change { gpu: gpu.clone(), goal: goal.clone(), mode, plan })
    }

    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.mode.is_none() && self.plan.as_ref().is_some_and(|plan| plan.steps.is_empty())
    }

    /// Something that is there goes.
    fn destroys(&self) -> bool {
        let destroys = |action: &Action| {
            matches!(
                action,
                Action::DestroyGpuInstance { .. } | Action::DestroyComputeInstance { .. }
            )
        };
        let steps = self.plan.iter().flat_map(|plan| &plan.steps);
        steps.into_iter().any(|step| destroys(&step.action))
    }
}

/// `gpu 0`.
pub fn label(gpu: &GpuPartitioning) -> String {
    format!("gpu {}", gpu.index)
}

/// What a GPU is divided into, so that nothing else is meant.
pub fn layout_of(gpu: &GpuPartitioning, all: &[GpuPartitioning]) -> Layout {
    match gpu.mig {
        Some(true) => {
            let instances = view::instances(gpu, &Holders::default());
            Layout::Partitioned(DesiredLayout::of(&view::offer(gpu, all), &instances))
        }
        _ => Layout::Off,
    }
}

fn steps(
    gpu: &GpuPartitioning,
    all: &[GpuPartitioning],
    holders: &Holders,
    wish: &DesiredLayout,
) -> Result<PartitionPlan> {
    plan(&view::offer(gpu, all), &view::instances(gpu, holders), wish).map_err(|impossible| {
        let kind = match impossible {
            Impossible::InUse { .. } => ErrorKind::Refused,
            _ => ErrorKind::Usage,
        };
        let holders = impossible.blockers().iter().flat_map(|blocker| blocker.holders.clone());
        let error = Error::of(kind, "", label(gpu)).held_by(holders.collect());
        error.because(impossible.cause()).cure(impossible.cure())
    })
}

/// Whoever takes the steps.
pub struct Worker<'a> {
    pub partitioner: &'a dyn Partitioner,
    /// Every GPU as it was at the beginning: what others of a model offer.
    pub all: &'a [GpuPartitioning],
    pub holders: &'a Asked<'a>,
    /// What is in use because somebody says so.
    pub told: &'a [InUse],
    /// Where processes are looked for.
    pub host: Option<&'a Root>,
    pub messages: &'a dyn MessageSink,
}

impl Worker<'_> {
    /// Makes all changes, GPU by GPU. What is left over when one fails is in the journal, and nothing is
    /// when all could be undone.
    pub fn run(&self, changes: &[Change], desk: &Desk) -> Result<()> {
        let entry = |change: &Change| {
            Entry::new(&change.gpu.uuid, &layout_of(&change.gpu, self.all), &change.goal)
        };
        let entries: Vec<_> = changes.iter().map(entry).collect();
        desk.write(&entries)?;
        self.finish(&entries, desk)
    }

    /// Does what a journal says is left.
    pub fn finish(&self, entries: &[Entry], desk: &Desk) -> Result<()> {
        for (i, entry) in entries.iter().enumerate() {
            let done = self.reach(&entry.gpu, &entry.after()?);
            let Err(failure) = done else { continue };
            let Err(undone) = self.reach(&entry.gpu, &entry.before()?) else {
                desk.write(&[])?;
                let others = match entries.len() - i - 1 {
                    0 => String::new(),
                    left => format!("; {left} more gpus were not begun"),
                };
                return Err(with_outcome(failure, &format!("it is divided as before{others}")));
            };
            desk.write(&entries[i..=i])?;
            let outcome =
                format!("and the way back failed: {undone}; {} is not as it was", entry.gpu);
            let Error { operation, subject, cause, .. } = failure;
            return Err(Error::failed(operation, subject)
                .because(format!("{cause}, {outcome}"))
                .cure("run mig-cdi apply --resume"));
        }
        desk.write(&[])
    }

    /// Takes a GPU from wherever it is to a layout, and looks whether it is there.
    pub fn reach(&self, uuid: &str, goal: &Layout) -> Result<()> {
        let mut gpu = self.partitioner.gpu(uuid).map_err(|e| called(uuid, &e))?;
        let mut change = Change::new(&gpu, self.all, self.holders, goal)?;
        if change.mode == Some(true) {
            self.set_mode(&gpu, true)?;
            gpu = self.read(&gpu)?;
            change = Change::new(&gpu, self.all, self.holders, goal)?;
        }
        for step in change.plan.iter().flat_map(|plan| &plan.steps) {
            self.messages.detail(&format!("{}: {}, {}", label(&gpu), step.action, step.reason));
        }
        let mut made = Vec::new();
        for step in change.plan.iter().flat_map(|plan| &plan.steps) {
            self.take(&gpu, &step.action, &mut made).map_err(|e| {
                Error::failed("", format!("{}: {}", label(&gpu), step.action)).because(e)
            })?;
        }
        if change.mode == Some(false) {
            self.set_mode(&gpu, false)?;
        }
        let now = self.read(&gpu)?;
        match Change::new(&now, self.all, self.holders, goal)?.is_empty() {
            true => Ok(()),
            false => {
                let is = layout_of(&now, self.all);
                Err(Error::failed("", label(&now))
                    .because(format!("nvml says after all steps that it is {is}")))
            }
        }
    }

    fn read(&self, gpu: &GpuPartitioning) -> Result<GpuPartitioning> {
        self.partitioner.gpu(&gpu.uuid).map_err(|e| called(&label(gpu), &e))
    }

    /// One change of NVML. `made` are the GPU instances that this run has made, by placement.
    fn take(
        &self,
        gpu: &GpuPartitioning,
        action: &Action,
        made: &mut Vec<(Placement, u32)>,
    ) -> Result<(), CallError> {
        let (partitioner, uuid) = (self.partitioner, gpu.uuid.as_str());
        match *action {
            Action::DestroyComputeInstance { gi, ci } => {
                partitioner.destroy_compute_instance(uuid, gi.0, ci.0)
            }
            Action::DestroyGpuInstance { gi } => partitioner.destroy_gpu_instance(uuid, gi.0),
            Action::CreateGpuInstance { profile, placement, .. } => {
                made.push((placement, partitioner.create_gpu_instance(uuid, profile, placement)?));
                Ok(())
            }
            Action::CreateComputeInstance { parent, placement, .. } => {
                let gi = match parent {
                    ParentInstance::Existing(gi) => gi.0,
                    ParentInstance::Created(place) => {
                        made.iter().find_map(|(at, gi)| (*at == place).then_some(*gi)).ok_or_else(
                            || CallError::new("nvmlDeviceGetGpuInstanceById", "it was not made"),
                        )?
                    }
                };
                partitioner.create_compute_instance(uuid, gi, placement)
            }
        }
    }

    /// Where it takes a reset, nobody may have the GPU open; NVML would leave the change pending then. A
    /// mode that is pending is taken back, for the next reset would bring it.
    fn set_mode(&self, gpu: &GpuPartitioning, on: bool) -> Result<()> {
        let label = label(gpu);
        let verb = if on { "turn MIG mode on" } else { "turn MIG mode off" };
        let operation = format!("{verb} of");
        let in_use = |cause: &str, holders: Vec<String>| {
            Error::refused(&operation, &label)
                .because(format!("{cause} in use by {}", holders.join(", ")))
                .cure("stop them and try again")
                .held_by(holders)
        };
        let told = of_gpu(self.told, &gpu.uuid, gpu.index);
        if !told.is_empty() {
            return Err(in_use("it is", told));
        }
        let changes = gpu.mig != Some(on);
        let open = self.host.filter(|_| changes && !gpu.resetless);
        let open = open.map(|host| clients(host, gpu.minor)).unwrap_or_default();
        if !open.is_empty() {
            return Err(in_use("it needs a reset, and is", open));
        }
        self.messages.detail(&format!("{label}: {verb}"));
        let set = |on| {
            let fail = |e| Error::failed(&operation, &label).because(e);
            self.partitioner.set_mode(&gpu.uuid, on).map_err(fail)
        };
        match set(on)? {
            ModeChange::Done => Ok(()),
            ModeChange::Pending(why) => {
                set(!on)?;
                Err(Error::refused(&operation, &label)
                    .because(format!("nvml says that it would take a reset: {why}"))
                    .cure("stop what uses the gpu, dcgm and nvsm among them, and try again"))
            }
        }
    }
}

fn called(gpu: &str, error: &CallError) -> Error {
    Error::failed("ask nvml of", gpu).because(error)
}

/// Adds to an error what became of the GPU: after the cure, or after the cause where there is none.
fn with_outcome(error: Error, outcome: &str) -> Error {
    match &error.cure {
        Some(cure) => Error { cure: Some(format!("{cure}; {outcome}")), ..error },
        None => Error { cause: format!("{}; {outcome}", error.cause), ..error },
    }
}
