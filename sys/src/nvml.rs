//! NVML: load `libnvidia-ml.so.1` of the driver, read the state of the GPUs or change it, shut down.
//!
//! nvml-wrapper does what it can; the calls that it has no safe form of are in `raw`. Nothing is
//! kept open: on Ampere an open NVML client holds up a change of MIG mode, which needs a reset of the GPU. Only a
//! process that does nothing else keeps NVML open: one that waits for events.
//!
//! Handles of MIG devices are never cached: they "may be reused and their properties can change" (nvml.h).
//! Every reading enumerates them again.

mod call_words;
mod driver_event;
mod error;
#[cfg(feature = "nvml")]
mod events;
mod gpu_state;
#[cfg(feature = "nvml")]
mod library;
mod partitioning;
#[cfg(feature = "nvml")]
mod raw;
#[cfg(feature = "nvml")]
mod session;
#[cfg(feature = "nvml")]
mod snapshot;

pub use driver_event::{DriverEvent, EventCoverage, Xid};
pub use error::{CallError, NvmlError};
#[cfg(feature = "nvml")]
pub use events::listen;
pub use gpu_state::{IndexedMigDevice, NvmlGpu, NvmlMigDevice, NvmlSnapshot, Sizes};
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
