//! Names that no slice of a node can have.

use mig_cdi_gen::{NoMessages, NodeSource, slice_names::SliceNames};
use mig_cdi_model::{GoneName, MigDevice, Profile, Topology, split_compute};
use mig_cdi_partition::NodeGpus;
use mig_cdi_sys::nvml::{GpuPartitioning, GpuProfile};
use std::collections::BTreeSet;

/// The GPUs of a node with their profiles; none where NVML does not describe them, as to a user without privileges.
pub(crate) fn gpus(node: &NodeSource) -> Vec<GpuPartitioning> {
    let gpus = NodeGpus::read_available(node, &NoMessages, "it is omitted");
    gpus.map(|gpus| gpus.all).unwrap_or_default()
}

/// Says of a name that no slice can have so, in the place of being gone.
pub(crate) fn with_reason(name: &str, gone: GoneName, gpus: &[GpuPartitioning]) -> GoneName {
    match reason(name, gpus) {
        Some(reason) => GoneName { cause: format!("no slice can be {name}: {reason}"), ..gone },
        None => gone,
    }
}

/// Describes a name by slot as the spec does where NVML does not report placements, as to a user without privileges. `None` when no
/// spec has all slices that its GPU has now.
pub(crate) fn by_spec(
    name: &str,
    gone: GoneName,
    topology: &Topology,
    names: &SliceNames,
) -> Option<GoneName> {
    let has_placement = |slice: MigDevice<'_>| slice.gi.placement.is_some();
    if !gone.is_slot || topology.mig_devices().all(has_placement) {
        return Some(gone);
    }
    let slices = topology.mig_devices();
    let of_gpu = slices.filter(|slice| slice.gpu.index.map(|index| index.0) == gone.gpu);
    let slots = of_gpu.map(|slice| names.by_slot(&slice)).collect::<Option<Vec<_>>>()?;
    let gone = GoneName::new(name, slots.iter().map(String::as_str))?;
    let spec = names.spec().filter(|_| !gone.is_empty);
    let source = spec.map(|path| format!(", by the spec {}", path.display()));
    Some(GoneName { now: gone.now + &source.unwrap_or_default(), ..gone })
}

/// Cause and cure for a name by slot that no spec describes.
pub(crate) const UNKNOWN_SLOT: (&str, &str) = (
    "nvml tells where slices are only to a caller with privileges",
    "use a name that mig-cdi list shows",
);

/// The part of a name that no slice of its GPU has.
fn reason(name: &str, gpus: &[GpuPartitioning]) -> Option<String> {
    if let Some(uuid) = name.strip_prefix("MIG-") {
        // Drivers before R470 have MIG-GPU-..., with the numbers of the instances.
        let is_uuid = is_uuid(uuid) || uuid.starts_with("GPU-");
        let form = "a uuid is MIG- and 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12";
        return (!is_uuid).then(|| form.to_owned());
    }
    let (index, rest) = name.split_once(':')?;
    let index: u32 = index.parse().ok()?;
    let gpu = gpus.iter().find(|gpu| gpu.index == index && !gpu.profiles.is_empty())?;
    match rest.split_once(':') {
        Some((profile, starts)) => slot_reason(gpu, profile, starts),
        None => index_reason(gpu, rest.parse().ok()?),
    }
}

fn is_uuid(text: &str) -> bool {
    let is_group = |(group, length): (&str, usize)| {
        group.len() == length && group.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let groups: Vec<_> = text.split('-').collect();
    groups.len() == 5 && groups.into_iter().zip([8, 4, 4, 4, 12]).all(is_group)
}

/// `9` of `0:9`.
fn index_reason(gpu: &GpuPartitioning, number: u32) -> Option<String> {
    // As many as there are compute instances of one slice.
    let most =
        gpu.profiles.iter().map(|profile| profile.max.saturating_mul(profile.slices)).max()?;
    (number >= most).then(|| format!("GPU {} has at most {most} slices, from 0 on", gpu.index))
}

/// `2g.20gb` and `1` of `0:2g.20gb:1`, and the start within the GPU instance that a compute instance may have behind it.
fn slot_reason(gpu: &GpuPartitioning, profile: &str, starts: &str) -> Option<String> {
    let index = gpu.index;
    let (start, compute_start) = match starts.split_once(':') {
        Some((start, compute_start)) => (start, compute_start.parse().ok()?),
        None => (starts, 0),
    };
    let start: u32 = start.parse().ok()?;
    let (compute, profile) = split_compute(profile);
    let has_name = |own: &&GpuProfile| {
        own.name
            .as_ref()
            .is_some_and(|own: &Profile| [own.as_str(), &own.cdi_safe()].contains(&profile))
    };
    let named: Vec<_> = gpu.profiles.iter().filter(has_name).collect();
    let Some(slices) = named.iter().map(|own| own.slices).max() else {
        let names = gpu.profiles.iter().filter_map(|own| own.name.as_ref());
        let names: Vec<_> = names.map(Profile::cdi_safe).collect();
        return Some(format!("GPU {index} has no {profile}, only {}", names.join(", ")));
    };
    let placements = named.iter().flat_map(|own| &own.placements);
    let known: BTreeSet<u32> = placements.map(|placement| placement.start).collect();
    if !known.contains(&start) && !known.is_empty() {
        let starts: Vec<_> = known.iter().map(u32::to_string).collect();
        let starts = starts.join(", ");
        return Some(format!("on GPU {index} a {profile} starts only at {starts}"));
    }
    let end = compute.unwrap_or(slices).checked_add(compute_start);
    let fits = compute != Some(0) && end.is_some_and(|end| end <= slices);
    let plural = if slices == 1 { "compute slice" } else { "compute slices" };
    (!fits).then(|| format!("a {profile} has {slices} {plural}, from 0 on"))
}
