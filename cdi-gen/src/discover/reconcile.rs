//! Compares the two views, `/proc` and NVML, and keeps what both confirm. Pure: values in, values out.

use super::{
    discovery::Discovery,
    problem::{Problem, Reason},
    proc_view::{ProcInstances, ProcView},
    topology_builder::{ConfirmedInstances, NvmlAttributes, add_instances, gpu, topology},
};
use crate::{Error, Result};
use mig_cdi_model::{
    CiId, GiId, Gpu, GpuIndex, GpuMinor, GpuUuid, MigIndex, MigMode, PciAddress, Profile, Topology,
};
use mig_cdi_sys::{nvml, text::Information};
use std::collections::BTreeSet;

/// Builds the topology that both views agree on.
pub(super) fn reconcile(proc: &ProcView, nvml: &nvml::NvmlSnapshot) -> Result<Discovery> {
    if proc.driver_version != nvml.driver_version {
        let cause = format!(
            "/proc/driver/nvidia/version has driver {}, nvml reports {}",
            proc.driver_version, nvml.driver_version
        );
        let cure = "finish the driver update: reboot, or unload and load the nvidia modules";
        return Err(Error::no_driver("read", "the driver version").because(cause).with_cure(cure));
    }
    let mut problems = Vec::new();
    let mut gpus = Vec::new();
    // An index that NVML cannot answer for keeps its number, as in nvidia-smi.
    for (index, entry) in (0..).map(GpuIndex).zip(&nvml.gpus) {
        let label = format!("gpu {index}");
        let known = match entry {
            Ok(report) => known_gpu(proc, report, &label).map(|known| (report, known)),
            Err(error) => Err(Problem::new(&label, error)),
        };
        match known {
            Ok((report, (information, uuid))) => {
                let mut gpu = gpu(proc, Some(index), information);
                gpu.uuid = Some(uuid);
                gpu.model.clone_from(&report.model);
                gpu.memory_mib = report.memory_bytes.map(|bytes| bytes >> 20);
                gpu.compute_capability = report.compute_capability;
                gpu.mig = mig_mode(report);
                gpu.pending_mode = report.pending_mode;
                let confirmed = confirmed(proc, &label, information, report, &mut problems);
                add_instances(proc, &mut gpu, &confirmed, &mut problems);
                gpus.push(gpu);
            }
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(unlisted(proc, nvml));
    let library = Some(nvml.library.clone());
    let masked_params = proc.masked_params.clone();
    let caps = proc.majors.caps;
    let topology = Topology { cuda_version: nvml.cuda_version, ..topology(proc, gpus) };
    let warnings = proc.warnings();
    Ok(Discovery { topology, problems, warnings, library, masked_params, caps })
}

/// Builds the topology of `/proc` alone, without indices, UUIDs and profiles.
pub(super) fn from_proc_alone(proc: &ProcView) -> Discovery {
    let mut problems = Vec::new();
    let mut gpus = Vec::new();
    for (pci, information) in &proc.gpus {
        match information {
            // The driver does not use a GPU that NVreg_ExcludedGpus names.
            Ok(information) if information.excluded => {}
            Ok(information) => {
                let mut gpu = gpu(proc, None, information);
                let tree = proc.instances.get(&gpu.minor);
                let instances = tree.into_iter().flat_map(compute_instances);
                let confirmed: ConfirmedInstances =
                    instances.map(|key| (key, NvmlAttributes::default())).collect();
                // The reverse does not hold: `gpuN/mig` exists with MIG off too (`os.c:4707-4717`).
                if tree.is_some() {
                    gpu.mig = MigMode::Enabled;
                }
                add_instances(proc, &mut gpu, &confirmed, &mut problems);
                gpus.push(gpu);
            }
            Err(reason) => problems.push(Problem::new(format!("gpu {pci}"), reason)),
        }
    }
    problems.extend(without_gpu(proc, &gpus));
    let masked_params = proc.masked_params.clone();
    let caps = proc.majors.caps;
    let (topology, warnings) = (topology(proc, gpus), proc.warnings());
    Discovery { topology, problems, warnings, library: None, masked_params, caps }
}

/// Reports instances of a GPU that `/proc` does not list. A GPU whose file cannot be read is reported already, and the
/// instances may be its own.
fn without_gpu(proc: &ProcView, gpus: &[Gpu]) -> Vec<Problem> {
    let known = |minor: &GpuMinor| gpus.iter().any(|gpu| gpu.minor == *minor);
    let lost = proc.instances.keys().filter(|minor| !known(minor));
    if proc.gpus.values().any(Result::is_err) {
        return Vec::new();
    }
    let problem = |minor: &GpuMinor| {
        let tree = format!("/proc/driver/nvidia/capabilities/gpu{minor}");
        let reason = format!("{tree} has instances, /proc/driver/nvidia/gpus has no such gpu");
        Problem::disagreement(format!("/dev/nvidia{minor}"), reason)
    };
    lost.map(problem).collect()
}

/// The compute instances in the capability tree of a GPU.
fn compute_instances(tree: &ProcInstances) -> impl Iterator<Item = (GiId, CiId)> {
    tree.iter().flat_map(|(&gi, instance)| instance.compute.keys().map(move |&ci| (gi, ci)))
}

fn mig_mode(report: &nvml::NvmlGpu) -> MigMode {
    match report.mig {
        None => MigMode::Unsupported,
        Some(false) => MigMode::Disabled,
        Some(true) => MigMode::Enabled,
    }
}

/// Returns the GPU of `/proc` that is a GPU of NVML by address, minor and UUID.
fn known_gpu<'a>(
    proc: &'a ProcView,
    report: &nvml::NvmlGpu,
    label: &str,
) -> Result<(&'a Information, GpuUuid), Problem> {
    let pci: PciAddress =
        report.pci.parse().map_err(|e| Problem::new(label, format!("nvml: {e}")))?;
    let uuid: GpuUuid =
        report.uuid.parse().map_err(|e| Problem::new(label, format!("nvml: {e}")))?;
    let information = match proc.gpus.get(&pci) {
        Some(Ok(information)) => information,
        Some(Err(reason)) => return Err(Problem::new(label, reason)),
        None => {
            let reason = format!("nvml lists {pci}, /proc/driver/nvidia/gpus does not");
            return Err(Problem::disagreement(label, reason));
        }
    };
    let disagreement = |nvml: &dyn std::fmt::Display, proc: &dyn std::fmt::Display| {
        let file = format!("/proc/driver/nvidia/gpus/{pci}/information");
        Problem::disagreement(label, format!("nvml reports {pci} as {nvml}, {file} as {proc}"))
    };
    if information.minor.0 != report.minor {
        let node = |minor| format!("/dev/nvidia{minor}");
        return Err(disagreement(&node(report.minor), &node(information.minor.0)));
    }
    match &information.uuid {
        Some(known) if *known != uuid => Err(disagreement(&uuid, known)),
        _ => Ok((information, uuid)),
    }
}

/// Returns the MIG devices that NVML lists and the capability tree has. A device that only one of them has is a problem.
fn confirmed(
    proc: &ProcView,
    label: &str,
    information: &Information,
    report: &nvml::NvmlGpu,
    problems: &mut Vec<Problem>,
) -> ConfirmedInstances {
    let minor = information.minor;
    let path = |(gi, ci)| format!("/proc/driver/nvidia/capabilities/gpu{minor}/mig/gi{gi}/ci{ci}");
    let label_of = |(gi, ci): (GiId, CiId)| format!("{label} gi {gi} ci {ci}");
    let in_tree: BTreeSet<_> =
        proc.instances.get(&minor).into_iter().flat_map(compute_instances).collect();
    let mut in_nvml = BTreeSet::new();
    let mut confirmed = ConfirmedInstances::new();
    for nvml::IndexedMigDevice { index, device } in &report.devices {
        let device = match device {
            Ok(device) => device,
            Err(error) => {
                let label = format!("{label} mig {index}");
                problems.push(Problem::disagreement(label, error));
                continue;
            }
        };
        let key = (GiId(device.gi), CiId(device.ci));
        in_nvml.insert(key);
        if !in_tree.contains(&key) {
            let reason = format!("nvml lists it, {} is not there", path(key));
            problems.push(Problem::disagreement(label_of(key), reason));
            continue;
        }
        match attributes(MigIndex(*index), device, report.memory_bytes) {
            Ok(attributes) => drop(confirmed.insert(key, attributes)),
            Err(reason) => problems.push(Problem::new(label_of(key), reason)),
        }
    }
    for &key in in_tree.difference(&in_nvml) {
        let reason = format!("{} is there, nvml does not list it", path(key));
        problems.push(Problem::disagreement(label_of(key), reason));
    }
    confirmed
}

fn attributes(
    index: MigIndex,
    device: &nvml::NvmlMigDevice,
    gpu_bytes: Option<u64>,
) -> Result<NvmlAttributes, Reason> {
    let sizes = device.sizes;
    let by_size = || {
        let nvml::Sizes { memory_mib, attributes } = sizes?;
        let (compute, gpu) = (attributes.compute_slices, attributes.gpu_slices);
        Profile::from_sizes(compute, gpu, memory_mib, gpu_bytes?)
    };
    Ok(NvmlAttributes {
        index: Some(index),
        uuid: Some(device.uuid.parse().map_err(|e| format!("nvml: {e}"))?),
        // The driver's own name decides: the names of GB200 changed between releases with the PCI id unchanged, and
        // sizes give a name by the formula of go-nvlib (`mig_profile.go:384-392`), which knows no later suffix.
        profile: Profile::from_device_name(&device.name).or_else(by_size),
        memory_mib: sizes.map(|s| s.memory_mib),
        attributes: sizes.map(|s| s.attributes),
        gi_placement: device.gi_placement,
        ci_placement: device.ci_placement,
    })
}

/// Reports GPUs of `/proc` that NVML does not list. NVML does not report which GPU is behind an index that it cannot
/// answer for, so those are named here by their addresses.
fn unlisted(proc: &ProcView, nvml: &nvml::NvmlSnapshot) -> Vec<Problem> {
    let listed = nvml.gpus.iter().flatten().filter_map(|gpu| gpu.pci.parse().ok());
    let listed: BTreeSet<PciAddress> = listed.collect();
    let some_failed = nvml.gpus.iter().any(Result::is_err);
    let mut problems = Vec::new();
    for (pci, gpu) in proc.gpus.iter().filter(|(pci, _)| !listed.contains(pci)) {
        let subject = match gpu {
            Ok(information) if information.excluded => continue,
            Ok(information) => format!("/dev/nvidia{}", information.minor),
            Err(_) => "gpu".to_owned(),
        };
        problems.push(match some_failed {
            true => Problem::new(subject, format!("nvml does not answer for the gpu at {pci}")),
            false => {
                let reason = format!("/proc/driver/nvidia/gpus has {pci}, nvml does not list it");
                Problem::disagreement(subject, reason)
            }
        });
    }
    problems
}
