//! Conflicts with other spec files. Two files in one directory that define the same device disable each other; in two
//! directories the later one hides the other (container-device-interface `pkg/cdi/cache.go:172-213`).

use crate::{
    Error, Result,
    spec_file::{DefinedNames, SIZE_LIMIT, is_spec_file},
};
use mig_cdi_model::cdi::Spec;
use mig_cdi_sys::{list_named, read_regular};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// A device that another spec file defines too.
pub(super) struct Conflict {
    /// Qualified name of the device.
    pub device: String,
    /// The other file.
    pub file: PathBuf,
}

/// Finds a device of `spec` that another file in `dirs` defines. `is_own` recognises the spec's own file by its directory
/// and name.
pub(super) fn find(
    spec: &Spec,
    dirs: &[PathBuf],
    is_own: impl Fn(&Path, &OsStr) -> bool,
) -> Result<Option<Conflict>> {
    let ours: BTreeSet<&str> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    let kind = spec.kind.to_string();
    for dir in dirs {
        for name in list_named(dir)?.unwrap_or_default() {
            if !is_spec_file(&name) || is_own(dir, &name) {
                continue;
            }
            let file = dir.join(name);
            let other = match read_regular(&file, SIZE_LIMIT) {
                Ok(bytes) => DefinedNames::parse(&bytes),
                // Engines have no limit.
                Err(error @ mig_cdi_sys::Error::TooLarge { .. }) => {
                    return Err(Error::refused("write", "a spec")
                        .because(format!(
                            "{error}, and two files that define one device disable each other"
                        ))
                        .with_cure("move that file to another directory, or divide it"));
                }
                // A file that cannot be read defines nothing to an engine either.
                Err(_) => None,
            };
            let Some(other) = other.filter(|other| other.kind == kind) else {
                continue;
            };
            if let Some(name) = other.devices().find(|name| ours.contains(name)) {
                return Ok(Some(Conflict { device: format!("{kind}={name}"), file }));
            }
        }
    }
    Ok(None)
}
