//! The OCI configuration of a container (`config.json`): the fields that the hook needs, and the document with an
//! injection plan written into it. Never drops or rewrites a field that the plan does not touch.
//!
//! The entries that the hook adds are types of `oci-spec`. The document itself stays raw JSON: `oci_spec::runtime::Spec`
//! loses fields of `process` that it does not know, and refuses capabilities that are newer than itself.

use crate::{
    error::{Error, Result},
    plan::{InjectionPlan, oci_mount},
    raw_json::{RawJson, RawList, RawObject},
};
use mig_cdi_model::cdi::SpecNode;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    path::{Component, Path, PathBuf},
};

/// Largest configuration that is read, in bytes. That of a pod's container has some tens of kilobytes, but the kernel accepts
/// an environment of several megabytes (execve(2)), and a container that requests nothing starts whatever its environment.
pub const LIMIT: usize = 16 << 20;

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct OciConfig<'a> {
    size: usize,
    top: RawObject<'a>,
    process: RawObject<'a>,
    linux: RawObject<'a>,
    resources: RawObject<'a>,
    /// `process.env`: `NAME=value`.
    pub env: Vec<String>,
    /// `annotations`, in their order.
    pub annotations: Vec<Annotation>,
    /// `root.path`: the root file system, absolute or relative to the bundle.
    pub root: String,
    /// `process.user`: owner of the first process.
    pub user: ContainerUser,
}

/// Annotation of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Key, as `mig-cdi/devices`.
    pub key: String,
    /// Value.
    pub value: String,
}

/// User of a container's first process, by the ids that it has in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Entry of `linux.resources.devices`. What is absent, and -1, is any.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct DeviceRule {
    #[serde(default)]
    pub(crate) allow: bool,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    #[serde(default)]
    pub(crate) access: String,
}

/// Entry of `linux.devices`.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct ListedNode {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
}

impl DeviceRule {
    /// Reports whether it is about every access to every device.
    fn is_for_all(&self) -> bool {
        let is_any = |number: Option<i64>| number.is_none_or(|number| number == -1);
        matches!(self.kind.as_deref(), None | Some("" | "a"))
            && is_any(self.major)
            && is_any(self.minor)
            && "rwm".chars().all(|access| self.access.contains(access))
    }
}

