//! NVML: load `libnvidia-ml.so.1` of the driver, ask or divide, shut down.
//!
//! nvml-wrapper does what it can; the calls that it has no safe form of are in [`raw`]. Nothing is
//! kept open: on Ampere an open NVML client holds a change of MIG mode up. Only a process that does nothing
//! else keeps NVML open: one that listens.

#[cfg(feature = "nvml")]
mod divide;
mod division;
#[cfg(feature = "nvml")]
mod enumerate;
#[cfg(feature = "nvml")]
mod library;
#[cfg(feature = "nvml")]
mod listen;
#[cfg(feature = "nvml")]
mod raw;

pub use division::{
    ComputeInstance, ComputeProfile, Divider, Division, GpuInstance, GpuProfile, ModeChange,
    Process,
};
#[cfg(feature = "nvml")]
pub(crate) use enumerate::report;
#[cfg(feature = "nvml")]
pub use listen::listen;
#[cfg(feature = "nvml")]
pub use raw::SYMBOLS as RAW_SYMBOLS;

#[cfg(feature = "nvml")]
pub(crate) fn divider(root: &crate::DriverRoot) -> Result<Box<dyn Divider>, Failure> {
    Ok(Box::new(divide::Session::open(root)?))
}

#[cfg(not(feature = "nvml"))]
pub(crate) fn report(_: &crate::DriverRoot, _: bool) -> Result<Report, Failure> {
    Err(not_built())
}

#[cfg(not(feature = "nvml"))]
pub(crate) fn divider(_: &crate::DriverRoot) -> Result<Box<dyn Divider>, Failure> {
    Err(not_built())
}

#[cfg(not(feature = "nvml"))]
fn not_built() -> Failure {
    Failure::NoLibrary { searched: "nothing: built without NVML".to_owned() }
}

use mig_cdi_model::{Attributes, Placement, Release};

/// What a process hears that listens to NVML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// No GPU can be listened to, and NVML is closed.
    Nothing {
        /// Some are left alone, since a change of their MIG mode is pending.
        spares: bool,
    },
    /// From now on nothing is missed.
    Listening {
        /// Of which of the GPUs that can be divided changes of their instances are told.
        changes: Share,
        /// Of which GPUs errors are told.
        errors: Share,
        /// As above.
        spares: bool,
    },
    /// The instances of a GPU are others.
    Change,
    /// A GPU has a critical error.
    Xid(Xid),
    /// A change of MIG mode waits for us to close NVML, which we do.
    Pending,
}

/// How many of some GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// None.
    None,
    /// Some and not all.
    Some,
    /// All, and there is one.
    All,
}

/// An error that the driver calls critical, by its number in NVIDIA's list of XIDs. Of errors that follow
/// each other faster than they are waited for, each may come with the number of the last (nvml.h,
/// `nvmlEventSetWait_v2`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xid {
    /// `GPU-…`.
    pub gpu: String,
    /// The GPU instance, where the driver tells that it is of one.
    pub gi: Option<u32>,
    /// The compute instance within it.
    pub ci: Option<u32>,
    /// The number.
    pub xid: u64,
}

/// Everything that NVML says, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which library was asked.
    pub library: String,
    /// Driver version.
    pub driver_version: String,
    /// The newest CUDA that the driver knows, where that was asked and told.
    pub cuda_version: Option<Release>,
    /// One entry per GPU index, from 0.
    pub gpus: Vec<Result<Gpu, CallError>>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// `00000000:07:00.0`.
    pub pci: String,
    /// `GPU-…`.
    pub uuid: String,
    /// The number of its device node.
    pub minor: u32,
    /// Product name.
    pub model: String,
    /// All its memory, in bytes. With MIG on it is told to root only.
    pub memory_bytes: Option<u64>,
    /// CUDA compute capability, where NVML tells it.
    pub compute_capability: Option<Release>,
    /// `None` on a GPU that cannot be divided.
    pub mig: Option<bool>,
    /// What it becomes at the next reset of the GPU, where that is something else or the same.
    pub mig_pending: Option<bool>,
    /// By MIG index; indices that hold no device are left out.
    pub devices: Vec<(u32, Result<MigDevice, CallError>)>,
}

/// A MIG device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigDevice {
    /// GPU instance id.
    pub gi: u32,
    /// Compute instance id.
    pub ci: u32,
    /// `MIG-…`.
    pub uuid: String,
    /// Product and profile: `NVIDIA A100-SXM4-80GB MIG 1c.3g.40gb`.
    pub name: String,
    /// Slices and memory, where NVML tells them.
    pub sizes: Option<Sizes>,
    /// Memory slices of the GPU instance. `None` when not permitted.
    pub gi_placement: Option<Placement>,
    /// Compute slices within the GPU instance. `None` when not permitted.
    pub ci_placement: Option<Placement>,
}

/// How large a MIG device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Memory of the GPU instance, in MiB.
    pub memory_mib: u64,
    /// Slices, multiprocessors and engines.
    pub attributes: Attributes,
}

/// An NVML call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {reason}")]
pub struct CallError {
    /// The C name of the call.
    pub call: &'static str,
    /// What NVML said and, where there is one, the cure.
    pub reason: String,
}

impl CallError {
    /// The answer for a GPU that has fallen off the bus.
    #[must_use]
    pub fn gpu_lost(call: &'static str) -> CallError {
        let reason = "the gpu has fallen off the bus; reset it or reboot, and see dmesg for Xid 79";
        CallError { call, reason: reason.to_owned() }
    }
}

/// An error with NVML's words in lower case and the cure where there is one.
#[cfg(feature = "nvml")]
fn failed(call: &'static str, error: &nvml_wrapper::error::NvmlError) -> CallError {
    use nvml_wrapper::error::NvmlError;
    let reason = match error {
        NvmlError::GpuLost => return CallError::gpu_lost(call),
        NvmlError::ResetRequired => "the gpu needs a reset; run nvidia-smi --gpu-reset".to_owned(),
        error => error.to_string(),
    };
    CallError { call, reason }
}

/// NVML could not be asked at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no library.
    #[error("libnvidia-ml.so.1 not found in {searched}")]
    NoLibrary {
        /// Where it was looked for.
        searched: String,
    },
    /// There is a file, and it is no NVML that this process can use.
    #[error("load {path}: {reason}")]
    Unusable {
        /// Which file.
        path: String,
        /// What the dynamic loader said.
        reason: String,
    },
    /// The kernel module is not loaded.
    #[error("{path} says that the nvidia kernel module is not loaded")]
    NotLoaded {
        /// Which library.
        path: String,
    },
    /// Kernel module and library are of two versions.
    #[error("{path} and the loaded kernel module are of different driver versions")]
    VersionMismatch {
        /// Which library.
        path: String,
    },
    /// Anything else.
    #[error(transparent)]
    Call(CallError),
}
