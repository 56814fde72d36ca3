//! The state of GPUs as NVML reports it.

use super::CallError;
use mig_cdi_model::{Attributes, MajorMinor, PendingMode, Placement};

/// The state of all GPUs as NVML reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlSnapshot {
    /// Path of the library.
    pub library: String,
    /// Driver version: `580.105.08`.
    pub driver_version: String,
    /// Newest CUDA version that the driver supports, when it was requested and NVML knows it.
    pub cuda_version: Option<MajorMinor>,
    /// One entry per GPU index, from 0.
    pub gpus: Vec<Result<NvmlGpu, CallError>>,
}

/// A GPU as NVML reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlGpu {
    /// PCI address with a domain of eight digits: `00000000:07:00.0`. `/proc` has four.
    pub pci: String,
    /// UUID: `GPU-…`.
    pub uuid: String,
    /// Minor number of its device node. It need not be the NVML index.
    pub minor: u32,
    /// Product name.
    pub model: String,
    /// Total memory in bytes. With MIG on, NVML reports it to root only.
    pub memory_bytes: Option<u64>,
    /// CUDA compute capability, when NVML reports it.
    pub compute_capability: Option<MajorMinor>,
    /// True in MIG mode; `None` on a GPU without MIG.
    pub mig: Option<bool>,
    /// MIG mode that it is to have, when that is another one.
    pub pending_mode: Option<PendingMode>,
    /// MIG devices by index. Indices without a device are omitted.
    pub devices: Vec<IndexedMigDevice>,
}

/// A MIG index of a GPU at which NVML has a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedMigDevice {
    /// MIG device index below its GPU, from 0.
    pub index: u32,
    /// The device, or the call that failed on it.
    pub device: Result<NvmlMigDevice, CallError>,
}

/// A MIG device as NVML reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlMigDevice {
    /// GPU instance id.
    pub gi: u32,
    /// Compute instance id.
    pub ci: u32,
    /// UUID: `MIG-…`. It depends on the instance ids alone, so a recreated device can have it again.
    pub uuid: String,
    /// Product and profile: `NVIDIA A100-SXM4-80GB MIG 1c.3g.40gb`.
    pub name: String,
    /// Slices and memory, when NVML reports them.
    pub sizes: Option<Sizes>,
    /// Memory slices of the GPU instance; `None` when NVML reports them to root only.
    pub gi_placement: Option<Placement>,
    /// Compute slices within the GPU instance; `None` when NVML reports them to root only.
    pub ci_placement: Option<Placement>,
}

/// Memory and engines of a MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Memory of the GPU instance, in MiB.
    pub memory_mib: u64,
    /// Slices, multiprocessors and engines.
    pub attributes: Attributes,
}
