//! `mig-cdi profiles`: the profiles of each GPU, and where an instance of each still fits.

use crate::{
    cli::ProfilesArgs,
    command_output::{CommandOutput, to_json},
    console::Console,
    pending_modes::pending_warning,
    table::{gib, or_dash, table},
};
use mig_cdi_gen::{Error, MessageSink, NodeSource};
use mig_cdi_model::{Placement, Profile};
use mig_cdi_partition::{NodeGpus, free_placements};
use mig_cdi_sys::nvml::{GpuPartitioning, GpuProfile};
use serde::Serialize;

pub(super) fn run(
    node: &NodeSource,
    args: &ProfilesArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let gpus = NodeGpus::read(node, console)?;
    for gpu in &gpus.all {
        if let Some(pending) = gpu.pending_mode {
            console.warn(&pending_warning(gpu.index, pending));
        }
    }
    let stdout = match args.json {
        true => to_json(&gpus.all.iter().map(GpuProfiles::new).collect::<Vec<_>>())?,
        false => {
            let text: Vec<_> = gpus.all.iter().map(text).collect();
            if text.is_empty() { "no GPU\n".to_owned() } else { text.join("\n") }
        }
    };
    Ok(CommandOutput::complete_if(gpus.unreadable.is_empty(), stdout))
}

/// Profiles of one GPU, for `--json`.
#[derive(Serialize)]
struct GpuProfiles<'a> {
    index: u32,
    uuid: &'a str,
    model: &'a str,
    mig: Option<bool>,
    profiles: Vec<Row<'a>>,
}

/// A profile of GPU instances. Memory is in MiB, placements are in memory slices.
#[derive(Serialize)]
struct Row<'a> {
    name: Option<&'a Profile>,
    id: u32,
    max: u32,
    /// Number of instances that can be created in addition; `None` when the driver does not report it.
    remaining: Option<u32>,
    slices: u32,
    memory_mib: u64,
    multiprocessors: u32,
    copy_engines: u32,
    decoders: u32,
    encoders: u32,
    jpeg: u32,
    ofa: u32,
    placements: &'a [Placement],
    /// Placements that overlap no instance.
    free: Vec<Placement>,
}

impl<'a> GpuProfiles<'a> {
    fn new(gpu: &'a GpuPartitioning) -> GpuProfiles<'a> {
        let row = |profile: &'a GpuProfile| Row {
            name: profile.name.as_ref(),
            id: profile.id,
            max: profile.max,
            remaining: profile.remaining,
            slices: profile.slices,
            memory_mib: profile.memory_mib,
            multiprocessors: profile.multiprocessors,
            copy_engines: profile.copy_engines,
            decoders: profile.decoders,
            encoders: profile.encoders,
            jpeg: profile.jpeg,
            ofa: profile.ofa,
            placements: &profile.placements,
            free: free_placements(gpu, profile),
        };
        let GpuPartitioning { index, uuid, model, mig, profiles, .. } = gpu;
        let profiles = profiles.iter().map(row).collect();
        GpuProfiles { index: *index, uuid, model, mig: *mig, profiles }
    }
}

fn text(gpu: &GpuPartitioning) -> String {
    let GpuPartitioning { index, model, uuid, profiles, .. } = gpu;
    const HEAD: [&str; 10] =
        ["PROFILE", "ID", "FREE", "MAX", "MEMORY", "SM", "CE", "DEC", "ENC", "FREE AT"];
    let mode = match gpu.mig {
        None => "; it has no MIG".to_owned(),
        Some(_) if let Some(pending) = gpu.pending_mode => format!("; MIG mode is {pending}"),
        Some(false) => "; MIG mode is off".to_owned(),
        Some(true) => String::new(),
    };
    let rows: Vec<_> = profiles.iter().map(|profile| row(gpu, profile)).collect();
    let rows = if rows.is_empty() { String::new() } else { table(HEAD, &rows) };
    format!("GPU {index}: {model} ({uuid}){mode}\n{rows}")
}

fn row(gpu: &GpuPartitioning, profile: &GpuProfile) -> [String; 10] {
    let starts: Vec<_> =
        free_placements(gpu, profile).iter().map(|place| place.start.to_string()).collect();
    [
        or_dash(profile.name.as_ref()),
        profile.id.to_string(),
        or_dash(profile.remaining),
        profile.max.to_string(),
        gib(profile.memory_mib),
        known(profile.multiprocessors),
        known(profile.copy_engines),
        profile.decoders.to_string(),
        profile.encoders.to_string(),
        if starts.is_empty() { "-".to_owned() } else { starts.join(",") },
    ]
}

/// Formats a number of units of which every slice has at least one: 0 means that a simulated node does not define it.
fn known(count: u32) -> String {
    or_dash((count > 0).then_some(count))
}
