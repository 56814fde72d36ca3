//! NVML: load `libnvidia-ml.so.1` of the driver, read the state of the GPUs or change it, shut down.
//!
//! nvml-wrapper does what it can; the calls that it has no safe form of are in `raw`. Nothing is
//! kept open: on Ampere an open NVML client holds up a change of MIG mode, which needs a reset of the GPU. Only a
//! process that does nothing else keeps NVML open: one that waits for events.
//!
//! Handles of MIG devices are never cached: nvml.h says that they "may be reused and their properties can
//! change". Every reading enumerates them again.

mod error;
#[cfg(feature = "nvml")]
mod events;
#[cfg(feature = "nvml")]
mod library;
mod partitioning;
#[cfg(feature = "nvml")]
mod raw;
#[cfg(feature = "nvml")]
mod session;
#[cfg(feature = "nvml")]
mod snapshot;

pub use error::{CallError, NvmlError};
#[cfg(feature = "nvml")]
pub use events::listen;
pub use partitioning::{
    ComputeProfile, GpuPartitioning, GpuProcess, GpuProfile, ModeChange, NvmlComputeInstance,
    NvmlGpuInstance, Partitioner,
};
#[cfg(feature = "nvml")]
pub use raw::SYMBOLS as RAW_SYMBOLS;
#[cfg(feature = "nvml")]
pub(crate) use snapshot::snapshot;

#[cfg(feature = "nvml")]
pub(crate) fn partitioner(root: &crate::DriverRoot) -> Result<Box<dyn Partitioner>, NvmlError> {
    Ok(Box::new(session::Session::open(root)?))
}

#[cfg(not(feature = "nvml"))]
pub(crate) fn snapshot(_: &crate::DriverRoot, _: bool) -> Result<NvmlSnapshot, NvmlError> {
    Err(not_built())
}

#[cfg(not(feature = "nvml"))]
pub(crate) fn partitioner(_: &crate::DriverRoot) -> Result<Box<dyn Partitioner>, NvmlError> {
    Err(not_built())
}

#[cfg(not(feature = "nvml"))]
fn not_built() -> NvmlError {
    NvmlError::NoLibrary { searched: "nothing: built without NVML".to_owned() }
}

use mig_cdi_model::{Attributes, Placement, Release};
use serde::{Deserialize, Serialize};

/// An event of the process that waits for NVML's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverEvent {
    /// No GPU can send events; NVML is closed.
    NoEvents {
        /// True when some GPUs were skipped because a change of their MIG mode is pending.
        skips_gpus: bool,
    },
    /// Registration is complete: no event is missed from now on.
    Listening {
        /// The GPUs with MIG that report changes of their instances.
        changes: EventCoverage,
        /// The GPUs that report critical errors.
        errors: EventCoverage,
        /// True when some GPUs were skipped because a change of their MIG mode is pending.
        skips_gpus: bool,
    },
    /// Instances of a GPU were created or destroyed. NVML does not say which.
    MigConfigChange,
    /// A GPU has a critical error.
    Xid(Xid),
    /// A change of MIG mode waits until NVML is closed, which is done now.
    MigModePending,
}

/// The part of a set of GPUs that an event covers. Serialised as the watch's `status.json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventCoverage {
    /// None of them.
    #[serde(rename = "nobody")]
    None,
    /// Some and not all.
    Some,
    /// All, and there is at least one.
    All,
}

/// An error that the driver calls critical, by its number in NVIDIA's list of XIDs. When errors follow each
/// other faster than they are read, each may carry the number of the last (nvml.h, `nvmlEventSetWait_v2`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xid {
    /// UUID of the GPU: `GPU-…`.
    pub gpu: String,
    /// GPU instance, when the driver attributes the error to one.
    pub gi: Option<u32>,
    /// Compute instance within it.
    pub ci: Option<u32>,
    /// Number of the error.
    pub xid: u64,
}

/// The state of all GPUs as NVML reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlSnapshot {
    /// Path of the library.
    pub library: String,
    /// Driver version: `580.105.08`.
    pub driver_version: String,
    /// Newest CUDA version that the driver supports, when it was asked for and NVML knows it.
    pub cuda_version: Option<Release>,
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
    pub compute_capability: Option<Release>,
    /// True in MIG mode; `None` on a GPU without MIG.
    pub mig: Option<bool>,
    /// MIG mode after the next reset of the GPU; equal to `mig` when no change is pending.
    pub mig_pending: Option<bool>,
    /// MIG devices by MIG index. Indices without a device are omitted.
    pub devices: Vec<(u32, Result<NvmlMigDevice, CallError>)>,
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
