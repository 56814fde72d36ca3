//! Reasons why every engine refuses a spec file that parses. One bad device disables all of its file.

use mig_cdi_model::cdi::{ContainerEdits, DeviceName, Kind, Mount, Spec, Version};
use std::collections::HashSet;

/// Stages that a hook may name (container-device-interface `pkg/cdi/container-edits.go`, `validHookNames`).
const STAGES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Returns the first reason why engines refuse the file, in the order of container-device-interface `pkg/cdi/spec.go`,
/// `validate`; `None` for a spec that is valid in the fields that mig-cdi reads.
pub(super) fn refusal(spec: &Spec) -> Option<String> {
    let version = spec.cdi_version.as_deref().unwrap_or("none");
    if version.parse::<Version>().is_err() {
        return Some(format!("cdiVersion {version:?} is not a version from 0.3.0 to 1.1.0"));
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
