//! Reasons why every engine refuses a spec file that parses. One bad device disables all of its file.

use mig_cdi_model::cdi::{ContainerEdits, DeviceName, Kind, Mount, Spec, Version, VersionNeed};
use std::collections::HashSet;

/// Stages that a hook may name (container-device-interface `pkg/cdi/container-edits.go`, `validHookNames`).
const STAGES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Newest version of which the releases of the library before 0.5.4 know all content. They do not compare it with `cdiVersion`;
/// newer content they refuse as unknown fields and names.
const UNCOMPARED: Version = Version::V0_5_0;

/// Returns the first reason why engines refuse the file, in the order of container-device-interface `pkg/cdi/spec.go`,
/// `validate`; `None` for a valid spec.
#[must_use]
pub fn refusal(spec: &Spec) -> Option<String> {
    if spec.version().is_none() {
        let version = spec.cdi_version.as_deref().unwrap_or("none");
        return Some(format!("cdiVersion {version:?} is not a version from 0.3.0 to 1.1.0"));
    }
    if let Some(need) = unmet_need(spec).filter(|need| need.version > UNCOMPARED) {
        return Some(too_low(spec, &need));
    }
    if let Err(bad) = spec.kind.parse::<Kind>() {
        // One character for vendor or class makes every Go engine panic (container-device-interface issue 320).
        return Some(format!("kind: {bad}; some engines crash on it"));
    }
    if spec.devices.is_empty() {
        return Some("it has no device".to_owned());
    }
    bad_edits(&spec.container_edits).or_else(|| bad_device(spec))
}

/// Returns the reason why an engine refuses `cdiVersion`; `None` for one that it accepts. `is_old` is true for one with a release of
/// the library before 0.5.4: the later ones take a `v` before the version, and compare it with the content (`pkg/cdi/version.go`).
#[must_use]
pub fn version_refusal(spec: &Spec, is_old: bool) -> Option<String> {
    let version = spec.cdi_version.as_deref().unwrap_or_default();
    match is_old {
        true if version.starts_with('v') => Some(format!("cdiVersion {version:?} starts with a v")),
        true => None,
        false => unmet_need(spec).map(|need| too_low(spec, &need)),
    }
}

/// Content that needs a higher version than the spec states.
fn unmet_need(spec: &Spec) -> Option<VersionNeed> {
    spec.highest_need().filter(|need| spec.version().is_some_and(|stated| stated < need.version))
}

fn too_low(spec: &Spec, VersionNeed { version, what }: &VersionNeed) -> String {
    let stated = spec.cdi_version.as_deref().unwrap_or_default();
    format!("cdiVersion is {stated}, and {what}, which needs {version}")
}

fn bad_device(spec: &Spec) -> Option<String> {
    let mut names = HashSet::new();
    spec.devices.iter().find_map(|device| {
        let name = &device.name;
        if let Err(bad) = name.parse::<DeviceName>() {
            return Some(format!("device {bad}"));
        }
        if !names.insert(name) {
            return Some(format!("it defines device {name} twice"));
        }
        if device.container_edits.is_empty() {
            return Some(format!("device {name} has no edits"));
        }
        bad_edits(&device.container_edits).map(|reason| format!("device {name}: {reason}"))
    })
}

fn bad_edits(edits: &ContainerEdits) -> Option<String> {
    let bad_variable = |variables: &[String]| {
        let bad =
            variables.iter().find(|text| text.split_once('=').is_none_or(|(n, _)| n.is_empty()));
        bad.map(|text| format!("variable {text:?} is not NAME=VALUE"))
    };
    let bad_node = || {
        edits.device_nodes.iter().find_map(|node| match (&node.kind, &node.permissions) {
            _ if node.path.is_empty() => Some("a device node has no path".to_owned()),
            (Some(kind), _) if !["", "b", "c", "u", "p"].contains(&kind.as_str()) => {
                Some(format!("{} has the type {kind:?}, not b, c, u or p", node.path))
            }
            (_, Some(allowed)) if allowed != "none" && allowed.contains(|c| !"rwm".contains(c)) => {
                Some(format!("{} has the permissions {allowed:?}, not of r, w and m", node.path))
            }
            _ => None,
        })
    };
    let bad_hook = || {
        edits.hooks.iter().find_map(|hook| match hook.hook_name.as_str() {
            stage if !STAGES.contains(&stage) => Some(format!("a hook has the stage {stage:?}")),
            _ if hook.path.is_empty() => Some("a hook has no path".to_owned()),
            _ => bad_variable(&hook.env),
        })
    };
    let bad_mount = || {
        let mut mounts = edits.mounts.iter();
        let is_bad = |mount: &Mount| mount.host_path.is_empty() || mount.container_path.is_empty();
        mounts.any(is_bad).then(|| "a mount has no hostPath or no containerPath".to_owned())
    };
    bad_variable(&edits.env).or_else(bad_node).or_else(bad_hook).or_else(bad_mount)
}
