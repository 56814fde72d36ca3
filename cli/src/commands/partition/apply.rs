//! `mig-cdi apply` and `mig-cdi restore`: partition GPUs to a layout, or to a checkpoint.

use super::{
    super::{CommandOutput, Resolver, exit},
    goal, holder_options,
    plan::text,
};
use crate::cli::{ApplyArgs, ChangeArgs, RestoreArgs};
use mig_cdi_args::GenerateArgs;
use mig_cdi_gen::{Error, Exit};
use mig_cdi_partition::{ApplyOptions, ApplyOutcome, Goal, NodePartitioner};
use std::time::Duration;

pub(in super::super) fn apply(
    partitioning: &NodePartitioner<'_>,
    resolver: &Resolver<'_>,
    args: &ApplyArgs,
) -> Result<CommandOutput, Error> {
    let options = change_options(resolver, &args.change)?;
    match args.resume {
        true => resume(partitioning, &options),
        false => reach(partitioning, &goal(&args.layout)?, &options),
    }
}

pub(in super::super) fn restore(
    partitioning: &NodePartitioner<'_>,
    resolver: &Resolver<'_>,
    args: &RestoreArgs,
) -> Result<CommandOutput, Error> {
    let options = change_options(resolver, &args.change)?;
    reach(partitioning, &Goal::Checkpoint(args.file.clone()), &options)
}

fn change_options(resolver: &Resolver<'_>, args: &ChangeArgs) -> Result<ApplyOptions, Error> {
    // Resolved before the change: an error in the settings would otherwise leave a stale spec behind it.
    let refresh = match args.no_refresh {
        true => None,
        false => Some(resolver.generate(&GenerateArgs::default())?),
    };
    Ok(ApplyOptions {
        holders: holder_options(&args.holders),
        journal_dir: args.journal_dir.clone(),
        wait: Duration::from_secs(args.evict),
        refresh,
    })
}

fn reach(
    partitioning: &NodePartitioner<'_>,
    goal: &Goal,
    options: &ApplyOptions,
) -> Result<CommandOutput, Error> {
    let ApplyOutcome { changes, omitted } = partitioning.apply(goal, options)?;
    Ok(CommandOutput { stdout: text(&changes), exit: exit(omitted.is_empty()) })
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
    Ok(CommandOutput { stdout: String::new(), exit: Exit::Success })
}
