//! The CDI document: what the Container Device Interface says of a device, its naming rules, and
//! the least version of CDI that a document needs.
//!
//! Rules are those of cncf-tags/container-device-interface: `pkg/parser/parser.go` for names,
//! `specs-go/version.go` for versions. Only the fields that mig-cdi writes are here.

use serde::Serialize;
use std::{collections::BTreeMap, fmt, str::FromStr};

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
    /// Nothing new.
    V0_8_0,
    /// Nothing new.
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

    /// The version as a document states it.
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

    /// The engines in use that reject a document of this version, in words. Measured with Debian's
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
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let known = Version::ALL.into_iter().find(|version| version.as_str() == text);
        known.ok_or_else(|| BadName::new("a CDI version from 0.3.0 to 1.1.0", text))
    }
}

/// The highest version that a document may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// What all engines that are installed take.
    Auto,
    /// This.
    Is(Version),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Auto => f.write_str("auto"),
            Limit::Is(version) => fmt::Display::fmt(version, f),
        }
    }
}

impl FromStr for Limit {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text == "auto" {
            return Ok(Limit::Auto);
        }
        let version = text.parse().map(Limit::Is);
        version.map_err(|_| BadName::new("auto or a CDI version from 0.3.0 to 1.1.0", text))
    }
}

/// A name that CDI, or an engine in use, does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct BadName {
    what: &'static str,
    text: String,
}

impl BadName {
    fn new(what: &'static str, text: &str) -> Self {
        BadName { what, text: text.chars().take(80).collect() }
    }
}

/// `vendor/class`, for example `nvidia.com/mig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    vendor: String,
    class: String,
}

impl Kind {
    /// The same vendor with the class `gpu`.
    #[must_use]
    pub fn with_class_gpu(&self) -> Kind {
        Kind { vendor: self.vendor.clone(), class: "gpu".to_owned() }
    }

    /// The file name, without suffix, that engines and administrators expect for this kind.
    #[must_use]
    pub fn file_stem(&self) -> String {
        format!("{}-{}", self.vendor, self.class)
    }
}

impl FromStr for Kind {
    type Err = BadName;

    /// Takes what CDI takes, but no part of one character: one such spec in its directory stops
    /// every engine shipped so far (container-device-interface issue 320).
    fn from_str(text: &str) -> Result<Self, BadName> {
        let part = |s: &str| {
            let inner =
                s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            let first = s.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
            let last = s.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric());
            inner && first && last && s.len() > 1
        };
        match text.split_once('/') {
            Some((vendor, class)) if part(vendor) && part(class) => {
                Ok(Kind { vendor: vendor.to_owned(), class: class.to_owned() })
            }
            _ => Err(BadName::new(
                "a CDI kind: vendor/class, each of two or more letters, digits, '_', '-' or '.', \
                 a letter first and a letter or digit last",
                text,
            )),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.class)
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// The name of a device within its kind: letters, digits, `_`, `-`, `.` and `:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceName(String);

impl DeviceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
        let ends = [text.bytes().next(), text.bytes().last()];
        let good = text.bytes().all(inner)
            && ends.iter().all(|b| b.is_some_and(|b| b.is_ascii_alphanumeric()));
        match good {
            true => Ok(DeviceName(text.to_owned())),
            false => Err(BadName::new(
                "a CDI device name: letters, digits, '_', '-', '.' and ':', a letter or digit at both ends",
                text,
            )),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A CDI document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The least version that the rest needs.
    pub cdi_version: &'static str,
    /// What the devices are.
    pub kind: Kind,
    /// At least one.
    pub devices: Vec<Device>,
    /// What a container with any of the devices gets.
    pub container_edits: ContainerEdits,
}

/// A device that a container can ask for by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Unique within the document.
    pub name: DeviceName,
    /// Facts for readers; engines do not pass them on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What a container with this device gets.
    pub container_edits: ContainerEdits,
}

/// What is done to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerEdits {
    /// `NAME=value`; wins over the container's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Made in the container and allowed in its device cgroup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<Node>,
    /// Bound into the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Run when a container starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// A program that the engine runs when a container starts; when it fails, so does the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// When: `createRuntime`, `createContainer`.
    pub hook_name: &'static str,
    /// Absolute path on the host.
    pub path: String,
    /// From the program's own name on.
    pub args: Vec<String>,
    /// Never empty: without one runc before 1.3 gives a hook the environment of the container's image
    /// (CVE-2025-23266), and an empty list does not survive Go's `omitempty`.
    pub env: [&'static str; 1],
    /// Seconds after which the start has failed.
    pub timeout: u32,
}

/// A file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// On the host.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// As mount(8) has them.
    pub options: &'static [&'static str],
}

/// A device node with all that an engine would otherwise look up on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// In the container; also in the host for engines that bind instead of making nodes.
    pub path: String,
    /// `c`, a character device. With it and both numbers the host needs no node.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits (a decimal number in JSON).
    pub file_mode: u32,
    /// Operations that the device cgroup allows.
    pub permissions: &'static str,
    /// Owner, when not root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group, when not root's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// Something in a document that an older CDI does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The version that brought it.
    pub version: Version,
    /// Where it stands, in words.
    pub what: String,
}

/// The need of the highest version in a document; a document without any needs 0.3.0.
#[must_use]
pub fn highest_need(kind: &Kind, devices: &[Device]) -> Option<Need> {
    let digit = devices.iter().find(|d| d.name.0.starts_with(|c: char| c.is_ascii_digit()));
    let annotated = devices.iter().find(|d| !d.annotations.is_empty());
    let need = |version, what| Need { version, what };
    let name = digit
        .map(|d| need(Version::V0_5_0, format!("the device name {} starts with a digit", d.name)));
    let dots = kind
        .class
        .contains('.')
        .then(|| need(Version::V0_6_0, format!("the class of {kind} has a dot")));
    let annotations =
        annotated.map(|d| need(Version::V0_6_0, format!("device {} has annotations", d.name)));
    [name, dots, annotations].into_iter().flatten().max_by_key(|need| need.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_stop_engines_are_refused() {
        assert_eq!("nvidia.com/mig".parse::<Kind>().unwrap().to_string(), "nvidia.com/mig");
        for bad in [
            "",
            "nvidia.com",
            "nvidia.com/",
            "/mig",
            "nvidia.com/m",
            "n/mig",
            "1nvidia.com/mig",
            "nvidia.com/1mig",
            "nvidia.com./mig",
            "nvidia.com/mig-",
            "nvidia.com/m ig",
            "a/b/c",
            "nvidia.com/mig=x",
            "nvidia.com/mïg",
        ] {
            assert!(bad.parse::<Kind>().is_err(), "{bad}");
        }
    }

    #[test]
    fn device_names_follow_cdi() {
        for good in ["0", "0:1", "0:1c.3g.40gb:4:1", "MIG-f90f1469", "all", "0:1g.24gb-me:3"] {
            assert_eq!(good.parse::<DeviceName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", ":a", "1g.10gb+me", "a/b", "a b", "a=b", "é"] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_highest_need_decides() {
        let device = |name: &str, annotated: bool| Device {
            name: name.parse().unwrap(),
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
