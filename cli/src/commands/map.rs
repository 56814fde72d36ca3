//! `mig-cdi map`: a picture of how the GPUs are partitioned, for a terminal or as SVG.

use crate::{
    cli::MapArgs,
    command_output::CommandOutput,
    console::Console,
    output_file::write_output_file,
    pending_modes::warn_of_pending_modes,
    picture::{GpuLayout, GpuState, GpuView, Picture, svg, text},
    stage_options::holder_options,
    unmatched_holders::warn_of_unmatched_holders,
};
use mig_cdi_config::{Settings, layouts::GpuSelector};
use mig_cdi_gen::{Error, discover::Source, slice_names::SliceNames};
use mig_cdi_model::{Gpu, MigDevice, MigMode, PciAddress, Topology};
use mig_cdi_partition::{Holders, NodeGpus, NodePartitioner};
use mig_cdi_sys::{TrustedDir, nvml::GpuPartitioning};
use std::path::Path;

pub(super) fn run(
    partitioning: &NodePartitioner<'_>,
    settings: &Settings,
    args: &MapArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let node = partitioning.node;
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    warn_of_pending_modes(console, &discovery.topology);
    let read = match node.source {
        Source::Proc => None,
        Source::Nvml => Some(NodeGpus::read_available(node, console, "it is listed, not drawn")?),
    };
    let holders = match &read {
        Some(gpus) => {
            let options = holder_options(&args.holders);
            warn_of_unmatched_holders(partitioning, &options);
            partitioning.holders(gpus, &options, false)?
        }
        None => Holders::default(),
    };
    let partitioned = read.as_ref().map_or(&[][..], |gpus| &gpus.all);
    let gpus = select(&args.gpus, join(&discovery.topology, partitioned))?;
    let names =
        SliceNames::read(&discovery.topology, node.source, &settings.spec_dirs, &settings.kind);
    let views: Vec<_> = gpus.iter().map(|gpu| gpu.view(node.source, &names, &holders)).collect();
    let has_picture = |gpu: &GpuView| !matches!(gpu.state, GpuState::Unknown { .. });
    // /proc has no placements (`nv-caps.c`): with --source proc nothing is missing that was requested.
    let is_drawn = node.source == Source::Proc || views.iter().all(has_picture);
    let is_complete = is_drawn
        && discovery.problems.is_empty()
        && read.is_none_or(|gpus| gpus.unreadable.is_empty());
    let picture = Picture { gpus: views, kind: settings.kind.to_string() };
    let stdout = match args.svg.as_deref() {
        None => text(&picture, console.style()),
        Some(file) if file == Path::new("-") => svg(&picture),
        Some(file) => {
            write_output_file(console, file, &svg(&picture), TrustedDir::open_shared)?;
            String::new()
        }
    };
    Ok(CommandOutput::complete_if(is_complete, stdout))
}

/// A GPU from both sources. At least one of them has it: discovery omits a GPU that it cannot confirm, and NVML reports
/// no partitioning of a GPU that is lost.
struct MappedGpu<'a> {
    discovered: Option<&'a Gpu>,
    partitioning: Option<&'a GpuPartitioning>,
}

/// Joins the GPUs of both sources by their minor number, and sorts them by index.
fn join<'a>(topology: &'a Topology, partitioned: &'a [GpuPartitioning]) -> Vec<MappedGpu<'a>> {
    // Directories in /proc and NVML have the minor number in common; an index is NVML's alone.
    let with_partitioning = |gpu: &'a Gpu| {
        let partitioning = partitioned.iter().find(|other| other.minor == gpu.minor.0);
        MappedGpu { discovered: Some(gpu), partitioning }
    };
    let mut gpus: Vec<_> = topology.gpus.iter().map(with_partitioning).collect();
    let is_undiscovered =
        |other: &&GpuPartitioning| topology.gpus.iter().all(|gpu| gpu.minor.0 != other.minor);
    let undiscovered = partitioned.iter().filter(is_undiscovered);
    gpus.extend(undiscovered.map(|gpu| MappedGpu { discovered: None, partitioning: Some(gpu) }));
    gpus.sort_by_key(|gpu| gpu.index().unwrap_or(u32::MAX));
    gpus
}

/// Selects the requested GPUs, each once; all of them when none is named.
fn select<'a>(
    requested: &[GpuSelector],
    gpus: Vec<MappedGpu<'a>>,
) -> Result<Vec<MappedGpu<'a>>, Error> {
    for request in requested {
        if *request != GpuSelector::All && !gpus.iter().any(|gpu| gpu.matches(request)) {
            let labels: Vec<_> = gpus.iter().map(MappedGpu::label).collect();
            let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
            return Err(Error::usage("draw", format!("gpu {request}"))
                .because(format!("no such gpu on this node; it has {labels}")));
        }
    }
    let is_requested = |gpu: &MappedGpu<'_>| {
        requested.is_empty() || requested.iter().any(|request| gpu.matches(request))
    };
    Ok(gpus.into_iter().filter(is_requested).collect())
}

