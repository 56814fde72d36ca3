//! Which resources a node offers, and what it does not and why. Pure: from an inventory to offers.

use mig_cdi::inventory::{GpuEntry, Inventory, SliceEntry};
use std::{collections::BTreeMap, fmt};

/// How slices become resources; the names are those of the device plugin that users come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Strategy {
    /// Slices are not offered; GPUs that are not divided are nvidia.com/gpu.
    None,
    /// All slices are of one profile and are nvidia.com/gpu.
    Single,
    /// Slices are nvidia.com/mig-<profile>; GPUs that are not divided are nvidia.com/gpu.
    Mixed,
}

impl Strategy {
    /// As it is written in labels and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::None => "none",
            Strategy::Single => "single",
            Strategy::Mixed => "mixed",
        }
    }
}

/// The name of a resource of a node, as `nvidia.com/mig-1g.10gb`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(String);

impl Resource {
    /// Whole GPUs, and under the strategy single slices.
    #[must_use]
    pub fn gpu() -> Resource {
        Resource("nvidia.com/gpu".to_owned())
    }

    /// Slices of a profile, spelled as the driver does. `None` when Kubernetes takes no such name.
    #[must_use]
    pub fn of_profile(profile: &str) -> Option<Resource> {
        // A qualified name: 63 characters after the slash at most, of these, and the last is a letter or digit
        // (k8s.io/apimachinery, validation.IsQualifiedName).
        let name = format!("mig-{}", profile.replace('+', "."));
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_whole = name.len() <= 63
            && name.chars().all(is_fit)
            && name.ends_with(|c: char| c.is_ascii_alphanumeric());
        (is_whole && !profile.is_empty()).then(|| Resource(format!("nvidia.com/{name}")))
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What comes after `nvidia.com/`.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that a pod can be given one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What the kubelet knows it by: the UUID, or what comes after the `=` of its CDI name.
    pub id: String,
    /// CDI name.
    pub name: String,
    /// `MIG-…` or `GPU-…`, where the driver told it.
    pub uuid: Option<String>,
    /// Its GPU, by PCI address.
    pub gpu: String,
    /// GPU instance and compute instance of a slice.
    pub instance: Option<(u32, u32)>,
    /// Memory domain of the machine that its GPU is at.
    pub numa: Option<u32>,
}

/// What a node offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// By resource, in the order of the inventory.
    pub resources: BTreeMap<Resource, Vec<Offer>>,
    /// What is there and not offered, a line each, with what to change.
    pub withheld: Vec<String>,
}

/// What a node offers under a strategy. What does not fit is withheld, and never keeps the rest from being
/// offered.
#[must_use]
pub fn offers(inventory: &Inventory, strategy: Strategy) -> Offers {
    let mut offers = Offers::default();
    match strategy {
        Strategy::None => none(inventory, &mut offers),
        Strategy::Single => single(inventory, &mut offers),
        Strategy::Mixed => mixed(inventory, &mut offers),
    }
    offers
}

/// The profile that the strategy single offers: that of most slices; of two with as many, the one with the
/// least memory, so that every run decides alike.
#[must_use]
pub fn single_profile(inventory: &Inventory) -> Option<&str> {
    let mut counts: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (_, slice) in inventory.slices() {
        if let Some(profile) = slice.profile.as_deref() {
            let count = counts.entry(profile).or_default();
            *count = (count.0 + 1, slice.memory_mib.unwrap_or_default());
        }
    }
    let most = counts.iter().max_by(|(a, (more, small)), (b, (than, large))| {
        more.cmp(than).then(large.cmp(small)).then(b.cmp(a))
    });
    most.map(|(profile, _)| *profile)
}

fn none(inventory: &Inventory, offers: &mut Offers) {
    whole_gpus(inventory, offers);
    let divided: Vec<_> = inventory.gpus.iter().filter(|gpu| gpu.mig_enabled).map(label).collect();
    if !divided.is_empty() {
        offers.withheld.push(format!(
            "{}: in mig mode, and the strategy none offers no slices; take --mig-strategy mixed, or switch mig \
             mode off",
            divided.join(", ")
        ));
    }
}

