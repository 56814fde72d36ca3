//! The types of a spec, in the order and with the names of container-device-interface `specs-go/config.go`.
//!
//! Deserialising them is strict: a field that is not here is an error. [`super::Lenient`] reads the same types from specs
//! of any tool. Fields that mig-cdi never writes are here for those specs; [`super::StrictSpec`] refuses them.

use super::Version;
use crate::{DeviceVariable, SliceTextError};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Unexpected},
};
use std::collections::BTreeMap;

/// A CDI spec. `E` is the form of the edits of its devices: read, or not yet ([`super::UnreadEdits`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct Spec<E = ContainerEdits> {
    /// The lowest CDI version that an engine has to know. `None` in a spec that no engine accepts.
    pub cdi_version: Option<String>,
    /// `vendor/class`. Text, since a spec of another tool may state a kind that [`super::Kind`] refuses.
    pub kind: String,
    /// Facts for readers of the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The devices, in the order of the file. CDI accepts no spec without any.
    pub devices: Vec<Device<E>>,
    /// Edits for a container with any of the devices.
    pub container_edits: ContainerEdits,
}

/// A device that a container can request by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct Device<E = ContainerEdits> {
    /// Name, unique within the spec. A MIG device with several names has one entry for each.
    pub name: String,
    /// Facts for readers of the file; engines do not pass them on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Edits for a container with this device.
    pub container_edits: E,
}

/// Edits that an engine makes to the OCI configuration of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default, expecting = "an object")]
pub struct ContainerEdits {
    /// Variables as `NAME=value`. They take the place of the container's own (podman 4.3.1: of `-e` too).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Nodes that the engine creates in the container and allows in its device cgroup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<SpecNode>,
    /// Files that the engine bind-mounts into the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs that the runtime executes when a container starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Network devices that the runtime moves into the container. mig-cdi writes none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<NetDevice>,
    /// Class of cache and memory bandwidth. mig-cdi writes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Groups that the container's process gets besides its own. mig-cdi writes none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// A network device of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct NetDevice {
    /// Name on the host.
    pub host_interface_name: String,
    /// Name in the container.
    pub name: String,
}

/// Settings of Intel's Resource Director Technology: those of every release of CDI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct IntelRdt {
    /// Class of service.
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    /// Share of the L3 cache, since CDI 0.7.0.
    #[serde(rename = "l3CacheSchema")]
    pub l3_cache_schema: Option<String>,
    /// Share of the memory bandwidth, since CDI 0.7.0.
    #[serde(rename = "memBwSchema")]
    pub mem_bw_schema: Option<String>,
    /// Cache monitoring, from CDI 0.7.0 to 1.0.0.
    #[serde(rename = "enableCMT")]
    pub enable_cmt: Option<bool>,
    /// Memory bandwidth monitoring, from CDI 0.7.0 to 1.0.0.
    #[serde(rename = "enableMBM")]
    pub enable_mbm: Option<bool>,
    /// Lines of the schemata file, since CDI 1.1.0.
    pub schemata: Vec<String>,
    /// Monitoring of both, since CDI 1.1.0.
    #[serde(rename = "enableMonitoring")]
    pub enable_monitoring: Option<bool>,
}

/// A program that the runtime executes when a container starts. When it fails, so does the start.
// Unknown fields are accepted, even by the strict reader: the only one is mig-cdi-hook, which executes no hook of a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct Hook {
    /// Stage of the OCI runtime specification: `createRuntime`, `createContainer`.
    pub hook_name: String,
    /// Absolute path on the host.
    pub path: String,
    /// Arguments, from the program's own name on.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables of the program. Never empty in a spec of ours: without one runc before 1.3 gives a createContainer hook
    /// the environment of the container's image (CVE-2025-23266), and an empty list does not survive Go's `omitempty`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds after which the start fails.
    #[serde(default, deserialize_with = "int64")]
    pub timeout: u32,
}

/// A file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct Mount {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Options of mount(8).
    pub options: Vec<String>,
    /// Type of file system. mig-cdi writes none: it takes CDI 0.4.0, and runtimes bind by the option alone.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// A device node as a spec states it: an entry of `deviceNodes`.
