//! What a container can ask for: MIG devices, whole GPUs, and the two capabilities of
//! administrators. Each with its names, nodes and variables.

use super::{Options, names};
use crate::discover::Problem;
use mig_cdi_model::{
    DeviceNode, DeviceVariable, ExpectedSlice, Gpu, GpuMinor, MigDevice, MigMode, SliceId,
    Topology, cdi::DeviceName,
};
use std::collections::BTreeMap;

/// What a container asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A MIG device.
    Slice(SliceId),
    /// A whole GPU.
    Gpu(GpuMinor),
    /// A capability over all slices.
    Administration,
}

/// Something that has entries of its own in a document.
pub(super) struct Unit<'a> {
    /// What it is.
    pub subject: Subject,
    /// How messages call it.
    pub label: String,
    /// At least one, or it is left out.
    pub names: Vec<DeviceName>,
    /// Its own nodes.
    pub nodes: Vec<&'a DeviceNode>,
    /// `NAME=value` that no other unit sets.
    pub variable: Option<String>,
    /// What must still be so when a container starts.
    pub claim: Option<ExpectedSlice>,
    /// What CUDA calls it.
    pub uuid: Option<String>,
    /// It can draw.
    pub renders: bool,
    /// Facts for readers of the document.
    pub annotations: BTreeMap<String, String>,
    /// It is a part of `all`.
    pub in_all: bool,
}

/// The units of a document, and what could not be one.
#[derive(Default)]
pub(super) struct Units<'a> {
    pub units: Vec<Unit<'a>>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
}

/// Every MIG device, then what administrators asked for.
pub(super) fn of_mig<'a>(topology: &'a Topology, options: &Options) -> Units<'a> {
    let mut found = Units::default();
    let mut unnamed = BTreeMap::new();
    for device in topology.mig_devices() {
        let names = names::of_mig(&device, options, &mut unnamed);
        found.units.push(mig(&device, names));
    }
    found.warnings =
        unnamed.into_iter().map(|(style, count)| names::unnamed_warning(style, count)).collect();
    for capability in &options.admin {
        let name = capability.as_str();
        match topology.admin.iter().find(|node| node.name == name) {
            Some(admin) => found.units.push(administrator(topology, name, &admin.node)),
            None => {
                let path = format!("/proc/driver/nvidia/capabilities/mig/{name}");
                let reason = format!("read {path}: not there, or not as the driver writes it");
                found.problems.push(Problem::new(name, reason));
            }
        }
    }
    found
}

fn mig<'a>(device: &MigDevice<'a>, names: Vec<DeviceName>) -> Unit<'a> {
    let MigDevice { gpu, ci, .. } = *device;
    let uuid = ci.uuid.as_ref().map(ToString::to_string);
    let claim = claim(device);
    let variable = DeviceVariable {
        id: claim.id,
        uuid: ci.uuid.clone(),
        profile: ci.profile.clone(),
        gpu: gpu.uuid.clone(),
    };
    Unit {
        subject: Subject::Slice(claim.id),
        label: super::label(device),
        names,
        nodes: device.nodes().collect(),
        variable: Some(variable.to_string()),
        claim: Some(claim),
        uuid,
        renders: device.has_graphics(),
        annotations: annotations(device),
        in_all: true,
    }
}

/// What the device is known by.
pub fn claim(device: &MigDevice<'_>) -> ExpectedSlice {
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

/// One capability node, and the GPUs that are divided: without them NVML shows none to act on.
fn administrator<'a>(topology: &'a Topology, name: &str, node: &'a DeviceNode) -> Unit<'a> {
    let divided = topology.gpus.iter().filter(|gpu| gpu.mig == MigMode::Enabled);
    Unit {
        subject: Subject::Administration,
        label: name.to_owned(),
        names: name.parse().into_iter().collect(),
        nodes: divided.map(|gpu| &gpu.node).chain([node]).collect(),
        variable: None,
        claim: None,
        uuid: None,
        renders: false,
        annotations: BTreeMap::new(),
        in_all: false,
    }
}

/// Every GPU that is not divided. One that is would be a node that no program can compute with.
pub(super) fn of_gpus<'a>(topology: &'a Topology, options: &Options) -> Units<'a> {
    let mut found = Units::default();
    for gpu in &topology.gpus {
        match gpu.mig {
            MigMode::Disabled | MigMode::Unsupported => found.units.push(whole(gpu, options)),
            MigMode::Enabled => {}
            MigMode::Unknown => {
                let reason = "without nvml nobody says whether it is in mig mode";
                found.problems.push(Problem::new(gpu.label(), reason));
            }
        }
    }
    found
}

fn whole<'a>(gpu: &'a Gpu, options: &Options) -> Unit<'a> {
    let uuid = gpu.uuid.as_ref().map(ToString::to_string);
    let index = gpu.index.map(|index| index.to_string());
    let annotations = uuid.iter().map(|uuid| ("mig-cdi/gpu-uuid".to_owned(), uuid.clone()));
    let annotations = annotations.collect();
    let dri = if options.graphics { &gpu.dri[..] } else { &[] };
    Unit {
        subject: Subject::Gpu(gpu.minor),
        label: gpu.label(),
        names: [index, uuid.clone()].into_iter().flatten().flat_map(|name| name.parse()).collect(),
        nodes: [&gpu.node].into_iter().chain(dri).collect(),
        variable: None,
        claim: None,
        uuid,
        renders: true,
        annotations,
        in_all: true,
    }
}
