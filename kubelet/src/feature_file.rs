//! Labels as a feature file of Node Feature Discovery: its worker reads the directory, once a minute by default,
//! and labels the node as the files say (NFD, "local" feature source: lines `key=value`).
//!
//! A label lives as long as its file. A label that outlives the program lies: whoever ends calls [`remove`].

use mig_cdi_sys::{Error, Outcome, TrustedDir};
use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

/// Where Node Feature Discovery looks, and our file there.
pub const PATH: &str = "/etc/kubernetes/node-feature-discovery/features.d/mig-cdi";

/// A feature file that cannot be written or removed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its name is none of a file, or begins with a dot: NFD passes those over.
    #[error("write labels to {0}: not the name of a feature file; name one such as {PATH}")]
    Name(PathBuf),
    /// Its directory is not there or not safe, or the file cannot be changed.
    #[error(
        "{0}; for labels the pod needs the host's directory of feature files, which node feature discovery \
         reads, mounted there"
    )]
    File(#[from] Error),
}

/// Gives the file these labels. True when that changed it. Without a label there is to be no file.
///
/// Readers see the old file or the new one, whole.
///
/// # Errors
/// [`Failure`].
pub fn write(path: &Path, labels: &BTreeMap<String, String>) -> Result<bool, Failure> {
    if labels.is_empty() {
        return remove(path);
    }
    let (dir, name) = split(path)?;
    let mut text = String::new();
    for (key, value) in labels {
        // A String takes everything.
        let _ = writeln!(text, "{key}={value}");
    }
    Ok(TrustedDir::open_or_make(dir)?.replace(name, text.as_bytes())? == Outcome::Changed)
}

/// Removes the file. True when it was there.
///
/// # Errors
/// [`Failure`].
pub fn remove(path: &Path) -> Result<bool, Failure> {
    let (dir, name) = split(path)?;
    match TrustedDir::open_existing(dir)? {
        Some(dir) => Ok(dir.remove(name)? == Outcome::Changed),
        None => Ok(false),
    }
}

fn split(path: &Path) -> Result<(&Path, &str), Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let dir = path.parent().filter(|dir| dir.is_absolute());
    match (dir, name.filter(|name| !name.starts_with('.'))) {
        (Some(dir), Some(name)) => Ok((dir, name)),
        _ => Err(Failure::Name(path.to_owned())),
    }
}
