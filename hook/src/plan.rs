//! The injection plan: everything that a container gets, decided before anything is changed. Never touches the
//! machine.

use crate::error::{Error, Result};
use mig_cdi_model::cdi::{Mount, SpecNode};
use serde::Serialize;

/// Everything that a container gets. `--dry-run` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InjectionPlan {
    /// Names of the devices, as they were requested.
    pub devices: Vec<String>,
    /// Variables, as `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes below its `/dev`, which its device cgroup allows.
    pub nodes: Vec<SpecNode>,
    /// Read-only files of the host.
    pub mounts: Vec<Mount>,
    /// Directories of other slices in `/proc/driver/nvidia`, to be masked.
    pub hide: Vec<String>,
}

/// Entry of `mounts` of an OCI configuration.
pub(crate) fn oci_mount(mount: &Mount) -> oci_spec::runtime::Mount {
    // The default holds no type: a bind mount needs none, and runc and crun take what is there for one with "bind" among
    // its options.
    let mut entry = oci_spec::runtime::Mount::default();
    entry
        .set_destination((&mount.container_path).into())
        .set_source(Some((&mount.host_path).into()))
        .set_options(Some(mount.options.clone()));
    entry
}

impl InjectionPlan {
    /// Adds the edits of a device, or those of a spec for all its devices. What two of them share is added once:
    /// the nodes of a GPU come with each of its slices.
    ///
    /// # Errors
    /// Fails when two nodes or two files have one path.
    pub fn add(&mut self, env: &[String], nodes: &[SpecNode], mounts: &[Mount]) -> Result<()> {
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
