//! `mig-cdi map`: a picture of how the GPUs are divided.

use super::{
    super::{Context, Done, exit, usage},
    Gpus, holders, write,
};
use crate::{
    Failure,
    cli::MapArgs,
    discover::Source,
    partition::holders::Holders,
    picture::{Card, Picture, State, Strip, svg, text},
    spec::handy_name,
};
use mig_cdi_config::layouts::GpuSelector;
use mig_cdi_model::{Gpu, MigDevice, MigMode, PciAddress, Topology};
use mig_cdi_sys::{SpecDir, nvml::Division};
use std::path::Path;

pub(in super::super) fn map(context: &Context<'_>, args: &MapArgs) -> Result<Done, Failure> {
    let machine = context.machine()?;
    let discovery = context.discover(machine.as_ref())?;
    let asked = match context.node.source {
        Source::Proc => None,
        Source::Nvml => Some(Gpus::ask(context, "it is listed, not drawn")?),
    };
    let held = match &asked {
        Some(gpus) => holders(context, gpus, &args.holders, false)?,
        None => Holders::default(),
    };
    let divisions = asked.as_ref().map_or(&[][..], |gpus| &gpus.all);
    let found = select(&args.gpus, found(&discovery.topology, divisions))?;
    let cards: Vec<_> = found.iter().map(|gpu| gpu.card(context.node.source, &held)).collect();
    let is_drawn = |card: &Card| !matches!(card.state, State::Untold(..));
    // Whoever asks /proc alone knows that it does not tell.
    let drawn = context.node.source == Source::Proc || cards.iter().all(is_drawn);
    let complete =
        drawn && discovery.problems.is_empty() && asked.is_none_or(|gpus| gpus.lost == 0);
    let picture = Picture { cards, kind: context.settings.kind.to_string() };
    let stdout = match args.svg.as_deref() {
        None => text(&picture, context.console.style()),
        Some(file) if file == Path::new("-") => svg(&picture),
        Some(file) => {
            write(context, file, &svg(&picture), SpecDir::open_shared)?;
            String::new()
        }
    };
    Ok(Done { stdout, exit: exit(complete) })
}

/// A GPU as it was discovered, and as it is divided: at least one of them is known.
struct Found<'a> {
    gpu: Option<&'a Gpu>,
    division: Option<&'a Division>,
}

fn found<'a>(topology: &'a Topology, divisions: &'a [Division]) -> Vec<Found<'a>> {
    let of = |gpu: &'a Gpu| {
        let division = divisions.iter().find(|division| division.minor == gpu.minor.0);
        Found { gpu: Some(gpu), division }
    };
    let mut found: Vec<_> = topology.gpus.iter().map(of).collect();
    let known = |division: &&Division| topology.gpus.iter().all(|g| g.minor.0 != division.minor);
    let more = divisions.iter().filter(known);
    found.extend(more.map(|division| Found { gpu: None, division: Some(division) }));
    found.sort_by_key(|found| found.index().unwrap_or(u32::MAX));
    found
}

/// Those that are asked for, each once.
fn select<'a>(words: &[GpuSelector], all: Vec<Found<'a>>) -> Result<Vec<Found<'a>>, Failure> {
    for word in words {
        if *word != GpuSelector::All && !all.iter().any(|gpu| gpu.is(word)) {
            let there: Vec<_> = all.iter().map(Found::label).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(usage(format!("no gpu {word} on this node; it has {there}")));
        }
    }
    let asked = |gpu: &Found<'_>| words.is_empty() || words.iter().any(|word| gpu.is(word));
    Ok(all.into_iter().filter(asked).collect())
}