impl<'a> OciConfig<'a> {
    /// Parses a configuration.
    ///
    /// # Errors
    /// Fails when the bytes are not a configuration, or lack what every Linux container has.
    pub fn parse(bytes: &'a [u8]) -> Result<OciConfig<'a>> {
        OciConfig::read(bytes).map_err(|cause| {
            Error::refused("read the oci configuration", "", cause)
                .with_cure("report this to the project of the engine that wrote it")
        })
    }

    fn read(bytes: &'a [u8]) -> serde_json::Result<OciConfig<'a>> {
        use serde::de::Error;
        let missing = serde_json::Error::custom;
        let top: RawObject<'a> = serde_json::from_slice(bytes)?;
        top.read::<String>("ociVersion")?.ok_or_else(|| missing("ociVersion is missing"))?;
        let process: RawObject<'a> = top.part("process")?;
        let root: RawObject<'a> = top.part("root")?;
        let linux: RawObject<'a> = top.part("linux")?;
        let user: RawObject<'a> = process.part("user")?;
        let id = |key| Ok::<u32, serde_json::Error>(user.read(key)?.unwrap_or_default());
        let annotations: RawObject<'a> = top.part("annotations")?;
        let annotations = annotations.fields().map(|(key, value)| {
            let value = serde_json::from_str(value.get())?;
            Ok::<_, serde_json::Error>(Annotation { key: key.to_owned(), value })
        });
        // The specification requires args on Linux (config.md, "POSIX process"): without them this is another JSON.
        process.read::<Vec<String>>("args")?.ok_or_else(|| missing("process.args is missing"))?;
        Ok(OciConfig {
            size: bytes.len(),
            env: process.read("env")?.unwrap_or_default(),
            annotations: annotations.collect::<serde_json::Result<_>>()?,
            root: root.read("path")?.ok_or_else(|| missing("root.path is missing"))?,
            user: ContainerUser { uid: id("uid")?, gid: id("gid")? },
            resources: linux.part("resources")?,
            top,
            process,
            linux,
        })
    }

    /// Value of a variable in `process.env`.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }

    /// Device rules, `linux.resources.devices`, in the order in which runtimes apply them (config-linux.md, "Allowed Device list").
    ///
    /// # Errors
    /// Fails when they have another form than the specification's.
    pub(crate) fn device_rules(&self) -> Result<Vec<DeviceRule>> {
        self.resources.part("devices").map_err(|cause| malformed("linux.resources.devices", cause))
    }

    /// Device nodes, `linux.devices`, that the runtime makes in the container.
    ///
    /// # Errors
    /// As [`OciConfig::device_rules`].
    pub(crate) fn device_nodes(&self) -> Result<Vec<ListedNode>> {
        self.linux.part("devices").map_err(|cause| malformed("linux.devices", cause))
    }

    /// Sources of `mounts`: paths of the machine for bind mounts, names of file systems for others.
    ///
    /// # Errors
    /// As [`OciConfig::device_rules`].
    pub(crate) fn mount_sources(&self) -> Result<Vec<PathBuf>> {
        #[derive(Deserialize)]
        #[serde(expecting = "an object")]
        struct ListedMount {
            source: Option<PathBuf>,
        }
        let mounts: Vec<ListedMount> =
            self.top.part("mounts").map_err(|cause| malformed("mounts", cause))?;
        Ok(mounts.into_iter().filter_map(|mount| mount.source).collect())
    }

    /// Reports whether the runtime lets the container open every device: one of its device rules allows all, as `--privileged`
    /// writes it (`{"allow":true,"access":"rwm"}`), and none after that denies any. A rootless container has no rules.
    ///
    /// # Errors
    /// As [`OciConfig::device_rules`].
    pub fn may_open_every_device(&self) -> Result<bool> {
        let mut allows_all = false;
        for rule in self.device_rules()? {
            allows_all = rule.allow && (allows_all || rule.is_for_all());
        }
        Ok(allows_all)
    }

    /// Path of the container's root file system: `root.path`, absolute or below the bundle. Hooks need it from here, since
    /// runc's state does not hold it, and crun's repeats it.
    ///
    /// # Errors
    /// Fails when it is the root of the host, or leads out of the bundle by `..`.
    pub fn root_path(&self, bundle: &Path) -> Result<PathBuf> {
        let path = bundle.join(&self.root);
        let is_plain =
            path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        // "/" is the host's root, and no container's.
        match is_plain && !self.root.is_empty() && path.parent().is_some() {
            true => Ok(path),
            false => {
                let cause =
                    format!("root.path {:?} is not the path of a container's root", self.root);
                Err(Error::refused("read the oci configuration", "", cause))
            }
        }
    }

    /// Returns the configuration with the plan in it. An entry of the plan replaces the one with the same variable
    /// name, node path or mount destination, as in an engine that applies a CDI spec
    /// (container-device-interface, `pkg/cdi/container-edits.go`, `Apply`).
    ///
    /// # Errors
    /// Fails when a part that the plan edits has another form than the specification's.
    pub fn with(self, plan: &InjectionPlan) -> Result<String> {
        self.edited(plan).map_err(|cause| Error::refused("edit the oci configuration", "", cause))
    }

    fn edited(self, plan: &InjectionPlan) -> serde_json::Result<String> {
        let OciConfig { size, mut top, mut process, mut linux, mut resources, env, user, .. } =
            self;
        let devices = plan.nodes.iter().map(|node| linux_device(node, user));
        let paths: Vec<&str> = plan.nodes.iter().map(|node| node.path.as_str()).collect();
        let devices = replaced(linux.part("devices")?, "path", &paths, devices)?;
        // After the engine's rules: runtimes apply them in order, and the first denies everything (config-linux.md,
        // "Allowed Device list").
        let rules = appended(resources.part("devices")?, plan.nodes.iter().map(device_rule))?;
        let mounts = plan.mounts.iter().map(oci_mount);
        let paths: Vec<&str> = plan.mounts.iter().map(|m| m.container_path.as_str()).collect();
        let mounts = replaced(top.part("mounts")?, "destination", &paths, mounts)?;
        process.set("env", RawJson::Strings(merged_env(env, &plan.env)));
        resources.set("devices", RawJson::List(rules));
        linux.set("devices", RawJson::List(devices));
        linux.set("resources", RawJson::Object(resources));
        if !plan.hide.is_empty() {
            // The runtime mounts an empty read-only tmpfs over each (runc, maskPath in libcontainer/rootfs_linux.go).
            let mut masked: Vec<String> = linux.part("maskedPaths")?;
            let new = plan.hide.iter().filter(|path| !masked.contains(path)).cloned();
            masked.extend(new.collect::<Vec<_>>());
            linux.set("maskedPaths", RawJson::Strings(masked));
        }
        top.set("process", RawJson::Object(process));
        top.set("linux", RawJson::Object(linux));
        top.set("mounts", RawJson::List(mounts));
        // A slice adds a kilobyte, and ten with the driver's files.
        let mut text = Vec::with_capacity(size + (16 << 10));
        serde_json::to_writer(&mut text, &top)?;
        String::from_utf8(text).map_err(serde::de::Error::custom)
    }
}

fn malformed(field: &str, cause: serde_json::Error) -> Error {
    Error::refused("read the oci configuration", "", format!("{field}: {cause}"))
}

/// Entry of `linux.devices`. Without an owner of its own a node belongs to the container's user, as CDI's library
/// has it: a container whose process is not root could not open it otherwise.
fn linux_device(node: &SpecNode, user: ContainerUser) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device
        .set_path((&node.path).into())
        .set_typ(LinuxDeviceType::C)
        .set_major(node.major.into())
        .set_minor(node.minor.into())
        .set_file_mode(Some(node.mode()))
        .set_uid(Some(node.uid.unwrap_or(user.uid)))
        .set_gid(Some(node.gid.unwrap_or(user.gid)));
    device
}

/// Entry of `linux.resources.devices`, with the access that the spec has. `m` is missing as there: runc allows
/// mknod of every device by rules of its own (`AllowedDevices` in `libcontainer/specconv/spec_linux.go`).
fn device_rule(node: &SpecNode) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(LinuxDeviceType::C))
        .set_major(Some(node.major.into()))
        .set_minor(Some(node.minor.into()))
        .set_access(Some("rw".to_owned()));
    rule
}

