//! The resources that a node advertises, and what it withholds and why. Pure: from an inventory to resources.

use mig_cdi_gen::inventory::{GpuEntry, Inventory, SliceEntry};
use mig_cdi_model::{Major, Minor, counted};
use std::{collections::BTreeMap, fmt};

/// Rule that maps slices to resources; the names are those of NVIDIA's device plugin (`--mig-strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Strategy {
    /// Slices are not advertised; GPUs that are not in MIG mode are nvidia.com/gpu
    None,
    /// Slices of the most common profile are nvidia.com/gpu
    Single,
    /// Slices are `nvidia.com/mig-<profile>`; GPUs that are not in MIG mode are nvidia.com/gpu
    #[value(
        help = "Slices are nvidia.com/mig-<profile>; GPUs that are not in MIG mode are nvidia.com/gpu"
    )]
    Mixed,
}

impl Strategy {
    /// Name, as in labels and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::None => "none",
            Strategy::Single => "single",
            Strategy::Mixed => "mixed",
        }
    }
}

/// Name of an extended resource of the node, as `nvidia.com/mig-1g.10gb`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(String);

impl Resource {
    /// Resource of whole GPUs and, under the strategy single, of slices.
    #[must_use]
    pub fn gpu() -> Resource {
        Resource("nvidia.com/gpu".to_owned())
    }

    /// Resource of the slices of a profile, spelled as the driver does. `None` when Kubernetes does not accept such
    /// a name.
    #[must_use]
    pub fn of_profile(profile: &str) -> Option<Resource> {
        // A resource name is a qualified name: at most 63 characters after the slash, of these, and a letter or digit
        // at the end (k8s.io/apimachinery, `validation.IsQualifiedName`). NVIDIA's device plugin writes `+` as `.` too.
        let name = format!("mig-{}", profile.replace('+', "."));
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_qualified = name.len() <= 63
            && name.chars().all(is_allowed)
            && name.ends_with(|c: char| c.is_ascii_alphanumeric());
        (is_qualified && !profile.is_empty()).then(|| Resource(format!("nvidia.com/{name}")))
    }

    /// Whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name without `nvidia.com/`.
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

/// Ids of a slice within its GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceIds {
    /// GPU instance id.
    pub gi: u32,
    /// Compute instance id within the GPU instance.
    pub ci: u32,
}

/// Slice or whole GPU that can be allocated to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatableDevice {
    /// Id for the kubelet: the UUID or, without one, the device part of the CDI name.
    pub id: String,
    /// Qualified CDI name, as `nvidia.com/mig=MIG-…`.
    pub name: String,
    /// UUID, `MIG-…` or `GPU-…`, when the driver reports it.
    pub uuid: Option<String>,
    /// PCI address of its GPU.
    pub gpu: String,
    /// Ids of a slice; `None` for a whole GPU.
    pub instance: Option<InstanceIds>,
    /// Number of the capability node of a slice; `None` for a whole GPU.
    pub capability: Option<(Major, Minor)>,
    /// As [`Inventory::config`]; `None` for a whole GPU.
    pub config: Option<(Major, Minor)>,
    /// NUMA node that its GPU is attached to.
    pub numa: Option<u32>,
}

/// Resources of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeResources {
    /// Devices by resource, in the order of the inventory.
    pub devices: BTreeMap<Resource, Vec<AllocatableDevice>>,
    /// Devices that exist and are not advertised, one line each, with the cure.
    pub withheld: Vec<String>,
}

impl NodeResources {
    fn add(&mut self, resource: Resource, device: AllocatableDevice) {
        self.devices.entry(resource).or_default().push(device);
    }
}

/// Maps an inventory to resources. A device that does not fit the strategy is withheld, and never keeps the others
/// from being advertised.
///
/// ```
/// use mig_cdi_gen::inventory::{GpuEntry, Inventory};
/// use mig_cdi_kubelet::strategy::{Resource, Strategy, node_resources};
///
/// let gpu = GpuEntry { name: Some("nvidia.com/gpu=0".to_owned()), ..GpuEntry::default() };
/// let inventory = Inventory { gpus: vec![gpu], ..Inventory::default() };
/// let resources = node_resources(&inventory, Strategy::Mixed);
/// assert_eq!(resources.devices[&Resource::gpu()][0].id, "0");
/// assert!(resources.withheld.is_empty());
/// ```
#[must_use]
pub fn node_resources(inventory: &Inventory, strategy: Strategy) -> NodeResources {
    let mut resources = NodeResources::default();
    match strategy {
        Strategy::None => none(inventory, &mut resources),
        Strategy::Single => single(inventory, &mut resources),
        Strategy::Mixed => mixed(inventory, &mut resources),
    }
    resources
}

