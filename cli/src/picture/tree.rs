//! GPUs, their GPU instances and their compute instances as an indented tree.

use super::style::Style;
use crate::table::gib;
use mig_cdi_gen::slice_names::SliceNames;
use mig_cdi_model::{ComputeInstance, Gpu, GpuInstance, MigDevice, MigMode, Topology};

/// Draws the tree, a line for each item. Omits what is not known.
pub(crate) fn tree(topology: &Topology, names: &SliceNames, style: Style) -> String {
    if topology.gpus.is_empty() {
        return "no GPU\n".to_owned();
    }
    let mut lines = Vec::new();
    for gpu in &topology.gpus {
        lines.push(gpu_line(gpu));
        for (index, gi) in gpu.gpu_instances.iter().enumerate() {
            let last = index + 1 == gpu.gpu_instances.len();
            lines.push(format!("{}{}", branch(last, style), gi_line(gi)));
            let stem = stem(last, style);
            if gi.compute_instances.is_empty() {
                // CUDA runs on compute instances only; a GPU instance alone is memory that is set aside.
                let none = "no compute instance: nothing can run here yet";
                lines.push(format!("{stem}{}{none}", branch(true, style)));
            }
            for (index, ci) in gi.compute_instances.iter().enumerate() {
                let last = index + 1 == gi.compute_instances.len();
                let device = MigDevice { gpu, gi, ci };
                lines.push(format!("{stem}{}{}", branch(last, style), ci_line(&device, names)));
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

fn gpu_line(gpu: &Gpu) -> String {
    let label = gpu.label().replacen("gpu", "GPU", 1);
    let mig = match gpu.mig {
        MigMode::Unsupported => "no MIG",
        MigMode::Disabled => "MIG off",
        MigMode::Enabled if gpu.gpu_instances.is_empty() => "MIG on, no instance",
        MigMode::Enabled => "MIG on",
        MigMode::Unknown => "MIG unknown",
    };
    let fields =
        [Some(label), Some(gpu.model.clone()), Some(mig.to_owned()), Some(gpu.node.path.clone())];
    join(fields.into_iter().chain([gpu.uuid.as_ref().map(ToString::to_string)]))
}

fn gi_line(gi: &GpuInstance) -> String {
    let GpuInstance { id, profile, placement, cap, compute_instances } = gi;
    // NVML reports the memory of a GPU instance with each of its compute instances.
    let memory = compute_instances.iter().find_map(|ci: &ComputeInstance| ci.memory_mib);
    let slices = placement.map(|placement| match placement.size {
        1 => format!("memory slice {}", placement.start),
        size => format!(
            "memory slices {}-{}",
            placement.start,
            placement.start.saturating_add(size).saturating_sub(1)
        ),
    });
    let profile = profile.as_ref().map(ToString::to_string);
    let fields = [Some(format!("GI {id}")), profile, slices, memory.map(gib)];
    join(fields.into_iter().chain([Some(format!("cap {}", cap.minor))]))
}

fn ci_line(device: &MigDevice<'_>, names: &SliceNames) -> String {
    let ci = device.ci;
    let fields = [
        Some(format!("CI {}", ci.id)),
        names.of(device),
        ci.profile.as_ref().map(ToString::to_string),
        Some(format!("cap {}", ci.cap.minor)),
        ci.uuid.as_ref().map(ToString::to_string),
    ];
    join(fields.into_iter())
}

fn join(fields: impl Iterator<Item = Option<String>>) -> String {
    fields.flatten().collect::<Vec<_>>().join("  ")
}
