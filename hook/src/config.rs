//! The OCI configuration of a container: what it says that we need, and the same with a plan written
//! into it. What we do not know survives as it was.

use crate::{
    Failure,
    json::{List, Object, Value},
    plan::{Plan, oci_mount},
};
use serde::Serialize;
use std::borrow::Cow;

/// The largest configuration that is read. A container of a pod has some tens of kilobytes.
pub const LIMIT: usize = 1 << 20;

/// A configuration.
#[derive(Debug, Clone)]
pub struct Config<'a> {
    size: usize,
    top: Object<'a>,
    process: Object<'a>,
    linux: Object<'a>,
    resources: Object<'a>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// By key.
    pub annotations: Vec<(String, String)>,
    /// It may administer the machine: `CAP_SYS_ADMIN` is in its bounding set.
    pub privileged: bool,
    /// The container's root file system, absolute or below the bundle.
    pub root: String,
    /// The user that its first process runs as.
    pub user: (u32, u32),
}

/// `linux.devices[]` of the OCI runtime specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Device<'p> {
    path: &'p str,
    #[serde(rename = "type")]
    kind: &'static str,
    major: u32,
    minor: u32,
    file_mode: u32,
    uid: u32,
    gid: u32,
}

/// `linux.resources.devices[]`.
#[derive(Serialize)]
struct Rule {
    allow: bool,
    #[serde(rename = "type")]
    kind: &'static str,
    major: u32,
    minor: u32,
    access: &'static str,
}

impl<'a> Config<'a> {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it is none, or lacks what every container of Linux has.
    pub fn parse(bytes: &'a [u8]) -> Result<Config<'a>, Failure> {
        Config::read(bytes).map_err(|e| {
            Failure::refused(format!(
                "read the oci configuration: {e}; its engine should not have written it so"
            ))
        })
    }

    fn read(bytes: &'a [u8]) -> serde_json::Result<Config<'a>> {
        use serde::de::Error;
        let missing = serde_json::Error::custom;
        let top: Object<'a> = serde_json::from_slice(bytes)?;
        top.read::<String>("ociVersion")?.ok_or_else(|| missing("it has no ociVersion"))?;
        let process: Object<'a> = top.part("process")?;
        let root: Object<'a> = top.part("root")?;
        let linux: Object<'a> = top.part("linux")?;
        let capabilities: Object<'a> = process.part("capabilities")?;
        let bounding = capabilities.read::<Vec<String>>("bounding")?.unwrap_or_default();
        let user: Object<'a> = process.part("user")?;
        let number = |key| Ok::<u32, serde_json::Error>(user.read(key)?.unwrap_or_default());
        let annotations: Object<'a> = top.part("annotations")?;
        let annotations = annotations.fields().map(|(key, value)| {
            Ok::<_, serde_json::Error>((key.to_owned(), serde_json::from_str(value.get())?))
        });
        process.read::<Vec<String>>("args")?.ok_or_else(|| missing("it has no process.args"))?;
        Ok(Config {
            size: bytes.len(),
            env: process.read("env")?.unwrap_or_default(),
            annotations: annotations.collect::<serde_json::Result<_>>()?,
            privileged: bounding.iter().any(|capability| capability == "CAP_SYS_ADMIN"),
            root: root.read("path")?.ok_or_else(|| missing("it has no root.path"))?,
            user: (number("uid")?, number("gid")?),
            resources: linux.part("resources")?,
            top,
            process,
            linux,
        })
    }

    /// The value of a variable of the container.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }

    /// The configuration of a container that has what the plan says besides. What the plan gives takes
    /// the place of what has the same name, path or destination, as an engine does it that speaks CDI.
    ///
    /// # Errors
    /// When a part that is to be changed is not of its form.
    pub fn with(self, plan: &Plan) -> Result<String, Failure> {
        self.edited(plan)
            .map_err(|e| Failure::refused(format!("change the oci configuration: {e}")))
    }

    fn edited(self, plan: &Plan) -> serde_json::Result<String> {
        let Config { size, mut top, mut process, mut linux, mut resources, mut env, .. } = self;
        let devices = plan.nodes.iter().map(|node| Device {
            path: &node.path,
            kind: "c",
            major: node.major,
            minor: node.minor,
            file_mode: node.file_mode,
            uid: node.uid.unwrap_or(self.user.0),
            gid: node.gid.unwrap_or(self.user.1),
        });
        let rules = plan.nodes.iter().map(|node| Rule {
            allow: true,
            kind: "c",
            major: node.major,
            minor: node.minor,
            access: "rw",
        });
        let paths: Vec<&str> = plan.nodes.iter().map(|node| node.path.as_str()).collect();
        let devices = replaced(linux.part("devices")?, "path", &paths, devices)?;
        let rules = appended(resources.part("devices")?, rules)?;
        let destinations: Vec<&str> =
            plan.mounts.iter().map(|mount| mount.container_path.as_str()).collect();
        let mounts = plan.mounts.iter().map(oci_mount);
        let mounts = replaced(top.part("mounts")?, "destination", &destinations, mounts)?;
        let names: Vec<&str> = plan.env.iter().map(|variable| name(variable)).collect();
        env.retain(|variable| !names.contains(&name(variable)));
        env.extend(plan.env.iter().cloned());
        process.set("env", Value::Strings(env));
        resources.set("devices", Value::List(rules));
        linux.set("devices", Value::List(devices));
        linux.set("resources", Value::Object(resources));
        if !plan.hide.is_empty() {
            let mut masked: Vec<String> = linux.part("maskedPaths")?;
            let new = plan.hide.iter().filter(|path| !masked.contains(path)).cloned();
            masked.extend(new.collect::<Vec<_>>());
            linux.set("maskedPaths", Value::Strings(masked));
        }
        top.set("process", Value::Object(process));
        top.set("linux", Value::Object(linux));
        top.set("mounts", Value::List(mounts));
        // A slice comes to a kilobyte, and ten with the driver's files.
        let mut text = Vec::with_capacity(size + (16 << 10));
        serde_json::to_writer(&mut text, &top)?;
        String::from_utf8(text).map_err(serde::de::Error::custom)
    }
}

/// That of `NAME=value`.
fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// The list without the entries that have one of these values, then the new ones.
fn replaced<'l>(
    list: List<'l>,
    key: &str,
    values: &[&str],
    new: impl Iterator<Item = impl Serialize>,
) -> serde_json::Result<List<'l>> {
    let mut kept = Vec::with_capacity(list.len() + values.len());
    for entry in list {
        let value = serde_json::from_str::<Object<'_>>(entry.get())?.read::<String>(key)?;
        if !value.is_some_and(|value| values.contains(&value.as_str())) {
            kept.push(entry);
        }
    }
    appended(kept, new)
}

/// The list, then the new entries that are not in it as they are.
fn appended<'l>(
    mut list: List<'l>,
    new: impl Iterator<Item = impl Serialize>,
) -> serde_json::Result<List<'l>> {
    for entry in new {
        let entry = serde_json::value::to_raw_value(&entry)?;
        if !list.iter().any(|old| old.get() == entry.get()) {
            list.push(Cow::Owned(entry));
        }
    }
    Ok(list)
}
