//! `mig-cdi apply`: partitions GPUs to a layout, or finishes an interrupted change.

use crate::{
    cli::ApplyArgs,
    command_output::CommandOutput,
    planned_changes::changes_text,
    stage_options::{Resolver, layout_source},
    unmatched_holders::refuse_unmatched_holders,
};
use mig_cdi_gen::Error;
use mig_cdi_model::counted;
use mig_cdi_partition::{ApplyOptions, NodePartitioner};

pub(super) fn run(
    partitioning: &NodePartitioner<'_>,
    resolver: &Resolver<'_>,
    args: &ApplyArgs,
) -> Result<CommandOutput, Error> {
    let options = resolver.apply(&args.change)?;
    refuse_unmatched_holders(partitioning, &options.holders)?;
    if args.resume {
        return resume(partitioning, &options);
    }
    let outcome = partitioning.apply(&layout_source(&args.layout)?, &options)?;
    Ok(CommandOutput::complete_if(outcome.is_complete(), changes_text(&outcome.changes)))
}

fn resume(
    partitioning: &NodePartitioner<'_>,
    options: &ApplyOptions,
) -> Result<CommandOutput, Error> {
    let resumed = partitioning.resume(options)?;
    let message = match &resumed {
        None => "nothing to resume: no apply was interrupted".to_owned(),
        Some(resumed) => {
            let have = if resumed.gpus == 1 { "has" } else { "have" };
            format!("{} {have} the requested layout", counted(resumed.gpus, "gpu"))
        }
    };
    partitioning.messages.status(&message);
    let is_complete = resumed.is_none_or(|resumed| resumed.is_refresh_complete);
    Ok(CommandOutput::complete_if(is_complete, String::new()))
}
