//! What a container gets.

use mig_cdi_model::cdi::{Mount, SpecNode};
use serde::Serialize;
use std::collections::BTreeSet;

/// All of it. This is what `--dry-run` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Names of the devices, as they were asked for.
    pub devices: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Made in its `/dev` and allowed in its device cgroup.
    pub nodes: Vec<SpecNode>,
    /// Files of the machine, read-only.
    pub mounts: Vec<Mount>,
    /// Other slices in its `/proc/driver/nvidia`.
    pub hide: Vec<String>,
}

/// `mounts[]` of the OCI runtime specification.
#[derive(Serialize)]
pub(crate) struct OciMount<'m> {
    destination: &'m str,
    source: &'m str,
    options: &'m [String],
}

pub(crate) fn oci_mount(mount: &Mount) -> OciMount<'_> {
    let Mount { host_path, container_path, options } = mount;
    OciMount { destination: container_path, source: host_path, options }
}

impl Plan {
    /// Adds what a device, or every device of a spec, brings. What two of them bring comes once.
    ///
    /// # Errors
    /// When one path would be two things.
    pub fn add(
        &mut self,
        env: &[String],
        nodes: &[SpecNode],
        mounts: &[Mount],
    ) -> Result<(), String> {
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
