//! `mig-cdi assert`: checks whether GPUs have a layout, and reports it by the exit code. Changes nothing.

use crate::{
    cli::PlanArgs, command_output::CommandOutput, console::Console, planned_changes::changes_json,
    stage_options::layout_source,
};
use mig_cdi_gen::{Error, Exit, NodeSource};
use mig_cdi_partition::{GpuChange, Holders, ModeStep, NodeGpus, current_layout, gpu_label};

pub(super) fn run(
    node: &NodeSource,
    args: &PlanArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let gpus = NodeGpus::read(node, console)?;
    let desired = gpus.desired(&layout_source(&args.layout)?, console)?.gpus;
    // Holders do not matter here: a GPU that has the layout needs no step.
    let changes = gpus.changes(&desired, &Holders::default())?;
    let differing: Vec<_> = changes.iter().filter(|change| !change.is_empty()).collect();
    let line = |change: &&GpuChange| {
        let current = current_layout(&change.gpu, &gpus.all);
        let gpu = gpu_label(&change.gpu);
        // The GPU has the layout, and loses it at the next reset.
        let is_mode_alone = change.mode_step() == Some(ModeStep::Keep)
            && change.plan.as_ref().is_some_and(|plan| plan.steps.is_empty());
        match is_mode_alone {
            true => {
                let mode = change.mode_text();
                format!("{gpu}: the layout is {current}, but mig mode is {mode}\n")
            }
            false => format!("{gpu}: the layout is {current}, not {}\n", change.desired),
        }
    };
    let stdout = match args.json {
        true => changes_json(&changes, &gpus.all)?,
        false => differing.iter().map(line).collect(),
    };
    if !differing.is_empty() {
        return Ok(CommandOutput { stdout, exit: Exit::Stale });
    }
    Ok(CommandOutput::complete_if(gpus.unreadable.is_empty(), stdout))
}
