//! The commands that divide GPUs, and what they share: the GPUs, the wish, who holds what.

mod apply;
mod export;
mod map;
mod plan;
mod profiles;

pub(super) use apply::{apply, restore};
pub(super) use export::{checkpoint, export};
pub(super) use map::map;
pub(super) use plan::{assert, plan};
pub(super) use profiles::profiles;

use super::{Context, TEXT_LIMIT, simulated, usage, utf8};
use crate::{
    Exit, Failure,
    cli::{HoldersArgs, WishArgs},
    discover::{self, Source},
    partition::{
        apply::{Change, label},
        holders::Holders,
    },
};
use mig_cdi_config::layouts::{
    Assignment, BadLayouts, GpuIdentity, Layout, Layouts, SelectedLayout,
};
use mig_cdi_model::GpuIndex;
use mig_cdi_sim::SimulatedMachine;
use mig_cdi_sys::{
    Error, Root, SpecDir,
    nvml::{Divider, Division},
    read_named,
};
use std::path::Path;

/// The name of the layout in a checkpoint.
const CHECKPOINT: &str = "checkpoint";

/// A GPU, and how it shall be.
struct Wished<'a> {
    gpu: &'a Division,
    layout: Layout,
    /// `read layouts.yaml: line 7: `; nothing for a word of the command line.
    place: String,
}

impl Wished<'_> {
    /// What is to happen, by one of [`Change`]'s ways. What is wrong with the wish is wrong where it stands.
    fn change(
        &self,
        plan: impl FnOnce(&Division, &Layout) -> Result<Change, Failure>,
    ) -> Result<Change, Failure> {
        plan(self.gpu, &self.layout).map_err(|failure| match failure.exit {
            Exit::Usage => usage(format!("{}{}", self.place, failure.message)),
            _ => failure,
        })
    }
}

/// The GPUs of a node, and whoever divides them.
struct Gpus {
    divider: Box<dyn Divider>,
    /// Those that NVML can tell of.
    all: Vec<Division>,
    /// How many it cannot.
    lost: usize,
}

impl Gpus {
    fn read(context: &Context<'_>) -> Result<Gpus, Failure> {
        let gpus = Gpus::ask(context, "it is left out")?;
        match gpus.all.is_empty() && gpus.lost > 0 {
            true => Err(Failure::new(Exit::Incomplete, "nvml can tell of no gpu")),
            false => Ok(gpus),
        }
    }

    /// The same though there may be none that it can tell of. `then` is what becomes of such a one.
    fn ask(context: &Context<'_>, then: &str) -> Result<Gpus, Failure> {
        if context.node.source == Source::Proc {
            let message = "--source proc: only nvml divides gpus and tells how they are divided";
            return Err(usage(message.to_owned()));
        }
        let divider = match &context.node.node {
            None => context.host()?.divider(),
            Some(name) => SimulatedMachine::new(simulated(name)?).partitioner(),
        };
        let divider = divider.map_err(discover::without_nvml)?;
        let (mut all, mut lost) = (Vec::new(), 0);
        for (index, gpu) in divider.gpus().map_err(discover::without_nvml)?.into_iter().enumerate()
        {
            match gpu {
                Ok(gpu) => all.push(gpu),
                Err(error) => {
                    lost += 1;
                    context.console.error(&format!("gpu {index}: {error}; {then}"));
                }
            }
        }
        Ok(Gpus { divider, all, lost })
    }

    fn candidates(&self) -> Result<Vec<GpuIdentity>, Failure> {
        let candidate = |gpu: &Division| {
            let bad = |why: String| {
                Failure::new(Exit::Failed, format!("ask nvml of {}: {why}", label(gpu)))
            };
            Ok(GpuIdentity {
                index: GpuIndex(gpu.index),
                uuid: gpu.uuid.parse().map_err(|e| bad(format!("{e}")))?,
                pci: gpu.pci.parse().map_err(|e| bad(format!("{e}")))?,
                device_id: gpu.device_id,
                subsystem_id: gpu.subsystem_id,
            })
        };
        self.all.iter().map(candidate).collect()
    }

