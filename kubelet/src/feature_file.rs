//! Node labels in a feature file of Node Feature Discovery.
//!
//! NFD's worker reads the files of a directory, once a minute by default, and labels the node with their lines
//! `key=value` (kubernetes-sigs/node-feature-discovery, `source/local`). A label lives as long as its file, so a
//! program that ends calls [`remove`]: nothing would correct the labels afterwards.

use crate::error::{Error, Result};
use mig_cdi_sys::{Outcome, TrustedDir};
use std::{collections::BTreeMap, fmt::Write, path::Path};

/// Writes labels to the file at `path`, or removes the file when there is no label. Returns true when that changed
/// the file.
///
/// The file is replaced by rename, so a reader sees the old labels or the new ones, never a part.
///
/// # Errors
/// [`Error::FeatureFileName`] or [`Error::FeatureFile`].
pub fn write(path: &Path, labels: &BTreeMap<String, String>) -> Result<bool> {
    if labels.is_empty() {
        return remove(path);
    }
    let (dir, name) = split(path)?;
    let mut text = String::new();
    for (key, value) in labels {
        // Writing to a String never fails.
        let _ = writeln!(text, "{key}={value}");
    }
    let dir = TrustedDir::open_or_make(dir).map_err(Error::FeatureFile)?;
    let outcome = dir.replace(name, text.as_bytes()).map_err(Error::FeatureFile)?;
    Ok(outcome == Outcome::Changed)
}

/// Removes the file at `path`. Returns true when it existed.
///
/// # Errors
/// [`Error::FeatureFileName`] or [`Error::FeatureFile`].
pub fn remove(path: &Path) -> Result<bool> {
    let (dir, name) = split(path)?;
    let Some(dir) = TrustedDir::open_existing(dir).map_err(Error::FeatureFile)? else {
        return Ok(false);
    };
    let outcome = dir.remove(name).map_err(Error::FeatureFile)?;
    Ok(outcome == Outcome::Changed)
}

/// Splits a path into its directory and the name of the file.
fn split(path: &Path) -> Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let dir = path.parent().filter(|dir| dir.is_absolute());
    // NFD ignores files whose name begins with a dot (`source/local`).
    match (dir, name.filter(|name| !name.starts_with('.'))) {
        (Some(dir), Some(name)) => Ok((dir, name)),
        _ => Err(Error::FeatureFileName(path.to_owned())),
    }
}
