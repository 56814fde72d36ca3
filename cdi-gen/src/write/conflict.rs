//! Conflicts with other spec files. Two files in one directory that define the same device disable each other; in two
//! directories the later one hides the other (container-device-interface `pkg/cdi/cache.go` l.172-213).

use super::Target;
use crate::{
    Error, Result,
    spec_file::{DefinedNames, SIZE_LIMIT},
};
use mig_cdi_model::cdi::Spec;
use mig_cdi_sys::{TrustedDir, list_named, read_regular};
use std::{collections::BTreeSet, path::Path};

/// Fails when another file defines a device of `spec`.
pub(super) fn check(spec: &Spec, dir: &TrustedDir, target: &Target) -> Result<()> {
    let ours: BTreeSet<&str> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    let kind = spec.kind.to_string();
    // A file outside the directories that engines read conflicts only with files in its own directory.
    let is_read = target.spec_dirs.iter().any(|path| dir.is_at(path));
    let dirs = if is_read { &target.spec_dirs[..] } else { std::slice::from_ref(&target.dir) };
    for path in dirs {
        for name in list_named(path)?.unwrap_or_default() {
            if !is_spec(&name) || (name == target.name && dir.is_at(path)) {
                continue;
            }
            let file = path.join(name);
            // A file that cannot be read defines nothing to an engine either.
            let foreign = read_regular(&file, SIZE_LIMIT).ok();
            let foreign = foreign.and_then(|bytes| DefinedNames::parse(&bytes));
            let Some(foreign) = foreign.filter(|foreign| foreign.kind == kind) else {
                continue;
            };
            if let Some(name) = foreign.devices().find(|name| ours.contains(name)) {
                return Err(refused(target, &format!("{kind}={name}"), &file));
            }
        }
    }
    Ok(())
}

fn is_spec(name: &str) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|extension| extension == "json" || extension == "yaml")
}

fn refused(target: &Target, device: &str, other: &Path) -> Error {
    let cause = format!(
        "{} defines {device} too, and engines would drop or hide one of them",
        other.display()
    );
    let error = Error::refused("write", target.path().display()).because(cause);
    error.cure("remove that file, or choose another --kind")
}