/// The variables without those that the plan sets, then the plan's: which of two variables with one name a
/// program reads is up to the program.
fn merged_env(mut env: Vec<String>, plan: &[String]) -> Vec<String> {
    fn name(variable: &str) -> &str {
        variable.split_once('=').map_or(variable, |(name, _)| name)
    }
    let names: Vec<&str> = plan.iter().map(|variable| name(variable)).collect();
    // In the order of the first run, so that a second one changes nothing.
    env.retain(|variable| !names.contains(&name(variable)));
    env.extend(plan.iter().cloned());
    env
}

/// The list without the entries whose `key` has one of the values, then the new entries.
fn replaced<'l>(
    list: RawList<'l>,
    key: &str,
    values: &[&str],
    new: impl Iterator<Item = impl Serialize>,
) -> serde_json::Result<RawList<'l>> {
    let mut kept = Vec::with_capacity(list.len() + values.len());
    for entry in list {
        let value = serde_json::from_str::<RawObject<'_>>(entry.get())?.read::<String>(key)?;
        if !value.is_some_and(|value| values.contains(&value.as_str())) {
            kept.push(entry);
        }
    }
    appended(kept, new)
}

/// The list, then the new entries that it does not hold yet: the same plan twice changes nothing.
fn appended<'l>(
    mut list: RawList<'l>,
    new: impl Iterator<Item = impl Serialize>,
) -> serde_json::Result<RawList<'l>> {
    for entry in new {
        let entry = serde_json::value::to_raw_value(&entry)?;
        if !list.iter().any(|old| old.get() == entry.get()) {
            list.push(Cow::Owned(entry));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    /// Runtimes do not care, but a second run compares bytes to find what a first one has written.
    #[test]
    fn entries_have_a_fixed_field_order() {
        let node = json!({"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0, "fileMode": 438, "permissions": "rw"});
        let mount =
            json!({"hostPath": "/usr/lib/a", "containerPath": "/lib/a", "options": ["ro", "bind"]});
        let plan = InjectionPlan {
            nodes: vec![from_value(node).unwrap()],
            mounts: vec![from_value(mount).unwrap()],
            env: vec!["A=new".to_owned()],
            ..InjectionPlan::default()
        };
        let text = r#"{"ociVersion":"1.2.0","process":{"args":["sh"],"env":["A=old"],"user":{"uid":7,"gid":8}},"root":{"path":"r"}}"#;
        let expected = r#"{"ociVersion":"1.2.0","process":{"args":["sh"],"env":["A=new"],"user":{"uid":7,"gid":8}},"root":{"path":"r"},"linux":{"devices":[{"path":"/dev/nvidia0","type":"c","major":195,"minor":0,"fileMode":438,"uid":7,"gid":8}],"resources":{"devices":[{"allow":true,"type":"c","major":195,"minor":0,"access":"rw"}]}},"mounts":[{"destination":"/lib/a","source":"/usr/lib/a","options":["ro","bind"]}]}"#;
        let once = OciConfig::parse(text.as_bytes()).unwrap().with(&plan).unwrap();
        assert_eq!(once, expected);
        assert_eq!(OciConfig::parse(once.as_bytes()).unwrap().with(&plan).unwrap(), once);
    }
}
