//! Result of a discovery.

use super::problem::Problem;
use mig_cdi_model::{Major, Topology};

/// Result of discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The confirmed GPUs and MIG devices.
    pub topology: Topology,
    /// Omitted GPUs and MIG devices.
    pub problems: Vec<Problem>,
    /// Warnings about the node, a line each. Nothing is omitted because of them.
    pub warnings: Vec<String>,
    /// Path of the NVML library, where NVML was read.
    pub library: Option<String>,
    /// Content of `/proc/driver/nvidia/params` with `ModifyDeviceFiles` set to 0.
    pub masked_params: Option<String>,
    /// Major number of capability nodes. A driver without MIG support may have none.
    pub caps: Option<Major>,
}
