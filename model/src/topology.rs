//! One consistent, ordered snapshot of a node: its GPUs, their instances and the device nodes that
//! open them.

use crate::{
    CiId, GiId, GpuIndex, GpuMinor, GpuUuid, Major, MigIndex, MigUuid, Minor, PciAddress,
    Placement, Profile, SliceId,
};
use serde::{Deserialize, Serialize};

/// What the machine has at the path of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostNode {
    /// A character device with the numbers that the driver has now.
    Ok,
    /// Nothing. Engines that make nodes themselves do not mind; rootless ones bind the host's.
    Missing,
    /// Something else: no character device, or one with other numbers.
    Wrong,
}

/// A character device by path and by numbers. The numbers are what the driver says now; they hold
/// until it is loaded again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceNode {
    /// Path in the host and in a container.
    pub path: String,
    /// Major number from `/proc/devices`.
    pub major: Major,
    /// Minor number.
    pub minor: Minor,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What the host has at this path.
    pub host: HostNode,
    /// The driver lets tools make it on the host; if not, that is the administrator's.
    #[serde(skip)]
    pub modify: bool,
}

/// Whether a GPU is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MigMode {
    /// It cannot be divided.
    Unsupported,
    /// It can be, and is not.
    Disabled,
    /// It is; it may have no instance yet.
    Enabled,
    /// Without NVML nobody says so of a GPU that has no instance.
    Unknown,
}

/// A whole view of a node's GPUs at one moment, ordered by GPU, GPU instance and compute instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Version of the driver.
    pub driver_version: String,
    /// The newest CUDA that it knows; asked only by who hands devices out.
    #[serde(skip)]
    pub cuda_version: Option<Release>,
    /// Nodes that every CUDA program opens: nvidiactl, nvidia-uvm, nvidia-uvm-tools. The last two
    /// are absent when the nvidia-uvm module is not loaded.
    pub common: Vec<DeviceNode>,
    /// The GPUs that both views of the driver agree on.
    pub gpus: Vec<Gpu>,
    /// Capabilities over all instances of the node, where the driver has them.
    pub admin: Vec<AdminNode>,
}

/// A capability over all instances of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdminNode {
    /// `config` or `monitor`.
    pub name: &'static str,
    /// Capability node.
    pub node: DeviceNode,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Number in nvidia-smi; unknown without NVML.
    pub index: Option<GpuIndex>,
    /// Number of its device node.
    pub minor: GpuMinor,
    /// Where it is plugged in.
    pub pci: PciAddress,
    /// Absent while the driver does not know it.
    pub uuid: Option<GpuUuid>,
    /// Name of the product.
    pub model: String,
    /// All its memory, in MiB. With MIG on NVML tells it to root only.
    pub memory_mib: Option<u64>,
    /// CUDA compute capability.
    pub compute_capability: Option<Release>,
    /// Whether it is divided.
    pub mig: MigMode,
    /// `/dev/nvidiaN`.
    pub node: DeviceNode,
    /// `/dev/dri/cardN` and `/dev/dri/renderDN`, for profiles with graphics.
    pub dri: Vec<DeviceNode>,
    /// By id.
    pub gpu_instances: Vec<GpuInstance>,
}

impl Gpu {
    /// How messages call it: `gpu 0` by its index, `gpu minor 0` when that is not known.
    #[must_use]
    pub fn label(&self) -> String {
        match self.index {
            Some(index) => format!("gpu {index}"),
            None => format!("gpu minor {}", self.minor),
        }
    }
}

/// A slice of memory and engines of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuInstance {
    /// Its id on the GPU.
    pub id: GiId,
    /// Known when one of its compute instances names it.
    pub profile: Option<Profile>,
    /// Memory slices. NVML tells it to root only.
    pub placement: Option<Placement>,
    /// Capability node.
    pub cap: DeviceNode,
    /// By id; may be empty.
    pub compute_instances: Vec<ComputeInstance>,
}

