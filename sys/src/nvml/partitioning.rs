//! The current and the possible partitioning of GPUs, and the changes that NVML makes to it.

use super::{CallError, NvmlError};
use mig_cdi_model::{PendingMode, Placement};

/// A GPU: the profiles that it can be partitioned into, and its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuPartitioning {
    /// NVML index, as in nvidia-smi.
    pub index: u32,
    /// UUID: `GPU-…`.
    pub uuid: String,
    /// PCI address with a domain of eight digits: `00000000:07:00.0`.
    pub pci: String,
    /// PCI device id and, in the low half, vendor id: `0x20B210DE`.
    pub device_id: u32,
    /// PCI subsystem id of the board, in the same form; 0 when NVML has none.
    pub subsystem_id: u32,
    /// Minor number of its device node.
    pub minor: u32,
    /// Product name.
    pub model: String,
    /// True in MIG mode; `None` on a GPU without MIG.
    pub mig: Option<bool>,
    /// MIG mode that it is to have, when that is another one.
    pub pending_mode: Option<PendingMode>,
    /// True when MIG mode changes without a reset, as on Hopper and later.
    pub resetless: bool,
    /// Profiles of GPU instances, by id. May be empty outside of MIG mode: not every driver reports them then.
    pub profiles: Vec<GpuProfile>,
    /// GPU instances, by id.
    pub instances: Vec<NvmlGpuInstance>,
    /// Processes that compute or draw on it.
    pub processes: Vec<GpuProcess>,
}

/// A profile of GPU instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuProfile {
    /// Id within the device, as nvidia-smi shows it. It is not the number in nvml.h's enumeration.
    pub id: u32,
    /// Name, `1g.10gb+me`: the driver's, or computed from the sizes when the driver gives none. `None` when it is
    /// not the name of a profile.
    pub name: Option<mig_cdi_model::Profile>,
    /// Greatest number of instances on an empty GPU.
    pub max: u32,
    /// Number of further instances that fit now.
    pub remaining: Option<u32>,
    /// Compute slices.
    pub slices: u32,
    /// Memory in MiB. It differs between driver releases for one profile.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg: u32,
    /// Optical flow engines.
    pub ofa: u32,
    /// Possible placements in memory slices on an empty GPU, by start.
    pub placements: Vec<Placement>,
}

/// A GPU instance as NVML reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlGpuInstance {
    /// GPU instance id.
    pub id: u32,
    /// Id of its profile within the device.
    pub profile: u32,
    /// Placement in memory slices.
    pub placement: Placement,
    /// Profiles of the compute instances that it can hold.
    pub compute_profiles: Vec<ComputeProfile>,
    /// Compute instances, by id.
    pub compute: Vec<NvmlComputeInstance>,
}

/// A profile of compute instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeProfile {
    /// Id, as nvidia-smi shows it.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// Greatest number of instances in an empty GPU instance.
    pub max: u32,
    /// Possible placements in compute slices of the GPU instance. Empty when the driver does not report them.
    pub placements: Vec<Placement>,
}

/// A compute instance as NVML reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NvmlComputeInstance {
    /// Compute instance id, within its GPU instance.
    pub id: u32,
    /// Id of its profile.
    pub profile: u32,
    /// Placement in compute slices of the GPU instance.
    pub placement: Placement,
}

/// A process that uses a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuProcess {
    /// Process id in the pid namespace of the driver.
    pub pid: u32,
    /// GPU instance that it uses, in MIG mode.
    pub gi: Option<u32>,
    /// Compute instance that it uses, in MIG mode.
    pub ci: Option<u32>,
}

/// The effect of setting the MIG mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// The GPU is in the mode.
    Done,
    /// The mode changes at the next reset. Holds the answer of NVML why not now.
    Pending(CallError),
}

/// The calls that partition GPUs, made by NVML or by a simulated node. GPUs are named by UUID, since a change of
/// MIG mode can change index and minor number (nvml.h, `nvmlDeviceSetMigMode`). Every change is read back: a call
/// whose result differs from its request fails.
pub trait Partitioner {
    /// Reads every GPU by index.
    ///
    /// # Errors
    /// When NVML cannot count them; each GPU has an error of its own.
    fn gpus(&self) -> Result<Vec<Result<GpuPartitioning, CallError>>, NvmlError>;

    /// Reads one GPU.
    ///
    /// # Errors
    /// The call that failed.
    fn gpu(&self, uuid: &str) -> Result<GpuPartitioning, CallError>;

    /// Enables or disables MIG mode of a GPU. No other GPU is touched.
    ///
    /// # Errors
    /// The call that failed.
    fn set_mode(&self, uuid: &str, mig: bool) -> Result<ModeChange, CallError>;

    /// Creates a GPU instance of a profile, by its id within the device, at a placement, and returns its id.
    ///
    /// # Errors
    /// The call that failed.
    fn create_gpu_instance(
        &self,
        uuid: &str,
        profile: u32,
        at: Placement,
    ) -> Result<u32, CallError>;

    /// Destroys a GPU instance, which must have no compute instances.
    ///
    /// # Errors
    /// The call that failed.
    fn destroy_gpu_instance(&self, uuid: &str, gi: u32) -> Result<(), CallError>;

    /// Creates a compute instance in a GPU instance, at a placement in compute slices.
    ///
    /// # Errors
    /// The call that failed.
    fn create_compute_instance(&self, uuid: &str, gi: u32, at: Placement) -> Result<(), CallError>;

    /// Destroys a compute instance.
    ///
    /// # Errors
    /// The call that failed.
    fn destroy_compute_instance(&self, uuid: &str, gi: u32, ci: u32) -> Result<(), CallError>;
}
