//! The devices that a container requests, checked against the policy. Pure: a configuration and a policy in, devices out;
//! never reads a spec or the machine.

use crate::{
    error::{Error, Result},
    oci_config::{Annotation, OciConfig},
};
use mig_cdi_config::{HookSettings, Pattern, RequestPolicy};
use mig_cdi_model::{
    CiId, GiId, GpuUuid,
    cdi::{DeviceName, Kind},
};
use std::fmt;

/// NVIDIA's variable, which CUDA's images set to `all`.
const VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";
/// Its words for every GPU, for the driver without a GPU, and for nothing.
const WORDS: [&str; 3] = ["all", "none", "void"];
const OWN_ANNOTATION: &str = "mig-cdi/devices";
/// More names than the slices of a machine have. An image may name a million, each of which is looked up.
const MAX_DEVICES: usize = 1000;
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

/// The answer to what a container's variables and annotations say about devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// They name none, as those of most containers.
    None,
    /// They name some, or all, which is no request for a slice. The text is a line for the log.
    Ignored(String),
    /// They request these devices, in order and each once.
    Devices(Vec<RequestedDevice>),
}

/// A variable or an annotation that may be a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source<'c> {
    /// Name of the variable, or key of the annotation.
    name: &'c str,
    value: &'c str,
}

/// Displayed as `NAME=VALUE`, shortened: an image chooses the length of both.
impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", shortened(self.name), shortened(self.value))
    }
}

/// Returns the devices that a container requests, if the policy accepts requests from it.
///
/// A request has one source. The author of an image can write variables and annotations (podman copies those of an image's
/// manifest: `specgen/generate/container.go`, `CompleteSpec`), and nothing shows who wrote which: two that name different
/// devices are an error, so that neither adds to the other or takes its place.
///
/// # Errors
/// Fails when the container may request devices, and its text is not a list of devices, or there are two lists.
pub fn read(config: &OciConfig<'_>, policy: &HookSettings, kind: &str) -> Result<Request> {
    let sources = sources(config, kind);
    let Some(first) = sources.first() else { return Ok(Request::None) };
    if let Some(why) = not_accepted(config, policy.requests)? {
        return Ok(Request::Ignored(format!("{first} is no request: {why}")));
    }
    let mut requests = sources.iter().filter(|source| !names_no_slice(source, kind));
    let Some(request) = requests.next() else {
        return Ok(Request::Ignored(format!("{first} names no slice, so none is added")));
    };
    let requested = devices(request, kind)?;
    for other in requests {
        if devices(other, kind)? != requested {
            let places = match other.name == request.name {
                true => format!("{} twice", other.name),
                false => format!("{} and {}", shortened(request.name), shortened(other.name)),
            };
            let cause =
                format!("its variables and annotations request different devices, by {places}");
            return Err(Error::refused("accept the request of the container", "", cause)
                .with_cure(format!(
                    "request them in one place; {VARIABLE}=void and {OWN_ANNOTATION}=void request none"
                )));
        }
    }
    Ok(Request::Devices(requested))
}

/// The variables and annotations that name devices, the annotations first. Those that name only devices of other
/// kinds are not among them: the engine injects these itself.
fn sources<'c>(config: &'c OciConfig<'_>, kind: &str) -> Vec<Source<'c>> {
    let mut sources = Vec::new();
    for Annotation { key, value } in &config.annotations {
        let names_ours =
            || value.split(',').any(|entry| is_own(entry, kind) || !entry.contains('='));
        if key == OWN_ANNOTATION || key.starts_with(CDI_ANNOTATION) && names_ours() {
            sources.push(Source { name: key, value });
        }
    }
    for entry in &config.env {
        let value = entry.strip_prefix(VARIABLE).and_then(|rest| rest.strip_prefix('='));
        // The empty value is NVIDIA's for no variable.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            sources.push(Source { name: VARIABLE, value });
        }
    }
    sources
}

