//! Node labels, by which schedulers choose: those of GPU feature discovery whose values are certain, and one of our
//! own. Pure: from an inventory and its resources to labels.
//!
//! Names and forms of values are those of NVIDIA/k8s-device-plugin, `internal/lm`.

use crate::strategy::{NodeResources, Resource, Strategy};
use mig_cdi_gen::inventory::{GpuEntry, Inventory, SliceEntry};
use mig_cdi_model::MajorMinor;
use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

/// Longest value of a label, and longest part of its key behind the slash (k8s.io/apimachinery,
/// `validation.LabelValueMaxLength`).
const LENGTH_LIMIT: usize = 63;

/// Makes all labels of a node, by key; none for a node without a GPU.
#[must_use]
pub fn labels(
    inventory: &Inventory,
    strategy: Strategy,
    resources: &NodeResources,
) -> BTreeMap<String, String> {
    let mut labels = Labels::default();
    if inventory.gpus.is_empty() {
        return labels.0;
    }
    node_labels(inventory, &mut labels);
    let has_mig_mode = inventory.gpus.iter().any(|gpu| gpu.mig_enabled);
    match strategy {
        Strategy::None => gpu_labels(inventory, &mut labels),
        Strategy::Single if has_mig_mode => single_labels(inventory, resources, &mut labels),
        Strategy::Single => gpu_labels(inventory, &mut labels),
        Strategy::Mixed => {
            gpu_labels(inventory, &mut labels);
            mixed_labels(inventory, resources, &mut labels);
        }
    }
    // GPU feature discovery sets no such label under none (`internal/lm`).
    if strategy != Strategy::None {
        labels.set("nvidia.com/mig", "strategy", strategy.as_str());
    }
    let is_complete = resources.withheld.is_empty() && inventory.problems.is_empty();
    labels.set("nvidia.com/mig-cdi", "state", if is_complete { "ok" } else { "withheld" });
    labels.0
}

/// Sets the labels that do not depend on the strategy.
fn node_labels(inventory: &Inventory, labels: &mut Labels) {
    driver_version(&inventory.driver_version, labels);
    if let Some(MajorMinor { major, minor }) = inventory.cuda_version {
        // GPU feature discovery keeps its older names beside the newer ones, which alone have a `full` form.
        for (prefix, is_new) in
            [("nvidia.com/cuda.runtime-version", true), ("nvidia.com/cuda.runtime", false)]
        {
            labels.set(prefix, "major", major);
            labels.set(prefix, "minor", minor);
            if is_new {
                labels.set(prefix, "full", format_args!("{major}.{minor}"));
            }
        }
    }
    let mut capable = inventory.gpus.iter().map(|gpu| gpu.mig_capable);
    let is_capable = match capable.clone().any(|capable| capable == Some(true)) {
        true => Some(true),
        false => capable.all(|capable| capable == Some(false)).then_some(false),
    };
    labels.set_known("nvidia.com/mig", "capable", is_capable);
    // The plugin shares no device by MPS, whatever the GPU could do.
    labels.set("nvidia.com/mps", "capable", false);
    labels.set_known("nvidia.com/gpu", "machine", inventory.machine.as_deref());
    // PCI class codes: 0x030000 is a VGA controller, 0x030200 a 3D controller (`pci.ids`).
    let mode = inventory.gpus.iter().find_map(|gpu| gpu.class).map(|class| match class {
        0x03_0000 => "graphics",
        0x03_0200 => "compute",
        _ => "unknown",
    });
    labels.set_known("nvidia.com/gpu", "mode", mode);
}

/// Sets the version of the driver, `X.Y` or `X.Y.Z`, under the newer names and the older ones.
fn driver_version(version: &str, labels: &mut Labels) {
    const FORMS: [(&str, &str); 2] =
        [("nvidia.com/cuda.driver-version", "revision"), ("nvidia.com/cuda.driver", "rev")];
    let parts: Vec<_> = version.split('.').collect();
    if let [major, minor, rest @ ..] = &parts[..]
        && rest.len() < 2
    {
        for (prefix, revision) in FORMS {
            labels.set(prefix, "major", major);
            labels.set(prefix, "minor", minor);
            labels.set(prefix, revision, rest.first().unwrap_or(&""));
        }
    }
    if !version.is_empty() {
        labels.set("nvidia.com/cuda.driver-version", "full", version);
    }
}

