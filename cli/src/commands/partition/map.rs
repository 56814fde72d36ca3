//! `mig-cdi map`: a picture of how the GPUs are divided.

use super::{
    super::{Done, exit},
    holder_options, write,
};
use crate::{
    cli::MapArgs,
    console::Console,
    picture::{GpuLayout, GpuState, GpuView, Picture, svg, text},
};
use mig_cdi_config::layouts::GpuSelector;
use mig_cdi_gen::{Error, discover::Source, spec::preferred_name};
use mig_cdi_model::{Gpu, MigDevice, MigMode, PciAddress, Topology, cdi::Kind};
use mig_cdi_partition::{Holders, NodeGpus, NodePartitioner};
use mig_cdi_sys::{TrustedDir, nvml::GpuPartitioning};
use std::path::Path;

pub(in super::super) fn map(
    partitioning: &NodePartitioner<'_>,
    kind: &Kind,
    args: &MapArgs,
    console: &Console,
) -> Result<Done, Error> {
    let node = partitioning.node;
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    let asked = match node.source {
        Source::Proc => None,
        Source::Nvml => Some(NodeGpus::read_available(node, console, "it is listed, not drawn")?),
    };
    let held = match &asked {
        Some(gpus) => partitioning.holders(gpus, &holder_options(&args.holders), false)?,
        None => Holders::default(),
    };
    let divisions = asked.as_ref().map_or(&[][..], |gpus| &gpus.all);
    let found = select(&args.gpus, found(&discovery.topology, divisions))?;
    let cards: Vec<_> = found.iter().map(|gpu| gpu.card(node.source, &held)).collect();
    let is_drawn = |gpu: &GpuView| !matches!(gpu.state, GpuState::Unknown { .. });
    // Whoever asks /proc alone knows that it does not tell.
    let drawn = node.source == Source::Proc || cards.iter().all(is_drawn);
    let complete =
        drawn && discovery.problems.is_empty() && asked.is_none_or(|gpus| gpus.unreadable == 0);
    let picture = Picture { gpus: cards, kind: kind.to_string() };
    let stdout = match args.svg.as_deref() {
        None => text(&picture, console.style()),
        Some(file) if file == Path::new("-") => svg(&picture),
        Some(file) => {
            write(console, file, &svg(&picture), TrustedDir::open_shared)?;
            String::new()
        }
    };
    Ok(Done { stdout, exit: exit(complete) })
}

/// A GPU as it was discovered, and as it is divided: at least one of them is known.
struct Found<'a> {
    gpu: Option<&'a Gpu>,
    division: Option<&'a GpuPartitioning>,
}

fn found<'a>(topology: &'a Topology, divisions: &'a [GpuPartitioning]) -> Vec<Found<'a>> {
    let of = |gpu: &'a Gpu| {
        let division = divisions.iter().find(|division| division.minor == gpu.minor.0);
        Found { gpu: Some(gpu), division }
    };
    let mut found: Vec<_> = topology.gpus.iter().map(of).collect();
    let known =
        |division: &&GpuPartitioning| topology.gpus.iter().all(|g| g.minor.0 != division.minor);
    let more = divisions.iter().filter(known);
    found.extend(more.map(|division| Found { gpu: None, division: Some(division) }));
    found.sort_by_key(|found| found.index().unwrap_or(u32::MAX));
    found
}

/// Those that are asked for, each once.
fn select<'a>(words: &[GpuSelector], all: Vec<Found<'a>>) -> Result<Vec<Found<'a>>, Error> {
    for word in words {
        if *word != GpuSelector::All && !all.iter().any(|gpu| gpu.is(word)) {
            let there: Vec<_> = all.iter().map(Found::label).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(Error::usage("", "")
                .because(format!("no gpu {word} on this node"))
                .cure(format!("it has {there}")));
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

    fn card(&self, source: Source, holders: &Holders) -> GpuView {
        let label = match (self.index(), self.gpu) {
            (None, Some(gpu)) => gpu.label(),
            _ => self.label(),
        };
        let model = self.gpu.map(|gpu| gpu.model.as_str());
        let model = model.or_else(|| self.division.map(|d| d.model.as_str())).unwrap_or_default();
        let place = self.pci().map(|pci| format!(" at {pci}")).unwrap_or_default();
        let minor = self.gpu.map(|gpu| gpu.minor.0).or_else(|| self.division.map(|d| d.minor));
        GpuView {
            heading: format!("{}: {model}{place}", label.replacen("gpu", "GPU", 1)),
            holders: minor.map(|minor| holders.of_gpu(minor)).unwrap_or_default(),
            state: self.state(source, holders),
        }
    }

    fn state(&self, source: Source, holders: &Holders) -> GpuState {
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
        let untold =
            |why: &str| GpuState::Unknown { reason: why.to_owned(), devices: self.names(source) };
        match (mig, self.division) {
            (MigMode::Unsupported, _) => GpuState::Whole(NEVER.to_owned()),
            (MigMode::Disabled, _) => GpuState::Whole(OFF.to_owned()),
            (_, Some(division)) => match GpuLayout::new(division, self.gpu, holders) {
                Ok(strip) => GpuState::Partitioned(strip),
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
        devices
            .filter_map(|device| preferred_name(&device, source))
            .map(|n| n.to_string())
            .collect()
    }
}
