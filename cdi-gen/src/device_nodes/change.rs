//! Changes of a host's device nodes: their form in `--json`, and the line of text of each.

use crate::Exit;
use mig_cdi_model::DeviceNode;
use serde::Serialize;
use std::fmt::{Display, Formatter};

/// A planned or made change.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum NodeChange {
    /// A directory is made, with mode 0755.
    Directory {
        /// Path on the host.
        path: String,
    },
    /// A node is made.
    Make(DeviceNode),
    /// A node takes the place of one with other numbers, mode or owner.
    Replace(DeviceNode),
    /// A link is made, or made to point elsewhere.
    Link {
        /// Path on the host.
        path: String,
        /// Text of the link.
        target: String,
    },
    /// A node or a link is removed.
    Remove {
        /// Path on the host.
        path: String,
    },
}

/// Result of [`apply`](super::apply).
#[derive(Debug, Serialize)]
pub struct NodeChanges {
    /// True when the changes are planned and not made.
    pub dry_run: bool,
    /// Changes in the order in which they are made.
    pub changes: Vec<NodeChange>,
    /// Reasons for what was not changed, a line each. They were reported as errors already.
    pub problems: Vec<String>,
    /// Exit code that sums it up.
    #[serde(skip)]
    pub exit: Exit,
}

impl NodeChange {
    /// True when nothing is left at the path.
    #[must_use]
    pub fn removes(&self) -> bool {
        matches!(self, NodeChange::Remove { .. })
    }

    /// True when it makes a device node.
    #[must_use]
    pub fn makes_node(&self) -> bool {
        matches!(self, NodeChange::Make(_) | NodeChange::Replace(_))
    }

    /// Path on the host of the changed node, link or directory.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            NodeChange::Make(node) | NodeChange::Replace(node) => &node.path,
            NodeChange::Directory { path }
            | NodeChange::Link { path, .. }
            | NodeChange::Remove { path } => path,
        }
    }
}

impl Display for NodeChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let (action, node) = match self {
            // The mode that nvidia-modprobe gives `/dev/nvidia-caps`.
            NodeChange::Directory { path } => return write!(f, "make {path} 0755"),
            NodeChange::Link { path, target } => return write!(f, "link {path} -> {target}"),
            NodeChange::Remove { path } => return write!(f, "remove {path}"),
            NodeChange::Make(node) => ("make", node),
            NodeChange::Replace(node) => ("replace", node),
        };
        let DeviceNode { path, major, minor, mode, uid, gid, .. } = node;
        write!(f, "{action} {path} {major}:{minor} {mode:04o}")?;
        // Capability nodes are root's; others have the owner of the module parameters NVreg_DeviceFileUID and GID.
        if (*uid, *gid) == (0, 0) { Ok(()) } else { write!(f, " of {uid}:{gid}") }
    }
}