/// Sets the labels of whole GPUs. One model stands for all: one with a GPU that is not in MIG mode before others,
/// then that of most GPUs, then the first. The count is that of the model's GPUs in either mode: how many exist, not
/// how many are advertised.
fn gpu_labels(inventory: &Inventory, labels: &mut Labels) {
    let count = |gpu: &GpuEntry| inventory.gpus.iter().filter(|one| one.model == gpu.model).count();
    // `max_by_key` returns the last of equal elements; reversed, that is the first GPU.
    let gpus = inventory.gpus.iter().rev();
    let Some(gpu) = gpus.max_by_key(|gpu| (!gpu.mig_enabled, count(gpu))) else { return };
    let resource = Resource::gpu();
    labels.set(resource.as_str(), "product", product(&gpu.model, None));
    sharing_labels(resource.as_str(), count(gpu), u32::from(!gpu.mig_enabled), labels);
    labels.set_known(resource.as_str(), "memory", gpu.memory_mib.filter(|mib| *mib > 0));
    architecture_labels(gpu, labels);
}

/// Sets the labels of the strategy single, under which `nvidia.com/gpu` is a slice. On a node without a slice they
/// are those that GPU feature discovery sets then (`internal/lm`, `-MIG-INVALID`).
fn single_labels(inventory: &Inventory, resources: &NodeResources, labels: &mut Labels) {
    let resource = Resource::gpu();
    if let Some((gpu, slice, count)) = first_slice(inventory, resources, &resource) {
        slice_labels(&resource, gpu, slice, count, labels);
        return architecture_labels(gpu, labels);
    }
    let Some(gpu) = inventory.gpus.iter().find(|gpu| gpu.mig_enabled) else { return };
    labels.set(resource.as_str(), "product", product(&gpu.model, Some("INVALID")));
    sharing_labels(resource.as_str(), 0, 0, labels);
    labels.set(resource.as_str(), "memory", 0);
    architecture_labels(gpu, labels);
}

/// Sets a group of labels for each profile.
fn mixed_labels(inventory: &Inventory, resources: &NodeResources, labels: &mut Labels) {
    for resource in resources.devices.keys().filter(|resource| **resource != Resource::gpu()) {
        if let Some((gpu, slice, count)) = first_slice(inventory, resources, resource) {
            slice_labels(resource, gpu, slice, count, labels);
        }
    }
}

/// Finds the first slice of a resource, which stands for all, with its GPU and the number of slices.
fn first_slice<'a>(
    inventory: &'a Inventory,
    resources: &NodeResources,
    resource: &Resource,
) -> Option<(&'a GpuEntry, &'a SliceEntry, usize)> {
    let devices = resources.devices.get(resource)?;
    let first = devices.first()?;
    let (gpu, slice) = inventory.slices().find(|(_, slice)| slice.name == first.name)?;
    Some((gpu, slice, devices.len()))
}

fn slice_labels(
    resource: &Resource,
    gpu: &GpuEntry,
    slice: &SliceEntry,
    count: usize,
    labels: &mut Labels,
) {
    let prefix = resource.as_str();
    // `+` is not allowed in a label's value; NVIDIA's names have `.` for it.
    let profile = slice.profile.as_deref().unwrap_or_default().replace('+', ".");
    labels.set(prefix, "product", product(&gpu.model, Some(&profile)));
    sharing_labels(prefix, count, 1, labels);
    labels.set_known(prefix, "memory", slice.memory_mib);
    let Some(attributes) = slice.attributes else { return };
    labels.set_known(prefix, "multiprocessors", attributes.multiprocessors);
    labels.set(prefix, "slices.gi", attributes.gpu_slices);
    labels.set(prefix, "slices.ci", attributes.compute_slices);
    labels.set_known(prefix, "engines.copy", attributes.copy_engines);
    labels.set(prefix, "engines.decoder", attributes.decoders);
    labels.set(prefix, "engines.encoder", attributes.encoders);
    labels.set(prefix, "engines.jpeg", attributes.jpeg_engines);
    labels.set(prefix, "engines.ofa", attributes.ofa_engines);
}

/// Sets the labels of sharing. The plugin shares nothing: one replica is the device itself, and none is a GPU that is
/// not advertised as a whole.
fn sharing_labels(prefix: &str, count: usize, replicas: u32, labels: &mut Labels) {
    labels.set(prefix, "count", count);
    labels.set(prefix, "replicas", replicas);
    labels.set(prefix, "sharing-strategy", "none");
}

