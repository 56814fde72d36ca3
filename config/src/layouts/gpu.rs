//! Which GPU is meant.

use mig_cdi_model::{GpuIndex, GpuUuid, PciAddress};
use std::{fmt, str::FromStr};

/// A GPU of the node, for which something may be declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its number in NVML. mig-parted's numbers are the same: both count by PCI address.
    pub index: GpuIndex,
    /// Its UUID.
    pub uuid: GpuUuid,
    /// Its PCI address.
    pub pci: PciAddress,
    /// PCI device id and vendor as NVML gives them, `0x20B210DE`: `pciDeviceId` of
    /// `nvmlPciInfo_t`.
    pub device_id: u32,
    /// The same of the subsystem: `pciSubSystemId` of `nvmlPciInfo_t`.
    pub subsystem_id: u32,
}

/// A GPU, or all of them, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuWord {
    /// `all`.
    All,
    /// `0`.
    Index(GpuIndex),
    /// `GPU-2e4159a0-dab5-1747-e7b7-b3396fab58b4`.
    Uuid(GpuUuid),
    /// `0000:07:00.0`.
    Pci(PciAddress),
}

impl GpuWord {
    /// True when it is this GPU.
    #[must_use]
    pub fn is(&self, gpu: &Candidate) -> bool {
        match self {
            GpuWord::All => true,
            GpuWord::Index(index) => *index == gpu.index,
            GpuWord::Uuid(uuid) => uuid.to_string().eq_ignore_ascii_case(&gpu.uuid.to_string()),
            GpuWord::Pci(pci) => *pci == gpu.pci,
        }
    }

    /// How this GPU is called in the same way.
    pub(super) fn name(&self, gpu: &Candidate) -> String {
        match self {
            GpuWord::All | GpuWord::Index(_) => gpu.index.to_string(),
            GpuWord::Uuid(_) => gpu.uuid.to_string(),
            GpuWord::Pci(_) => gpu.pci.to_string(),
        }
    }
}

impl fmt::Display for GpuWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuWord::All => f.write_str("all"),
            GpuWord::Index(index) => index.fmt(f),
            GpuWord::Uuid(uuid) => uuid.fmt(f),
            GpuWord::Pci(pci) => pci.fmt(f),
        }
    }
}

impl FromStr for GpuWord {
    type Err = String;

    /// # Errors
    /// What to write, in one line.
    fn from_str(text: &str) -> Result<GpuWord, String> {
        if text == "all" {
            return Ok(GpuWord::All);
        }
        if !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(|n| GpuWord::Index(GpuIndex(n))).map_err(|_| what(text));
        }
        let uuid = text.parse().map(GpuWord::Uuid).ok();
        uuid.or_else(|| text.parse().map(GpuWord::Pci).ok()).ok_or_else(|| what(text))
    }
}

fn what(text: &str) -> String {
    let text: String = text.chars().take(64).collect();
    format!(
        "{text:?} is no gpu; write its number, its UUID (GPU-...), its PCI address (0000:07:00.0) or \
         all"
    )
}

/// `0x20B210DE` or `0x20B210DE:0x146310DE`: PCI device and vendor, and those of the subsystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceFilter {
    device: u32,
    subsystem: Option<u32>,
}

impl DeviceFilter {
    /// As mig-parted matches: the subsystem only if it is given (`pkg/types/device.go`).
    pub fn matches(self, gpu: &Candidate) -> bool {
        self.device == gpu.device_id && self.subsystem.is_none_or(|id| id == gpu.subsystem_id)
    }
}

/// The vendor id of NVIDIA.
const VENDOR: u32 = 0x10de;

impl FromStr for DeviceFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceFilter, String> {
        let id = |text: &str| {
            let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
            let plain = hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(hex, 16).ok()).flatten()
        };
        let (device, subsystem) = match text.split_once(':') {
            Some((device, subsystem)) => (id(device), Some(id(subsystem))),
            None => (id(text), None),
        };
        match (device, subsystem) {
            (Some(device), None | Some(Some(_))) if device & 0xffff == VENDOR => {
                Ok(DeviceFilter { device, subsystem: subsystem.flatten() })
            }
            _ => {
                let text: String = text.chars().take(64).collect();
                Err(format!(
                    "{text:?} is no filter; write device and vendor such as 0x20B210DE, and those of \
                     the subsystem after a colon if they matter"
                ))
            }
        }
    }
}
