//! A consistent, ordered snapshot of a node: its GPUs, their instances, and the device nodes that open them.

use crate::{
    CiId, GiId, GpuIndex, GpuMinor, GpuUuid, Major, MigIndex, MigUuid, Minor, PciAddress,
    PendingMode, Placement, Profile, SliceId,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The state of the host's file at the path of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostNodeState {
    /// A character device with the driver's current numbers.
    Ok,
    /// No file. Engines that run as root create the node in the container by its numbers; rootless ones cannot
    /// (mknod needs `CAP_MKNOD` in the initial user namespace) and bind the host's.
    Missing,
    /// Another file: not a character device, or one with other numbers, left over from before the module was
    /// reloaded. nvidia-modprobe never deletes nodes.
    Wrong,
}

/// A character device by path and numbers. The numbers are the driver's current ones, valid until its module
/// is reloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceNode {
    /// Path, on the host and in a container.
    pub path: String,
    /// Major number from `/proc/devices`.
    pub major: Major,
    /// Minor number.
    pub minor: Minor,
    /// Permission bits.
    pub mode: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// State of the host's file at this path.
    pub host: HostNodeState,
    /// Whether tools may create or change it on the host: `DeviceFileModify` of the driver, which an administrator
    /// sets to 0 to keep nvidia-modprobe away (`nv-caps.c:470-481`).
    #[serde(skip)]
    pub modify: bool,
}

/// A device node by path and numbers alone, as a device cgroup or a container shows it: without owner and mode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumberedNode {
    /// Path, on the host or in a container.
    pub path: String,
    /// Major number.
    pub major: Major,
    /// Minor number.
    pub minor: Minor,
}

impl fmt::Display for NumberedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.path, self.major, self.minor)
    }
}

/// The MIG mode of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MigMode {
    /// The GPU has no MIG.
    Unsupported,
    /// MIG is off.
    Disabled,
    /// MIG is on; there may be no instance yet.
    Enabled,
    /// Not known: without NVML a GPU without an instance looks the same with MIG on and off, as the driver
    /// registers the `mig` directory of every GPU (`os.c:4707-4717`).
    Unknown,
}

/// A snapshot of a node's GPUs at one moment, ordered by GPU, GPU instance and compute instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Driver version, such as `580.105.08`.
    pub driver_version: String,
    /// Newest CUDA version that the driver supports; only the device plugin reads it.
    #[serde(skip)]
    pub cuda_version: Option<MajorMinor>,
    /// Nodes that every CUDA program opens: nvidiactl, nvidia-uvm, nvidia-uvm-tools. The last two are absent
    /// when the nvidia-uvm module is not loaded.
    pub common: Vec<DeviceNode>,
    /// GPUs that both views of the driver, `/proc` and NVML, agree on.
    pub gpus: Vec<Gpu>,
    /// Capability nodes for all instances of the node at once, where the driver has them.
    pub admin: Vec<AdminNode>,
}

/// A capability node for all instances of the node: `config` lets its holder create and destroy instances,
/// `monitor` read all of them. No workload needs either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdminNode {
    /// `config` or `monitor`.
    pub name: &'static str,
    /// Capability node.
    pub node: DeviceNode,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Index in nvidia-smi; unknown without NVML.
    pub index: Option<GpuIndex>,
    /// Minor number of its device node.
    pub minor: GpuMinor,
    /// PCI address.
    pub pci: PciAddress,
    /// GPU UUID; absent while the driver has not read it yet.
    pub uuid: Option<GpuUuid>,
    /// Product name.
    pub model: String,
    /// Memory of the whole GPU, in MiB. With MIG on NVML reports it to root only.
    pub memory_mib: Option<u64>,
    /// CUDA compute capability.
    pub compute_capability: Option<MajorMinor>,
    /// MIG mode.
    pub mig: MigMode,
    /// MIG mode that it is to have, when that is another one.
    #[serde(skip)]
    pub pending_mode: Option<PendingMode>,
    /// Device node `/dev/nvidiaN`.
    pub node: DeviceNode,
    /// DRI nodes, for profiles with graphics: `/dev/dri/cardN` and `/dev/dri/renderDN`.
    pub dri: Vec<DriNode>,
    /// GPU instances, by id.
    pub gpu_instances: Vec<GpuInstance>,
}

impl Gpu {
    /// Returns its name in messages: `gpu 0` by its index, `gpu minor 0` when that is not known.
    #[must_use]
    pub fn label(&self) -> String {
        match self.index {
            Some(index) => format!("gpu {index}"),
            None => format!("gpu minor {}", self.minor),
        }
    }

    /// True for the name that a whole GPU has as a device: its index or its UUID.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        let index = self.index.map(|index| index.to_string());
        let uuid = self.uuid.as_ref().map(ToString::to_string);
        [index, uuid].iter().flatten().any(|own| own == name)
    }
}

/// A DRI node of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DriNode {
    /// Node.
    pub node: DeviceNode,
    /// The same at the path of udev's link to it, where the host has the link: programs find the nodes of a PCI address by it. A
    /// container has no udev, and a node at that path is opened like one behind a link.
    #[serde(skip)]
    pub link: Option<DeviceNode>,
    /// Path of the file that its numbers are from.
    #[serde(skip)]
    pub source: String,
}

