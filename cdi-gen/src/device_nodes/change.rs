//! One change of a host's device nodes: its form in `--json` and its line of text.

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

impl NodeChange {
    /// True when nothing is left at the path.
    #[must_use]
    pub fn removes(&self) -> bool {
        matches!(self, NodeChange::Remove { .. })
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
