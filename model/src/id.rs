//! Checked identifiers.
//!
//! Two numbers that mean different things never share a type: the GPU index of nvidia-smi and the minor of
//! `/dev/nvidiaN` are both small integers and often differ.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A text that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    /// Kind of identifier that was expected, with an example.
    pub expected: &'static str,
    /// The text, cut at 64 characters.
    pub text: String,
}

impl IdError {
    fn new(expected: &'static str, text: &str) -> Self {
        let text = text.chars().take(64).collect();
        IdError { expected, text }
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// GPU index of NVML and nvidia-smi: the GPU's rank by PCI address.
    GpuIndex
);
number!(
    /// GPU minor: `N` of `/dev/nvidiaN` and of `/proc/driver/nvidia/capabilities/gpuN`. The driver
    /// names capabilities by it, not by the index (`nv_get_dev_minor`, `os.c:4668`).
    GpuMinor
);
number!(
    /// MIG device index below its GPU in NVML. It shifts when other instances come and go.
    MigIndex
);
number!(
    /// GPU instance id: `M` of `gpuN/mig/giM`. The driver takes it from a small range for each profile
    /// size, so a recreated instance often has an old id (`kmigmgr_ga100.c:308-353`).
    GiId
);
number!(
    /// Compute instance id within its GPU instance: `C` of `giM/ciC`.
    CiId
);
number!(
    /// Major number of a character device, as `/proc/devices` lists it. That of `nvidia-caps` can change
    /// whenever the module is loaded (`alloc_chrdev_region`, `nv-caps.c:823-826`).
    Major
);
number!(
    /// Minor number of a character device; below `/dev/nvidia-caps` it is the capability minor.
    Minor
);

/// A PCI address. The driver's files print a domain of four digits, NVML one of eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for PciAddress {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Checked by hand: from_str_radix also takes a sign.
        let hex = |s: &str, digits: std::ops::RangeInclusive<usize>| {
            let is_plain = s.bytes().all(|b| b.is_ascii_hexdigit()) && digits.contains(&s.len());
            is_plain.then(|| u32::from_str_radix(s, 16).ok()).flatten()
        };
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            // /proc prints a domain of four digits, NVML one of eight (`nvmlPciInfo_t.busId`).
            Some(PciAddress {
                domain: hex(domain, 4..=8)?,
                bus: u8::try_from(hex(bus, 2..=2)?).ok()?,
                device: u8::try_from(hex(device, 2..=2)?).ok()?,
                function: u8::try_from(hex(function, 1..=1)?).ok()?,
            })
        };
        parse().ok_or_else(|| IdError::new("a PCI address such as 0000:07:00.0", text))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl Serialize for PciAddress {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Reports whether a text is `8-4-4-4-12` hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                // The driver prints `GPU-????????-…` for a GPU that it has not read yet, and MIG UUIDs before R470
                // were `MIG-GPU-<uuid>/<gi>/<ci>`: neither is accepted.
                match text.strip_prefix($prefix).is_some_and(is_uuid) {
                    true => Ok($name(text.to_owned())),
                    false => Err(IdError::new($what, text)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uuid!(
    /// GPU UUID: `GPU-` and a UUID.
    GpuUuid, "GPU-", "a GPU UUID such as GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
);
uuid!(
    /// MIG UUID: `MIG-` and a UUID. It is a name and no proof of identity: the driver derives it from the
    /// GPU, the GPU instance id and the engine (`gpu_uuid.c:91-245`), so a recreated instance can carry
    /// an old one.
    MigUuid, "MIG-", "a MIG UUID such as MIG-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx (driver R470 or newer)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_of_both_spellings_are_equal() {
        let proc: PciAddress = "0000:07:00.0".parse().unwrap();
        let nvml: PciAddress = "00000000:07:00.0".parse().unwrap();
        assert_eq!(proc, nvml);
        assert_eq!(nvml.to_string(), "0000:07:00.0");
        for bad in ["", "07:00.0", "0000:7:00.0", "0000:07:00", "0000:07:00.00", "0000:+7:00.0"] {
            assert!(bad.parse::<PciAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn legacy_and_masked_uuids_are_refused() {
        assert!("MIG-f90f1469-d6ae-5e14-aea1-2c400795f903".parse::<MigUuid>().is_ok());
        let legacy = "MIG-GPU-2e4159a0-dab5-1747-e7b7-b3396fab58b4/7/0";
        assert!(legacy.parse::<MigUuid>().is_err());
        assert!("GPU-????????-????-????-????-????????????".parse::<GpuUuid>().is_err());
    }
}
