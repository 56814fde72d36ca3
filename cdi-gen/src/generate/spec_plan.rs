//! The specs of a node and their files, before anything is written: `generate` writes them, `check` compares them with the disk.

use super::options::{DeviceBuilder, GenerateOptions, SpecDestination};
use crate::{
    Error, Result,
    discover::Problem,
    spec::{BuiltSpec, DeviceSet, Format, SpecOptions, to_text},
    write::SpecPath,
};
use mig_cdi_model::{
    Topology,
    cdi::{Kind, Spec},
};
use std::path::PathBuf;

/// Specs and files to write.
#[derive(Debug)]
pub struct SpecPlan {
    /// GPUs and MIG devices that were found.
    pub topology: Topology,
    /// Spec of the MIG devices.
    pub mig: PlannedSpec,
    /// Spec of the GPUs that are not in MIG mode, when one is requested.
    pub gpus: Option<PlannedSpec>,
    /// Format of the specs.
    pub format: Format,
    /// Omitted GPUs, MIG devices and names.
    pub omitted: Vec<Problem>,
    /// Conflict for which whole GPUs are omitted: a file of another tool defines them.
    pub gpus_conflict: Option<Error>,
    /// Masked `/proc/driver/nvidia/params`, to be written beside each spec that mounts it.
    pub masked_params: Option<String>,
}

/// One spec and its file.
#[derive(Debug)]
pub struct PlannedSpec {
    /// The spec, unless there is no device for one.
    pub built: BuiltSpec,
    /// Kind of its devices.
    pub kind: Kind,
    /// File of the spec; `None` is standard output.
    pub target: Option<SpecPath>,
}

/// Files of the specs.
#[derive(Debug, Clone)]
pub struct SpecTargets {
    /// File of the MIG devices.
    pub mig: SpecTarget,
    /// File of the whole GPUs, when one is requested.
    pub gpus: Option<SpecTarget>,
}

/// File of one spec.
#[derive(Debug, Clone)]
pub struct SpecTarget {
    /// Kind of the devices in it.
    pub kind: Kind,
    /// The file.
    pub file: SpecPath,
}

impl SpecTargets {
    /// Every file, that of the MIG devices first.
    pub fn iter(&self) -> impl Iterator<Item = &SpecTarget> {
        std::iter::once(&self.mig).chain(&self.gpus)
    }
}

impl SpecPlan {
    /// Every spec, that of the MIG devices first.
    pub fn specs(&self) -> impl Iterator<Item = &PlannedSpec> {
        std::iter::once(&self.mig).chain(&self.gpus)
    }

    /// True when nothing of the node is omitted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.omitted.is_empty()
    }
}

/// Discovers the node and builds its specs.
pub(super) fn plan(devices: &DeviceBuilder<'_>, options: &GenerateOptions) -> Result<SpecPlan> {
    let spec_options = devices.options()?;
    let target = target(options, &spec_options.kind)?;
    let gpu_target = gpu_target(options, &spec_options, target.as_ref())?;
    let machine = devices.node().machine()?;
    let discovery = devices.node().discover(machine.as_ref(), devices.messages())?;
    let topology = discovery.topology;
    // Without a device nothing mounts the files, so a missing one is no failure: NVML and /proc work without libcuda.
    let has_devices = options.whole_gpus
        || !spec_options.admin.is_empty()
        || topology.mig_devices().next().is_some();
    let files = match has_devices {
        true => devices.driver_files(machine.as_ref(), &topology)?,
        false => Vec::new(),
    };
    let masked_params = masked_params(options, discovery.masked_params)?;
    let planned = |content, mut options: SpecOptions, target: Option<SpecPath>| {
        if let (Some(target), Some(_)) = (&target, &masked_params) {
            options.params_file = Some(target.params_file()?);
        }
        let built = devices.build(&topology, &files, content, &options)?;
        Ok::<_, Error>(PlannedSpec { built, kind: options.kind, target })
    };
    let gpus =
        gpu_target.map(|(kind, target)| (SpecOptions { kind, ..spec_options.clone() }, target));
    let mig = planned(DeviceSet::Mig, spec_options, target)?;
    let gpus = gpus
        .map(|(options, target)| planned(DeviceSet::Gpus, options, Some(target)))
        .transpose()?;
    let built = std::iter::once(&mig).chain(&gpus).flat_map(|spec| &spec.built.problems);
    let omitted = discovery.problems.iter().chain(built).cloned().collect();
    let (format, gpus_conflict) = (options.format, None);
    Ok(SpecPlan { topology, mig, gpus, format, omitted, gpus_conflict, masked_params })
}

