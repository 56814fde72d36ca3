//! What has changed by another hand than ours.

use crate::{generate::SpecTargets, refresh::Mark};
use mig_cdi_sys::FileStamp;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A path of the machine below a directory that stands for its `/`.
pub(crate) fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// A node of the driver that came or went by another hand than ours.
pub(crate) fn is_foreign_node(name: &Path, path: &Path, own: &BTreeMap<PathBuf, Mark>) -> bool {
    let is_driver_s =
        name.to_str().is_some_and(|name| name.starts_with("nvidia") && !name.contains("/."));
    is_driver_s && own.get(path) != Some(&FileStamp::of(path))
}

/// A spec of ours that is as we left it, and what is on the way to become a file, are of no interest.
pub(crate) fn is_foreign(path: &Path, targets: &SpecTargets, own: &[Mark]) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ours = targets.iter().position(|target| path == target.file.path());
    match ours {
        Some(index) => own.get(index) != Some(&FileStamp::of(path)),
        None => !name.starts_with('.') && !name.ends_with(".params"),
    }
}
