//! What a node has to offer to those who hand slices out, by the names that its specs give them.

use crate::spec::{Built, Subject};
use mig_cdi_model::{Gpu, MigDevice, MigMode, Topology, cdi::Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node, at one moment. What is not certain is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Version of the driver.
    pub driver_version: String,
    /// In the order of nvidia-smi.
    pub gpus: Vec<GpuEntry>,
    /// What was left out, a line each.
    pub problems: Vec<String>,
}

/// A GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuEntry {
    /// Number in nvidia-smi.
    pub index: Option<u32>,
    /// `GPU-…`.
    pub uuid: Option<String>,
    /// Where it is plugged in, as `00000000:07:00.0`.
    pub pci: String,
    /// Name of the product.
    pub model: String,
    /// Memory domain of the machine that it is plugged in at, where the machine says one.
    pub numa: Option<u32>,
    /// It is in MIG mode, with or without slices.
    pub divided: bool,
    /// CDI name of the whole GPU, as `nvidia.com/gpu=GPU-…`, where a spec of ours has one.
    pub name: Option<String>,
    /// By GPU instance and compute instance.
    pub slices: Vec<SliceEntry>,
}

/// A MIG device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceEntry {
    /// CDI name, as `nvidia.com/mig=MIG-…`.
    pub name: String,
    /// `MIG-…`.
    pub uuid: Option<String>,
    /// As the driver spells it.
    pub profile: Option<String>,
    /// GPU instance.
    pub gi: u32,
    /// Compute instance within it.
    pub ci: u32,
    /// Memory of the GPU instance, in MiB.
    pub memory_mib: Option<u64>,
}

impl Inventory {
    /// Every slice with its GPU.
    pub fn slices(&self) -> impl Iterator<Item = (&GpuEntry, &SliceEntry)> {
        self.gpus.iter().flat_map(|gpu| gpu.slices.iter().map(move |slice| (gpu, slice)))
    }
}

/// A slice that no spec names is not offered. `built` are the specs of now, each with its kind.
pub(crate) fn inventory<'a>(
    topology: &Topology,
    built: impl Iterator<Item = (&'a Kind, &'a Built)>,
    problems: Vec<String>,
) -> Inventory {
    let names = built.flat_map(|(kind, built)| {
        built.devices.iter().map(move |(subject, name)| (*subject, format!("{kind}={name}")))
    });
    let names: BTreeMap<Subject, String> = names.collect();
    let entry = |gpu: &Gpu| {
        let devices = topology.mig_devices().filter(|device| device.gpu.minor == gpu.minor);
        GpuEntry {
            index: gpu.index.map(|index| index.0),
            uuid: gpu.uuid.as_ref().map(ToString::to_string),
            pci: gpu.pci.to_string(),
            model: gpu.model.clone(),
            numa: None,
            divided: gpu.mig == MigMode::Enabled,
            name: names.get(&Subject::Gpu(gpu.minor)).cloned(),
            slices: devices.filter_map(|device| slice(&device, &names)).collect(),
        }
    };
    Inventory {
        driver_version: topology.driver_version.clone(),
        gpus: topology.gpus.iter().map(entry).collect(),
        problems,
    }
}

fn slice(device: &MigDevice<'_>, names: &BTreeMap<Subject, String>) -> Option<SliceEntry> {
    let MigDevice { gi, ci, .. } = device;
    Some(SliceEntry {
        name: names.get(&Subject::Slice(device.id()))?.clone(),
        uuid: ci.uuid.as_ref().map(ToString::to_string),
        profile: ci.profile.as_ref().map(ToString::to_string),
        gi: gi.id.0,
        ci: ci.id.0,
        memory_mib: ci.memory_mib,
    })
}
