//! Inventory of a node for programs that allocate slices, by the names that its specs define.

use crate::{
    discover::{Problem, Source},
    spec::{BuiltSpec, DeviceIdentity, preferred_name},
};
use mig_cdi_model::{
    Attributes, Gpu, Major, MajorMinor, MigDevice, MigMode, Minor, PciAddress, Topology,
    cdi::{DeviceName, Kind},
};
use mig_cdi_sys::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// GPUs and slices of a node at one moment. Unconfirmed ones are omitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Version of the driver.
    pub driver_version: String,
    /// Newest CUDA version that the driver supports, where NVML reports it.
    pub cuda_version: Option<MajorMinor>,
    /// Product name of the machine.
    pub machine: Option<String>,
    /// GPUs in the order of nvidia-smi.
    pub gpus: Vec<GpuEntry>,
    /// Number of the capability node that lets a process partition GPUs.
    pub config: Option<(Major, Minor)>,
    /// Omitted devices with the reason, a line each. For display only.
    pub problems: Vec<String>,
}

/// A GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuEntry {
    /// Number in nvidia-smi.
    pub index: Option<u32>,
    /// UUID, as `GPU-…`.
    pub uuid: Option<String>,
    /// PCI address, as `0000:07:00.0`.
    pub pci: String,
    /// Name of the product.
    pub model: String,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// CUDA compute capability.
    pub compute_capability: Option<MajorMinor>,
    /// PCI class, as 0x030200 of a GPU without displays.
    pub class: Option<u32>,
    /// NUMA node, where the machine has them.
    pub numa: Option<u32>,
    /// The GPU supports MIG; `None` where NVML does not report it.
    pub mig_capable: Option<bool>,
    /// The GPU is in MIG mode, with or without slices.
    pub mig_enabled: bool,
    /// CDI name of the whole GPU, as `nvidia.com/gpu=GPU-…`, where a spec of mig-cdi defines one.
    pub name: Option<String>,
    /// MIG devices, ordered by GPU instance and compute instance.
    pub slices: Vec<SliceEntry>,
}

/// A MIG device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceEntry {
    /// CDI name, as `nvidia.com/mig=0:2g.20gb:4`.
    pub name: String,
    /// UUID, as `MIG-…`.
    pub uuid: Option<String>,
    /// Name of the profile, as the driver spells it.
    pub profile: Option<String>,
    /// GPU instance id.
    pub gi: u32,
    /// Compute instance id within the GPU instance.
    pub ci: u32,
    /// Number of the capability node of its compute instance.
    pub capability: Option<(Major, Minor)>,
    /// Memory of the GPU instance, in MiB.
    pub memory_mib: Option<u64>,
    /// Engines and slices, where NVML reports them.
    pub attributes: Option<Attributes>,
}

impl Inventory {
    /// Every slice with its GPU.
    pub fn slices(&self) -> impl Iterator<Item = (&GpuEntry, &SliceEntry)> {
        self.gpus.iter().flat_map(|gpu| gpu.slices.iter().map(move |slice| (gpu, slice)))
    }
}

/// Builds the inventory. `built` are the current specs, each with its kind; a slice that none of them names is omitted.
/// A fact that `/sys` does not have stays `None`.
pub(crate) fn inventory<'a>(
    topology: &Topology,
    built: impl Iterator<Item = (&'a Kind, &'a BuiltSpec)>,
    problems: &[Problem],
    machine: &dyn Machine,
) -> Inventory {
    let names = built.flat_map(|(kind, built)| {
        built.devices.iter().map(move |device| (device.identity, (kind, &device.names[..])))
    });
    let names: DefinedBy<'_> = names.collect();
    Inventory {
        driver_version: topology.driver_version.clone(),
        cuda_version: topology.cuda_version,
        machine: line(machine, "/sys/class/dmi/id/product_name"),
        gpus: topology.gpus.iter().map(|gpu| gpu_entry(gpu, topology, &names, machine)).collect(),
        config: topology.config_node().map(|node| (node.major, node.minor)),
        problems: problems.iter().map(ToString::to_string).collect(),
    }
}

fn gpu_entry(
    gpu: &Gpu,
    topology: &Topology,
    names: &DefinedBy<'_>,
    machine: &dyn Machine,
) -> GpuEntry {
    let devices = topology.mig_devices().filter(|device| device.gpu.minor == gpu.minor);
    // The UUID is the name that survives a reboot; indices follow PCI addresses.
    let uuid = gpu.uuid.as_ref().map(ToString::to_string);
    let preferred = uuid.as_ref().and_then(|uuid| uuid.parse().ok());
    GpuEntry {
        index: gpu.index.map(|index| index.0),
        uuid,
        pci: gpu.pci.to_string(),
        model: gpu.model.clone(),
        memory_mib: gpu.memory_mib,
        compute_capability: gpu.compute_capability,
        class: class(machine, gpu.pci),
        numa: numa(machine, gpu.pci),
        mig_capable: match gpu.mig {
            MigMode::Unknown => None,
            mig => Some(mig != MigMode::Unsupported),
        },
        mig_enabled: gpu.mig == MigMode::Enabled,
        name: name(names, DeviceIdentity::Gpu(gpu.minor), preferred),
        slices: devices.filter_map(|device| slice(&device, names)).collect(),
    }
}

/// Kind and names of each device that a spec defines.
type DefinedBy<'a> = BTreeMap<DeviceIdentity, (&'a Kind, &'a [DeviceName])>;

/// The preferred name of a device if a spec defines it, or else its first one.
fn name(
    names: &DefinedBy<'_>,
    subject: DeviceIdentity,
    preferred: Option<DeviceName>,
) -> Option<String> {
    let (kind, names) = names.get(&subject)?;
    let name = preferred.filter(|name| names.contains(name)).or_else(|| names.first().cloned())?;
    Some(format!("{kind}={name}"))
}

/// A slice, `None` when no spec names it.
// By its slot, where a spec has that name: it vanishes with the slice. A UUID may come back with another profile, and an
// allocation by that name would then be given something else.
fn slice(device: &MigDevice<'_>, names: &DefinedBy<'_>) -> Option<SliceEntry> {
    let MigDevice { gi, ci, .. } = device;
    Some(SliceEntry {
        name: name(
            names,
            DeviceIdentity::Slice(device.id()),
            preferred_name(device, Source::Nvml),
        )?,
        uuid: ci.uuid.as_ref().map(ToString::to_string),
        profile: ci.profile.as_ref().map(ToString::to_string),
        gi: gi.id.0,
        ci: ci.id.0,
        capability: Some((ci.cap.major, ci.cap.minor)),
        memory_mib: ci.memory_mib,
        attributes: ci.attributes,
    })
}

/// The NUMA node.
// -1, which does not parse, is a device or a machine without one (kernel, `Documentation/ABI/testing/sysfs-bus-pci`).
fn numa(machine: &dyn Machine, pci: PciAddress) -> Option<u32> {
    line(machine, &format!("/sys/bus/pci/devices/{pci}/numa_node"))?.parse().ok()
}

fn class(machine: &dyn Machine, pci: PciAddress) -> Option<u32> {
    let text = line(machine, &format!("/sys/bus/pci/devices/{pci}/class"))?;
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Reads a file of one line, `None` for an empty one.
fn line(machine: &dyn Machine, path: &str) -> Option<String> {
    let bytes = machine.read(path, 4096).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
