//! Files that a requested capability needs and that no directory has.

use mig_cdi_model::{DriverCapability, Topology};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A file that a requested capability needs, and the directories in which it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingFile {
    /// File name, or path below the directories.
    pub name: String,
    /// Capabilities that need it: `graphics or display`.
    pub capabilities: String,
    /// Searched directories, below the driver root.
    pub dirs: Vec<String>,
    /// Driver root.
    pub root: PathBuf,
    /// Cure: the flag that names its place.
    pub cure: &'static str,
    /// Whether only slices that render need it.
    pub graphics_only: bool,
}

impl MissingFile {
    /// True when a device of the node needs it. Nothing on a node without slices that render opens a file for graphics.
    #[must_use]
    pub fn is_needed_by(&self, topology: &Topology) -> bool {
        !self.graphics_only || topology.mig_devices().any(|device| device.has_graphics())
    }
}

/// The operation, the subject and the cause, without the cure.
impl fmt::Display for MissingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingFile { name, capabilities, dirs, root, .. } = self;
        write!(f, "find {name} for {capabilities}: {}", not_in(dirs, root))
    }
}

/// `not in /usr/lib64, /lib64 below /run/nvidia/driver`.
pub(super) fn not_in(dirs: &[String], root: &Path) -> String {
    let dirs = dirs.join(", ");
    match root.parent() {
        // Without the slash at the end.
        Some(_) => {
            format!("not in {dirs} below {}", root.components().collect::<PathBuf>().display())
        }
        None => format!("not in {dirs}"),
    }
}

/// Returns capabilities as users write them: `graphics or display`.
pub(super) fn join_capabilities(capabilities: &[DriverCapability]) -> String {
    let names = capabilities.iter().map(|capability| capability.as_str());
    names.collect::<Vec<_>>().join(" or ")
}
