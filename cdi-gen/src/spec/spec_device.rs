//! Devices that a container can request: MIG devices, whole GPUs and the two administrative capabilities. Each with its
//! names, nodes and variables.

use super::{names, options::SpecOptions};
use crate::discover::Problem;
use mig_cdi_model::{
    DeviceNode, DeviceVariable, ExpectedSlice, Gpu, GpuMinor, MigDevice, MigMode, NameStyle,
    SliceId, Topology, cdi::DeviceName,
};
use std::collections::BTreeMap;

/// Identity of a device, whatever it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceIdentity {
    /// A MIG device.
    Slice(SliceId),
    /// A whole GPU.
    Gpu(GpuMinor),
    /// A capability over all slices.
    Administration,
}

/// A device with everything that its entries in a spec are made of.
pub(super) struct SpecDevice<'a> {
    pub identity: DeviceIdentity,
    /// Name in messages.
    pub label: String,
    /// CDI names. A device without any is omitted.
    pub names: Vec<DeviceName>,
    /// Nodes of its own, beside those that every container gets.
    pub nodes: Vec<&'a DeviceNode>,
    /// Nodes at the paths of udev's links to its DRI nodes.
    pub dri_links: Vec<&'a DeviceNode>,
    /// `NAME=value`; no other device sets this name.
    pub variable: Option<String>,
    /// State that the verify hook expects when a container starts.
    pub expected: Option<ExpectedSlice>,
    /// UUID by which CUDA knows it.
    pub uuid: Option<String>,
    pub has_graphics: bool,
    pub annotations: BTreeMap<String, String>,
    /// Whether the device `all` includes it.
    pub in_all: bool,
}

/// The devices of a spec, and what was omitted.
#[derive(Default)]
pub(super) struct SpecDevices<'a> {
    pub devices: Vec<SpecDevice<'a>>,
    pub problems: Vec<Problem>,
    pub unnamed: BTreeMap<NameStyle, usize>,
}

/// Every MIG device, then the administrative capabilities that the options name.
pub(super) fn mig_devices<'a>(topology: &'a Topology, options: &SpecOptions) -> SpecDevices<'a> {
    let mut result = SpecDevices::default();
    for device in topology.mig_devices() {
        let unnamed = &mut result.unnamed;
        let names = names::names_of(&device, options.source, &options.names, unnamed);
        result.devices.push(mig_device(&device, names));
    }
    for capability in &options.admin {
        let name = capability.as_str();
        match topology.admin.iter().find(|node| node.name == name) {
            Some(admin) => result.devices.push(admin_device(topology, name, &admin.node)),
            None => {
                let path = format!("/proc/driver/nvidia/capabilities/mig/{name}");
                let reason = format!("read {path}: not there, or not as the driver writes it");
                result.problems.push(Problem::new(name, reason));
            }
        }
    }
    result
}

fn mig_device<'a>(device: &MigDevice<'a>, names: Vec<DeviceName>) -> SpecDevice<'a> {
    let MigDevice { gpu, ci, .. } = *device;
    let uuid = ci.uuid.as_ref().map(ToString::to_string);
    let expected = expected_slice(device);
    let variable = DeviceVariable {
        id: expected.id,
        uuid: ci.uuid.clone(),
        profile: ci.profile.clone(),
        gpu: gpu.uuid.clone(),
    };
    SpecDevice {
        identity: DeviceIdentity::Slice(expected.id),
        label: names::label(device),
        names,
        nodes: device.nodes().collect(),
        dri_links: gpu
            .dri
            .iter()
            .filter(|_| device.has_graphics())
            .flat_map(|dri| &dri.link)
            .collect(),
        variable: Some(variable.to_string()),
        expected: Some(expected),
        uuid,
        has_graphics: device.has_graphics(),
        annotations: annotations(device),
        in_all: true,
    }
}