/// Profile that the strategy single advertises: the one with most slices; of two with as many, the one with less
/// memory, so that every refresh decides alike.
#[must_use]
pub fn single_profile(inventory: &Inventory) -> Option<&str> {
    let mut counts: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (_, slice) in inventory.slices() {
        if let Some(profile) = slice.profile.as_deref() {
            let count = counts.entry(profile).or_default();
            *count = (count.0 + 1, slice.memory_mib.unwrap_or_default());
        }
    }
    let most = counts.iter().max_by(|(a, (count_a, memory_a)), (b, (count_b, memory_b))| {
        count_a.cmp(count_b).then(memory_b.cmp(memory_a)).then(b.cmp(a))
    });
    most.map(|(profile, _)| *profile)
}

fn none(inventory: &Inventory, resources: &mut NodeResources) {
    whole_gpus(inventory, resources);
    let in_mig_mode: Vec<_> =
        inventory.gpus.iter().filter(|gpu| gpu.mig_enabled).map(label).collect();
    if !in_mig_mode.is_empty() {
        resources.withheld.push(format!(
            "{}: in mig mode, and the strategy none advertises no slices; set --mig-strategy mixed, or disable \
             mig mode",
            in_mig_mode.join(", ")
        ));
    }
}

fn single(inventory: &Inventory, resources: &mut NodeResources) {
    if !inventory.gpus.iter().any(|gpu| gpu.mig_enabled) {
        return whole_gpus(inventory, resources);
    }
    let chosen = single_profile(inventory);
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for (gpu, slice) in inventory.slices() {
        match slice.profile.as_deref() {
            None => resources.withheld.push(no_profile(gpu, slice)),
            profile if profile == chosen => {
                resources.add(Resource::gpu(), of_slice(inventory, gpu, slice));
            }
            Some(profile) => *others.entry(profile).or_default() += 1,
        }
    }
    for (profile, count) in others {
        resources.withheld.push(format!(
            "{} of {profile}: the strategy single advertises only those of {}, of which the node has \
             most; partition all gpus alike, or set --mig-strategy mixed",
            counted(count, "slice"),
            chosen.unwrap_or("one profile")
        ));
    }
    // A whole GPU under the name of a slice would be allocated to a pod that expects a slice.
    let whole: Vec<_> = inventory.gpus.iter().filter(|gpu| !gpu.mig_enabled).map(label).collect();
    if !whole.is_empty() {
        resources.withheld.push(format!(
            "{}: not in mig mode, and under the strategy single nvidia.com/gpu is a slice on this node; partition it \
             too, or set --mig-strategy mixed",
            whole.join(", ")
        ));
    }
    empty_gpus(inventory, resources);
}

fn mixed(inventory: &Inventory, resources: &mut NodeResources) {
    whole_gpus(inventory, resources);
    for (gpu, slice) in inventory.slices() {
        match slice.profile.as_deref().map(Resource::of_profile) {
            None => resources.withheld.push(no_profile(gpu, slice)),
            Some(None) => resources.withheld.push(format!(
                "{}: profile {:?} cannot be part of a resource name",
                slice.name,
                slice.profile.as_deref().unwrap_or_default()
            )),
            Some(Some(resource)) => resources.add(resource, of_slice(inventory, gpu, slice)),
        }
    }
    empty_gpus(inventory, resources);
}

fn whole_gpus(inventory: &Inventory, resources: &mut NodeResources) {
    for gpu in inventory.gpus.iter().filter(|gpu| !gpu.mig_enabled) {
        match &gpu.name {
            None => resources.withheld.push(format!(
                "{}: no cdi spec of mig-cdi defines it, because of --leave-gpus or of another tool's spec file; to \
                 advertise it, omit the flag or remove the file",
                label(gpu)
            )),
            Some(name) => {
                let device = AllocatableDevice {
                    id: id(gpu.uuid.as_deref(), name),
                    name: name.clone(),
                    uuid: gpu.uuid.clone(),
                    gpu: gpu.pci.clone(),
                    instance: None,
                    capability: None,
                    config: None,
                    numa: gpu.numa,
                };
                resources.add(Resource::gpu(), device);
            }
        }
    }
}

fn empty_gpus(inventory: &Inventory, resources: &mut NodeResources) {
    for gpu in inventory.gpus.iter().filter(|gpu| gpu.mig_enabled && gpu.slices.is_empty()) {
        resources.withheld.push(format!(
            "{}: in mig mode without a slice; partition it (mig-cdi apply), or disable mig mode",
            label(gpu)
        ));
    }
}

fn no_profile(gpu: &GpuEntry, slice: &SliceEntry) -> String {
    let SliceEntry { gi, ci, .. } = slice;
    format!("{} gi {gi} ci {ci}: nvml does not report its profile; run as root", label(gpu))
}

