//! Names by slot that no slice of a GPU can have.

use mig_cdi_gen::{NoMessages, NodeSource};
use mig_cdi_model::{GoneName, Profile};
use mig_cdi_partition::NodeGpus;
use mig_cdi_sys::nvml::{GpuPartitioning, GpuProfile};
use std::collections::BTreeSet;

/// The GPUs of a node with their profiles; none where NVML does not describe them, as to a user without privileges.
pub(crate) fn gpus(node: &NodeSource) -> Vec<GpuPartitioning> {
    let gpus = NodeGpus::read_available(node, &NoMessages, "it is omitted");
    gpus.map(|gpus| gpus.all).unwrap_or_default()
}

/// Says of a name that no slice of its GPU can have so, in the place of being gone.
pub(crate) fn with_reason(name: &str, gone: GoneName, gpus: &[GpuPartitioning]) -> GoneName {
    match reason(name, gpus) {
        Some(reason) => GoneName { cause: format!("no slice can be {name}: {reason}"), ..gone },
        None => gone,
    }
}

/// The profile or placement that a name by slot states and its GPU does not have.
fn reason(name: &str, gpus: &[GpuPartitioning]) -> Option<String> {
    let (index, slot) = name.split_once(':')?;
    let (profile, starts) = slot.split_once(':')?;
    // Behind it is the start of a compute instance that does not span its GPU instance, within that.
    let start: u32 = starts.split(':').next()?.parse().ok()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let profile = match profile.split_once("c.") {
        Some((compute, profile)) if is_number(compute) => profile,
        _ => profile,
    };
    profile.split_once("g.").filter(|(slices, _)| is_number(slices))?;
    let index: u32 = index.parse().ok()?;
    let gpu = gpus.iter().find(|gpu| gpu.index == index && !gpu.profiles.is_empty())?;
    let has_name = |own: &&GpuProfile| {
        own.name
            .as_ref()
            .is_some_and(|own: &Profile| [own.as_str(), &own.cdi_safe()].contains(&profile))
    };
    let placements = gpu.profiles.iter().filter(has_name).flat_map(|own| &own.placements);
    let known: BTreeSet<u32> = placements.map(|placement| placement.start).collect();
    if known.is_empty() {
        let names = gpu.profiles.iter().filter_map(|own| own.name.as_ref());
        let names: Vec<_> = names.map(Profile::cdi_safe).collect();
        return Some(format!("GPU {index} has no {profile}, only {}", names.join(", ")));
    }
    let starts: Vec<_> = known.iter().map(u32::to_string).collect();
    (!known.contains(&start))
        .then(|| format!("on GPU {index} a {profile} starts only at {}", starts.join(", ")))
}
