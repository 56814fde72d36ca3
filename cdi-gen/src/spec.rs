//! From a [`Topology`] to a CDI document. Pure: no path of this machine, no clock, no environment.
//!
//! The document has no hooks: a MIG device is device nodes and environment, and CDI says both.

mod edits;
mod names;
mod text;

pub use names::NameStyle;
pub use text::{Format, to_text};

use crate::{
    Exit, Failure,
    discover::{Problem, Source},
};
use edits::Edits;
use mig_cdi_model::{
    DriverFile, MigDevice, Topology,
    cdi::{Device, DeviceName, Kind, Spec, Version, highest_need},
};
use std::collections::{BTreeMap, BTreeSet};

/// What the document shall be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the devices are.
    pub kind: Kind,
    /// How they are named; each gets every name that can be given.
    pub names: Vec<NameStyle>,
    /// Which view the topology comes from; `/proc` alone gives other names.
    pub source: Source,
    /// Where the loader of a container looks for libraries without a cache.
    pub library_dirs: Vec<String>,
    /// Set `CUDA_VISIBLE_DEVICES`.
    pub cuda_env: bool,
    /// Add the facts of each device for readers of the document.
    pub annotations: bool,
    /// The highest version of CDI that may be used.
    pub max_version: Version,
}

/// A document, or none when there is no device, and what was left out of it.
#[derive(Debug, Clone)]
pub struct Built {
    /// CDI knows no empty document.
    pub spec: Option<Spec>,
    /// Number of MIG devices in it.
    pub devices: usize,
    /// Devices left out.
    pub problems: Vec<Problem>,
    /// Names that could not be given to devices which have another.
    pub warnings: Vec<String>,
}

/// Builds the document.
///
/// # Errors
/// When the content needs a newer CDI than allowed, or when the node lacks what every device needs.
pub fn build(
    topology: &Topology,
    files: &[DriverFile],
    options: &Options,
) -> Result<Built, Failure> {
    let mut naming = names::name_all(topology, options);
    naming.problems.extend(naming.left_out.iter().map(|device| {
        Problem::new(label(device), "none of the names asked for can be given to it; see --names")
    }));
    let edits = Edits { options, files };
    let devices = naming.named.iter().map(|(name, device)| Device {
        name: name.clone(),
        annotations: if options.annotations { annotations(device) } else { BTreeMap::new() },
        container_edits: edits.of(&[*device]),
    });
    let mut devices: Vec<Device> = devices.collect();
    let distinct = distinct(&naming.named);
    if !devices.is_empty() {
        check_common(topology)?;
        let name = "all".parse().expect("a device name");
        let container_edits = edits.of(&distinct);
        devices.push(Device { name, annotations: BTreeMap::new(), container_edits });
    }
    let cdi_version = version(&options.kind, &devices, options.max_version)?;
    let spec = (!devices.is_empty()).then(|| Spec {
        cdi_version: cdi_version.as_str(),
        kind: options.kind.clone(),
        devices,
        container_edits: edits.common(topology),
    });
    let names::Naming { problems, warnings, .. } = naming;
    Ok(Built { spec, devices: distinct.len(), problems, warnings })
}

/// The first name that a person would type for each device, slot before UUID.
#[must_use]
pub fn handy_name(device: &MigDevice<'_>, source: Source) -> Option<DeviceName> {
    names::handy(device, source)
}

/// How a device is called in messages.
pub(crate) fn label(device: &MigDevice<'_>) -> String {
    format!("{} gi {} ci {}", device.gpu.label(), device.gi.id, device.ci.id)
}

/// A slice without unified memory opens and runs no CUDA program: half a device.
fn check_common(topology: &Topology) -> Result<(), Failure> {
    if topology.common.iter().any(|node| node.path == "/dev/nvidia-uvm") {
        return Ok(());
    }
    let message = "read /proc/devices: no character device \"nvidia-uvm\", which every cuda program \
                   opens; run modprobe nvidia-uvm";
    Err(Failure::new(Exit::Failed, message))
}

/// The devices behind the names, each once.
fn distinct<'a>(named: &[(DeviceName, MigDevice<'a>)]) -> Vec<MigDevice<'a>> {
    let mut seen = BTreeSet::new();
    let key = |d: &MigDevice<'_>| (d.gpu.minor, d.gi.id, d.ci.id);
    named.iter().map(|(_, device)| *device).filter(|device| seen.insert(key(device))).collect()
}

/// The least version that the content needs.
fn version(kind: &Kind, devices: &[Device], max: Version) -> Result<Version, Failure> {
    match highest_need(kind, devices) {
        None => Ok(Version::V0_3_0),
        Some(need) if need.version <= max => Ok(need.version),
        Some(need) => {
            let message = format!(
                "{} and needs cdi {}, above --max-cdi-version {max}; {} would reject the spec",
                need.what,
                need.version,
                need.version.rejected_by()
            );
            Err(Failure::new(Exit::Refused, message))
        }
    }
}

fn annotations(device: &MigDevice<'_>) -> BTreeMap<String, String> {
    let MigDevice { gpu, gi, ci } = device;
    let text = |value: &dyn std::fmt::Display| Some(value.to_string());
    let facts = [
        ("gpu-uuid", gpu.uuid.as_ref().and_then(|v| text(v))),
        ("gpu-instance", text(&gi.id)),
        ("compute-instance", text(&ci.id)),
        ("profile", ci.profile.as_ref().and_then(|v| text(v))),
        ("memory-mib", ci.memory_mib.and_then(|v| text(&v))),
        ("start", gi.placement.and_then(|v| text(&v.start))),
    ];
    let facts = facts.into_iter();
    facts.filter_map(|(key, value)| Some((format!("mig-cdi/{key}"), value?))).collect()
}
