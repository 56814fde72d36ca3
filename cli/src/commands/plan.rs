//! `mig-cdi plan`: the changes that lead to a desired layout. Makes none of them.

use crate::{
    cli::PlanArgs,
    command_output::CommandOutput,
    planned_changes::{changes_json, changes_text},
    stage_options::{holder_options, layout_source},
    unmatched_holders::warn_of_unmatched_holders,
};
use mig_cdi_gen::Error;
use mig_cdi_partition::{NodePartitioner, PlannedChanges};

pub(super) fn run(
    partitioning: &NodePartitioner<'_>,
    args: &PlanArgs,
) -> Result<CommandOutput, Error> {
    let (source, holders) = (layout_source(&args.layout)?, holder_options(&args.holders));
    warn_of_unmatched_holders(partitioning, &holders);
    let PlannedChanges { changes, gpus } = partitioning.plan(&source, &holders)?;
    let stdout = match args.json {
        true => changes_json(&changes, &gpus.all)?,
        false => changes_text(&changes),
    };
    Ok(CommandOutput::complete_if(gpus.unreadable.is_empty(), stdout))
}
