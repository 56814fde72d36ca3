//! `mig-cdi apply`: partitions GPUs to a layout, or finishes an interrupted change.

use crate::{
    cli::ApplyArgs,
    command_output::CommandOutput,
    planned_changes::changes_text,
    stage_options::{Resolver, layout_source},
};
use mig_cdi_gen::Error;
use mig_cdi_partition::{ApplyOptions, ApplyOutcome, NodePartitioner};

pub(super) fn run(
    partitioning: &NodePartitioner<'_>,
    resolver: &Resolver<'_>,
    args: &ApplyArgs,
) -> Result<CommandOutput, Error> {
    let options = resolver.apply(&args.change)?;
    if args.resume {
        return resume(partitioning, &options);
    }
    let ApplyOutcome { changes, omitted } =
        partitioning.apply(&layout_source(&args.layout)?, &options)?;
    Ok(CommandOutput::complete_if(omitted.is_empty(), changes_text(&changes)))
}

fn resume(
    partitioning: &NodePartitioner<'_>,
    options: &ApplyOptions,
) -> Result<CommandOutput, Error> {
    let message = match partitioning.resume(options)? {
        None => "nothing to resume: no apply was interrupted".to_owned(),
        Some(gpus) => format!("{gpus} gpus have the requested layout"),
    };
    partitioning.messages.status(&message);
    Ok(CommandOutput::success(String::new()))
}
