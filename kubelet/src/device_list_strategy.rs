//! The ways in which the answer to Allocate names the devices of a container to the engine.

use crate::error::Error;
use std::str::FromStr;

/// The modes that an answer uses, as in the flag `--device-list-strategy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceListStrategy(Vec<DeviceListMode>);

/// One way to name devices to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceListMode {
    /// Field `CDI_devices` of the CRI. The kubelet passes it on since 1.28, by default since 1.29 (KEP-4009).
    CdiCri,
    /// Annotation `cdi.k8s.io/…` of the container.
    CdiAnnotations,
    /// Environment variable `NVIDIA_VISIBLE_DEVICES`, for a container runtime that reads it.
    Envvar,
}

impl DeviceListStrategy {
    /// Returns true when devices are named in this mode.
    #[must_use]
    pub fn has(&self, mode: DeviceListMode) -> bool {
        self.0.contains(&mode)
    }
}

impl FromStr for DeviceListStrategy {
    type Err = Error;

    /// Parses names of modes with commas between.
    fn from_str(text: &str) -> Result<DeviceListStrategy, Error> {
        let mode = |name: &str| match name {
            "cdi-cri" => Ok(DeviceListMode::CdiCri),
            "cdi-annotations" => Ok(DeviceListMode::CdiAnnotations),
            "envvar" => Ok(DeviceListMode::Envvar),
            name => Err(Error::DeviceListMode { name: name.to_owned() }),
        };
        let modes = text.split(',').map(str::trim).map(mode).collect::<Result<Vec<_>, _>>();
        modes.map(DeviceListStrategy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_separated_by_commas_and_blanks() {
        let both: DeviceListStrategy = "cdi-cri, cdi-annotations".parse().expect("two modes");
        assert!(both.has(DeviceListMode::CdiCri) && both.has(DeviceListMode::CdiAnnotations));
        assert!(!both.has(DeviceListMode::Envvar));
        assert!("volume-mounts".parse::<DeviceListStrategy>().is_err());
        assert!("".parse::<DeviceListStrategy>().is_err());
    }
}
