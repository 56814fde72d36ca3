//! Taking the steps. A GPU ends as wished, or as it was: what fails is undone by planning the way back from
//! what is there.

use super::{
    holders::{Asked, Holders, clients},
    journal::{Desk, Entry},
    told::{InUse, of_gpu},
    view,
};
use crate::{Exit, Failure, console::Console};
use mig_cdi_config::layouts::Layout;
use mig_cdi_layout::{Action, DesiredLayout, Impossible, ParentInstance, PartitionPlan, plan};
use mig_cdi_model::Placement;
use mig_cdi_sys::{
    Root,
    nvml::{CallError, Divider, Division, ModeChange},
};

/// What is to happen to a GPU.
pub(crate) struct Change {
    /// As it is.
    pub gpu: Division,
    /// As it shall be.
    pub goal: Layout,
    /// The MIG mode that it is to be put into.
    pub mode: Option<bool>,
    /// The steps. `None` when the driver tells only in MIG mode what the GPU offers.
    pub plan: Option<PartitionPlan>,
}

impl Change {
    /// Plans it. When nothing goes, it does not matter who holds what.
    pub(crate) fn new(
        gpu: &Division,
        all: &[Division],
        holders: &Asked<'_>,
        goal: &Layout,
    ) -> Result<Change, Failure> {
        match Change::with(gpu, all, &Holders::default(), goal)? {
            change if change.destroys() => Change::with(gpu, all, holders.get()?, goal),
            change => Ok(change),
        }
    }

