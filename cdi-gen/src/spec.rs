//! From a [`Topology`] to a CDI document. Pure: no path of this machine, no clock, no environment.
//!
//! The document has no hooks unless `--verify` or `--ldcache-hook` asks for one: a MIG device is device
//! nodes, files and environment, and CDI says all three.

mod edits;
mod names;
mod text;
mod units;

pub use names::is_called;
pub use names::{NameStyle, handy_name};
pub use text::{Format, to_text};
pub use units::Subject;
pub use units::claim;

use crate::{
    Exit, Failure,
    discover::{Problem, Source},
};
use edits::Edits;
use mig_cdi_model::{
    DriverFile, MigDevice, Topology,
    cdi::{Device, DeviceName, Kind, Spec, Version, highest_need},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::{Unit, Units};

/// What the document shall be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// What the devices are.
    #[serde(with = "crate::as_text")]
    pub kind: Kind,
    /// How they are named; each gets every name that can be given.
    pub names: Vec<NameStyle>,
    /// Which view the topology comes from; `/proc` alone gives other names.
    pub source: Source,
    /// Where the loader of a container looks for libraries without a cache.
    pub library_dirs: Vec<String>,
    /// A file to bind over `/proc/driver/nvidia/params`.
    pub params_file: Option<String>,
    /// Whole GPUs shall be able to draw.
    pub graphics: bool,
    /// Capabilities of administrators to offer too.
    pub admin: Vec<Admin>,
    /// Set `CUDA_VISIBLE_DEVICES`.
    pub cuda_env: bool,
    /// Add the facts of each device for readers of the document.
    pub annotations: bool,
    /// Look again when a container starts.
    pub verify: Option<VerifyHook>,
    /// Tell the loader where libraries are, by the program that is installed here.
    pub ldcache: Option<String>,
    /// The highest version of CDI that may be used.
    #[serde(with = "crate::as_text")]
    pub max_version: Version,
    /// The engine that takes no more, when that was not set by hand.
    pub limited_by: Option<String>,
}

impl Options {
    /// The kind of whole GPUs: `nvidia.com/gpu` beside `nvidia.com/mig`.
    #[must_use]
    pub fn gpu_kind(&self) -> Kind {
        self.kind.with_class_gpu()
    }
}

/// The hook that looks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyHook {
    /// Where it is installed.
    pub path: String,
    /// What it is told besides the slices.
    pub options: Vec<String>,
    /// Seconds that it may take.
    pub timeout: u32,
}

/// A capability that lets a container act on every slice of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admin {
    /// Create and destroy GPU instances and compute instances.
    Config,
    /// See processes, memory and events of all instances.
    Monitor,
}

impl Admin {
    /// Its name in a document, and of its file in the capability tree.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Admin::Config => "config",
            Admin::Monitor => "monitor",
        }
    }
}

/// What a document describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// MIG devices, and the capabilities of administrators.
    Mig,
    /// GPUs that are not divided.
    Gpus,
}

/// A document, or none when there is no device, and what was left out of it.
#[derive(Debug, Clone)]
pub struct Built {
    /// CDI knows no empty document.
    pub spec: Option<Spec>,
    /// What its devices are, each once, with its names.
    pub devices: Vec<(Subject, Vec<DeviceName>)>,
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
    content: Content,
    options: &Options,
) -> Result<Built, Failure> {
    let Units { mut units, mut problems, warnings } = match content {
        Content::Mig => units::of_mig(topology, options),
        Content::Gpus => units::of_gpus(topology, options),
    };
    problems.extend(drop_shared_names(&mut units));
    let (units, unnamed): (Vec<_>, Vec<_>) = units.into_iter().partition(|u| !u.names.is_empty());
    problems.extend(unnamed.iter().map(|unit| {
        Problem::new(&unit.label, "none of the names asked for can be given to it; see --names")
    }));
    if !units.is_empty() {
        check_common(topology)?;
    }
    let edits = Edits { options, files };
    let mut devices: Vec<Device> = units.iter().flat_map(|unit| edits.entries(unit)).collect();
    let all: Vec<&Unit<'_>> = units.iter().filter(|unit| unit.in_all).collect();
    if !all.is_empty() {
        let name = "all".parse().expect("a device name");
        let container_edits = edits.of(&all);
        devices.push(Device { name, annotations: BTreeMap::new(), container_edits });
    }
    let cdi_version = version(&devices, options)?;
    let spec = (!devices.is_empty()).then(|| Spec {
        cdi_version: cdi_version.as_str(),
        kind: options.kind.clone(),
        devices,
        container_edits: edits.common(topology),
    });
    let devices = units.into_iter().map(|unit| (unit.subject, unit.names)).collect();
    Ok(Built { spec, devices, problems, warnings })
}

/// A name that two units have names neither: a container would be given one of them by chance.
fn drop_shared_names(units: &mut [Unit<'_>]) -> Vec<Problem> {
    let mut holders: BTreeMap<DeviceName, Vec<String>> = BTreeMap::new();
    for unit in units.iter() {
        for name in &unit.names {
            holders.entry(name.clone()).or_default().push(unit.label.clone());
        }
    }
    holders.retain(|_, labels| labels.len() > 1);
    for unit in units {
        unit.names.retain(|name| !holders.contains_key(name));
    }
    let problem = |(name, labels): (DeviceName, Vec<String>)| {
        let reason = format!("{} have the same name; it is given to none", labels.join(" and "));
        Problem::new(name.as_str(), reason)
    };
    holders.into_iter().map(problem).collect()
}

/// How a device is called in messages.
pub fn label(device: &MigDevice<'_>) -> String {
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

/// The least version that the content needs.
fn version(devices: &[Device], options: &Options) -> Result<Version, Failure> {
    let max = options.max_version;
    match highest_need(&options.kind, devices) {
        None => Ok(Version::V0_3_0),
        Some(need) if need.version <= max => Ok(need.version),
        Some(need) if let Some(engine) = &options.limited_by => {
            let message = format!(
                "{} and needs cdi {}, and {engine} takes {max} alone; update it, leave out what needs more, or \
                 say --max-cdi-version {}",
                need.what, need.version, need.version
            );
            Err(Failure::new(Exit::Refused, message))
        }
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