impl MappedGpu<'_> {
    fn index(&self) -> Option<u32> {
        let index = self.discovered.and_then(|gpu| gpu.index).map(|index| index.0);
        index.or_else(|| self.partitioning.map(|gpu| gpu.index))
    }

    fn uuid(&self) -> Option<String> {
        let uuid = self.discovered.and_then(|gpu| gpu.uuid.as_ref()).map(ToString::to_string);
        uuid.or_else(|| self.partitioning.map(|gpu| gpu.uuid.clone()))
    }

    fn pci(&self) -> Option<PciAddress> {
        let pci = self.discovered.map(|gpu| gpu.pci);
        pci.or_else(|| self.partitioning?.pci.parse().ok())
    }

    fn matches(&self, request: &GpuSelector) -> bool {
        match request {
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
        match (self.index(), self.discovered) {
            (Some(index), _) => format!("gpu {index}"),
            (None, Some(gpu)) => gpu.label() + &pci,
            (None, None) => format!("gpu{pci}"),
        }
    }

    fn view(&self, source: Source, names: &SliceNames, holders: &Holders) -> GpuView {
        let label = match (self.index(), self.discovered) {
            (None, Some(gpu)) => gpu.label(),
            _ => self.label(),
        };
        let (discovered, partitioning) = (self.discovered, self.partitioning);
        let model = discovered.map(|gpu| gpu.model.as_str());
        let model = model.or(partitioning.map(|gpu| gpu.model.as_str())).unwrap_or_default();
        let address = self.pci().map(|pci| format!(" at {pci}")).unwrap_or_default();
        let pending = discovered.and_then(|gpu| gpu.pending_mode);
        let pending = pending.or_else(|| partitioning.and_then(|gpu| gpu.pending_mode));
        let mode = pending.map(|mode| format!("; MIG mode is {mode}")).unwrap_or_default();
        let minor = discovered.map(|gpu| gpu.minor.0).or(partitioning.map(|gpu| gpu.minor));
        GpuView {
            heading: format!("{}: {model}{address}{mode}", label.replacen("gpu", "GPU", 1)),
            holders: minor.map(|minor| holders.of_gpu(minor)).unwrap_or_default(),
            state: self.state(source, names, holders),
        }
    }

    fn state(&self, source: Source, names: &SliceNames, holders: &Holders) -> GpuState {
        const NO_MIG: &str = "not partitioned: this model has no MIG";
        const OFF: &str =
            "not partitioned: MIG mode is off. mig-cdi profiles lists the profiles of this GPU";
        let mig = match (self.partitioning.map(|gpu| gpu.mig), self.discovered) {
            (Some(None), _) => MigMode::Unsupported,
            (Some(Some(true)), _) => MigMode::Enabled,
            (Some(Some(false)), _) => MigMode::Disabled,
            (None, Some(gpu)) => gpu.mig,
            (None, None) => MigMode::Unknown,
        };
        let unknown = |reason: &str| GpuState::Unknown {
            reason: reason.to_owned(),
            devices: self.names(names),
        };
        match (mig, self.partitioning) {
            (MigMode::Unsupported, _) => GpuState::Whole(NO_MIG.to_owned()),
            (MigMode::Disabled, _) => GpuState::Whole(OFF.to_owned()),
            (_, Some(gpu)) => match GpuLayout::new(gpu, self.discovered, holders) {
                Ok(layout) => GpuState::Partitioned(layout),
                Err(error) => unknown(&format!("it cannot be drawn: {error}. Its devices:")),
            },
            (MigMode::Unknown, None) => {
                unknown("without NVML it is not known whether it is partitioned")
            }
            (MigMode::Enabled, None) if source == Source::Proc => unknown(
                "without NVML the placements of its instances, free slices and profiles that still fit are not known. Its devices:",
            ),
            (MigMode::Enabled, None) => unknown(
                "NVML does not report the placements of its instances, free slices and profiles that still fit. Its devices:",
            ),
        }
    }

    fn names(&self, names: &SliceNames) -> Vec<String> {
        let Some(gpu) = self.discovered else { return Vec::new() };
        let instances = gpu.gpu_instances.iter();
        let devices = instances
            .flat_map(|gi| gi.compute_instances.iter().map(move |ci| MigDevice { gpu, gi, ci }));
        devices.filter_map(|device| names.of(&device)).collect()
    }
}