    /// Plans it, knowing who holds what.
    pub(crate) fn with(
        gpu: &Division,
        all: &[Division],
        holders: &Holders,
        goal: &Layout,
    ) -> Result<Change, Failure> {
        let on = gpu.mig.ok_or_else(|| {
            let message = format!("{}: {} cannot be divided", label(gpu), gpu.model);
            Failure::new(Exit::Usage, message)
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
    pub(crate) fn is_empty(&self) -> bool {
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
pub(crate) fn label(gpu: &Division) -> String {
    format!("gpu {}", gpu.index)
}

/// What a GPU is divided into, so that nothing else is meant.
pub(crate) fn layout_of(gpu: &Division, all: &[Division]) -> Layout {
    match gpu.mig {
        Some(true) => {
            let instances = view::instances(gpu, &Holders::default());
            Layout::Partitioned(DesiredLayout::of(&view::offer(gpu, all), &instances))
        }
        _ => Layout::Off,
    }
}

fn steps(
    gpu: &Division,
    all: &[Division],
    holders: &Holders,
    wish: &DesiredLayout,
) -> Result<PartitionPlan, Failure> {
    plan(&view::offer(gpu, all), &view::instances(gpu, holders), wish).map_err(|impossible| {
        let exit = match impossible {
            Impossible::InUse { .. } => Exit::Refused,
            _ => Exit::Usage,
        };
        Failure::new(exit, format!("{}: {impossible}", label(gpu)))
    })
}

/// Whoever takes the steps.
pub(crate) struct Worker<'a> {
    pub divider: &'a dyn Divider,
    /// Every GPU as it was at the beginning: what others of a model offer.
    pub all: &'a [Division],
    pub holders: &'a Asked<'a>,
    /// What is in use because somebody says so.
    pub told: &'a [InUse],
    /// Where processes are looked for.
    pub host: Option<&'a Root>,
    pub console: &'a Console,
}

impl Worker<'_> {
    /// Makes all changes, GPU by GPU. What is left over when one fails is in the journal, and nothing is
    /// when all could be undone.
    pub(crate) fn run(&self, changes: &[Change], desk: &Desk) -> Result<(), Failure> {
        let entry = |change: &Change| {
            Entry::new(&change.gpu.uuid, &layout_of(&change.gpu, self.all), &change.goal)
        };
        let entries: Vec<_> = changes.iter().map(entry).collect();
        desk.write(&entries)?;
        self.finish(&entries, desk)
    }

    /// Does what a journal says is left.
    pub(crate) fn finish(&self, entries: &[Entry], desk: &Desk) -> Result<(), Failure> {
        for (i, entry) in entries.iter().enumerate() {
            let done = self.reach(&entry.gpu, &entry.after()?);
            let Err(failure) = done else { continue };
            let Err(undone) = self.reach(&entry.gpu, &entry.before()?) else {
                desk.write(&[])?;
                let others = match entries.len() - i - 1 {
                    0 => String::new(),
                    left => format!("; {left} more gpus were not begun"),
                };
                let message = format!("{}; it is divided as before{others}", failure.message);
                return Err(Failure::new(failure.exit, message));
            };
            desk.write(&entries[i..=i])?;
            let message = format!(
                "{}, and the way back failed: {}; {} is not as it was: run mig-cdi apply --resume",
                failure.message, undone.message, entry.gpu
            );
            return Err(Failure::new(Exit::Failed, message));
        }
        desk.write(&[])
    }

    /// Takes a GPU from wherever it is to a layout, and looks whether it is there.
    pub(crate) fn reach(&self, uuid: &str, goal: &Layout) -> Result<(), Failure> {
        let mut gpu = self.divider.gpu(uuid).map_err(|e| called(uuid, &e))?;
        let mut change = Change::new(&gpu, self.all, self.holders, goal)?;
        if change.mode == Some(true) {
            self.set_mode(&gpu, true)?;
            gpu = self.read(&gpu)?;
            change = Change::new(&gpu, self.all, self.holders, goal)?;
        }
        for step in change.plan.iter().flat_map(|plan| &plan.steps) {
            self.console.detail(&format!("{}: {}, {}", label(&gpu), step.action, step.reason));
        }
        let mut made = Vec::new();
        for step in change.plan.iter().flat_map(|plan| &plan.steps) {
            self.take(&gpu, &step.action, &mut made).map_err(|e| {
                Failure::new(Exit::Failed, format!("{}: {}: {e}", label(&gpu), step.action))
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
                let message = format!("{}: nvml says after all steps that it is {is}", label(&now));
                Err(Failure::new(Exit::Failed, message))
            }
        }
    }

    fn read(&self, gpu: &Division) -> Result<Division, Failure> {
        self.divider.gpu(&gpu.uuid).map_err(|e| called(&label(gpu), &e))
    }

    /// One change of NVML. `made` are the GPU instances that this run has made, by placement.
    fn take(
        &self,
        gpu: &Division,
        action: &Action,
        made: &mut Vec<(Placement, u32)>,
    ) -> Result<(), CallError> {
        let (divider, uuid) = (self.divider, gpu.uuid.as_str());
        match *action {
            Action::DestroyComputeInstance { gi, ci } => {
                divider.destroy_compute_instance(uuid, gi.0, ci.0)
            }
            Action::DestroyGpuInstance { gi } => divider.destroy_gpu_instance(uuid, gi.0),
            Action::CreateGpuInstance { profile, placement, .. } => {
                made.push((placement, divider.create_gpu_instance(uuid, profile, placement)?));
                Ok(())
            }
            Action::CreateComputeInstance { parent, placement, .. } => {
                let gi = match parent {
                    ParentInstance::Existing(gi) => gi.0,
                    ParentInstance::Created(place) => made
                        .iter()
                        .find_map(|(at, gi)| (*at == place).then_some(*gi))
                        .ok_or_else(|| CallError {
                            call: "nvmlDeviceGetGpuInstanceById",
                            reason: "it was not made".to_owned(),
                        })?,
                };
                divider.create_compute_instance(uuid, gi, placement)
            }
        }
    }

    /// Where it takes a reset, nobody may have the GPU open; NVML would leave the change pending then. A
    /// mode that is pending is taken back, for the next reset would bring it.
    fn set_mode(&self, gpu: &Division, on: bool) -> Result<(), Failure> {
        let label = label(gpu);
        let verb = if on { "turn MIG mode on" } else { "turn MIG mode off" };
        let in_use = |who: &[String]| {
            let message = format!(
                "{verb} of {label}: it needs a reset, and is in use by {}; stop them and try again",
                who.join(", ")
            );
            Failure::new(Exit::Refused, message)
        };
        let told = of_gpu(self.told, &gpu.uuid, gpu.index);
        if !told.is_empty() {
            let message = format!(
                "{verb} of {label}: it is in use by {}; stop them and try again",
                told.join(", ")
            );
            return Err(Failure::new(Exit::Refused, message));
        }
        let changes = gpu.mig != Some(on);
        let open = self.host.filter(|_| changes && !gpu.resetless);
        let open = open.map(|host| clients(host, gpu.minor)).unwrap_or_default();
        if !open.is_empty() {
            return Err(in_use(&open));
        }
        self.console.detail(&format!("{label}: {verb}"));
        let set = |on| {
            let fail = |e| Failure::new(Exit::Failed, format!("{verb} of {label}: {e}"));
            self.divider.set_mode(&gpu.uuid, on).map_err(fail)
        };
        match set(on)? {
            ModeChange::Done => Ok(()),
            ModeChange::Pending(why) => {
                set(!on)?;
                let message = format!(
                    "{verb} of {label}: nvml says that it would take a reset: {why}; stop what uses the gpu, \
                     dcgm and nvsm among them, and try again"
                );
                Err(Failure::new(Exit::Refused, message))
            }
        }
    }
}

fn called(gpu: &str, error: &CallError) -> Failure {
    Failure::new(Exit::Failed, format!("ask nvml of {gpu}: {error}"))
}
