//! `mig-cdi apply` and `mig-cdi restore`.

use super::{
    super::{Context, Done, exit, generate, nodes},
    Gpus, Wished, holders,
    plan::text,
};
use crate::{
    Exit, Failure,
    cli::{ApplyArgs, ChangeArgs, GenerateArgs, RestoreArgs, WishArgs},
    discover::{self, Source},
    partition::{
        apply::{Change, Worker},
        holders::{Asked, Holders},
        journal::Desk,
    },
    watch::status::{State, Status},
};
use mig_cdi_sys::{Root, is_root, is_running};
use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

/// How often it is looked whether holders have let go.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a watch is waited for: it follows within a second, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(5);

pub(in super::super) fn apply(context: &Context<'_>, args: &ApplyArgs) -> Result<Done, Failure> {
    match args.resume {
        true => resume(context, &args.change),
        false => wished(context, &Goal::Wish(&args.wish), &args.change),
    }
}

pub(in super::super) fn restore(
    context: &Context<'_>,
    args: &RestoreArgs,
) -> Result<Done, Failure> {
    wished(context, &Goal::Checkpoint(&args.file), &args.change)
}

/// Where it is said how the GPUs shall be.
enum Goal<'a> {
    Wish(&'a WishArgs),
    Checkpoint(&'a Path),
}

impl Goal<'_> {
    /// And how many GPUs are spoken of that are not there.
    fn of<'g>(
        &self,
        context: &Context<'_>,
        gpus: &'g Gpus,
    ) -> Result<(Vec<Wished<'g>>, usize), Failure> {
        match self {
            Goal::Wish(wish) => Ok((gpus.goals(wish)?, 0)),
            Goal::Checkpoint(file) => gpus.goals_back(context, file),
        }
    }
}