///
/// [`crate::DeviceNode`] is the node as the driver reports it; the generator makes an entry from that, and `check`, the
/// doctor and the hook compare entries with it. In a spec of another tool any attribute but the path may be missing. A
/// missing number is 0 here, as in CDI's Go type, whose `omitempty` makes the two the same: no driver has major 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct SpecNode {
    /// Path in the container; also on the host, for engines that bind-mount nodes instead of creating them.
    pub path: String,
    /// Path on the host, where it is another one. mig-cdi writes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    // With the type and a major number the Go library does not stat the host's node, which then need not exist
    // (container-device-interface, `pkg/cdi/container-edits_unix.go`).
    /// Type: `c` is a character device.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Major number.
    #[serde(deserialize_with = "int64")]
    pub major: u32,
    /// Minor number.
    #[serde(deserialize_with = "int64")]
    pub minor: u32,
    /// Permission bits. JSON has no octal numbers: 0444 is written 292. CDI's Go type has a pointer here, so that a mode of 0 is
    /// another than none: runc and crun make a node of mode 0000 then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Operations that the device cgroup allows: letters of `rwm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
    /// Owner, unless it is root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group, unless it is root's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// Reads a number that is an int64 in Go's types, where the others are uint32: the range that engines accept is another.
fn int64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let error = |_| D::Error::invalid_value(Unexpected::Signed(number), &"u32");
    u32::try_from(number).map_err(error)
}

impl Spec {
    /// Edits for all devices, with `None`, then those of each device, with its name.
    pub fn all_edits(&self) -> impl Iterator<Item = (Option<&str>, &ContainerEdits)> {
        let devices = self.devices.iter();
        let devices = devices.map(|device| (Some(device.name.as_str()), &device.container_edits));
        std::iter::once((None, &self.container_edits)).chain(devices)
    }

    /// `cdiVersion`, where it is a known one. Engines take it with a `v` before it too (container-device-interface,
    /// `specs-go/version.go`, `newVersion`).
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let text = self.cdi_version.as_deref()?;
        text.strip_prefix('v').unwrap_or(text).parse().ok()
    }
}

impl<E> Spec<E> {
    /// The device with this name.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&Device<E>> {
        self.devices.iter().find(|device| device.name == name)
    }
}

impl ContainerEdits {
    /// The slices that a device consists of, from the variables that mig-cdi gives them.
    ///
    /// # Errors
    /// When one of these variables does not have its form.
    pub fn slices(&self) -> Result<Vec<DeviceVariable>, SliceTextError> {
        self.env.iter().filter_map(|variable| DeviceVariable::parse(variable)).collect()
    }

    /// The sorted paths of the capability nodes, which identify a slice whatever it is named.
    #[must_use]
    pub fn capability_nodes(&self) -> Vec<&str> {
        let paths = self.device_nodes.iter().map(|node| node.path.as_str());
        let mut paths: Vec<_> = paths.filter(|path| path.contains("/nvidia-caps/")).collect();
        paths.sort_unstable();
        paths
    }

    /// True when a container gets nothing from these edits. Engines refuse a device with such (container-device-interface,
    /// `pkg/cdi/container-edits.go`, `isEmpty`).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == ContainerEdits::default()
    }
}

impl SpecNode {
    /// True when the spec states the numbers, and the engine does not take them from a node of the host.
    #[must_use]
    pub fn has_numbers(&self) -> bool {
        self.major != 0
    }

    /// Permission bits of the node in a container: 0666 where none are stated (runc `libcontainer/specconv/spec_linux.go`,
    /// `createDevices`; crun `src/libcrun/linux.c`, `create_missing_devs`).
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.file_mode.unwrap_or(0o666)
    }

    /// The path on the host from which an engine takes what the spec does not state (`pkg/cdi/container-edits_unix.go`,
    /// `fillMissingInfo`).
    #[must_use]
    pub fn source(&self) -> &str {
        self.host_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(&self.path)
    }
}
