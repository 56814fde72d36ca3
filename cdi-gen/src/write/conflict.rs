//! Specs of others. Two files in one directory that define the same device disable each other; in
//! two directories one hides the other (container-device-interface `pkg/cdi/cache.go` l.172-213).

use super::{SPEC_LIMIT, Target};
use crate::{Exit, Failure};
use mig_cdi_model::cdi::Spec;
use mig_cdi_sys::{SpecDir, list_named, read_named};
use serde::Deserialize;
use std::{collections::BTreeSet, path::Path};

/// As much of a spec as tells which devices it defines.
#[derive(Debug, Deserialize)]
pub(super) struct Foreign {
    pub kind: String,
    #[serde(default)]
    pub devices: Vec<ForeignDevice>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ForeignDevice {
    name: String,
}

/// A spec in JSON or YAML; `None` for what is neither, which engines pass over as well.
pub(super) fn parse(bytes: &[u8]) -> Option<Foreign> {
    let yaml = || if nests_deeply(bytes) { None } else { yaml_serde::from_slice(bytes).ok() };
    serde_json::from_slice(bytes).ok().or_else(yaml)
}

/// A spec nests six deep. libyaml's time grows with the square of the depth of brackets. One
/// in a quoted string counts too, which no real spec has 64 of.
fn nests_deeply(bytes: &[u8]) -> bool {
    let mut depth = 0_u32;
    bytes.iter().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > 64
    })
}

/// Refuses when another file defines a device of `spec`.
pub(super) fn check(spec: &Spec, dir: &SpecDir, target: &Target) -> Result<(), Failure> {
    let ours: BTreeSet<&str> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    let kind = spec.kind.to_string();
    // A file outside the directories that engines read hides nothing and is hidden by nothing.
    let is_read = target.spec_dirs.iter().any(|path| dir.is_at(path));
    let dirs = if is_read { &target.spec_dirs[..] } else { std::slice::from_ref(&target.dir) };
    for path in dirs {
        for name in list_named(path)?.unwrap_or_default() {
            if !is_spec(&name) || (name == target.name && dir.is_at(path)) {
                continue;
            }
            let file = path.join(name);
            // One that cannot be read does not define anything to an engine either.
            let foreign = read_named(&file, SPEC_LIMIT).ok().and_then(|bytes| parse(&bytes));
            let Some(foreign) = foreign.filter(|foreign| foreign.kind == kind) else {
                continue;
            };
            if let Some(same) = foreign.devices.iter().find(|d| ours.contains(d.name.as_str())) {
                return Err(refused(target, &format!("{kind}={}", same.name), &file));
            }
        }
    }
    Ok(())
}

fn is_spec(name: &str) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|extension| extension == "json" || extension == "yaml")
}

fn refused(target: &Target, device: &str, culprit: &Path) -> Failure {
    let message = format!(
        "write {}: {} defines {device} too, and engines would drop or hide one of them; remove that \
         file, or choose another --kind",
        target.path().display(),
        culprit.display()
    );
    Failure::new(Exit::Refused, message)
}