    /// What is wished of which GPU.
    fn goals(&self, args: &WishArgs) -> Result<Vec<Wished<'_>>, Failure> {
        match (&args.file, &args.layout) {
            (Some(file), Some(name)) => self.goals_of(file, name),
            (None, None) if args.gpus.is_empty() => {
                let cure =
                    "write GPU=LAYOUT, such as 0=3x2g.20gb,1g.10gb, or name a file with --file";
                Err(usage(format!("no gpu to divide: {cure}")))
            }
            (None, Some(_)) => {
                Err(usage("--layout names a layout of a file: give it with --file".to_owned()))
            }
            _ => {
                let fail = |e: BadLayouts| usage(e.to_string());
                let words = args.gpus.iter().map(|word| word.parse().map_err(fail));
                let words = words.collect::<Result<Vec<_>, _>>()?;
                let selected = Assignment::select(&words, &self.candidates()?).map_err(fail)?;
                Ok(self.found(selected, None))
            }
        }
    }

    /// The same from a file.
    fn goals_of(&self, file: &Path, name: &str) -> Result<Vec<Wished<'_>>, Failure> {
        let selected = layouts(file)?.select(name, &self.candidates()?);
        Ok(self.found(selected.map_err(|e| unreadable(file, &e))?, Some(file)))
    }

    /// The same from a checkpoint, and how many of its GPUs are not there.
    fn goals_back(
        &self,
        context: &Context<'_>,
        file: &Path,
    ) -> Result<(Vec<Wished<'_>>, usize), Failure> {
        let selected = layouts(file)?.select_present(CHECKPOINT, &self.candidates()?);
        let (selected, absent) = selected.map_err(|e| unreadable(file, &e))?;
        for word in &absent {
            context.console.error(&format!("gpu {word} is not on this node; it is left out"));
        }
        Ok((self.found(selected, Some(file)), absent.len()))
    }

    /// One that cannot be divided is left out unless it is named.
    fn found(&self, selected: Vec<SelectedLayout>, file: Option<&Path>) -> Vec<Wished<'_>> {
        let wished = |selected: SelectedLayout| {
            let gpu = self.all.get(selected.gpu)?;
            let place = |file: &Path| format!("read {}: {}: ", file.display(), selected.origin);
            let place = file.map(place).unwrap_or_default();
            let layout = selected.layout;
            (selected.is_named || gpu.mig.is_some()).then_some(Wished { gpu, layout, place })
        };
        selected.into_iter().filter_map(wished).collect()
    }

    fn changes(&self, goals: &[Wished<'_>], holders: &Holders) -> Result<Vec<Change>, Failure> {
        let plan = |wished: &Wished<'_>| {
            wished.change(|gpu, goal| Change::with(gpu, &self.all, holders, goal))
        };
        goals.iter().map(plan).collect()
    }
}

fn layouts(file: &Path) -> Result<Layouts, Failure> {
    let text = utf8(read_named(file, TEXT_LIMIT)?, file)?;
    Layouts::parse(&text).map_err(|e| unreadable(file, &e))
}

fn unreadable(file: &Path, why: &BadLayouts) -> Failure {
    usage(format!("read {}: {why}", file.display()))
}

/// Gives a file that the user names its content, whole or not at all. `open` decides whose the directory may be.
fn write(
    context: &Context<'_>,
    file: &Path,
    text: &str,
    open: fn(&Path) -> mig_cdi_sys::Result<SpecDir>,
) -> Result<(), Failure> {
    let path = mig_cdi_sys::absolute(file)?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(usage(format!("write {}: not the path of a file", path.display())));
    };
    let dir = open(dir).map_err(|error| match error {
        Error::UnsafeDir { path, .. } => {
            let path = path.display();
            let message =
                format!("write into {path}: others can; name a file where only root writes");
            Failure::new(Exit::Refused, message)
        }
        error => error.into(),
    })?;
    dir.expect_file(name)?;
    dir.replace(name, text.as_bytes())?;
    context.console.status(&format!("wrote {}", path.display()));
    Ok(())
}

/// Who holds what. When `all` must be known, a process that cannot be looked into is a failure.
fn holders(
    context: &Context<'_>,
    gpus: &Gpus,
    args: &HoldersArgs,
    all: bool,
) -> Result<Holders, Failure> {
    let mut holders = Holders::default();
    if context.node.node.is_some() {
        holders.add_processes(&gpus.all, None);
        return Ok(holders);
    }
    let root = Root::open(&args.host_root)?;
    holders.add_processes(&gpus.all, Some(&root));
    holders.add_leases(&args.state.state_dir.join("leases"), &gpus.all)?;
    let source = if args.in_use.is_empty() { Source::Proc } else { Source::Nvml };
    let topology = discover::discover(&context.host()?, source)?.topology;
    holders.add_told(&args.in_use, &topology)?;
    let closed = holders.add_host(&root, &topology)?;
    if closed > 0 {
        let message = format!(
            "look for who holds slices: {closed} processes cannot be looked into; run it as root"
        );
        match all {
            true => return Err(Failure::new(Exit::Failed, message)),
            false => context.console.warn(&message),
        }
    }
    Ok(holders)
}
