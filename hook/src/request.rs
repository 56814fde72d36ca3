//! The devices that a container requests, checked against the policy. Pure: a configuration and a policy in, devices out;
//! never reads a spec or the machine.

use crate::{
    error::{Error, Result},
    oci_config::{Annotation, OciConfig},
};
use mig_cdi_config::{EnvironmentPolicy, HookSettings, Pattern};
use mig_cdi_model::{CiId, GiId, GpuUuid, cdi::DeviceName};
use std::fmt;

/// NVIDIA's variable, which CUDA's images set to `all`.
const VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";
const OWN_ANNOTATION: &str = "mig-cdi/devices";
/// Prefix of the annotations with which containerd and CRI-O take CDI devices.
const CDI_ANNOTATION: &str = "cdi.k8s.io/";

/// A device in the notation of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedDevice {
    /// Name of a device of the spec.
    Name(DeviceName),
    /// `MIG-GPU-<uuid>/<gi>/<ci>`, the name of a MIG device before driver R470.
    Legacy {
        /// UUID of the GPU.
        gpu: GpuUuid,
        /// GPU instance.
        gi: GiId,
        /// Compute instance within the GPU instance.
        ci: CiId,
    },
}

impl fmt::Display for RequestedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestedDevice::Name(name) => name.fmt(f),
            RequestedDevice::Legacy { gpu, gi, ci } => write!(f, "MIG-{gpu}/{gi}/{ci}"),
        }
    }
}

/// Returns the devices that a container requests, in order and each once; most containers request none. Where an
/// annotation requests devices, the variable is ignored, which an image may have set. An annotation may come from an
/// image too, since podman copies those of its manifest (measured with 4.3.1): `hook.annotations` lists those that count.
///
/// # Errors
/// Fails when the policy does not allow the request, or when its text is not a list of devices.
pub fn read(
    config: &OciConfig<'_>,
    policy: &HookSettings,
    kind: &str,
) -> Result<Vec<RequestedDevice>> {
    let annotated = from_annotations(config, policy, kind)?;
    if !annotated.is_empty() || policy.environment == EnvironmentPolicy::Ignore {
        return Ok(annotated);
    }
    let Some(value) = variable(config)? else { return Ok(Vec::new()) };
    if policy.environment == EnvironmentPolicy::Privileged && !config.privileged {
        return Err(Error::refused(
            "accept",
            format!("{VARIABLE}={value}"),
            "the container is not privileged, and a variable may come from its image",
        )
        .with_cure(format!(
            "request slices by the annotation {OWN_ANNOTATION}, allow the variable with hook.environment = \"all\" \
             in {}, or set {VARIABLE}=void to request none",
            mig_cdi_config::PATH
        )));
    }
    let mut devices = Vec::new();
    for name in value.split(',') {
        add(&mut devices, device(VARIABLE, name)?);
    }
    Ok(devices)
}

fn from_annotations(
    config: &OciConfig<'_>,
    policy: &HookSettings,
    kind: &str,
) -> Result<Vec<RequestedDevice>> {
    let mut devices = Vec::new();
    for Annotation { key, value } in &config.annotations {
        let names = match key.as_str() {
            OWN_ANNOTATION => own_names(value, kind)?,
            key if key.starts_with(CDI_ANNOTATION) => cdi_names(key, value, kind)?,
            _ => continue,
        };
        if !names.is_empty() && !policy.annotations.iter().any(|pattern| pattern.matches(key)) {
            let cause =
                format!("it requests {}, which hook.annotations does not allow", names.join(","));
            let cure = format!("list {key} there, in {}", mig_cdi_config::PATH);
            return Err(annotation_error(key, cause).with_cure(cure));
        }
        for name in names {
            add(&mut devices, device(key, name)?);
        }
    }
    Ok(devices)
}

fn annotation_error(key: &str, cause: impl fmt::Display) -> Error {
    Error::refused("accept the annotation", key, cause)
}

fn add(devices: &mut Vec<RequestedDevice>, device: RequestedDevice) {
    if !devices.contains(&device) {
        devices.push(device);
    }
}

/// Value of the variable, when it requests devices. Set twice to different values it is an error: the hook and a
/// program in the container might read different ones.
fn variable<'c>(config: &'c OciConfig<'_>) -> Result<Option<&'c str>> {
    let value = |entry: &'c String| entry.strip_prefix(VARIABLE)?.strip_prefix('=');
    let mut values = config.env.iter().filter_map(value);
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|other| other != first) {
        return Err(Error::refused("accept", VARIABLE, "it is set twice, to different devices")
            .with_cure("set it once"));
    }
    // NVIDIA's meanings: "void" and the empty value are the same as no variable, "none" is no GPU but the driver.
    Ok(if matches!(first, "" | "void" | "none") { None } else { Some(first) })
}

/// Names in `nvidia.com/mig=0:1,0:2` or, without the kind, `0:1,0:2`.
fn own_names<'v>(value: &'v str, kind: &str) -> Result<Vec<&'v str>> {
    let name = |entry: &'v str| match entry.split_once('=') {
        None => Ok(entry),
        Some((own, name)) if own == kind => Ok(name),
        Some((other, _)) => {
            let cause = format!("it requests a device of kind {other:?}, only {kind} is provided");
            Err(annotation_error(OWN_ANNOTATION, cause))
        }
    };
    value.split(',').map(name).collect()
}

/// Names of the devices of our kind; the engine injects the others itself.
fn cdi_names<'v>(key: &str, value: &'v str, kind: &str) -> Result<Vec<&'v str>> {
    let mut names = Vec::new();
    for entry in value.split(',') {
        match entry.split_once('=') {
            Some((own, name)) if own == kind => names.push(name),
            Some(_) => {}
            None => {
                let cause = format!("{entry:?} is not a cdi device vendor/class=name");
                return Err(annotation_error(key, cause));
            }
        }
    }
    Ok(names)
}

fn device(source: &str, name: &str) -> Result<RequestedDevice> {
    let legacy = || {
        let (gpu, rest) = name.strip_prefix("MIG-")?.split_once('/')?;
        let (gi, ci) = rest.split_once('/')?;
        // "03" would be another text for one slice, and so a second request for it.
        let number = |text: &str| text.parse().ok().filter(|n: &u32| n.to_string() == text);
        let (gpu, gi, ci) = (gpu.parse().ok()?, GiId(number(gi)?), CiId(number(ci)?));
        Some(RequestedDevice::Legacy { gpu, gi, ci })
    };
    let known = name.parse().ok().map(RequestedDevice::Name).or_else(legacy);
    known.ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        Error::refused("accept", source, format!("{shown:?} is not the name of a mig device"))
            .with_cure("list the names with mig-cdi list")
    })
}

/// Returns whether the policy allows a device with these names.
pub fn is_allowed<'n>(names: impl IntoIterator<Item = &'n str>, devices: &[Pattern]) -> bool {
    names.into_iter().any(|name| devices.iter().any(|pattern| pattern.matches(name)))
}
