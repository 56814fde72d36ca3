//! The injection plan: everything that a container gets, decided before anything is changed. Never touches the
//! machine.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Everything that a container gets. `--dry-run` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InjectionPlan {
    /// Names of the devices, as they were requested.
    pub devices: Vec<String>,
    /// Variables, as `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes below its `/dev`, which its device cgroup allows.
    pub nodes: Vec<Node>,
    /// Read-only files of the host.
    pub mounts: Vec<Mount>,
    /// Directories of other slices in `/proc/driver/nvidia`, to be masked.
    pub hide: Vec<String>,
}

/// A character device, as a CDI spec describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Absolute path, below `/dev`.
    pub path: String,
    // One value each: a block device or another access under these numbers is not what mig-cdi writes.
    #[serde(rename = "type")]
    kind: Char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub file_mode: u32,
    permissions: ReadWrite,
    /// Owner, when it is not the user of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group, when it is not that of the container's user.
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

/// A file of the host in the container, as a CDI spec describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Options of mount(8).
    pub options: Vec<String>,
}

impl Mount {
    /// Entry of `mounts` of an OCI configuration.
    pub(crate) fn to_oci(&self) -> oci_spec::runtime::Mount {
        // The default holds no type: a bind mount needs none, and runc and crun take what is there for one with
        // "bind" among its options.
        let mut mount = oci_spec::runtime::Mount::default();
        mount
            .set_destination((&self.container_path).into())
            .set_source(Some((&self.host_path).into()))
            .set_options(Some(self.options.clone()));
        mount
    }
}

impl InjectionPlan {
    /// Adds the edits of a device, or those of a spec for all its devices. What two of them share is added once:
    /// the nodes of a GPU come with each of its slices.
    ///
    /// # Errors
    /// Fails when two nodes or two files have one path.
    pub fn add(&mut self, env: &[String], nodes: &[Node], mounts: &[Mount]) -> Result<()> {
        let conflict =
            |path: &str, what| Error::refused("add", path, format!("two {what} have this path"));
        for variable in env {
            if !self.env.contains(variable) {
                self.env.push(variable.clone());
            }
        }
        for node in nodes {
            match self.nodes.iter().find(|other| other.path == node.path) {
                None => self.nodes.push(node.clone()),
                Some(other) if other == node => {}
                Some(_) => return Err(conflict(&node.path, "device nodes")),
            }
        }
        for mount in mounts {
            match self.mounts.iter().find(|other| other.container_path == mount.container_path) {
                None => self.mounts.push(mount.clone()),
                Some(other) if other == mount => {}
                Some(_) => return Err(conflict(&mount.container_path, "files")),
            }
        }
        Ok(())
    }
}
