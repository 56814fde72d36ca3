//! What is in what: GPUs, GPU instances, compute instances.

use super::Style;
use crate::{discover::Source, spec::preferred_name, table::gib};
use mig_cdi_model::{ComputeInstance, Gpu, GpuInstance, MigDevice, MigMode, Topology};

/// A line for each of them. What nobody tells is left out.
pub(crate) fn tree(topology: &Topology, source: Source, style: Style) -> String {
    if topology.gpus.is_empty() {
        return "no GPU\n".to_owned();
    }
    let mut lines = Vec::new();
    for gpu in &topology.gpus {
        lines.push(of_gpu(gpu));
        for (at, gi) in gpu.gpu_instances.iter().enumerate() {
            let last = at + 1 == gpu.gpu_instances.len();
            lines.push(format!("{}{}", branch(last, style), of_gi(gi)));
            let stem = stem(last, style);
            if gi.compute_instances.is_empty() {
                let none = "no compute instance: nothing can run here yet";
                lines.push(format!("{stem}{}{none}", branch(true, style)));
            }
            for (at, ci) in gi.compute_instances.iter().enumerate() {
                let last = at + 1 == gi.compute_instances.len();
                let device = MigDevice { gpu, gi, ci };
                lines.push(format!("{stem}{}{}", branch(last, style), of_ci(&device, source)));
            }
        }
    }
    lines.iter().map(|line| style.plain(line) + "\n").collect()
}

fn branch(last: bool, style: Style) -> &'static str {
    match (style.utf8, last) {
        (true, false) => "├─ ",
        (true, true) => "└─ ",
        (false, false) => "|- ",
        (false, true) => "`- ",
    }
}

fn stem(last: bool, style: Style) -> &'static str {
    match (last, style.utf8) {
        (true, _) => "   ",
        (false, true) => "│  ",
        (false, false) => "|  ",
    }
}

fn of_gpu(gpu: &Gpu) -> String {
    let label = gpu.label().replacen("gpu", "GPU", 1);
    let mig = match gpu.mig {
        MigMode::Unsupported => "no MIG",
        MigMode::Disabled => "MIG off",
        MigMode::Enabled if gpu.gpu_instances.is_empty() => "MIG on, no instance",
        MigMode::Enabled => "MIG on",
        MigMode::Unknown => "MIG unknown",
    };
    let words =
        [Some(label), Some(gpu.model.clone()), Some(mig.to_owned()), Some(gpu.node.path.clone())];
    joined(words.into_iter().chain([gpu.uuid.as_ref().map(ToString::to_string)]))
}

fn of_gi(gi: &GpuInstance) -> String {
    let GpuInstance { id, profile, placement, cap, compute_instances } = gi;
    let memory = compute_instances.iter().find_map(|ci: &ComputeInstance| ci.memory_mib);
    let slices = placement.map(|at| match at.size {
        1 => format!("memory slice {}", at.start),
        size => format!(
            "memory slices {}-{}",
            at.start,
            at.start.saturating_add(size).saturating_sub(1)
        ),
    });
    let profile = profile.as_ref().map(ToString::to_string);
    let words = [Some(format!("GI {id}")), profile, slices, memory.map(gib)];
    joined(words.into_iter().chain([Some(format!("cap {}", cap.minor))]))
}

fn of_ci(device: &MigDevice<'_>, source: Source) -> String {
    let ci = device.ci;
    let words = [
        Some(format!("CI {}", ci.id)),
        preferred_name(device, source).map(|name| name.to_string()),
        ci.profile.as_ref().map(ToString::to_string),
        Some(format!("cap {}", ci.cap.minor)),
        ci.uuid.as_ref().map(ToString::to_string),
    ];
    joined(words.into_iter())
}

fn joined(words: impl Iterator<Item = Option<String>>) -> String {
    words.flatten().collect::<Vec<_>>().join("  ")
}
