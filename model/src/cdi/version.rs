//! Versions of CDI, and the lowest one that a spec needs.
//!
//! An engine rejects a spec whose version it does not know, and one whose version is lower than its fields need
//! (container-device-interface, `specs-go/version.go`). The user sees "unresolvable CDI devices" and nothing else, so a
//! spec states the lowest version that its content allows.

use super::{CdiNameError, Device, Kind};
use std::{fmt, str::FromStr};

/// A CDI version that some engine in use knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The base: environment, device nodes, mounts, hooks.
    V0_3_0,
    /// Mount types.
    V0_4_0,
    /// Device names that start with a digit; `hostPath` of device nodes.
    V0_5_0,
    /// Annotations; a class with dots.
    V0_6_0,
    /// `additionalGids`, `intelRdt`.
    V0_7_0,
    /// No new field.
    V0_8_0,
    /// No new field.
    V1_0_0,
    /// `netDevices`.
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 8] = [
        Version::V0_3_0,
        Version::V0_4_0,
        Version::V0_5_0,
        Version::V0_6_0,
        Version::V0_7_0,
        Version::V0_8_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The version as a spec states it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_0 => "0.3.0",
            Version::V0_4_0 => "0.4.0",
            Version::V0_5_0 => "0.5.0",
            Version::V0_6_0 => "0.6.0",
            Version::V0_7_0 => "0.7.0",
            Version::V0_8_0 => "0.8.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// The engines in use that reject a spec of this version, as a phrase. Measured with Debian's
    /// packages; the exact release of the others is from their change logs.
    #[must_use]
    pub fn rejected_by(self) -> &'static str {
        match self {
            Version::V0_3_0 | Version::V0_4_0 => "podman before 4.2",
            Version::V0_5_0 => "podman before 4.3, containerd before 1.7",
            _ => {
                "podman before 4.9 (Debian 12 has 4.3.1), containerd before 1.7.13, docker before 25"
            }
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = CdiNameError;

    fn from_str(text: &str) -> Result<Self, CdiNameError> {
        let known = Version::ALL.into_iter().find(|version| version.as_str() == text);
        known.ok_or_else(|| CdiNameError::new("a CDI version from 0.3.0 to 1.1.0", text))
    }
}

/// The highest version that a spec may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionLimit {
    /// The highest that every installed engine accepts.
    Auto,
    /// A version that the user names.
    Fixed(Version),
}

impl fmt::Display for VersionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionLimit::Auto => f.write_str("auto"),
            VersionLimit::Fixed(version) => fmt::Display::fmt(version, f),
        }
    }
}

impl FromStr for VersionLimit {
    type Err = CdiNameError;

    fn from_str(text: &str) -> Result<Self, CdiNameError> {
        if text == "auto" {
            return Ok(VersionLimit::Auto);
        }
        let version = text.parse().map(VersionLimit::Fixed);
        version.map_err(|_| CdiNameError::new("auto or a CDI version from 0.3.0 to 1.1.0", text))
    }
}

/// Content of a spec that an older CDI does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionNeed {
    /// The version that brought it.
    pub version: Version,
    /// The content, as a clause: `the device name 0:1 starts with a digit`.
    pub what: String,
}

/// Returns the content of a spec that needs the highest version, `None` for a spec that 0.3.0 is enough for.
#[must_use]
pub fn highest_need(kind: &Kind, devices: &[Device]) -> Option<VersionNeed> {
    let need = |version, what| VersionNeed { version, what };
    // podman 4.3.1 takes such a name at any version, current libraries do not (`specs-go/version.go`, `requiresV050`).
    let digit = devices.iter().find(|d| d.name.starts_with(|c: char| c.is_ascii_digit()));
    let annotated = devices.iter().find(|d| !d.annotations.is_empty());
    let name = digit
        .map(|d| need(Version::V0_5_0, format!("the device name {} starts with a digit", d.name)));
    // The vendor may have dots in every version (`requiresV060`).
    let dots = kind
        .class()
        .contains('.')
        .then(|| need(Version::V0_6_0, format!("the class of {kind} has a dot")));
    let annotations =
        annotated.map(|d| need(Version::V0_6_0, format!("device {} has annotations", d.name)));
    [name, dots, annotations].into_iter().flatten().max_by_key(|need| need.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::ContainerEdits;

    #[test]
    fn the_highest_need_decides() {
        let device = |name: &str, annotated: bool| Device {
            name: name.to_owned(),
            annotations: annotated.then(|| ("a".into(), "b".into())).into_iter().collect(),
            container_edits: ContainerEdits::default(),
        };
        let version = |kind: &str, devices: &[Device]| {
            highest_need(&kind.parse().unwrap(), devices).map(|need| need.version)
        };
        assert_eq!(version("nvidia.com/mig", &[device("MIG-1", false)]), None);
        assert_eq!(version("nvidia.com/mig", &[device("0:1", false)]), Some(Version::V0_5_0));
        assert_eq!(version("nvidia.com/mig.x", &[device("0:1", false)]), Some(Version::V0_6_0));
        assert_eq!(version("nvidia.com/mig", &[device("0:1", true)]), Some(Version::V0_6_0));
    }
}
