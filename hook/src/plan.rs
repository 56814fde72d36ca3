//! What a container gets.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// All of it. This is what `--dry-run` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Names of the devices, as they were asked for.
    pub devices: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Made in its `/dev` and allowed in its device cgroup.
    pub nodes: Vec<Node>,
    /// Files of the machine, read-only.
    pub mounts: Vec<Mount>,
    /// Other slices in its `/proc/driver/nvidia`.
    pub hide: Vec<String>,
}

/// A character device, as a CDI spec has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Below `/dev`.
    pub path: String,
    #[serde(rename = "type")]
    kind: Char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub file_mode: u32,
    permissions: ReadWrite,
    /// Owner, when not the user of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group, when not that of the container's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Char {
    #[serde(rename = "c")]
    Char,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ReadWrite {
    #[serde(rename = "rw")]
    ReadWrite,
}

/// A file of the machine in the container, as a CDI spec has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// On the machine.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// As mount(8) has them.
    pub options: Vec<String>,
}

/// `mounts[]` of the OCI runtime specification.
#[derive(Serialize)]
pub(crate) struct OciMount<'m> {
    destination: &'m str,
    source: &'m str,
    options: &'m [String],
}

impl Mount {
    pub(crate) fn oci(&self) -> OciMount<'_> {
        let Mount { host_path, container_path, options } = self;
        OciMount { destination: container_path, source: host_path, options }
    }
}

impl Plan {
    /// Adds what a device, or every device of a spec, brings. What two of them bring comes once.
    ///
    /// # Errors
    /// When one path would be two things.
    pub fn add(&mut self, env: &[String], nodes: &[Node], mounts: &[Mount]) -> Result<(), String> {
        for variable in env {
            if !self.env.contains(variable) {
                self.env.push(variable.clone());
            }
        }
        for node in nodes {
            match self.nodes.iter().find(|other| other.path == node.path) {
                None => self.nodes.push(node.clone()),
                Some(other) if other == node => {}
                Some(_) => return Err(format!("{} is two device nodes", node.path)),
            }
        }
        for mount in mounts {
            match self.mounts.iter().find(|other| other.container_path == mount.container_path) {
                None => self.mounts.push(mount.clone()),
                Some(other) if other == mount => {}
                Some(_) => return Err(format!("{} is two files", mount.container_path)),
            }
        }
        Ok(())
    }

    /// The numbers of all nodes.
    #[must_use]
    pub fn numbers(&self) -> BTreeSet<(u32, u32)> {
        self.nodes.iter().map(|node| (node.major, node.minor)).collect()
    }
}