/// Tries until nobody is in the way, or time is up.
fn wished(context: &Context<'_>, goal: &Goal<'_>, args: &ChangeArgs) -> Result<Done, Failure> {
    let end = Instant::now() + Duration::from_secs(args.evict);
    let mut told = false;
    loop {
        match attempt(context, goal, args) {
            Err(failure) if failure.exit == Exit::Refused && Instant::now() < end => {
                if !std::mem::replace(&mut told, true) {
                    let message = format!("{}; waiting up to {} s", failure.message, args.evict);
                    context.console.warn(&message);
                }
                mig_cdi_sys::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

/// NVML is open from here to the end of it, and not while anybody is waited for.
fn attempt(context: &Context<'_>, goal: &Goal<'_>, args: &ChangeArgs) -> Result<Done, Failure> {
    if context.node.node.is_some() {
        return simulated(context, goal);
    }
    let host = Root::open(&args.holders.host_root)?;
    let desk = Desk::open(&args.journal_dir, &host)?;
    if desk.read()?.is_some() {
        let message = format!(
            "an earlier apply was cut off, and {} says what it was at; run mig-cdi apply --resume",
            args.journal_dir.join("apply.json").display()
        );
        return Err(Failure::new(Exit::Failed, message));
    }
    let gpus = Gpus::read(context)?;
    let (goals, absent) = goal.of(context, &gpus)?;
    let all = &gpus.all;
    let held = Asked::new(|| holders(context, &gpus, &args.holders, true));
    let change =
        |wished: &Wished<'_>| wished.change(|gpu, goal| Change::new(gpu, all, &held, goal));
    let mut changes = goals.iter().map(change).collect::<Result<Vec<_>, _>>()?;
    let stdout = text(&changes);
    changes.retain(|change| !change.is_empty());
    let divider = gpus.divider.as_ref();
    let (told, console) = (&args.holders.in_use, context.console);
    let worker = Worker { divider, all, holders: &held, told, host: Some(&host), console };
    let done = if changes.is_empty() { Ok(()) } else { worker.run(&changes, &desk) };
    let left_out = gpus.lost + absent;
    drop(held);
    drop(gpus);
    let refreshed = if changes.is_empty() { Ok(()) } else { refresh(context, args) };
    done.and(refreshed)?;
    Ok(Done { stdout, exit: exit(left_out == 0) })
}

/// On a simulated node nothing is kept: this shows that it would work.
fn simulated(context: &Context<'_>, goal: &Goal<'_>) -> Result<Done, Failure> {
    let gpus = Gpus::read(context)?;
    let (goals, absent) = goal.of(context, &gpus)?;
    let all = &gpus.all;
    let held = Asked::new(|| {
        let mut holders = Holders::default();
        holders.add_processes(all, None);
        Ok(holders)
    });
    let change =
        |wished: &Wished<'_>| wished.change(|gpu, goal| Change::new(gpu, all, &held, goal));
    let changes = goals.iter().map(change).collect::<Result<Vec<_>, _>>()?;
    let divider = gpus.divider.as_ref();
    let told = &[];
    let worker =
        Worker { divider, all, holders: &held, told, host: None, console: context.console };
    for change in &changes {
        worker.reach(&change.gpu.uuid, &change.goal)?;
    }
    context.console.warn("the node is simulated: it worked, and nothing of it is kept");
    Ok(Done { stdout: text(&changes), exit: exit(gpus.lost + absent == 0) })
}

fn resume(context: &Context<'_>, args: &ChangeArgs) -> Result<Done, Failure> {
    if context.node.node.is_some() {
        return Err(super::usage(
            "--resume: a simulated node has nothing that was cut off".to_owned(),
        ));
    }
    let host = Root::open(&args.holders.host_root)?;
    let desk = Desk::open(&args.journal_dir, &host)?;
    let Some(journal) = desk.read()? else {
        context.console.status("nothing to resume: no apply was cut off");
        return Ok(Done { stdout: String::new(), exit: Exit::Success });
    };
    let gpus = Gpus::read(context)?;
    let held = Asked::new(|| holders(context, &gpus, &args.holders, true));
    let (all, divider) = (&gpus.all, gpus.divider.as_ref());
    let (told, console) = (&args.holders.in_use, context.console);
    let worker = Worker { divider, all, holders: &held, told, host: Some(&host), console };
    let done = worker.finish(&journal.gpus, &desk);
    drop(held);
    drop(gpus);
    let refreshed = refresh(context, args);
    done.and(refreshed)?;
    context.console.status(&format!("{} gpus are as they were wished", journal.gpus.len()));
    Ok(Done { stdout: String::new(), exit: Exit::Success })
}

/// Device nodes and spec follow at once. A watch that runs does it, with the flags that it was given.
fn refresh(context: &Context<'_>, args: &ChangeArgs) -> Result<(), Failure> {
    if args.no_refresh || is_followed(context, &args.holders.state.state_dir)? {
        return Ok(());
    }
    let nodes = if is_root() { nodes::apply(context, false, false).map(drop) } else { Ok(()) };
    generate::apply(context, &GenerateArgs::default(), generate::Yield::No, || ())?;
    nodes
}

/// Waits until a watch that runs says that it has seen the slices of now: whoever starts a container next
/// finds them. False when none runs.
fn is_followed(context: &Context<'_>, state: &Path) -> Result<bool, Failure> {
    let watch = || {
        let status = Status::read(state).ok().flatten();
        status.filter(|status| status.state != State::Stopped && is_running(status.pid))
    };
    if watch().is_none() {
        return Ok(false);
    }
    let topology = discover::discover(&context.host()?, Source::Nvml)?.topology;
    let uuids = topology.mig_devices().filter_map(|device| device.ci.uuid.as_ref());
    let there: BTreeSet<_> = uuids.map(ToString::to_string).collect();
    let end = Instant::now() + PATIENCE;
    while let Some(status) = watch() {
        let seen = status.report.devices.into_iter().filter_map(|slice| slice.uuid);
        if seen.collect::<BTreeSet<_>>() == there {
            return Ok(true);
        }
        if Instant::now() >= end {
            context.console.warn("watch has not followed yet: see mig-cdi status");
            return Ok(true);
        }
        mig_cdi_sys::sleep(SOON);
    }
    Ok(false)
}
