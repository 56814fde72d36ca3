//! One change to the device nodes of a host, as it is planned, done and told.

use mig_cdi_model::DeviceNode;
use serde::Serialize;
use std::fmt::{Display, Formatter};

/// One change.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Change {
    /// A directory is made.
    Directory { path: String },
    /// A node is made.
    Make(DeviceNode),
    /// A node is made in the place of a wrong one.
    Replace(DeviceNode),
    /// A link is made, or points elsewhere now.
    Link { path: String, target: String },
    /// A node or a link goes.
    Remove { path: String },
}

impl Change {
    /// True when nothing is left at the path.
    pub fn removes(&self) -> bool {
        matches!(self, Change::Remove { .. })
    }

    /// Of what is changed, on the host.
    pub fn path(&self) -> &str {
        match self {
            Change::Make(node) | Change::Replace(node) => &node.path,
            Change::Directory { path } | Change::Link { path, .. } | Change::Remove { path } => {
                path
            }
        }
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let (action, node) = match self {
            Change::Directory { path } => return write!(f, "make {path} 0755"),
            Change::Link { path, target } => return write!(f, "link {path} -> {target}"),
            Change::Remove { path } => return write!(f, "remove {path}"),
            Change::Make(node) => ("make", node),
            Change::Replace(node) => ("replace", node),
        };
        let DeviceNode { path, major, minor, mode, uid, gid, .. } = node;
        write!(f, "{action} {path} {major}:{minor} {mode:04o}")?;
        if (*uid, *gid) == (0, 0) { Ok(()) } else { write!(f, " of {uid}:{gid}") }
    }
}
