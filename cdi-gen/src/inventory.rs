//! What a node has to offer to those who hand slices out, by the names that its specs give them.

use crate::{
    discover::Source,
    spec::{Built, Subject, handy_name},
};
use mig_cdi_model::{
    Attributes, Gpu, MigDevice, MigMode, PciAddress, Release, Topology,
    cdi::{DeviceName, Kind},
};
use mig_cdi_sys::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node, at one moment. What is not certain is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Version of the driver.
    pub driver_version: String,
    /// The newest CUDA that the driver knows, where NVML tells it.
    pub cuda_version: Option<Release>,
    /// What the maker of the machine calls it.
    pub machine: Option<String>,
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
    /// All its memory, in MiB.
    pub memory_mib: Option<u64>,
    /// CUDA compute capability.
    pub compute_capability: Option<Release>,
    /// Its PCI class, as 0x030200 of one without displays.
    pub class: Option<u32>,
    /// Memory domain of the machine that it is plugged in at, where the machine says one.
    pub numa: Option<u32>,
    /// It can be in MIG mode, where NVML tells that.
    pub capable: Option<bool>,
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
    /// CDI name, as `nvidia.com/mig=0:2g.20gb:4`.
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
    /// What it has to compute with, where NVML tells it.
    pub attributes: Option<Attributes>,
}

impl Inventory {
    /// Every slice with its GPU.
    pub fn slices(&self) -> impl Iterator<Item = (&GpuEntry, &SliceEntry)> {
        self.gpus.iter().flat_map(|gpu| gpu.slices.iter().map(move |slice| (gpu, slice)))
    }
}

/// A slice that no spec names is not offered. `built` are the specs of now, each with its kind. What `/sys` of
/// the machine does not tell is missing, and no more.
pub(crate) fn inventory<'a>(
    topology: &Topology,
    built: impl Iterator<Item = (&'a Kind, &'a Built)>,
    problems: Vec<String>,
    machine: &dyn Machine,
) -> Inventory {
    let names = built.flat_map(|(kind, built)| {
        built.devices.iter().map(move |(subject, names)| (*subject, (kind, &names[..])))
    });
    let names: Defined<'_> = names.collect();
    let entry = |gpu: &Gpu| {
        let devices = topology.mig_devices().filter(|device| device.gpu.minor == gpu.minor);
        GpuEntry {
            index: gpu.index.map(|index| index.0),
            uuid: gpu.uuid.as_ref().map(ToString::to_string),
            pci: gpu.pci.to_string(),
            model: gpu.model.clone(),
            memory_mib: gpu.memory_mib,
            compute_capability: gpu.compute_capability,
            class: class(machine, gpu.pci),
            numa: numa(machine, gpu.pci),
            capable: match gpu.mig {
                MigMode::Unknown => None,
                mig => Some(mig != MigMode::Unsupported),
            },
            divided: gpu.mig == MigMode::Enabled,
            name: {
                let uuid = gpu.uuid.as_ref().and_then(|uuid| uuid.to_string().parse().ok());
                name(&names, Subject::Gpu(gpu.minor), uuid)
            },
            slices: devices.filter_map(|device| slice(&device, &names)).collect(),
        }
    };
    Inventory {
        driver_version: topology.driver_version.clone(),
        cuda_version: topology.cuda_version,
        machine: line(machine, "/sys/class/dmi/id/product_name"),
        gpus: topology.gpus.iter().map(entry).collect(),
        problems,
    }
}

/// The names that specs have.
type Defined<'a> = BTreeMap<Subject, (&'a Kind, &'a [DeviceName])>;

/// The one of these words, if it is defined, or else the first.
fn name(names: &Defined<'_>, subject: Subject, wished: Option<DeviceName>) -> Option<String> {
    let (kind, names) = names.get(&subject)?;
    let name = wished.filter(|name| names.contains(name)).or_else(|| names.first().cloned())?;
    Some(format!("{kind}={name}"))
}

/// Its name is one that ceases to be when the geometry changes, where there is such a one: the UUID of a slice may
/// come back with another profile.
fn slice(device: &MigDevice<'_>, names: &Defined<'_>) -> Option<SliceEntry> {
    let MigDevice { gi, ci, .. } = device;
    Some(SliceEntry {
        name: name(names, Subject::Slice(device.id()), handy_name(device, Source::Nvml))?,
        uuid: ci.uuid.as_ref().map(ToString::to_string),
        profile: ci.profile.as_ref().map(ToString::to_string),
        gi: gi.id.0,
        ci: ci.id.0,
        memory_mib: ci.memory_mib,
        attributes: ci.attributes,
    })
}

/// -1 is a GPU, or a machine, without one (kernel, `Documentation/ABI/testing/sysfs-bus-pci`).
fn numa(machine: &dyn Machine, pci: PciAddress) -> Option<u32> {
    line(machine, &format!("/sys/bus/pci/devices/{pci}/numa_node"))?.parse().ok()
}

fn class(machine: &dyn Machine, pci: PciAddress) -> Option<u32> {
    let text = line(machine, &format!("/sys/bus/pci/devices/{pci}/class"))?;
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A file of one line, which is not empty.
fn line(machine: &dyn Machine, path: &str) -> Option<String> {
    let bytes = machine.read(path, 4096).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