/// A GPU instance: memory slices and engines of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuInstance {
    /// GPU instance id.
    pub id: GiId,
    /// Profile; known when the name of one of its compute instances has it.
    pub profile: Option<Profile>,
    /// Memory slices of the GPU. NVML reports them to root only (`nvmlGpuInstanceGetInfo`).
    pub placement: Option<Placement>,
    /// Capability node.
    pub cap: DeviceNode,
    /// Compute instances, by id; may be empty.
    pub compute_instances: Vec<ComputeInstance>,
}

/// A compute instance: compute slices of a GPU instance. A container gets one with its GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComputeInstance {
    /// Compute instance id within the GPU instance.
    pub id: CiId,
    /// MIG device index below the GPU in NVML.
    pub index: Option<MigIndex>,
    /// MIG UUID; known from NVML only.
    pub uuid: Option<MigUuid>,
    /// Profile, from the driver's name of the MIG device.
    pub profile: Option<Profile>,
    /// Compute slices of the GPU instance. NVML reports them to root only.
    pub placement: Option<Placement>,
    /// Memory of the GPU instance, in MiB.
    pub memory_mib: Option<u64>,
    /// Engines and multiprocessors; known from NVML only.
    pub attributes: Option<Attributes>,
    /// Capability node.
    pub cap: DeviceNode,
}

/// A CUDA version or a CUDA compute capability: two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MajorMinor {
    /// Number before the dot.
    pub major: u32,
    /// Number after the dot.
    pub minor: u32,
}

/// Engines and multiprocessors of a compute instance. The engines are those of its GPU instance, which all of
/// its compute instances share (nvml.h, `nvmlDeviceAttributes_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Streaming multiprocessors. No instance has none, so 0 from a driver is an unknown number.
    pub multiprocessors: Option<u32>,
    /// Compute slices of the GPU instance.
    pub gpu_slices: u32,
    /// Compute slices of the compute instance.
    pub compute_slices: u32,
    /// Copy engines; 0 from a driver is an unknown number here too.
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

/// A MIG device: a compute instance with the GPU instance and the GPU that it is on.
#[derive(Debug, Clone, Copy)]
pub struct MigDevice<'a> {
    /// GPU.
    pub gpu: &'a Gpu,
    /// GPU instance.
    pub gi: &'a GpuInstance,
    /// Compute instance.
    pub ci: &'a ComputeInstance,
}

impl<'a> MigDevice<'a> {
    /// Returns its ids in the driver's capability tree.
    #[must_use]
    pub fn id(&self) -> SliceId {
        SliceId { gpu: self.gpu.minor, gi: self.gi.id, ci: self.ci.id }
    }

    /// Returns its own device nodes, in the order in which a program opens them: the GPU, for graphics its
    /// DRI nodes, the GPU instance, the compute instance.
    pub fn nodes(&self) -> impl Iterator<Item = &'a DeviceNode> + use<'a> {
        // The driver checks the GPU instance's and the compute instance's node separately, and root is no
        // exception (`gpu_instance_subscription.c:217-229`, `compute_instance_subscription.c:87-99`).
        let dri = if self.has_graphics() { &self.gpu.dri[..] } else { &[] };
        let dri = dri.iter().map(|dri| &dri.node);
        [&self.gpu.node].into_iter().chain(dri).chain([&self.gi.cap, &self.ci.cap])
    }

    /// Reports whether the profile can render.
    #[must_use]
    pub fn has_graphics(&self) -> bool {
        self.ci.profile.as_ref().is_some_and(Profile::has_graphics)
    }
}

impl Topology {
    /// Returns every MIG device, ordered by GPU, GPU instance and compute instance.
    pub fn mig_devices(&self) -> impl Iterator<Item = MigDevice<'_>> {
        self.gpus.iter().flat_map(|gpu| {
            gpu.gpu_instances.iter().flat_map(move |gi| {
                gi.compute_instances.iter().map(move |ci| MigDevice { gpu, gi, ci })
            })
        })
    }

    /// Returns the capability node that lets a process partition GPUs (`mig/config`), where the driver has it.
    #[must_use]
    pub fn config_node(&self) -> Option<&DeviceNode> {
        self.admin.iter().find(|admin| admin.name == "config").map(|admin| &admin.node)
    }

    /// Calls a function for every device node, once each.
    pub fn for_each_node(&mut self, mut visit: impl FnMut(&mut DeviceNode)) {
        self.common.iter_mut().for_each(&mut visit);
        self.admin.iter_mut().for_each(|admin| visit(&mut admin.node));
        for gpu in &mut self.gpus {
            visit(&mut gpu.node);
            for dri in &mut gpu.dri {
                visit(&mut dri.node);
                dri.link.iter_mut().for_each(&mut visit);
            }
            for gi in &mut gpu.gpu_instances {
                visit(&mut gi.cap);
                gi.compute_instances.iter_mut().for_each(|ci| visit(&mut ci.cap));
            }
        }
    }
}