fn architecture_labels(gpu: &GpuEntry, labels: &mut Labels) {
    let Some(MajorMinor { major, minor }) = gpu.compute_capability else { return };
    labels.set("nvidia.com/gpu", "family", family(major, minor));
    labels.set("nvidia.com/gpu", "compute.major", major);
    labels.set("nvidia.com/gpu", "compute.minor", minor);
}

/// Architecture of a compute capability (CUDA C++ Programming Guide, "Compute Capabilities").
fn family(major: u32, minor: u32) -> &'static str {
    match (major, minor) {
        (1, _) => "tesla",
        (2, _) => "fermi",
        (3, _) => "kepler",
        (5, _) => "maxwell",
        (6, _) => "pascal",
        (7, ..5) => "volta",
        (7, _) => "turing",
        (8, ..9) => "ampere",
        (8, _) => "ada-lovelace",
        (9, _) => "hopper",
        (10..=12, _) => "blackwell",
        _ => "undefined",
    }
}

/// Name of a product, followed by `-MIG-` and the profile for a slice. When that is too long the model is cut: the
/// profile, which distinguishes slices, is at the end.
fn product(model: &str, profile: Option<&str>) -> String {
    // Half of the length at most, so that something of the model is left.
    let suffix = profile.map(|profile| clean(profile, LENGTH_LIMIT / 2)).unwrap_or_default();
    let suffix = if suffix.is_empty() { suffix } else { format!("-MIG-{suffix}") };
    clean(model, LENGTH_LIMIT - suffix.len()) + &suffix
}

/// Turns a text into the value of a label of at most `limit` characters. Words are joined by `-`, characters that
/// Kubernetes does not accept are dropped, and both ends are letters or digits.
fn clean(text: &str, limit: usize) -> String {
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    let text: String = text.replace(char::is_whitespace, " ").chars().filter(is_allowed).collect();
    let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let mut text = words.join("-");
    let is_separator = |c: char| !c.is_ascii_alphanumeric();
    let start = text.len() - text.trim_start_matches(is_separator).len();
    text.drain(..start);
    // Cutting may leave a separator at the end, so the end is trimmed after it.
    text.truncate(limit);
    text.truncate(text.trim_end_matches(is_separator).len());
    text
}

/// Labels that Kubernetes accepts.
#[derive(Default)]
struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Sets a label. One whose key is too long is omitted: the API server would refuse the whole patch of the node.
    fn set(&mut self, prefix: &str, name: &str, value: impl Display) {
        let key = format!("{prefix}.{name}");
        let is_short = key.split_once('/').is_some_and(|(_, name)| name.len() <= LENGTH_LIMIT);
        if is_short {
            let mut text = String::new();
            // Writing to a String never fails.
            let _ = write!(text, "{value}");
            self.0.insert(key, clean(&text, LENGTH_LIMIT));
        }
    }

    fn set_known(&mut self, prefix: &str, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.set(prefix, name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_product_name_loses_the_end_of_its_model() {
        let model = "NVIDIA RTX PRO 6000 Blackwell Server Edition";
        let whole = "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition";
        assert_eq!(product(model, None), whole);
        assert_eq!(product(model, Some("1g.24gb.me.all")), format!("{whole}-MIG-1g.24gb.me.all"));
        let cut = product(model, Some("1c.2g.48gb.me.all"));
        assert_eq!(cut, "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edit-MIG-1c.2g.48gb.me.all");
        assert_eq!(cut.len(), LENGTH_LIMIT);
        assert_eq!(product("", Some("1g.10gb")), "-MIG-1g.10gb");
    }

    #[test]
    fn a_value_begins_and_ends_with_a_letter_or_digit() {
        assert_eq!(
            clean(" (Gigabyte)  G492\tZD2-00 \u{fc}.- ", LENGTH_LIMIT),
            "Gigabyte-G492-ZD2-00"
        );
        assert_eq!(clean("aaa-b", 4), "aaa");
        assert_eq!(clean("...", LENGTH_LIMIT), "");
        assert_eq!(clean("\u{fc}\u{fc}\u{fc}", LENGTH_LIMIT), "");
    }

    #[test]
    fn families_are_those_of_the_chips() {
        for (capability, name) in
            [((7, 0), "volta"), ((7, 5), "turing"), ((8, 0), "ampere"), ((8, 6), "ampere")]
        {
            assert_eq!(family(capability.0, capability.1), name);
        }
        assert_eq!([family(8, 9), family(9, 0)], ["ada-lovelace", "hopper"]);
        assert_eq!(
            [family(10, 0), family(12, 0), family(99, 0)],
            ["blackwell", "blackwell", "undefined"]
        );
    }
}
