//! What the nvml.h of a driver's release branch has: profiles and versions of structures. Functions that a branch lacks are taken out of
//! the file by the tests' `driver_release`.
//!
//! Source: nvml.h of CUDA 11.0 to 13.3 (NVIDIA/go-nvml, `gen/nvml/nvml.h` at its tags v0.11.0-0 to v0.13.3-0), and the driver that each
//! CUDA comes with.

use crate::c_abi::{Code, INVALID_ARGUMENT};
use mig_cdi_sim::{ProfileRow, SimulatedNode};
use nvml_wrapper_sys::bindings::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH;

/// Release branch of a driver: 580 for 580.105.08.
pub(crate) struct Release(u32);

/// The last branch whose nvml.h is known. Later ones are invented.
const LAST: u32 = 610;

impl Release {
    pub(crate) fn of(node: &SimulatedNode) -> Release {
        Release(
            node.driver.split('.').next().and_then(|branch| branch.parse().ok()).unwrap_or(LAST),
        )
    }

    /// `NVML_GPU_INSTANCE_PROFILE_COUNT`.
    fn gpu_profiles(&self) -> u32 {
        match self.0 {
            ..470 => 7,
            470..525 => 8,
            525..570 => 10,
            570..575 => 13,
            575..595 => 17,
            595..=LAST => 18,
            _ => 32,
        }
    }

    /// `NVML_COMPUTE_INSTANCE_PROFILE_COUNT`.
    pub(crate) fn compute_profiles(&self) -> u32 {
        match self.0 {
            ..525 => 7,
            525..LAST => 8,
            LAST => 9,
            _ => 16,
        }
    }

    /// Number of a profile of GPU instances. A branch of the future has two under numbers of its own.
    pub(crate) fn number(&self, row: &ProfileRow) -> u32 {
        match row.kind() {
            number @ (4 | 9) if self.0 > LAST => number + 18,
            number => number,
        }
    }

    /// Refuses a number of a profile of GPU instances that nvml.h does not have.
    pub(crate) fn expect_gpu_profile(&self, number: u32) -> Result<(), Code> {
        if number < self.gpu_profiles() { Ok(()) } else { Err(INVALID_ARGUMENT) }
    }

    /// Whether the structures of profiles have a version 3.
    pub(crate) fn has_version_3(&self) -> bool {
        self.0 >= 545
    }

    /// Code for a structure of another version.
    pub(crate) fn version_mismatch(&self) -> Code {
        match self.0 {
            ..520 => INVALID_ARGUMENT,
            _ => nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        }
    }
}
