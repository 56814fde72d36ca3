//! Builds a CDI spec from a [`Topology`]. Pure: reads no path of this host, no clock, no environment.
//!
//! A spec has no hooks unless [`SpecOptions::verify`] or [`SpecOptions::ldcache`] requests one: a MIG device is device
//! nodes, files and environment, and CDI states all three.

mod edits;
mod names;
mod options;
mod spec_device;
mod text;

pub use mig_cdi_model::NameStyle;
pub use names::{flag_of_name, has_name, label, preferred_name};
pub(crate) use names::{slot_name, unnamed_warning};
pub use options::{Admin, SpecOptions, VerifyHook};
pub use spec_device::{DeviceIdentity, expected_slice};
pub use text::{Format, to_text};

use crate::{Error, Result, discover::Problem};
use edits::EditBuilder;
use mig_cdi_model::{
    DriverFile, Topology,
    cdi::{Device, DeviceName, Spec, Version, VersionNeed},
};
use spec_device::{SpecDevice, SpecDevices};
use std::collections::BTreeMap;

/// Devices that a spec describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceSet {
    /// MIG devices and administrative capabilities.
    Mig,
    /// GPUs that are not partitioned.
    Gpus,
}

/// Result of building a spec.
#[derive(Debug, Clone)]
pub struct BuiltSpec {
    /// The spec, `None` when there is no device: CDI accepts no spec without one.
    pub spec: Option<Spec>,
    /// Each device once, with its names.
    pub devices: Vec<BuiltDevice>,
    /// Omitted devices.
    pub problems: Vec<Problem>,
    /// Number of devices without a name of a style that was wanted. They have another name.
    pub unnamed: BTreeMap<NameStyle, usize>,
}

/// A device of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltDevice {
    /// Identity of the device.
    pub identity: DeviceIdentity,
    /// Names by which the spec defines it, at least one.
    pub names: Vec<DeviceName>,
}

/// Builds a spec.
///
/// # Errors
/// When the content needs a newer CDI than allowed, or when the node lacks what every device needs.
pub fn build(
    topology: &Topology,
    files: &[DriverFile],
    content: DeviceSet,
    options: &SpecOptions,
) -> Result<BuiltSpec> {
    let SpecDevices { mut devices, mut problems, unnamed } = match content {
        DeviceSet::Mig => spec_device::mig_devices(topology, options),
        DeviceSet::Gpus => spec_device::whole_gpus(topology, options),
    };
    problems.extend(drop_shared_names(&mut devices));
    problems.extend(drop_unnamed(&mut devices));
    if !devices.is_empty() {
        check_common(topology)?;
    }
    let builder = EditBuilder { options, files };
    let entries = entries(&devices, &builder);
    let mut spec = Spec {
        cdi_version: None,
        kind: options.kind.to_string(),
        annotations: BTreeMap::new(),
        devices: entries,
        container_edits: builder.common(topology),
    };
    spec.cdi_version = Some(version(&spec, options)?.to_string());
    let spec = (!spec.devices.is_empty()).then_some(spec);
    let built =
        |SpecDevice { identity: subject, names, .. }| BuiltDevice { identity: subject, names };
    let devices = devices.into_iter().map(built).collect();
    Ok(BuiltSpec { spec, devices, problems, unnamed })
}

/// The entries of all devices, then `all`, which a container requests to get every slice.
// An administrative capability is none of `all`: it has to be requested by its name.
fn entries(devices: &[SpecDevice<'_>], builder: &EditBuilder<'_>) -> Vec<Device> {
    let mut entries: Vec<_> = devices.iter().flat_map(|device| builder.entries(device)).collect();
    let all: Vec<_> = devices.iter().filter(|device| device.in_all).collect();
    if !all.is_empty() {
        let (name, annotations) = ("all".to_owned(), BTreeMap::new());
        entries.push(Device { name, annotations, container_edits: builder.device_edits(&all) });
    }
    entries
}

/// Takes a name that two devices have from both.
// An engine would use one of the two entries, and a container get a slice by chance.
fn drop_shared_names(devices: &mut [SpecDevice<'_>]) -> Vec<Problem> {
    let mut labels: BTreeMap<DeviceName, Vec<String>> = BTreeMap::new();
    for device in devices.iter() {
        for name in &device.names {
            labels.entry(name.clone()).or_default().push(device.label.clone());
        }
    }
    labels.retain(|_, labels| labels.len() > 1);
    for device in devices {
        device.names.retain(|name| !labels.contains_key(name));
    }
    let problem = |(name, labels): (DeviceName, Vec<String>)| {
        let reason = format!("{} have the same name; no device gets it", labels.join(" and "));
        Problem::new(name.as_str(), reason)
    };
    labels.into_iter().map(problem).collect()
}

/// Drops the devices without a name.
fn drop_unnamed(devices: &mut Vec<SpecDevice<'_>>) -> Vec<Problem> {
    let unnamed = devices.extract_if(.., |device| device.names.is_empty());
    let reason = "no name of the chosen styles applies to it";
    unnamed.map(|device| Problem::new(device.label, reason)).collect()
}

/// Checks that unified memory is loaded.
// A slice without it opens, and then every CUDA program fails. NVML needs it not, so discovery succeeds.
fn check_common(topology: &Topology) -> Result<()> {
    if topology.common.iter().any(|node| node.path == "/dev/nvidia-uvm") {
        return Ok(());
    }
    let cause = "no character device \"nvidia-uvm\", which every cuda program opens";
    let error = Error::failed("read", "/proc/devices").because(cause);
    Err(error.with_cure("run modprobe nvidia-uvm"))
}

/// The lowest version that the content needs.
// Not the highest that the engines accept: another engine may be installed later.
fn version(spec: &Spec, options: &SpecOptions) -> Result<Version> {
    let max = options.max_version;
    let refused = Error::refused("build", format!("the spec of {}", options.kind));
    match spec.highest_need() {
        None => Ok(Version::V0_3_0),
        Some(need) if need.version <= max => Ok(need.version),
        Some(need) if let Some(engine) = &options.limited_by => {
            let VersionNeed { what, version } = need;
            let cause =
                format!("{what} and needs cdi {version}, and {engine} accepts {max} at most");
            let cure =
                format!("update it, omit what needs more, or set max-cdi-version to {version}");
            Err(refused.because(cause).with_cure(cure))
        }
        Some(need) => {
            let VersionNeed { what, version } = need;
            let cause = format!("{what} and needs cdi {version}, above max-cdi-version {max}");
            let cause = format!("{cause}, and {} would reject the spec", version.rejected_by());
            let cure = format!("omit what needs more, or set max-cdi-version to {version}");
            Err(refused.because(cause).with_cure(cure))
        }
    }
}