/// Returns why the policy accepts no request of a container, or `None` when it does.
fn not_accepted(config: &OciConfig<'_>, policy: RequestPolicy) -> Result<Option<&'static str>> {
    Ok(match policy {
        RequestPolicy::All => None,
        RequestPolicy::None => Some("hook.requests is \"none\""),
        RequestPolicy::Privileged if config.may_open_every_device()? => None,
        RequestPolicy::Privileged => {
            Some("hook.requests is \"privileged\", and the container may not open every device")
        }
    })
}

/// Reports whether a variable or an annotation names nothing that could be a slice of ours: a user takes back with it what an image
/// says, or it is for NVIDIA's runtime.
fn names_no_slice(source: &Source<'_>, kind: &str) -> bool {
    match source.name {
        // NVIDIA's runtime ignores blanks around entries, and empty ones (nvidia-container-toolkit, `devicesFromEnvvars` in
        // `internal/config/image/cuda_image.go`).
        VARIABLE => source.value.split(',').map(str::trim).all(|entry| {
            entry.is_empty() || WORDS.contains(&entry) || is_for_nvidia_alone(entry, kind)
        }),
        OWN_ANNOTATION => matches!(source.value, "none" | "void" | ""),
        _ => source.value.is_empty(),
    }
}

/// Reports whether an entry of the variable is a device of another CDI kind, as `management.nvidia.com/gpu=all` in pods of the GPU
/// operator, or a path: NVIDIA's device plugin names devices by mounts in `/var/run/nvidia-container-devices`. Names of ours have
/// neither form.
fn is_for_nvidia_alone(entry: &str, kind: &str) -> bool {
    let other = entry.split_once('=').filter(|(other, _)| *other != kind);
    entry.starts_with('/') || other.is_some_and(|(other, _)| other.parse::<Kind>().is_ok())
}

fn devices(source: &Source<'_>, kind: &str) -> Result<Vec<RequestedDevice>> {
    let Source { name, value } = *source;
    let names = match name {
        VARIABLE => variable_names(value, kind)?,
        OWN_ANNOTATION => own_names(value, kind)?,
        _ => cdi_names(name, value, kind)?,
    };
    if names.len() > MAX_DEVICES {
        let cause = format!("it names {} devices, more than a machine has", names.len());
        return Err(Error::refused("accept", shortened(name), cause)
            .with_cure("name only what the container needs"));
    }
    let mut devices = Vec::new();
    for text in names {
        let device = device(name, text)?;
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
    Ok(devices)
}

fn annotation_error(key: &str, cause: impl fmt::Display) -> Error {
    Error::refused("accept the annotation", shortened(key), cause)
}

/// The beginning of a text that an image may have chosen.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn is_own(entry: &str, kind: &str) -> bool {
    entry.strip_prefix(kind).is_some_and(|rest| rest.starts_with('='))
}

/// Names in the variable's `0:1,0:2`, with or without the kind. What stands beside them is not left out in silence: who wrote it
/// would get something else than they named.
fn variable_names<'v>(value: &'v str, kind: &str) -> Result<Vec<&'v str>> {
    let name = |entry: &'v str| {
        if WORDS.contains(&entry) || is_for_nvidia_alone(entry, kind) {
            let cause = format!("{:?} stands beside names of slices", shortened(entry));
            return Err(Error::refused("accept", VARIABLE, cause).with_cure("name only slices"));
        }
        Ok(entry.strip_prefix(kind).and_then(|name| name.strip_prefix('=')).unwrap_or(entry))
    };
    value.split(',').map(name).collect()
}

/// Names in `nvidia.com/mig=0:1,0:2` or, without the kind, `0:1,0:2`.
fn own_names<'v>(value: &'v str, kind: &str) -> Result<Vec<&'v str>> {
    let name = |entry: &'v str| match entry.split_once('=') {
        None => Ok(entry),
        Some((own, name)) if own == kind => Ok(name),
        Some((other, _)) => {
            let other = shortened(other);
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
                let entry = shortened(entry);
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
        let cause = format!("{:?} is not the name of a mig device", shortened(name));
        Error::refused("accept", shortened(source), cause)
            .with_cure("list the names with mig-cdi list")
    })
}

/// Returns whether the policy allows a device with these names.
pub fn is_allowed<'n>(names: impl IntoIterator<Item = &'n str>, devices: &[Pattern]) -> bool {
    names.into_iter().any(|name| devices.iter().any(|pattern| pattern.matches(name)))
}
