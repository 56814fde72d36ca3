//! The devices that a container requests, checked against the policy. Pure: a configuration and a policy in, devices out;
//! never reads a spec or the machine.

use crate::{
    error::{Error, Result},
    oci_config::{Annotation, OciConfig},
};
use mig_cdi_config::{HookSettings, Pattern, RequestPolicy};
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
    let mut requests = sources.iter().filter(|source| !names_no_slice(source));
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

/// NVIDIA's words for the driver without a GPU, and for nothing, with which a user takes back what an image says. The variable may
/// also be the word for every GPU, which CUDA's images set.
fn names_no_slice(source: &Source<'_>) -> bool {
    match source.name {
        VARIABLE => matches!(source.value, "all" | "none" | "void"),
        OWN_ANNOTATION => matches!(source.value, "none" | "void" | ""),
        _ => false,
    }
}

fn devices(source: &Source<'_>, kind: &str) -> Result<Vec<RequestedDevice>> {
    let Source { name, value } = *source;
    let names = match name {
        VARIABLE => value.split(',').collect(),
        OWN_ANNOTATION => own_names(value, kind)?,
        _ => cdi_names(name, value, kind)?,
    };
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
