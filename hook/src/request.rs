//! What a container asks for, and whether it may. Pure: a configuration and a policy in, names out.

use crate::{Failure, config::Config};
use mig_cdi_config::{EnvironmentPolicy, HookSettings, Pattern};
use mig_cdi_model::{CiId, GiId, GpuUuid, cdi::DeviceName};
use std::fmt;

const VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";
const OURS: &str = "mig-cdi/devices";
const CDI: &str = "cdi.k8s.io/";

/// One slice, or `all`, in the words of whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A name of the spec.
    Name(DeviceName),
    /// `MIG-GPU-<uuid>/<gi>/<ci>`, which drivers before R470 called a MIG device.
    Legacy(GpuUuid, GiId, CiId),
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wish::Name(name) => name.fmt(f),
            Wish::Legacy(gpu, gi, ci) => write!(f, "MIG-{gpu}/{gi}/{ci}"),
        }
    }
}

/// What a container asks for; nothing for most. An annotation is the word of whoever starts the
/// container, the environment may be its image's: where an annotation asks, the environment is not
/// looked at.
///
/// # Errors
/// When it asks for what it may not, or in words that mean nothing.
pub fn read(config: &Config<'_>, policy: &HookSettings, kind: &str) -> Result<Vec<Wish>, Failure> {
    let mut wishes = Vec::new();
    for (key, value) in &config.annotations {
        let names = match key.as_str() {
            OURS => own_names(value, kind)?,
            key if key.starts_with(CDI) => cdi_names(key, value, kind)?,
            _ => continue,
        };
        if !names.is_empty() && !policy.annotations.iter().any(|pattern| pattern.matches(key)) {
            return Err(Failure::refused(format!(
                "the annotation {key} asks for {}: list it in hook.annotations of {} to allow that",
                names.join(","),
                mig_cdi_config::PATH
            )));
        }
        for name in names {
            add(&mut wishes, wish(key, name)?);
        }
    }
    if !wishes.is_empty() || policy.environment == EnvironmentPolicy::Ignore {
        return Ok(wishes);
    }
    let Some(value) = variable(config)? else { return Ok(wishes) };
    if policy.environment == EnvironmentPolicy::Privileged && !config.privileged {
        return Err(Failure::refused(format!(
            "{VARIABLE}={value} asks for devices from a container that is not privileged: ask by the annotation \
             {OURS}, allow it with hook.environment = \"all\" in {}, or set {VARIABLE}=void to ask for nothing",
            mig_cdi_config::PATH
        )));
    }
    for name in value.split(',') {
        add(&mut wishes, wish(VARIABLE, name)?);
    }
    Ok(wishes)
}

fn add(wishes: &mut Vec<Wish>, wish: Wish) {
    if !wishes.contains(&wish) {
        wishes.push(wish);
    }
}

/// The variable, when it asks for something. Set twice, a program and we might read different ones.
fn variable<'c>(config: &'c Config<'_>) -> Result<Option<&'c str>, Failure> {
    let value = |entry: &'c String| entry.strip_prefix(VARIABLE)?.strip_prefix('=');
    let mut values = config.env.iter().filter_map(value);
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|other| other != first) {
        return Err(Failure::refused(format!("{VARIABLE} is set twice, to different devices")));
    }
    Ok(if matches!(first, "" | "void" | "none") { None } else { Some(first) })
}

/// `nvidia.com/mig=0:1,0:2` or, kind left out, `0:1,0:2`.
fn own_names<'v>(value: &'v str, kind: &str) -> Result<Vec<&'v str>, Failure> {
    let name = |entry: &'v str| match entry.split_once('=') {
        None => Ok(entry),
        Some((of, name)) if of == kind => Ok(name),
        Some((of, _)) => Err(Failure::refused(format!(
            "the annotation {OURS} asks for a device of kind {of:?}: only {kind} is given here"
        ))),
    };
    value.split(',').map(name).collect()
}

/// Those of our kind; the engine knows the others.
fn cdi_names<'v>(key: &str, value: &'v str, kind: &str) -> Result<Vec<&'v str>, Failure> {
    let mut names = Vec::new();
    for entry in value.split(',') {
        match entry.split_once('=') {
            Some((of, name)) if of == kind => names.push(name),
            Some(_) => {}
            None => {
                return Err(Failure::refused(format!(
                    "the annotation {key} says {entry:?}, which is no cdi device vendor/class=name"
                )));
            }
        }
    }
    Ok(names)
}

fn wish(from: &str, name: &str) -> Result<Wish, Failure> {
    let legacy = || {
        let (gpu, rest) = name.strip_prefix("MIG-")?.split_once('/')?;
        let (gi, ci) = rest.split_once('/')?;
        let number = |text: &str| text.parse().ok().filter(|n: &u32| n.to_string() == text);
        Some(Wish::Legacy(gpu.parse().ok()?, GiId(number(gi)?), CiId(number(ci)?)))
    };
    let known = name.parse().ok().map(Wish::Name).or_else(legacy);
    known.ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        Failure::refused(format!(
            "{from} asks for {shown:?}, which is no name of a mig device; mig-cdi list shows them"
        ))
    })
}

/// True when one of the names of a device may be asked for.
pub fn allowed<'n>(names: impl IntoIterator<Item = &'n str>, devices: &[Pattern]) -> bool {
    names.into_iter().any(|name| devices.iter().any(|pattern| pattern.matches(name)))
}
