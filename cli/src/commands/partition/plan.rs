//! `mig-cdi plan` and `mig-cdi assert`: the changes that lead to a desired layout. Makes none of them.

use super::{
    super::{CommandOutput, exit, json as json_text},
    goal, holder_options,
};
use crate::{cli::PlanArgs, table::table};
use mig_cdi_gen::{Error, Exit};
use mig_cdi_layout::{Action, KeptInstance, ParentInstance, Step};
use mig_cdi_partition::{GpuChange, Holders, NodeGpus, NodePartitioner, current_layout, gpu_label};
use mig_cdi_sys::nvml::GpuPartitioning;
use serde_json::{Value, json};

pub(in super::super) fn plan(
    partitioning: &NodePartitioner<'_>,
    args: &PlanArgs,
) -> Result<CommandOutput, Error> {
    let (changes, gpus) =
        partitioning.plan(&goal(&args.layout)?, &holder_options(&args.holders))?;
    let stdout = if args.json { json(&changes, &gpus.all)? } else { text(&changes) };
    Ok(CommandOutput { stdout, exit: exit(gpus.unreadable.is_empty()) })
}

pub(in super::super) fn assert(
    partitioning: &NodePartitioner<'_>,
    args: &PlanArgs,
) -> Result<CommandOutput, Error> {
    let gpus = NodeGpus::read(partitioning.node, partitioning.messages)?;
    let desired = gpus.desired(&goal(&args.layout)?, partitioning.messages)?.gpus;
    // Holders do not matter here: a GPU that has the layout needs no step.
    let changes = gpus.changes(&desired, &Holders::default())?;
    let stdout = match args.json {
        true => json(&changes, &gpus.all)?,
        false => {
            let line = |change: &&GpuChange| {
                let (gpu, goal) = (&change.gpu, &change.goal);
                let current = current_layout(gpu, &gpus.all);
                format!("{}: the layout is {current}, not {goal}\n", gpu_label(gpu))
            };
            changes.iter().filter(|change| !change.is_empty()).map(|c| line(&c)).collect()
        }
    };
    let exit = match changes.iter().all(GpuChange::is_empty) {
        true => exit(gpus.unreadable.is_empty()),
        false => Exit::Stale,
    };
    Ok(CommandOutput { stdout, exit })
}

/// Table of the changes: for each GPU the instances that stay, then the steps in order.
pub(super) fn text(changes: &[GpuChange]) -> String {
    let mut rows = Vec::new();
    for change in changes {
        let gpu = change.gpu.index.to_string();
        let mut row = |step: String, what: String, why: String| {
            rows.push([gpu.clone(), step, what, why]);
        };
        for kept in change.plan.iter().flat_map(|plan| &plan.kept) {
            let holders = holders_text(kept).map(|who| format!(", in use by {who}"));
            let why = format!("{}{}", kept.desired, holders.unwrap_or_default());
            row("keep".to_owned(), format!("gpu instance {}", kept.gi), why);
        }
        let mut number = 0;
        let mut step = |what: String, why: String| {
            number += 1;
            row(number.to_string(), what, why);
        };
        if change.mode == Some(true) {
            step("turn MIG mode on".to_owned(), "it is off".to_owned());
        }
        for Step { action, reason } in change.plan.iter().flat_map(|plan| &plan.steps) {
            step(action.to_string(), reason.to_string());
        }
        if change.plan.is_none() {
            let why = "the driver reports what fits once MIG mode is on";
            step(format!("partition into {}", change.goal), why.to_owned());
        }
        if change.mode == Some(false) {
            step("turn MIG mode off".to_owned(), "the requested layout is off".to_owned());
        }
        if number == 0 {
            row("-".to_owned(), "nothing to change".to_owned(), String::new());
        }
    }
    table(["GPU", "STEP", "WHAT", "WHY"], &rows)
}

/// Formats the changes as JSON. The keys are an interface (docs/stability.md).
/// Formats the holders of an instance that stays; `None` when it is not in use.
fn holders_text(kept: &KeptInstance) -> Option<String> {
    (!kept.holders.is_empty()).then(|| kept.holders.join(", "))
}

fn json(changes: &[GpuChange], all: &[GpuPartitioning]) -> Result<String, Error> {
    let gpu = |change: &GpuChange| {
        let plan = change.plan.as_ref();
        let kept = plan.iter().flat_map(|plan| &plan.kept);
        let kept: Vec<_> = kept
            .map(|kept| json!({"gi": kept.gi, "wish": kept.desired, "holders": holders_text(kept)}))
            .collect();
        let steps: Option<Vec<_>> = plan.map(|plan| plan.steps.iter().map(step).collect());
        json!({
            "gpu": change.gpu.index,
            "uuid": change.gpu.uuid,
            "is": current_layout(&change.gpu, all).to_string(),
            "wished": change.goal.to_string(),
            "mode": change.mode.map(|on| if on { "on" } else { "off" }),
            "keep": kept,
            "steps": steps,
        })
    };
    json_text(&changes.iter().map(gpu).collect::<Vec<_>>())
}

fn step(step: &Step) -> Value {
    let why = step.reason.to_string();
    match &step.action {
        Action::DestroyComputeInstance { gi, ci } => {
            json!({"action": "destroy-compute-instance", "gi": gi, "ci": ci, "why": why})
        }
        Action::DestroyGpuInstance { gi } => {
            json!({"action": "destroy-gpu-instance", "gi": gi, "why": why})
        }
        Action::CreateGpuInstance { name, profile, placement } => json!({
            "action": "create-gpu-instance", "profile": name, "id": profile,
            "placement": placement, "why": why,
        }),
        Action::CreateComputeInstance { parent, placement, .. } => {
            // The driver chooses the id of a new GPU instance (kmigmgr_ga100.c l.308-353): until then its placement names it.
            let (gi, made) = match parent {
                ParentInstance::Existing(gi) => (Some(gi), None),
                ParentInstance::Created(at) => (None, Some(at)),
            };
            json!({
                "action": "create-compute-instance", "gi": gi, "gi_made_at": made,
                "placement": placement, "why": why,
            })
        }
    }
}