/// Masked parameters to mount over `/proc/driver/nvidia/params`, when they are requested.
fn masked_params(options: &GenerateOptions, masked: Option<String>) -> Result<Option<String>> {
    if !options.mask_params {
        return Ok(None);
    }
    if options.output == SpecDestination::Stdout {
        return Err(second_file_error("--mask-params"));
    }
    masked.map(Some).ok_or_else(|| {
        Error::failed("read", "/proc/driver/nvidia/params")
            .because("it has no line ModifyDeviceFiles")
            .with_cure("omit --mask-params")
    })
}

/// Error of a flag that writes a file beside the spec, when the spec goes to standard output.
fn second_file_error(flag: &str) -> Error {
    Error::usage("accept", flag)
        .because("it writes a second file, and --output - is standard output")
        .with_cure("name a file with --output")
}

/// Kind and file of the whole GPUs. A CDI spec has one kind (its field `kind`), so they need a second file.
fn gpu_target(
    options: &GenerateOptions,
    spec_options: &SpecOptions,
    mig: Option<&SpecPath>,
) -> Result<Option<(Kind, SpecPath)>> {
    if !options.whole_gpus {
        return Ok(None);
    }
    let mig = mig.ok_or_else(|| second_file_error("--gpus"))?;
    let kind = spec_options.gpu_kind();
    if kind == spec_options.kind {
        return Err(Error::usage("accept", "--gpus")
            .because(format!("{kind} is the kind of the slices too"))
            .with_cure("choose another --kind"));
    }
    let target = mig.beside(&kind)?;
    Ok(Some((kind, target)))
}

/// Files of the specs that the options name, for an operation that needs files. `operation` is the verb in the
/// error: `remove`.
///
/// # Errors
/// When the output is standard output, or is no file that engines would read.
pub fn spec_targets(options: &GenerateOptions, operation: &str) -> Result<SpecTargets> {
    let kind = &options.devices.spec.kind;
    let file = target(options, kind)?.ok_or_else(|| {
        Error::usage(operation, "the spec")
            .because("--output - is standard output, and no file")
            .with_cure("name a file with --output")
    })?;
    let gpus = match options.whole_gpus {
        false => None,
        true => {
            let kind = options.devices.spec.gpu_kind();
            Some(SpecTarget { file: file.beside(&kind)?, kind })
        }
    };
    Ok(SpecTargets { mig: SpecTarget { kind: kind.clone(), file }, gpus })
}

/// File of a kind; `None` is standard output.
pub(super) fn target(options: &GenerateOptions, kind: &Kind) -> Result<Option<SpecPath>> {
    let format = options.format;
    let path = match &options.output {
        SpecDestination::Stdout => return Ok(None),
        SpecDestination::File(path) => path.clone(),
        SpecDestination::SpecDir => {
            let file = format!("{}.{}", kind.file_stem(), format.suffix());
            // Engines give the last directory the highest priority (container-device-interface, `pkg/cdi/spec-dirs.go`).
            options.spec_dirs.last().map_or_else(PathBuf::new, |dir| dir.join(file))
        }
    };
    SpecPath::new(&path, format.suffix(), &options.spec_dirs).map(Some)
}

/// Text of a spec.
///
/// # Errors
/// When serde cannot write it, which does not happen to a spec that was built here.
pub fn text_of(spec: &Spec, format: Format) -> Result<String> {
    to_text(spec, format).map_err(|e| Error::failed("write", "the spec").because(e))
}
