//! The change of one GPU to its desired layout: the MIG mode to set, and the steps of the planner.

use crate::{
    holders::{Holders, LazyHolders},
    planner_input::{capacity, current_instances},
};
use mig_cdi_config::layouts::GpuLayoutSetting;
use mig_cdi_gen::{Error, ErrorKind, Result};
use mig_cdi_layout::{DesiredLayout, Impossible, PartitionPlan, plan};
use mig_cdi_sys::nvml::GpuPartitioning;

/// Operation of an error about a layout that a GPU cannot have.
const OPERATION: &str = "partition";

/// The change of a GPU to a layout.
#[derive(Debug, Clone)]
pub struct GpuChange {
    /// The GPU before the change.
    pub gpu: GpuPartitioning,
    /// Desired layout.
    pub desired: GpuLayoutSetting,
    /// MIG mode to set; `None` when it stays as it is.
    pub sets_mode_to: Option<bool>,
    /// Steps. `None` when they cannot be planned yet, because the driver reports the profiles of the GPU in MIG mode only.
    pub plan: Option<PartitionPlan>,
}

/// A step that sets the MIG mode of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeStep {
    /// Turns it on.
    Enable,
    /// Turns it off.
    Disable,
    /// Takes back the other mode, which waits for a reset.
    Keep,
}

impl ModeStep {
    /// Returns the step that gives a GPU a mode.
    pub(crate) fn new(gpu: &GpuPartitioning, on: bool) -> ModeStep {
        match (gpu.mig == Some(on), on) {
            (true, _) => ModeStep::Keep,
            (false, true) => ModeStep::Enable,
            (false, false) => ModeStep::Disable,
        }
    }

    /// Returns the operation of a message, before the label of the GPU.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            ModeStep::Enable => "enable mig mode on",
            ModeStep::Disable => "disable mig mode on",
            ModeStep::Keep => "take back the pending mig mode of",
        }
    }
}

impl GpuChange {
    /// Plans a change. `all` are the GPUs of the node. Holders are looked up only when an instance has to be destroyed.
    ///
    /// # Errors
    /// As [`GpuChange::plan_with`], and those of the lookup.
    pub(crate) fn plan(
        gpu: &GpuPartitioning,
        all: &[GpuPartitioning],
        holders: &LazyHolders<'_>,
        desired: &GpuLayoutSetting,
    ) -> Result<GpuChange> {
        // The lookup reads all of /proc, and fails where processes cannot be examined. Neither matters to a change that only
        // creates: the driver gives it free slices.
        match GpuChange::plan_with(gpu, all, &Holders::default(), desired)? {
            change if change.destroys() => {
                GpuChange::plan_with(gpu, all, &*holders.get(gpu)?, desired)
            }
            change => Ok(change),
        }
    }

    /// Plans a change that destroys nothing that `holders` hold. `all` are the GPUs of the node.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the GPU has no MIG or cannot have the layout; [`ErrorKind::Refused`], with the holders, when it
    /// could if slices in use were free.
    pub fn plan_with(
        gpu: &GpuPartitioning,
        all: &[GpuPartitioning],
        holders: &Holders,
        desired: &GpuLayoutSetting,
    ) -> Result<GpuChange> {
        let is_on = gpu.mig.ok_or_else(|| {
            let cause = format!("{} does not support MIG", gpu.model);
            Error::usage(OPERATION, gpu_label(gpu)).because(cause)
        })?;
        let wants_on = matches!(desired, GpuLayoutSetting::Partitioned(_));
        // A pending mode that is not the desired one would undo the change at the next reset.
        let sets_mode = is_on != wants_on || gpu.pending_mode.is_some();
        let plan = match desired {
            GpuLayoutSetting::Partitioned(desired) if is_on || !gpu.profiles.is_empty() => {
                Some(steps(gpu, all, holders, desired)?)
            }
            GpuLayoutSetting::Partitioned(_) => None,
            GpuLayoutSetting::Off if is_on => {
                Some(steps(gpu, all, holders, &DesiredLayout::default())?)
            }
            GpuLayoutSetting::Off => Some(PartitionPlan::default()),
        };
        let sets_mode_to = sets_mode.then_some(wants_on);
        Ok(GpuChange { gpu: gpu.clone(), desired: desired.clone(), sets_mode_to, plan })
    }

    /// Reports whether the GPU has its desired layout already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets_mode_to.is_none() && self.plan.as_ref().is_some_and(|plan| plan.steps.is_empty())
    }

    /// Returns the step that sets the MIG mode, when it is set.
    #[must_use]
    pub fn mode_step(&self) -> Option<ModeStep> {
        self.sets_mode_to.map(|on| ModeStep::new(&self.gpu, on))
    }

    /// Returns the MIG mode before the change, and the one that waits for a reset, after `MIG mode is`.
    #[must_use]
    pub fn mode_text(&self) -> String {
        let mode = if self.gpu.mig == Some(true) { "on" } else { "off" };
        self.gpu.pending_mode.map_or_else(|| mode.to_owned(), |pending| pending.to_string())
    }

    /// Reports whether an instance is destroyed.
    fn destroys(&self) -> bool {
        let mut steps = self.plan.iter().flat_map(|plan| &plan.steps);
        steps.any(|step| step.action.destroys())
    }
}

/// Returns the name of a GPU in messages: `gpu 0`.
#[must_use]
pub fn gpu_label(gpu: &GpuPartitioning) -> String {
    format!("gpu {}", gpu.index)
}

/// Returns the layout that a GPU has, with every placement. `all` are the GPUs of the node.
#[must_use]
pub fn current_layout(gpu: &GpuPartitioning, all: &[GpuPartitioning]) -> GpuLayoutSetting {
    match gpu.mig {
        Some(true) => {
            let instances = current_instances(gpu, &Holders::default());
            GpuLayoutSetting::Partitioned(DesiredLayout::of(&capacity(gpu, all), &instances))
        }
        _ => GpuLayoutSetting::Off,
    }
}

fn steps(
    gpu: &GpuPartitioning,
    all: &[GpuPartitioning],
    holders: &Holders,
    desired: &DesiredLayout,
) -> Result<PartitionPlan> {
    plan(&capacity(gpu, all), &current_instances(gpu, holders), desired)
        .map_err(|impossible| impossible_error(gpu, &impossible))
}

/// Makes the error of a layout that is impossible, with the holders that are in the way.
fn impossible_error(gpu: &GpuPartitioning, impossible: &Impossible) -> Error {
    let kind = match impossible {
        Impossible::InUse { .. } => ErrorKind::Refused,
        _ => ErrorKind::Usage,
    };
    let mut holders: Vec<_> =
        impossible.blockers().iter().flat_map(|blocker| blocker.holders.clone()).collect();
    holders.sort();
    holders.dedup();
    Error::of(kind, OPERATION, gpu_label(gpu))
        .because(impossible.cause())
        .with_cure(impossible.cure())
        .held_by(holders)
}
