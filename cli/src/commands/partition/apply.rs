//! `mig-cdi apply` and `mig-cdi restore`.

use super::{
    super::{Done, Resolver, exit},
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
) -> Result<Done, Error> {
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
) -> Result<Done, Error> {
    let options = change_options(resolver, &args.change)?;
    reach(partitioning, &Goal::Checkpoint(args.file.clone()), &options)
}

fn change_options(resolver: &Resolver<'_>, args: &ChangeArgs) -> Result<ApplyOptions, Error> {
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
) -> Result<Done, Error> {
    let ApplyOutcome { changes, is_complete } = partitioning.apply(goal, options)?;
    Ok(Done { stdout: text(&changes), exit: exit(is_complete) })
}

fn resume(partitioning: &NodePartitioner<'_>, options: &ApplyOptions) -> Result<Done, Error> {
    let message = match partitioning.resume(options)? {
        None => "nothing to resume: no apply was cut off".to_owned(),
        Some(gpus) => format!("{gpus} gpus are as they were wished"),
    };
    partitioning.messages.status(&message);
    Ok(Done { stdout: String::new(), exit: Exit::Success })
}