fn single(inventory: &Inventory, offers: &mut Offers) {
    if !inventory.gpus.iter().any(|gpu| gpu.mig_enabled) {
        return whole_gpus(inventory, offers);
    }
    let chosen = single_profile(inventory);
    let mut odd: BTreeMap<&str, usize> = BTreeMap::new();
    for (gpu, slice) in inventory.slices() {
        match slice.profile.as_deref() {
            None => offers.withheld.push(unknown(gpu, slice)),
            profile if profile == chosen => {
                offers.resources.entry(Resource::gpu()).or_default().push(of_slice(gpu, slice));
            }
            Some(profile) => *odd.entry(profile).or_default() += 1,
        }
    }
    for (profile, count) in odd {
        offers.withheld.push(format!(
            "{count} slices of {profile}: the strategy single offers those of {} alone, of which the node has \
             most; divide all gpus alike, or take --mig-strategy mixed",
            chosen.unwrap_or("one profile")
        ));
    }
    let whole: Vec<_> = inventory.gpus.iter().filter(|gpu| !gpu.mig_enabled).map(label).collect();
    if !whole.is_empty() {
        offers.withheld.push(format!(
            "{}: not in mig mode, and under the strategy single nvidia.com/gpu is a slice here; divide it too, or \
             take --mig-strategy mixed",
            whole.join(", ")
        ));
    }
    empty_gpus(inventory, offers);
}

fn mixed(inventory: &Inventory, offers: &mut Offers) {
    whole_gpus(inventory, offers);
    for (gpu, slice) in inventory.slices() {
        match slice.profile.as_deref().map(Resource::of_profile) {
            None => offers.withheld.push(unknown(gpu, slice)),
            Some(None) => offers.withheld.push(format!(
                "{}: kubernetes takes no resource by the name of its profile {:?}",
                slice.name,
                slice.profile.as_deref().unwrap_or_default()
            )),
            Some(Some(resource)) => {
                offers.resources.entry(resource).or_default().push(of_slice(gpu, slice));
            }
        }
    }
    empty_gpus(inventory, offers);
}

fn whole_gpus(inventory: &Inventory, offers: &mut Offers) {
    for gpu in inventory.gpus.iter().filter(|gpu| !gpu.mig_enabled) {
        match &gpu.name {
            None => offers.withheld.push(format!(
                "{}: no spec of ours names it; see mig-cdi generate --gpus",
                label(gpu)
            )),
            Some(name) => {
                let offer = Offer {
                    id: id(gpu.uuid.as_deref(), name),
                    name: name.clone(),
                    uuid: gpu.uuid.clone(),
                    gpu: gpu.pci.clone(),
                    instance: None,
                    numa: gpu.numa,
                };
                offers.resources.entry(Resource::gpu()).or_default().push(offer);
            }
        }
    }
}

fn empty_gpus(inventory: &Inventory, offers: &mut Offers) {
    for gpu in inventory.gpus.iter().filter(|gpu| gpu.mig_enabled && gpu.slices.is_empty()) {
        offers.withheld.push(format!(
            "{}: in mig mode without a slice; divide it (mig-cdi apply), or switch mig mode off",
            label(gpu)
        ));
    }
}

fn unknown(gpu: &GpuEntry, slice: &SliceEntry) -> String {
    let SliceEntry { gi, ci, .. } = slice;
    format!("{} gi {gi} ci {ci}: nvml does not tell its profile; run as root", label(gpu))
}

fn of_slice(gpu: &GpuEntry, slice: &SliceEntry) -> Offer {
    Offer {
        id: id(slice.uuid.as_deref(), &slice.name),
        name: slice.name.clone(),
        uuid: slice.uuid.clone(),
        gpu: gpu.pci.clone(),
        instance: Some((slice.gi, slice.ci)),
        numa: gpu.numa,
    }
}

fn id(uuid: Option<&str>, name: &str) -> String {
    let short = || name.split_once('=').map_or(name, |(_, short)| short);
    uuid.unwrap_or_else(short).to_owned()
}

