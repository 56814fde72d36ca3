//! `mig-cdi list`.

use super::{Context, Done, exit};
use crate::{
    Exit, Failure,
    cli::ListArgs,
    discover::Discovery,
    picture::tree,
    spec::preferred_name,
    table::{gib, or_dash, table},
};
use mig_cdi_model::{Gpu, MigDevice, MigMode, Topology};
use serde::Serialize;

pub(super) fn run(context: &Context<'_>, args: &ListArgs) -> Result<Done, Failure> {
    let machine = context.machine()?;
    let discovery = context.discover(machine.as_ref())?;
    let exit = exit(discovery.problems.is_empty());
    let stdout = match (args.json, args.tree) {
        (true, _) => json(&discovery)?,
        (_, true) => tree(&discovery.topology, context.node.source, context.console.style()),
        _ => text(context, &discovery.topology),
    };
    Ok(Done { stdout, exit })
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    topology: &'a Topology,
    problems: Vec<String>,
}

fn json(discovery: &Discovery) -> Result<String, Failure> {
    let problems = discovery.problems.iter().map(ToString::to_string).collect();
    let document = Document { topology: &discovery.topology, problems };
    let text = serde_json::to_string_pretty(&document);
    text.map(|text| text + "\n").map_err(|e| Failure::new(Exit::Failed, format!("write json: {e}")))
}

fn text(context: &Context<'_>, topology: &Topology) -> String {
    let gpus: Vec<_> = topology.gpus.iter().map(gpu_row).collect();
    let head = ["GPU", "NODE", "PCI", "MIG", "INSTANCES", "MODEL"];
    let gpus = if gpus.is_empty() { "no GPU\n".to_owned() } else { table(head, &gpus) };
    let devices: Vec<_> =
        topology.mig_devices().map(|device| device_row(context, &device)).collect();
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

fn device_row(context: &Context<'_>, device: &MigDevice<'_>) -> [String; 8] {
    let MigDevice { gpu, gi, ci } = device;
    [
        or_dash(preferred_name(device, context.node.source)),
        or_dash(ci.profile.as_ref()),
        or_dash(ci.memory_mib.map(gib)),
        or_dash(gpu.index),
        gi.id.to_string(),
        ci.id.to_string(),
        format!("{} {}", gi.cap.minor, ci.cap.minor),
        or_dash(ci.uuid.as_ref()),
    ]
}