/// State of a MIG device that the verify hook expects.
// More than numbers and UUID: a slice that is recreated as another may have the same of both. Ids come from tiny ranges
// (3g and 4g share the GPU instance ids 1 and 2: `kmigmgr_ga100.c:308-353`), they alone select the capability
// minors (`nv-caps.c:327-342`), and the UUID hashes no profile (`gpu_uuid.c:91-245`).
pub fn expected_slice(device: &MigDevice<'_>) -> ExpectedSlice {
    let MigDevice { gpu, gi, ci } = *device;
    ExpectedSlice {
        id: device.id(),
        gpu_major: gpu.node.major,
        caps_major: gi.cap.major,
        gi_cap: gi.cap.minor,
        ci_cap: ci.cap.minor,
        gpu: gpu.uuid.clone(),
        mig: ci.uuid.clone(),
        profile: ci.profile.clone(),
        placement: gi.placement,
        ci_placement: ci.placement,
    }
}

fn annotations(device: &MigDevice<'_>) -> BTreeMap<String, String> {
    let MigDevice { gpu, gi, ci } = device;
    let text = |value: &dyn std::fmt::Display| Some(value.to_string());
    let facts = [
        ("gpu-uuid", gpu.uuid.as_ref().and_then(|v| text(v))),
        ("gpu-instance", text(&gi.id)),
        ("compute-instance", text(&ci.id)),
        ("profile", ci.profile.as_ref().and_then(|v| text(v))),
        ("memory-mib", ci.memory_mib.and_then(|v| text(&v))),
        ("start", gi.placement.and_then(|v| text(&v.start))),
    ];
    let facts = facts.into_iter();
    facts.filter_map(|(key, value)| Some((format!("mig-cdi/{key}"), value?))).collect()
}

/// An administrative capability.
// Its node is for NVML calls on a GPU, so those in MIG mode come with it.
fn admin_device<'a>(topology: &'a Topology, name: &str, node: &'a DeviceNode) -> SpecDevice<'a> {
    let mig_gpus = topology.gpus.iter().filter(|gpu| gpu.mig == MigMode::Enabled);
    SpecDevice {
        identity: DeviceIdentity::Administration,
        label: name.to_owned(),
        names: name.parse().into_iter().collect(),
        nodes: mig_gpus.map(|gpu| &gpu.node).chain([node]).collect(),
        dri_links: Vec::new(),
        variable: None,
        expected: None,
        uuid: None,
        has_graphics: false,
        annotations: BTreeMap::new(),
        in_all: false,
    }
}

/// Every GPU that is not in MIG mode.
// With the node of one that is, and no capability node, a program finds no device to compute with: a client has to hold the
// `access` files of a GPU instance and a compute instance, root or not (`gpu_instance_subscription.c:217-229`).
pub(super) fn whole_gpus<'a>(topology: &'a Topology, options: &SpecOptions) -> SpecDevices<'a> {
    let mut result = SpecDevices::default();
    for gpu in &topology.gpus {
        match gpu.mig {
            MigMode::Disabled | MigMode::Unsupported => {
                result.devices.push(whole_gpu(gpu, options));
            }
            MigMode::Enabled => {}
            // /proc shows instances, and no mode.
            MigMode::Unknown => {
                let reason = "without nvml it is unknown whether it is in mig mode";
                result.problems.push(Problem::new(gpu.label(), reason));
            }
        }
    }
    result
}

fn whole_gpu<'a>(gpu: &'a Gpu, options: &SpecOptions) -> SpecDevice<'a> {
    let uuid = gpu.uuid.as_ref().map(ToString::to_string);
    let index = gpu.index.map(|index| index.to_string());
    let annotations = uuid.iter().map(|uuid| ("mig-cdi/gpu-uuid".to_owned(), uuid.clone()));
    let annotations = annotations.collect();
    let dri = if options.wants_graphics { &gpu.dri[..] } else { &[] };
    SpecDevice {
        identity: DeviceIdentity::Gpu(gpu.minor),
        label: gpu.label(),
        names: [index, uuid.clone()].into_iter().flatten().flat_map(|name| name.parse()).collect(),
        nodes: [&gpu.node].into_iter().chain(dri.iter().map(|dri| &dri.node)).collect(),
        dri_links: dri.iter().flat_map(|dri| &dri.link).collect(),
        variable: None,
        expected: None,
        uuid,
        has_graphics: true,
        annotations,
        in_all: true,
    }
}