/// A share of the compute slices of a GPU instance: what a container is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComputeInstance {
    /// Its id in the GPU instance.
    pub id: CiId,
    /// Number below the GPU in NVML.
    pub index: Option<MigIndex>,
    /// Known from NVML only.
    pub uuid: Option<MigUuid>,
    /// Name of the profile, from the driver.
    pub profile: Option<Profile>,
    /// Compute slices within the GPU instance. NVML tells it to root only.
    pub placement: Option<Placement>,
    /// Memory of the GPU instance, in MiB.
    pub memory_mib: Option<u64>,
    /// What it has to compute with, from NVML.
    pub attributes: Option<Attributes>,
    /// Capability node.
    pub cap: DeviceNode,
}

/// Two numbers of CUDA: a version, or a compute capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release {
    /// 9 of 9.0.
    pub major: u32,
    /// 0 of 9.0.
    pub minor: u32,
}

/// What a compute instance has to compute with. The engines are those of its GPU instance, which all
/// compute instances of that share (nvml.h, `nvmlDeviceAttributes_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Streaming multiprocessors; no instance is without, so a driver that says 0 does not tell.
    pub multiprocessors: Option<u32>,
    /// Slices of the GPU instance.
    pub gpu_slices: u32,
    /// Slices of the compute instance.
    pub compute_slices: u32,
    /// Copy engines; as with multiprocessors.
    pub copy_engines: Option<u32>,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg_engines: u32,
    /// Optical flow engines.
    pub ofa_engines: u32,
}

/// A compute instance with the instances it belongs to: one MIG device.
#[derive(Debug, Clone, Copy)]
pub struct MigDevice<'a> {
    /// Its GPU.
    pub gpu: &'a Gpu,
    /// Its GPU instance.
    pub gi: &'a GpuInstance,
    /// Itself.
    pub ci: &'a ComputeInstance,
}

impl<'a> MigDevice<'a> {
    /// Where it is in the driver's capability tree.
    #[must_use]
    pub fn id(&self) -> SliceId {
        SliceId { gpu: self.gpu.minor, gi: self.gi.id, ci: self.ci.id }
    }

    /// The device nodes that are this device's own, in the order in which a program opens them: the
    /// GPU, for graphics its DRI nodes, the GPU instance, the compute instance.
    pub fn nodes(&self) -> impl Iterator<Item = &'a DeviceNode> + use<'a> {
        let dri = if self.has_graphics() { &self.gpu.dri[..] } else { &[] };
        [&self.gpu.node].into_iter().chain(dri).chain([&self.gi.cap, &self.ci.cap])
    }

    /// True when the driver says that the profile can render.
    #[must_use]
    pub fn has_graphics(&self) -> bool {
        self.ci.profile.as_ref().is_some_and(Profile::has_graphics)
    }
}

impl Topology {
    /// Every MIG device, ordered by GPU, GPU instance and compute instance.
    pub fn mig_devices(&self) -> impl Iterator<Item = MigDevice<'_>> {
        self.gpus.iter().flat_map(|gpu| {
            gpu.gpu_instances.iter().flat_map(move |gi| {
                gi.compute_instances.iter().map(move |ci| MigDevice { gpu, gi, ci })
            })
        })
    }

    /// Visits every device node, each once.
    pub fn for_each_node(&mut self, mut visit: impl FnMut(&mut DeviceNode)) {
        self.common.iter_mut().for_each(&mut visit);
        self.admin.iter_mut().for_each(|admin| visit(&mut admin.node));
        for gpu in &mut self.gpus {
            visit(&mut gpu.node);
            gpu.dri.iter_mut().for_each(&mut visit);
            for gi in &mut gpu.gpu_instances {
                visit(&mut gi.cap);
                gi.compute_instances.iter_mut().for_each(|ci| visit(&mut ci.cap));
            }
        }
    }
}
