//! What a scheduler may know of a node: the labels that GPU feature discovery gives, where they can truly be
//! told, and one of our own. Pure: from an inventory and its offers to labels.
//!
//! Names and forms of values are those of NVIDIA/k8s-device-plugin, `internal/lm`.

use crate::strategy::{Offers, Resource, Strategy};
use mig_cdi::inventory::{GpuEntry, Inventory, SliceEntry};
use mig_cdi_model::Release;
use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

/// Of a label's value, and of the part of its key behind the slash (k8s.io/apimachinery,
/// `validation.LabelValueMaxLength`).
const MOST: usize = 63;

/// All labels of a node, by key. None for a node without a GPU.
#[must_use]
pub fn labels(
    inventory: &Inventory,
    strategy: Strategy,
    offers: &Offers,
) -> BTreeMap<String, String> {
    let mut labels = Labels::default();
    if inventory.gpus.is_empty() {
        return labels.0;
    }
    of_node(inventory, &mut labels);
    let is_divided = inventory.gpus.iter().any(|gpu| gpu.mig_enabled);
    match strategy {
        Strategy::None => whole_gpus(inventory, &mut labels),
        Strategy::Single if is_divided => single(inventory, offers, &mut labels),
        Strategy::Single => whole_gpus(inventory, &mut labels),
        Strategy::Mixed => {
            whole_gpus(inventory, &mut labels);
            slices(inventory, offers, &mut labels);
        }
    }
    // GPU feature discovery has no such label under none.
    if strategy != Strategy::None {
        labels.put("nvidia.com/mig", "strategy", strategy.as_str());
    }
    let is_whole = offers.withheld.is_empty() && inventory.problems.is_empty();
    labels.put("nvidia.com/mig-cdi", "state", if is_whole { "ok" } else { "withheld" });
    labels.0
}

/// What holds whatever the strategy is.
fn of_node(inventory: &Inventory, labels: &mut Labels) {
    driver_version(&inventory.driver_version, labels);
    if let Some(Release { major, minor }) = inventory.cuda_version {
        for (prefix, is_new) in
            [("nvidia.com/cuda.runtime-version", true), ("nvidia.com/cuda.runtime", false)]
        {
            labels.put(prefix, "major", major);
            labels.put(prefix, "minor", minor);
            if is_new {
                labels.put(prefix, "full", format_args!("{major}.{minor}"));
            }
        }
    }
    let mut capable = inventory.gpus.iter().map(|gpu| gpu.mig_capable);
    let is_capable = match capable.clone().any(|capable| capable == Some(true)) {
        true => Some(true),
        false => capable.all(|capable| capable == Some(false)).then_some(false),
    };
    labels.maybe("nvidia.com/mig", "capable", is_capable);
    // Of sharing by MPS: no pod is offered any.
    labels.put("nvidia.com/mps", "capable", false);
    labels.maybe("nvidia.com/gpu", "machine", inventory.machine.as_deref());
    let mode = inventory.gpus.iter().find_map(|gpu| gpu.class).map(|class| match class {
        0x03_0000 => "graphics",
        0x03_0200 => "compute",
        _ => "unknown",
    });
    labels.maybe("nvidia.com/gpu", "mode", mode);
}

/// `X.Y` or `X.Y.Z`; in two forms, of which the second is the older one.
fn driver_version(version: &str, labels: &mut Labels) {
    const FORMS: [(&str, &str); 2] =
        [("nvidia.com/cuda.driver-version", "revision"), ("nvidia.com/cuda.driver", "rev")];
    let parts: Vec<_> = version.split('.').collect();
    if let [major, minor, rest @ ..] = &parts[..]
        && rest.len() < 2
    {
        for (prefix, revision) in FORMS {
            labels.put(prefix, "major", major);
            labels.put(prefix, "minor", minor);
            labels.put(prefix, revision, rest.first().unwrap_or(&""));
        }
    }
    if !version.is_empty() {
        labels.put("nvidia.com/cuda.driver-version", "full", version);
    }
}

/// One model speaks for all: one that is not divided before one that is, then that of most GPUs, then the
/// first. The count is of all GPUs of it, divided or not: how many are there, not how many are offered.
fn whole_gpus(inventory: &Inventory, labels: &mut Labels) {
    let count = |gpu: &GpuEntry| inventory.gpus.iter().filter(|one| one.model == gpu.model).count();
    // Of GPUs that compare alike `max_by_key` gives the last.
    let gpus = inventory.gpus.iter().rev();
    let Some(gpu) = gpus.max_by_key(|gpu| (!gpu.mig_enabled, count(gpu))) else { return };
    let resource = Resource::gpu();
    labels.put(resource.as_str(), "product", product(&gpu.model, None));
    shares(resource.as_str(), count(gpu), u32::from(!gpu.mig_enabled), labels);
    labels.maybe(resource.as_str(), "memory", gpu.memory_mib.filter(|mib| *mib > 0));
    architecture(gpu, labels);
}

/// `nvidia.com/gpu` is a slice. Without any the labels say so as GPU feature discovery does.
fn single(inventory: &Inventory, offers: &Offers, labels: &mut Labels) {
    let resource = Resource::gpu();
    if let Some((gpu, slice, count)) = offered(inventory, offers, &resource) {
        of_slices(&resource, gpu, slice, count, labels);
        return architecture(gpu, labels);
    }
    let Some(gpu) = inventory.gpus.iter().find(|gpu| gpu.mig_enabled) else { return };
    labels.put(resource.as_str(), "product", product(&gpu.model, Some("INVALID")));
    shares(resource.as_str(), 0, 0, labels);
    labels.put(resource.as_str(), "memory", 0);
    architecture(gpu, labels);
}

