//! Versions of CDI, and the lowest one that a spec needs.
//!
//! An engine rejects a spec whose version it does not know, and one whose version is lower than its fields need
//! (container-device-interface, `specs-go/version.go`). The user sees "unresolvable CDI devices" and nothing else, so a
//! spec states the lowest version that its content allows.

use super::{CdiNameError, ContainerEdits, IntelRdt, Mount, Spec, SpecNode};
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

    /// The engines in use that reject a spec of this version, as a phrase: by the table of engines in `cdi-gen`.
    #[must_use]
    pub fn rejected_by(self) -> &'static str {
        match self {
            Version::V0_3_0 | Version::V0_4_0 => "cri-o before 1.25",
            Version::V0_5_0 => "podman before 4.3, cri-o before 1.25",
            _ => {
                "podman before 4.7 (Debian 12 has 4.3.1), containerd before 1.7.12, cri-o before 1.28"
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

impl Spec {
    /// Returns the content that needs the highest version, `None` for a spec that 0.3.0 is enough for. The rules are those of
    /// container-device-interface `specs-go/version.go`, `requiredVersion`.
    #[must_use]
    pub fn highest_need(&self) -> Option<VersionNeed> {
        let need = |version, what| VersionNeed { version, what };
        let mut needs = Vec::new();
        // podman 4.3.1 takes such a name at any version, current libraries do not (`requiresV050`).
        let digit = self.devices.iter().find(|d| d.name.starts_with(|c: char| c.is_ascii_digit()));
        needs.extend(digit.map(|device| {
            need(Version::V0_5_0, format!("the device name {} starts with a digit", device.name))
        }));
        // The vendor may have dots in every version (`requiresV060`).
        if self.kind.split_once('/').is_some_and(|(_, class)| class.contains('.')) {
            needs.push(need(Version::V0_6_0, format!("the class of {} has a dot", self.kind)));
        }
        if !self.annotations.is_empty() {
            needs.push(need(Version::V0_6_0, "it has annotations".to_owned()));
        }
        let annotated = self.devices.iter().find(|device| !device.annotations.is_empty());
        needs.extend(annotated.map(|device| {
            need(Version::V0_6_0, format!("device {} has annotations", device.name))
        }));
        let edits =
            self.all_edits().filter_map(|(name, edits)| Some((name, edits.highest_need()?)));
        let highest = edits.reduce(|first, next| if next.1.0 > first.1.0 { next } else { first });
        needs.extend(highest.map(|(device, (version, what))| {
            let subject = device.map_or_else(|| "it".to_owned(), |name| format!("device {name}"));
            need(version, format!("{subject} has {what}"))
        }));
        // The first of those that need the same version.
        needs.into_iter().rev().max_by_key(|need| need.version)
    }
}

impl ContainerEdits {
    /// The content that needs the highest version, as an object of `has`.
    fn highest_need(&self) -> Option<(Version, &'static str)> {
        let rdt = self.intel_rdt.as_ref();
        let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let has_path = |node: &SpecNode| is_set(&node.host_path);
        let has_type = |mount: &Mount| is_set(&mount.kind);
        let is_new =
            |rdt: &IntelRdt| !rdt.schemata.is_empty() || rdt.enable_monitoring.unwrap_or_default();
        let needs = [
            (Version::V1_1_0, "netDevices", !self.net_devices.is_empty()),
            (Version::V1_1_0, "intelRdt with fields of 1.1.0", rdt.is_some_and(is_new)),
            (Version::V0_7_0, "additionalGids", !self.additional_gids.is_empty()),
            (Version::V0_7_0, "intelRdt", rdt.is_some()),
            (Version::V0_5_0, "a node with a hostPath", self.device_nodes.iter().any(has_path)),
            (Version::V0_4_0, "a mount with a type", self.mounts.iter().any(has_type)),
        ];
        let found = needs.into_iter().find(|(_, _, is_there)| *is_there);
        found.map(|(version, what, _)| (version, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::Lenient;

    #[test]
    fn the_highest_need_decides() {
        let need = |kind: &str, rest: &str, device: &str| {
            let json = format!(
                r#"{{"kind":"{kind}"{rest},"devices":[{{"name":"MIG-1","containerEdits":{{}}}},{{{device}}}]}}"#
            );
            let Lenient(spec) = serde_json::from_str::<Lenient<Spec>>(&json).unwrap();
            spec.highest_need().map(|need| (need.version, need.what))
        };
        let named = r#""name":"a""#;
        let edits = |edits: &str| format!(r#"{named},"containerEdits":{{{edits}}}"#);
        let found = |version, what: &str| Some((version, what.to_owned()));
        let kind = "nvidia.com/mig";
        assert_eq!(need(kind, "", named), None);
        for (content, version, what) in [
            (r#""name":"0:1""#, Version::V0_5_0, "the device name 0:1 starts with a digit"),
            (r#""name":"a","annotations":{"a":"b"}"#, Version::V0_6_0, "device a has annotations"),
            (
                &edits(r#""mounts":[{"hostPath":"/a","containerPath":"/b","type":"bind"}]"#),
                Version::V0_4_0,
                "device a has a mount with a type",
            ),
            (
                &edits(r#""deviceNodes":[{"path":"/dev/a","hostPath":"/dev/b"}]"#),
                Version::V0_5_0,
                "device a has a node with a hostPath",
            ),
            (&edits(r#""additionalGids":[44]"#), Version::V0_7_0, "device a has additionalGids"),
            (&edits(r#""intelRdt":{}"#), Version::V0_7_0, "device a has intelRdt"),
            (
                &edits(r#""intelRdt":{"enableMonitoring":true}"#),
                Version::V1_1_0,
                "device a has intelRdt with fields of 1.1.0",
            ),
            (
                &edits(r#""netDevices":[{"hostInterfaceName":"a","name":"b"}]"#),
                Version::V1_1_0,
                "device a has netDevices",
            ),
        ] {
            assert_eq!(need(kind, "", content), found(version, what), "{content}");
        }
        let dots = found(Version::V0_6_0, "the class of nvidia.com/mig.x has a dot");
        assert_eq!(need("nvidia.com/mig.x", "", r#""name":"0:1""#), dots);
        let annotated = r#","annotations":{"a":"b"}"#;
        assert_eq!(need(kind, annotated, named), found(Version::V0_6_0, "it has annotations"));
        let common = r#","containerEdits":{"additionalGids":[44]}"#;
        assert_eq!(need(kind, common, named), found(Version::V0_7_0, "it has additionalGids"));
        for nothing in [
            r#""deviceNodes":[{"path":"/dev/a","hostPath":""}]"#,
            r#""mounts":[{"hostPath":"/a","containerPath":"/b","type":""}]"#,
            r#""additionalGids":[],"netDevices":null,"intelRdt":null"#,
        ] {
            assert_eq!(need(kind, "", &edits(nothing)), None, "{nothing}");
        }
    }
}
