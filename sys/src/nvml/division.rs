//! How GPUs are divided and can be, as NVML tells it, and the changes that it makes.

use super::{CallError, Failure};
use mig_cdi_model::Placement;

/// A GPU: what it can be divided into, and how it is divided now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    /// Number in nvidia-smi.
    pub index: u32,
    /// `GPU-…`.
    pub uuid: String,
    /// `00000000:07:00.0`.
    pub pci: String,
    /// Device and vendor: `0x20B210DE`.
    pub device_id: u32,
    /// The same of the board.
    pub subsystem_id: u32,
    /// The number of its device node.
    pub minor: u32,
    /// Product name.
    pub model: String,
    /// `None` on a GPU that cannot be divided.
    pub mig: Option<bool>,
    /// What it becomes at the next reset.
    pub mig_pending: Option<bool>,
    /// It changes its mode without a reset.
    pub resetless: bool,
    /// By id. Of a GPU that is not in MIG mode there are none when the driver does not tell them.
    pub profiles: Vec<GpuProfile>,
    /// By id.
    pub instances: Vec<GpuInstance>,
    /// Whatever computes or draws on it.
    pub processes: Vec<Process>,
}

/// A profile of GPU instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuProfile {
    /// The id within the device, which nvidia-smi shows.
    pub id: u32,
    /// `1g.10gb+me`, of the driver or computed where it names none. Absent when it is no name of a
    /// profile.
    pub name: Option<mig_cdi_model::Profile>,
    /// How many an empty GPU holds at most.
    pub max: u32,
    /// How many more would fit now.
    pub remaining: Option<u32>,
    /// Compute slices.
    pub slices: u32,
    /// In MiB.
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
    /// Memory slices where it may sit on an empty GPU, by start.
    pub placements: Vec<Placement>,
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInstance {
    /// Its id.
    pub id: u32,
    /// The id of its profile within the device.
    pub profile: u32,
    /// Memory slices.
    pub placement: Placement,
    /// What it can hold.
    pub compute_profiles: Vec<ComputeProfile>,
    /// By id.
    pub compute: Vec<ComputeInstance>,
}

/// A profile of compute instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeProfile {
    /// The id that nvidia-smi shows.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// How many an empty GPU instance holds.
    pub max: u32,
    /// Compute slices of the GPU instance where it may sit. Empty when the driver does not tell.
    pub placements: Vec<Placement>,
}

/// A compute instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeInstance {
    /// Its id.
    pub id: u32,
    /// The id of its profile.
    pub profile: u32,
    /// Compute slices of the GPU instance.
    pub placement: Placement,
}

/// A process that uses a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number in the driver's namespace.
    pub pid: u32,
    /// Where it is, on a divided GPU.
    pub gi: Option<u32>,
    /// Where it is in there.
    pub ci: Option<u32>,
}

/// What changed when a mode was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// The GPU is in the mode.
    Done,
    /// It will be after a reset; NVML says why not now.
    Pending(String),
}

/// Somebody who divides GPUs: NVML, or a simulated node. GPUs are named by UUID, which no change of a
/// mode moves. Every change is read back: what NVML then says is what was asked for, or the call failed.
pub trait Divider {
    /// Every GPU by index, or why it cannot be told.
    ///
    /// # Errors
    /// When NVML cannot say how many there are.
    fn gpus(&self) -> Result<Vec<Result<Division, CallError>>, Failure>;

    /// One GPU as it is now.
    ///
    /// # Errors
    /// The call that failed.
    fn gpu(&self, uuid: &str) -> Result<Division, CallError>;

    /// Puts a GPU into MIG mode or takes it out. No other GPU is touched.
    ///
    /// # Errors
    /// What NVML said.
    fn set_mode(&self, uuid: &str, mig: bool) -> Result<ModeChange, CallError>;

    /// Makes a GPU instance of a profile, by its id, at a place, and gives its id.
    ///
    /// # Errors
    /// What NVML said.
    fn create_gpu_instance(
        &self,
        uuid: &str,
        profile: u32,
        at: Placement,
    ) -> Result<u32, CallError>;

    /// Destroys a GPU instance.
    ///
    /// # Errors
    /// What NVML said.
    fn destroy_gpu_instance(&self, uuid: &str, gi: u32) -> Result<(), CallError>;

    /// Makes a compute instance of so many slices in a GPU instance.
    ///
    /// # Errors
    /// What NVML said.
    fn create_compute_instance(&self, uuid: &str, gi: u32, at: Placement) -> Result<(), CallError>;

    /// Destroys a compute instance.
    ///
    /// # Errors
    /// What NVML said.
    fn destroy_compute_instance(&self, uuid: &str, gi: u32, ci: u32) -> Result<(), CallError>;
}
