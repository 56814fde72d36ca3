//! `mig-cdi restore`: partitions the GPUs to a checkpoint.

use crate::{
    cli::RestoreArgs, command_output::CommandOutput, planned_changes::changes_text,
    stage_options::Resolver, unmatched_holders::refuse_unmatched_holders,
};
use mig_cdi_gen::Error;
use mig_cdi_partition::{LayoutSource, NodePartitioner};

pub(super) fn run(
    partitioning: &NodePartitioner<'_>,
    resolver: &Resolver<'_>,
    args: &RestoreArgs,
) -> Result<CommandOutput, Error> {
    let options = resolver.apply(&args.change)?;
    refuse_unmatched_holders(partitioning, &options.holders)?;
    let source = LayoutSource::Checkpoint(args.file.clone());
    let outcome = partitioning.apply(&source, &options)?;
    Ok(CommandOutput::complete_if(outcome.is_complete(), changes_text(&outcome.changes)))
}
