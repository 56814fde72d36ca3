//! Distinguishes changes of files by other programs from those that a refresh has made.

use crate::generate::SpecTargets;
use mig_cdi_sys::FileStamp;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Whether a path in `/dev` is a node of the driver that is not as our last refresh left it, or a DRI node or a link to one.
/// `name` is the path without `/dev`.
pub(crate) fn is_external_node(
    name: &Path,
    path: &Path,
    own: &BTreeMap<PathBuf, Option<FileStamp>>,
) -> bool {
    // `nvidia-caps/.mig-cdi.1234` is a node of ours that has not got its final name yet, `dri/by-path/.#pci-…` a link of udev's.
    let is_dri = name.starts_with("dri");
    let is_of_driver = name
        .to_str()
        .is_some_and(|name| (is_dri || name.starts_with("nvidia")) && !name.contains("/."));
    is_of_driver && own.get(path) != Some(&FileStamp::of(path))
}

/// Whether a changed file needs a refresh: neither one of our specs as we left it, nor a file that is still being written.
pub(crate) fn is_external_file(
    path: &Path,
    targets: &SpecTargets,
    own: &[Option<FileStamp>],
) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let target = targets.iter().position(|target| path == target.file.path());
    match target {
        Some(index) => own.get(index) != Some(&FileStamp::of(path)),
        // Engines read no file of these names: a temporary file or lock, and the masked parameters beside a spec.
        None => !name.starts_with('.') && !name.ends_with(".params"),
    }
}
