//! The directories of device nodes, and a change made in them.

use super::change::NodeChange;
use crate::{Error, Result};
use mig_cdi_model::{DeviceNode, Major, Minor};
use mig_cdi_sys::{NodeDir, NodeDirEntry, NodeStat, Root};
use std::path::Path;

pub(super) const DEV: &str = "/dev";
pub(super) const CAPS: &str = "/dev/nvidia-caps";
/// Links `MAJOR:MINOR` to nodes. runc has systemd allow a container's devices by these paths, and systemd drops those that it
/// cannot resolve at its next `daemon-reload` (opencontainers/runc issue 3708).
pub(super) const LINKS: &str = "/dev/char";

/// The three directories that are changed.
pub(super) struct Dirs {
    /// `/dev`.
    pub dev: NodeDir,
    /// `/dev/nvidia-caps`.
    pub caps: NodeDir,
    /// `/dev/char`.
    pub links: NodeDir,
}

impl Dirs {
    /// Opens the directories below the directory that holds `dev`.
    pub fn open(root: &Path) -> Result<Dirs> {
        let dev = NodeDir::open(&Root::open(root)?, DEV)?;
        if !dev.exists() {
            return Err(Error::failed("open", dev.display_path("").display())
                .because("not there")
                .with_cure("name the directory that holds dev with --dev-root"));
        }
        Ok(Dirs { caps: dev.child("nvidia-caps")?, links: dev.child("char")?, dev })
    }

    /// Directory and name of a path in `/dev`.
    fn locate<'a>(&self, path: &'a str) -> (&NodeDir, &'a str) {
        let name = path.trim_start_matches("/dev/");
        match name.split_once('/') {
            None => (&self.dev, name),
            Some(("char", name)) => (&self.links, name),
            Some((_, name)) => (&self.caps, name),
        }
    }

    /// Entry at a path in `/dev`.
    pub fn entry(&self, path: &str) -> mig_cdi_sys::Result<NodeDirEntry> {
        let (dir, name) = self.locate(path);
        dir.entry(name)
    }

    /// Path on this host, for messages.
    pub fn display_path(&self, path: &str) -> String {
        let (dir, name) = self.locate(path);
        dir.display_path(name).display().to_string()
    }

    /// Makes one change.
    pub fn apply(&mut self, change: &NodeChange) -> mig_cdi_sys::Result<()> {
        if let NodeChange::Directory { path } = change {
            return match path == CAPS {
                true => self.caps.make(&self.dev, "nvidia-caps"),
                false => self.links.make(&self.dev, "char"),
            };
        }
        // Relative to a directory that is open and was found to be root's: a path could lead elsewhere by now.
        let (dir, name) = self.locate(change.path());
        match change {
            NodeChange::Make(node) | NodeChange::Replace(node) => dir.put_node(name, &stat(node)),
            NodeChange::Link { target, .. } => dir.put_link(name, target),
            NodeChange::Directory { .. } | NodeChange::Remove { .. } => dir.remove(name),
        }
    }
}

/// Metadata of a node that is as the driver wants it.
pub(super) fn stat(node: &DeviceNode) -> NodeStat {
    let DeviceNode { major, minor, mode, uid, gid, .. } = *node;
    NodeStat { is_char: true, major, minor, mode, uid, gid }
}

/// Path of the link to a node.
pub(super) fn link_path(major: Major, minor: Minor) -> String {
    format!("{LINKS}/{major}:{minor}")
}

/// Target of a node's link, relative as nvidia-modprobe makes it, so that it holds in another root too.
pub(super) fn link_target(path: &str) -> String {
    format!("..{}", path.trim_start_matches(DEV))
}
