//! Selectors of GPUs: by name in `devices` and on the command line, by PCI ids in `device-filter`.

use mig_cdi_model::{GpuIndex, GpuUuid, PciAddress};
use std::{fmt, str::FromStr};

/// The names and PCI ids of a GPU of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuIdentity {
    /// Index in NVML. mig-parted's numbers are the same: both count by PCI address.
    pub index: GpuIndex,
    /// GPU UUID.
    pub uuid: GpuUuid,
    /// PCI address.
    pub pci: PciAddress,
    /// PCI device id and vendor id as NVML packs them, `0x20B210DE`: `pciDeviceId` of `nvmlPciInfo_t`.
    pub device_id: u32,
    /// Ids of the PCI subsystem in the same form: `pciSubSystemId` of `nvmlPciInfo_t`.
    pub subsystem_id: u32,
}

/// A GPU, or all of them, as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuSelector {
    /// `all`.
    All,
    /// An index, `0`.
    Index(GpuIndex),
    /// A UUID, `GPU-2e4159a0-dab5-1747-e7b7-b3396fab58b4`.
    Uuid(GpuUuid),
    /// A PCI address, `0000:07:00.0`.
    Pci(PciAddress),
}

impl GpuSelector {
    /// Reports whether it selects this GPU.
    #[must_use]
    pub fn selects(&self, gpu: &GpuIdentity) -> bool {
        match self {
            GpuSelector::All => true,
            GpuSelector::Index(index) => *index == gpu.index,
            // The driver prints lower case, but a UUID is the same in any case (RFC 9562, section 4).
            GpuSelector::Uuid(uuid) => uuid.to_string().eq_ignore_ascii_case(&gpu.uuid.to_string()),
            GpuSelector::Pci(pci) => *pci == gpu.pci,
        }
    }

    /// Returns the name of a GPU in the form that this selector has.
    pub(super) fn name(&self, gpu: &GpuIdentity) -> String {
        match self {
            GpuSelector::All | GpuSelector::Index(_) => gpu.index.to_string(),
            GpuSelector::Uuid(_) => gpu.uuid.to_string(),
            GpuSelector::Pci(_) => gpu.pci.to_string(),
        }
    }
}

impl fmt::Display for GpuSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuSelector::All => f.write_str("all"),
            GpuSelector::Index(index) => index.fmt(f),
            GpuSelector::Uuid(uuid) => uuid.fmt(f),
            GpuSelector::Pci(pci) => pci.fmt(f),
        }
    }
}

/// A text that does not select a GPU. Displayed as `cause; cure`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", self.cause(), GpuSelectorError::CURE)]
pub struct GpuSelectorError {
    /// The text, cut at 64 characters.
    pub text: String,
}

impl GpuSelectorError {
    /// Cure: the text to write.
    pub const CURE: &str =
        "write its number, its UUID (GPU-...), its PCI address (0000:07:00.0) or all";

    /// Returns the mistake.
    #[must_use]
    pub fn cause(&self) -> String {
        format!("{:?} is not a gpu", self.text)
    }
}

impl FromStr for GpuSelector {
    type Err = GpuSelectorError;

    /// # Errors
    /// [`GpuSelectorError`] for any other text.
    fn from_str(text: &str) -> Result<GpuSelector, GpuSelectorError> {
        if text == "all" {
            return Ok(GpuSelector::All);
        }
        let bad = || GpuSelectorError { text: text.chars().take(64).collect() };
        // A UUID begins with GPU- and a PCI address has colons, so digits alone are always an index.
        if !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(|n| GpuSelector::Index(GpuIndex(n))).map_err(|_| bad());
        }
        let uuid = text.parse().map(GpuSelector::Uuid).ok();
        uuid.or_else(|| text.parse().map(GpuSelector::Pci).ok()).ok_or_else(bad)
    }
}

/// A `device-filter`: `0x20B210DE` or `0x20B210DE:0x146310DE`, PCI ids of the device and of the subsystem, each
/// with its vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceFilter {
    device: u32,
    subsystem: Option<u32>,
}

impl DeviceFilter {
    /// Reports whether a GPU matches, as in mig-parted: the subsystem only if it is given
    /// (`pkg/types/device.go`).
    pub fn matches(self, gpu: &GpuIdentity) -> bool {
        self.device == gpu.device_id && self.subsystem.is_none_or(|id| id == gpu.subsystem_id)
    }
}

/// PCI vendor id of NVIDIA. It is the lower half of a packed id (nvml.h, `nvmlPciInfo_t.pciDeviceId`), so ids
/// with their halves swapped are found out.
const NVIDIA: u32 = 0x10de;

/// A text that is not a device filter.
pub(super) struct DeviceFilterError {
    pub cause: String,
}

impl DeviceFilterError {
    pub const CURE: &str = "write device and vendor such as 0x20B210DE, and those of the subsystem \
                            after a colon if they matter";
}

impl FromStr for DeviceFilter {
    type Err = DeviceFilterError;

    fn from_str(text: &str) -> Result<DeviceFilter, DeviceFilterError> {
        let id = |text: &str| {
            let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
            let is_id = hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            is_id.then(|| u32::from_str_radix(hex, 16).ok()).flatten()
        };
        let (device, subsystem) = match text.split_once(':') {
            Some((device, subsystem)) => (id(device), Some(id(subsystem))),
            None => (id(text), None),
        };
        match (device, subsystem) {
            (Some(device), None | Some(Some(_))) if device & 0xffff == NVIDIA => {
                Ok(DeviceFilter { device, subsystem: subsystem.flatten() })
            }
            _ => {
                let text: String = text.chars().take(64).collect();
                Err(DeviceFilterError { cause: format!("{text:?} is not a device filter") })
            }
        }
    }
}