/// A group of labels for each profile.
fn slices(inventory: &Inventory, offers: &Offers, labels: &mut Labels) {
    for resource in offers.resources.keys().filter(|resource| **resource != Resource::gpu()) {
        if let Some((gpu, slice, count)) = offered(inventory, offers, resource) {
            of_slices(resource, gpu, slice, count, labels);
        }
    }
}

/// How many slices a resource has, and the first of them, which speaks for all.
fn offered<'a>(
    inventory: &'a Inventory,
    offers: &Offers,
    resource: &Resource,
) -> Option<(&'a GpuEntry, &'a SliceEntry, usize)> {
    let offered = offers.resources.get(resource)?;
    let first = offered.first()?;
    let (gpu, slice) = inventory.slices().find(|(_, slice)| slice.name == first.name)?;
    Some((gpu, slice, offered.len()))
}

fn of_slices(
    resource: &Resource,
    gpu: &GpuEntry,
    slice: &SliceEntry,
    count: usize,
    labels: &mut Labels,
) {
    let of = resource.as_str();
    let profile = slice.profile.as_deref().unwrap_or_default().replace('+', ".");
    labels.put(of, "product", product(&gpu.model, Some(&profile)));
    shares(of, count, 1, labels);
    labels.maybe(of, "memory", slice.memory_mib);
    let Some(has) = slice.attributes else { return };
    labels.maybe(of, "multiprocessors", has.multiprocessors);
    labels.put(of, "slices.gi", has.gpu_slices);
    labels.put(of, "slices.ci", has.compute_slices);
    labels.maybe(of, "engines.copy", has.copy_engines);
    labels.put(of, "engines.decoder", has.decoders);
    labels.put(of, "engines.encoder", has.encoders);
    labels.put(of, "engines.jpeg", has.jpeg_engines);
    labels.put(of, "engines.ofa", has.ofa_engines);
}

/// Nothing is shared here; one replica is the device itself, and none is a GPU that is not offered whole.
fn shares(of: &str, count: usize, replicas: u32, labels: &mut Labels) {
    labels.put(of, "count", count);
    labels.put(of, "replicas", replicas);
    labels.put(of, "sharing-strategy", "none");
}

fn architecture(gpu: &GpuEntry, labels: &mut Labels) {
    let Some(Release { major, minor }) = gpu.compute_capability else { return };
    labels.put("nvidia.com/gpu", "family", family(major, minor));
    labels.put("nvidia.com/gpu", "compute.major", major);
    labels.put("nvidia.com/gpu", "compute.minor", minor);
}

/// The architecture of a compute capability (CUDA programming guide, compute capabilities).
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

/// The name of a product, with `-MIG-` and a profile behind it for a slice. When that is too long the model is
/// cut: what tells slices apart is at the end.
fn product(model: &str, profile: Option<&str>) -> String {
    let suffix = profile.map(|profile| clean(profile, MOST / 2)).unwrap_or_default();
    let suffix = if suffix.is_empty() { suffix } else { format!("-MIG-{suffix}") };
    clean(model, MOST - suffix.len()) + &suffix
}

/// At most so many characters of those that a label's value may have, and a letter or digit at both ends. Words
/// are joined by `-`, what is left over is dropped.
fn clean(text: &str, most: usize) -> String {
    let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    let text: String = text.replace(char::is_whitespace, " ").chars().filter(fit).collect();
    let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let mut text = words.join("-");
    let is_odd = |c: char| !c.is_ascii_alphanumeric();
    let start = text.len() - text.trim_start_matches(is_odd).len();
    text.drain(..start);
    text.truncate(most);
    text.truncate(text.trim_end_matches(is_odd).len());
    text
}

/// Labels that Kubernetes takes.
#[derive(Default)]
struct Labels(BTreeMap<String, String>);

impl Labels {
    /// A label whose key would be too long is left out: Kubernetes refuses the whole node for it.
    fn put(&mut self, of: &str, name: &str, value: impl Display) {
        let key = format!("{of}.{name}");
        let is_short = key.split_once('/').is_some_and(|(_, name)| name.len() <= MOST);
        if is_short {
            let mut text = String::new();
            // A String takes everything.
            let _ = write!(text, "{value}");
            self.0.insert(key, clean(&text, MOST));
        }
    }

    fn maybe(&mut self, of: &str, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(of, name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_cut_in_its_model() {
        let model = "NVIDIA RTX PRO 6000 Blackwell Server Edition";
        let whole = "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition";
        assert_eq!(product(model, None), whole);
        assert_eq!(product(model, Some("1g.24gb.me.all")), format!("{whole}-MIG-1g.24gb.me.all"));
        let cut = product(model, Some("1c.2g.48gb.me.all"));
        assert_eq!(cut, "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edit-MIG-1c.2g.48gb.me.all");
        assert_eq!(cut.len(), MOST);
        assert_eq!(product("", Some("1g.10gb")), "-MIG-1g.10gb");
    }

    #[test]
    fn a_value_begins_and_ends_with_a_letter_or_digit() {
        assert_eq!(clean(" (Gigabyte)  G492\tZD2-00 \u{fc}.- ", MOST), "Gigabyte-G492-ZD2-00");
        assert_eq!(clean("aaa-b", 4), "aaa");
        assert_eq!(clean("...", MOST), "");
        assert_eq!(clean("\u{fc}\u{fc}\u{fc}", MOST), "");
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
