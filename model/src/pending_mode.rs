//! A change of MIG mode that waits.

use std::fmt;

/// The MIG mode that a GPU is to have, while it still has the other one.
///
/// Ampere changes its mode in a reset, which the driver makes at once when nothing has the GPU open (nvml.h,
/// `nvmlDeviceSetMigMode`). Hopper and later change it without one (NVIDIA's MIG user guide).
///
/// ```
/// use mig_cdi_model::PendingMode;
///
/// let ampere = PendingMode { is_on: false, is_resetless: false };
/// assert_eq!(ampere.to_string(), "on, and off after a reset");
/// let hopper = PendingMode { is_resetless: true, ..ampere };
/// assert_eq!(hopper.to_string(), "on, and off is pending");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingMode {
    /// True for a GPU that is not in MIG mode and will be.
    pub is_on: bool,
    /// True when the GPU changes its mode without a reset.
    pub is_resetless: bool,
}

impl PendingMode {
    /// Returns the mode that is to come, unless it is the current one. `is_resetless` is asked only then.
    pub fn new(
        current: Option<bool>,
        pending: Option<bool>,
        is_resetless: impl FnOnce() -> bool,
    ) -> Option<PendingMode> {
        let is_on = pending.filter(|_| current.is_some() && current != pending)?;
        Some(PendingMode { is_on, is_resetless: is_resetless() })
    }

    /// Returns what makes the change, for the GPU with this index.
    #[must_use]
    pub fn cure(&self, gpu: u32) -> String {
        let command = match self.is_resetless {
            true => format!("nvidia-smi -i {gpu} -mig {}", u8::from(self.is_on)),
            // Where a virtual machine cannot reset its GPU, it has to be rebooted (nvml.h, `nvmlDeviceSetMigMode`).
            false => format!("nvidia-smi --gpu-reset -i {gpu}, or reboot"),
        };
        format!("stop all programs that use the gpu and run {command}")
    }
}

/// The current mode and the one to come, after `MIG mode is`.
impl fmt::Display for PendingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (now, then) = if self.is_on { ("off", "on") } else { ("on", "off") };
        match self.is_resetless {
            true => write!(f, "{now}, and {then} is pending"),
            false => write!(f, "{now}, and {then} after a reset"),
        }
    }
}