impl Found<'_> {
    fn index(&self) -> Option<u32> {
        let told = self.gpu.and_then(|gpu| gpu.index).map(|index| index.0);
        told.or_else(|| self.division.map(|division| division.index))
    }

    fn uuid(&self) -> Option<String> {
        let told = self.gpu.and_then(|gpu| gpu.uuid.as_ref()).map(ToString::to_string);
        told.or_else(|| self.division.map(|division| division.uuid.clone()))
    }

    fn pci(&self) -> Option<PciAddress> {
        let told = self.gpu.map(|gpu| gpu.pci);
        told.or_else(|| self.division?.pci.parse().ok())
    }

    fn is(&self, word: &GpuSelector) -> bool {
        match word {
            GpuSelector::All => true,
            GpuSelector::Index(index) => self.index() == Some(index.0),
            GpuSelector::Uuid(uuid) => {
                self.uuid().is_some_and(|own| own.eq_ignore_ascii_case(&uuid.to_string()))
            }
            GpuSelector::Pci(pci) => self.pci() == Some(*pci),
        }
    }

    /// `gpu 0`, or `gpu minor 0 (0000:07:00.0)` where the index is not known.
    fn label(&self) -> String {
        let pci = self.pci().map(|pci| format!(" ({pci})")).unwrap_or_default();
        match (self.index(), self.gpu) {
            (Some(index), _) => format!("gpu {index}"),
            (None, Some(gpu)) => gpu.label() + &pci,
            (None, None) => format!("gpu{pci}"),
        }
    }

    fn card(&self, source: Source, holders: &Holders) -> Card {
        let label = match (self.index(), self.gpu) {
            (None, Some(gpu)) => gpu.label(),
            _ => self.label(),
        };
        let model = self.gpu.map(|gpu| gpu.model.as_str());
        let model = model.or_else(|| self.division.map(|d| d.model.as_str())).unwrap_or_default();
        let place = self.pci().map(|pci| format!(" at {pci}")).unwrap_or_default();
        let minor = self.gpu.map(|gpu| gpu.minor.0).or_else(|| self.division.map(|d| d.minor));
        Card {
            heading: format!("{}: {model}{place}", label.replacen("gpu", "GPU", 1)),
            holders: minor.map(|minor| holders.just(minor, None)).unwrap_or_default(),
            state: self.state(source, holders),
        }
    }

    fn state(&self, source: Source, holders: &Holders) -> State {
        const NEVER: &str = "not divided: this model cannot be (no MIG)";
        const OFF: &str =
            "not divided: MIG mode is off. mig-cdi profiles shows what it can be divided into";
        let mig = match (self.division.map(|division| division.mig), self.gpu) {
            (Some(None), _) => MigMode::Unsupported,
            (Some(Some(true)), _) => MigMode::Enabled,
            (Some(Some(false)), _) => MigMode::Disabled,
            (None, Some(gpu)) => gpu.mig,
            (None, None) => MigMode::Unknown,
        };
        let untold = |why: &str| State::Untold(why.to_owned(), self.names(source));
        match (mig, self.division) {
            (MigMode::Unsupported, _) => State::Whole(NEVER.to_owned()),
            (MigMode::Disabled, _) => State::Whole(OFF.to_owned()),
            (_, Some(division)) => match Strip::of(division, self.gpu, holders) {
                Ok(strip) => State::Divided(strip),
                Err(why) => untold(&format!("it cannot be drawn: {why}. Its devices:")),
            },
            (MigMode::Unknown, None) => untold("without NVML nobody tells whether it is divided"),
            (MigMode::Enabled, None) if source == Source::Proc => untold(
                "without NVML nobody tells where its instances lie, what is free and what still fits. Its devices:",
            ),
            (MigMode::Enabled, None) => untold(
                "NVML does not tell where its instances lie, what is free and what still fits. Its devices:",
            ),
        }
    }

    fn names(&self, source: Source) -> Vec<String> {
        let Some(gpu) = self.gpu else { return Vec::new() };
        let instances = gpu.gpu_instances.iter();
        let devices = instances
            .flat_map(|gi| gi.compute_instances.iter().map(move |ci| MigDevice { gpu, gi, ci }));
        devices.filter_map(|device| handy_name(&device, source)).map(|n| n.to_string()).collect()
    }
}
