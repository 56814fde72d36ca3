//! Planned changes of GPUs, as a table or JSON.

use crate::{command_output::to_json, table::table};
use mig_cdi_gen::Error;
use mig_cdi_layout::{Action, KeptInstance, ParentInstance, Step};
use mig_cdi_partition::{GpuChange, ModeStep, current_layout};
use mig_cdi_sys::nvml::GpuPartitioning;
use serde_json::{Value, json};

/// Table of the changes: for each GPU the instances that stay, then the steps in order.
pub(crate) fn changes_text(changes: &[GpuChange]) -> String {
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
        let steps = steps(change);
        if steps.is_empty() {
            row("-".to_owned(), "nothing to change".to_owned(), String::new());
        }
        for (number, StepText { what, why }) in (1..).zip(steps) {
            row(number.to_string(), what, why);
        }
    }
    table(["GPU", "STEP", "WHAT", "WHY"], &rows)
}

/// A step and its reason, for the table.
struct StepText {
    what: String,
    why: String,
}

/// Steps of a change, in order. Those that need MIG mode on are not known before it is.
fn steps(change: &GpuChange) -> Vec<StepText> {
    let step = |what: &str, why: &str| StepText { what: what.to_owned(), why: why.to_owned() };
    let mut steps = Vec::new();
    let mode = change.mode_text();
    match change.mode_step() {
        Some(ModeStep::Enable) => steps.push(step("enable MIG mode", &format!("it is {mode}"))),
        Some(ModeStep::Keep) => {
            steps.push(step("take back the pending MIG mode", &format!("it is {mode}")));
        }
        Some(ModeStep::Disable) | None => {}
    }
    match &change.plan {
        Some(plan) => {
            let planned = plan.steps.iter();
            steps.extend(planned.map(|Step { action, reason }| StepText {
                what: action.to_string(),
                why: reason.to_string(),
            }));
        }
        None => steps.push(step(
            &format!("partition into {}", change.desired),
            "the driver reports what fits once MIG mode is on",
        )),
    }
    if change.mode_step() == Some(ModeStep::Disable) {
        steps.push(step("disable MIG mode", "the requested layout is off"));
    }
    steps
}

/// Formats the holders of an instance that stays; `None` when it is not in use.
fn holders_text(kept: &KeptInstance) -> Option<String> {
    (!kept.holders.is_empty()).then(|| kept.holders.join(", "))
}

/// Formats the changes as JSON.
pub(crate) fn changes_json(
    changes: &[GpuChange],
    all: &[GpuPartitioning],
) -> Result<String, Error> {
    let gpu = |change: &GpuChange| {
        let plan = change.plan.as_ref();
        let kept = plan.iter().flat_map(|plan| &plan.kept);
        let kept: Vec<_> = kept
            .map(|kept| json!({"gi": kept.gi, "wish": kept.desired, "holders": holders_text(kept)}))
            .collect();
        let steps: Option<Vec<_>> = plan.map(|plan| plan.steps.iter().map(step_json).collect());
        // The keys are public (docs/stability.md): "wish" and "wished" stay for their readers.
        json!({
            "gpu": change.gpu.index,
            "uuid": change.gpu.uuid,
            "is": current_layout(&change.gpu, all).to_string(),
            "wished": change.desired.to_string(),
            "mode": change.sets_mode_to.map(|on| if on { "on" } else { "off" }),
            "keep": kept,
            "steps": steps,
        })
    };
    to_json(&changes.iter().map(gpu).collect::<Vec<_>>())
}

fn step_json(step: &Step) -> Value {
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
            // The driver chooses the id of a new GPU instance (`kmigmgr_ga100.c:308-353`): until then its placement names it.
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