fn of_slice(inventory: &Inventory, gpu: &GpuEntry, slice: &SliceEntry) -> AllocatableDevice {
    AllocatableDevice {
        id: id(slice.uuid.as_deref(), &slice.name),
        name: slice.name.clone(),
        uuid: slice.uuid.clone(),
        gpu: gpu.pci.clone(),
        instance: Some(InstanceIds { gi: slice.gi, ci: slice.ci }),
        capability: slice.capability,
        config: inventory.config,
        numa: gpu.numa,
    }
}

fn id(uuid: Option<&str>, name: &str) -> String {
    let device_part = || name.split_once('=').map_or(name, |(_, device)| device);
    uuid.unwrap_or_else(device_part).to_owned()
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

    fn gpu(index: u32, is_mig: bool, slices: Vec<SliceEntry>) -> GpuEntry {
        GpuEntry {
            index: Some(index),
            uuid: Some(format!("GPU-{index}")),
            pci: format!("00000000:0{index}:00.0"),
            mig_enabled: is_mig,
            name: (!is_mig).then(|| format!("nvidia.com/gpu=GPU-{index}")),
            slices,
            ..GpuEntry::default()
        }
    }

    fn node(gpus: Vec<GpuEntry>) -> Inventory {
        Inventory { gpus, ..Inventory::default() }
    }

    /// Lines `resource: ids`, then the subjects of what is withheld.
    fn shown(node: &Inventory, strategy: Strategy) -> Vec<String> {
        let NodeResources { devices, withheld } = node_resources(node, strategy);
        let line = |(resource, devices): (&Resource, &Vec<AllocatableDevice>)| {
            let ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
            format!("{resource}: {}", ids.join(" "))
        };
        let subject = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
        devices.iter().map(line).chain(withheld.iter().map(subject)).collect()
    }

    fn a_node_of_all_kinds() -> Inventory {
        node(vec![
            gpu(0, true, vec![slice(1, "3g.40gb", 40), slice(2, "1g.10gb", 10)]),
            gpu(1, true, vec![slice(3, "1g.10gb+me", 10), slice(4, "1c.3g.40gb", 40)]),
            gpu(2, true, vec![]),
            gpu(3, false, vec![]),
        ])
    }

    #[test]
    fn none_advertises_gpus_that_are_not_in_mig_mode() {
        let lines = shown(&a_node_of_all_kinds(), Strategy::None);
        assert_eq!(lines, ["nvidia.com/gpu: GPU-3", "gpu 0, gpu 1, gpu 2"]);
    }

    #[test]
    fn mixed_advertises_slices_by_profile_and_the_rest_as_gpus() {
        let lines = shown(&a_node_of_all_kinds(), Strategy::Mixed);
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
    fn single_advertises_the_most_common_profile_and_withholds_the_others() {
        let odd = vec![slice(1, "1g.10gb", 10), slice(2, "3g.40gb", 40), slice(3, "1g.10gb", 10)];
        let node = node(vec![gpu(0, true, odd), gpu(1, true, vec![]), gpu(2, false, vec![])]);
        let lines = shown(&node, Strategy::Single);
        let withheld = ["1 slice of 3g.40gb", "gpu 2", "gpu 1"];
        assert_eq!(lines[0], "nvidia.com/gpu: MIG-1 MIG-3");
        assert_eq!(lines[1..], withheld);
    }

    #[test]
    fn of_two_profiles_with_as_many_slices_single_advertises_the_smaller() {
        let both = vec![slice(1, "3g.40gb", 40), slice(2, "1g.10gb", 10)];
        assert_eq!(single_profile(&node(vec![gpu(0, true, both)])), Some("1g.10gb"));
    }

    #[test]
    fn single_without_mig_mode_advertises_gpus() {
        let node = node(vec![gpu(0, false, vec![]), gpu(1, false, vec![])]);
        assert_eq!(shown(&node, Strategy::Single), ["nvidia.com/gpu: GPU-0 GPU-1"]);
    }

    #[test]
    fn single_advertises_no_whole_gpu_while_slices_are_created() {
        let node = node(vec![gpu(0, true, vec![]), gpu(1, false, vec![])]);
        assert_eq!(shown(&node, Strategy::Single), ["gpu 1", "gpu 0"]);
    }

    #[test]
    fn a_device_without_profile_or_name_is_withheld_alone() {
        let mut plain = gpu(1, false, vec![]);
        plain.name = None;
        let slices = vec![slice(1, "", 0), slice(2, "1g.10gb", 10), slice(3, "1g/\u{e9}", 10)];
        let lines = shown(&node(vec![gpu(0, true, slices), plain]), Strategy::Mixed);
        assert_eq!(lines[0], "nvidia.com/mig-1g.10gb: MIG-2");
        assert_eq!(lines.len(), 4, "{lines:?}");
    }
}
