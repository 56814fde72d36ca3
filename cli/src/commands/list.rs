//! `mig-cdi list`: the GPUs and MIG devices of the node, as tables, a tree or JSON.

use crate::{
    cli::ListArgs,
    command_output::{CommandOutput, to_json},
    console::Console,
    first_layout,
    pending_modes::warn_of_pending_modes,
    picture::tree,
    stage_options::Resolver,
    table::{gib, or_dash, table},
};
use mig_cdi_gen::{Error, MessageSink, discover::Discovery, slice_names::SliceNames};
use mig_cdi_model::{Gpu, MigDevice, MigMode, Topology};
use serde::Serialize;

pub(super) fn run(
    resolver: &Resolver<'_>,
    args: &ListArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let Resolver { node, settings, .. } = resolver;
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    let topology = &discovery.topology;
    let names = SliceNames::read(topology, node.source, &settings.spec_dirs, &settings.kind);
    if let Some(warning) = names.warning() {
        console.warn(&warning);
    }
    let stdout = match (args.json, args.tree) {
        (true, _) => list_json(&discovery)?,
        (_, true) => tree(topology, &names, console.style()),
        _ => text(&names, topology),
    };
    warn_of_pending_modes(console, topology);
    let problems = &discovery.problems;
    let is_table = !args.json && !args.tree;
    if is_table
        && topology.mig_devices().next().is_none()
        && let Some(advice) = first_layout::advice_beside(node, problems)
    {
        let confirmed = if problems.is_empty() { "" } else { " is confirmed" };
        console.status(&format!("no mig device{confirmed}: {advice}"));
    }
    Ok(CommandOutput::complete_if(discovery.problems.is_empty(), stdout))
}

/// Contents of `--json`: the topology, and what was omitted from it.
#[derive(Serialize)]
struct NodeListing<'a> {
    #[serde(flatten)]
    topology: &'a Topology,
    problems: Vec<String>,
}

fn list_json(discovery: &Discovery) -> Result<String, Error> {
    let problems = discovery.problems.iter().map(ToString::to_string).collect();
    to_json(&NodeListing { topology: &discovery.topology, problems })
}

fn text(names: &SliceNames, topology: &Topology) -> String {
    let gpus: Vec<_> = topology.gpus.iter().map(gpu_row).collect();
    let head = ["GPU", "NODE", "PCI", "MIG", "INSTANCES", "MODEL"];
    let gpus = if gpus.is_empty() { "no GPU\n".to_owned() } else { table(head, &gpus) };
    let devices: Vec<_> = topology.mig_devices().map(|device| device_row(names, &device)).collect();
    if devices.is_empty() {
        return format!("{gpus}\nno MIG device\n");
    }
    let head = ["DEVICE", "PROFILE", "MEMORY", "GPU", "GI", "CI", "CAPS", "UUID"];
    format!("{gpus}\n{}", table(head, &devices))
}

fn gpu_row(gpu: &Gpu) -> [String; 6] {
    let mig = match gpu.mig {
        MigMode::Unsupported => "no",
        MigMode::Disabled => "off",
        MigMode::Enabled => "on",
        // With --source proc: /proc shows instances, and not the mode of a GPU without any.
        MigMode::Unknown => "?",
    };
    [
        or_dash(gpu.index),
        gpu.node.path.clone(),
        gpu.pci.to_string(),
        mig.to_owned(),
        gpu.gpu_instances.len().to_string(),
        gpu.model.clone(),
    ]
}

fn device_row(names: &SliceNames, device: &MigDevice<'_>) -> [String; 8] {
    let MigDevice { gpu, gi, ci } = device;
    [
        or_dash(names.of(device)),
        or_dash(ci.profile.as_ref()),
        or_dash(ci.memory_mib.map(gib)),
        or_dash(gpu.index),
        gi.id.to_string(),
        ci.id.to_string(),
        format!("{} {}", gi.cap.minor, ci.cap.minor),
        or_dash(ci.uuid.as_ref()),
    ]
}
