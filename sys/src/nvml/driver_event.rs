//! Events of the driver, as the process that waits for them passes them on.

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
    /// Instances of a GPU were created or destroyed. NVML does not report which.
    MigConfigChange,
    /// A GPU has a critical error.
    Xid(Xid),
    /// A change of MIG mode waits until NVML is closed, which is done now.
    MigModePending,
}

/// The part of a set of GPUs that an event covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventCoverage {
    /// None of them.
    // `status.json` of the watch shows these values: users' monitoring compares with this text.
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