fn label(gpu: &GpuEntry) -> String {
    match gpu.index {
        Some(index) => format!("gpu {index}"),
        None => format!("gpu {}", gpu.pci),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(gi: u32, profile: &str, gib: u64) -> SliceEntry {
        SliceEntry {
            name: format!("nvidia.com/mig=0:{}:{gi}", profile.replace('+', ".")),
            uuid: Some(format!("MIG-{gi}")),
            profile: (!profile.is_empty()).then(|| profile.to_owned()),
            gi,
            memory_mib: Some(gib * 1024),
            ..SliceEntry::default()
        }
    }

    fn gpu(index: u32, divided: bool, slices: Vec<SliceEntry>) -> GpuEntry {
        GpuEntry {
            index: Some(index),
            uuid: Some(format!("GPU-{index}")),
            pci: format!("00000000:0{index}:00.0"),
            mig_enabled: divided,
            name: (!divided).then(|| format!("nvidia.com/gpu=GPU-{index}")),
            slices,
            ..GpuEntry::default()
        }
    }

    fn node(gpus: Vec<GpuEntry>) -> Inventory {
        Inventory { gpus, ..Inventory::default() }
    }

    /// `resource: ids` and then what is withheld, a line each.
    fn shown(node: &Inventory, strategy: Strategy) -> Vec<String> {
        let Offers { resources, withheld } = offers(node, strategy);
        let line = |(resource, offers): (&Resource, &Vec<Offer>)| {
            let ids: Vec<_> = offers.iter().map(|offer| offer.id.as_str()).collect();
            format!("{resource}: {}", ids.join(" "))
        };
        let subject = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
        resources.iter().map(line).chain(withheld.iter().map(subject)).collect()
    }

    fn a_node_of_everything() -> Inventory {
        node(vec![
            gpu(0, true, vec![slice(1, "3g.40gb", 40), slice(2, "1g.10gb", 10)]),
            gpu(1, true, vec![slice(3, "1g.10gb+me", 10), slice(4, "1c.3g.40gb", 40)]),
            gpu(2, true, vec![]),
            gpu(3, false, vec![]),
        ])
    }

    #[test]
    fn none_offers_gpus_that_are_not_divided() {
        let lines = shown(&a_node_of_everything(), Strategy::None);
        assert_eq!(lines, ["nvidia.com/gpu: GPU-3", "gpu 0, gpu 1, gpu 2"]);
    }

    #[test]
    fn mixed_offers_slices_by_profile_and_the_rest_as_gpus() {
        let lines = shown(&a_node_of_everything(), Strategy::Mixed);
        let expected = [
            "nvidia.com/gpu: GPU-3",
            "nvidia.com/mig-1c.3g.40gb: MIG-4",
            "nvidia.com/mig-1g.10gb: MIG-2",
            "nvidia.com/mig-1g.10gb.me: MIG-3",
            "nvidia.com/mig-3g.40gb: MIG-1",
            "gpu 2",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn single_offers_the_profile_of_most_slices_and_names_the_odd_ones() {
        let odd = vec![slice(1, "1g.10gb", 10), slice(2, "3g.40gb", 40), slice(3, "1g.10gb", 10)];
        let node = node(vec![gpu(0, true, odd), gpu(1, true, vec![]), gpu(2, false, vec![])]);
        let lines = shown(&node, Strategy::Single);
        let withheld = ["1 slices of 3g.40gb", "gpu 2", "gpu 1"];
        assert_eq!(lines[0], "nvidia.com/gpu: MIG-1 MIG-3");
        assert_eq!(lines[1..], withheld);
    }

    #[test]
    fn of_two_profiles_with_as_many_slices_single_offers_the_smaller() {
        let both = vec![slice(1, "3g.40gb", 40), slice(2, "1g.10gb", 10)];
        assert_eq!(single_profile(&node(vec![gpu(0, true, both)])), Some("1g.10gb"));
    }

    #[test]
    fn single_without_a_divided_gpu_offers_gpus() {
        let node = node(vec![gpu(0, false, vec![]), gpu(1, false, vec![])]);
        assert_eq!(shown(&node, Strategy::Single), ["nvidia.com/gpu: GPU-0 GPU-1"]);
    }

    #[test]
    fn while_slices_are_made_single_offers_no_whole_gpu_in_their_place() {
        let node = node(vec![gpu(0, true, vec![]), gpu(1, false, vec![])]);
        assert_eq!(shown(&node, Strategy::Single), ["gpu 1", "gpu 0"]);
    }

    #[test]
    fn what_has_no_profile_or_no_name_is_withheld_alone() {
        let mut plain = gpu(1, false, vec![]);
        plain.name = None;
        let slices = vec![slice(1, "", 0), slice(2, "1g.10gb", 10), slice(3, "1g/\u{e9}", 10)];
        let lines = shown(&node(vec![gpu(0, true, slices), plain]), Strategy::Mixed);
        assert_eq!(lines[0], "nvidia.com/mig-1g.10gb: MIG-2");
        assert_eq!(lines.len(), 4, "{lines:?}");
    }
}
