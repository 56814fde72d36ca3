//! Two views into one topology. Pure: values in, values out.

use super::{
    Discovery, Problem,
    proc_view::{Instance, Instances, ProcView},
};
use crate::{Exit, Failure};
use mig_cdi_model::{
    CiId, ComputeInstance, DeviceNode, GiId, Gpu, GpuIndex, GpuInstance, GpuMinor, HostNode, Major,
    MigIndex, MigMode, MigUuid, Minor, PciAddress, Profile, Topology,
};
use mig_cdi_sys::{
    nvml,
    text::{Access, Information, Params},
};
use std::collections::{BTreeMap, BTreeSet};

/// The topology that both views agree on.
pub(super) fn agree(proc: &ProcView, nvml: &nvml::Report) -> Result<Discovery, Failure> {
    if proc.driver_version != nvml.driver_version {
        let message = format!(
            "/proc/driver/nvidia/version says driver {}, nvml says {}; a driver update is half done: \
             reboot, or unload and load the nvidia modules",
            proc.driver_version, nvml.driver_version
        );
        return Err(Failure::new(Exit::NoDriver, message));
    }
    let mut problems = Vec::new();
    let mut gpus = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, entry) in (0..).map(GpuIndex).zip(&nvml.gpus) {
        let gpu =
            entry.as_ref().map_err(|e| Problem::new(format!("gpu {index}"), format!("nvml {e}")));
        match gpu.and_then(|report| one_gpu(proc, index, report, &mut seen, &mut problems)) {
            Ok(gpu) => gpus.push(gpu),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(unlisted(proc, &seen));
    Ok(Discovery { topology: topology(proc, gpus), problems })
}

/// The topology of `/proc` alone: no index, no UUID, no profile.
pub(super) fn proc_alone(proc: &ProcView) -> Discovery {
    let mut problems = Vec::new();
    let mut gpus = Vec::new();
    for (pci, information) in &proc.gpus {
        let information = match information {
            Ok(information) if information.excluded => continue,
            Ok(information) => information,
            Err(reason) => {
                problems.push(Problem::new(format!("gpu {pci}"), reason));
                continue;
            }
        };
        let minor = information.minor;
        let none = Instances::new();
        let instances = proc.instances.get(&minor).unwrap_or(&none);
        let mut gpu = gpu_of(proc, None, information);
        gpu.mig = if instances.is_empty() { MigMode::Unknown } else { MigMode::Enabled };
        for (&gi, instance) in instances {
            let named = |ci: CiId| Named { ci, ..Named::default() };
            let found = instance.compute.keys().map(|&ci| (ci, named(ci))).collect();
            gpu.gpu_instances.extend(gpu_instance(
                proc,
                &format!("gpu minor {minor}"),
                gi,
                instance,
                found,
                &mut problems,
            ));
        }
        gpus.push(gpu);
    }
    Discovery { topology: topology(proc, gpus), problems }
}

fn topology(proc: &ProcView, gpus: Vec<Gpu>) -> Topology {
    let node =
        |path: &str, major, minor| device_node(path.to_owned(), major, Minor(minor), proc.params);
    // NV_CONTROL_DEVICE_MINOR is 255; nvidia-uvm has minor 0, its tools 1 (uvm_common.h).
    let mut common = vec![node("/dev/nvidiactl", proc.majors.control, 255)];
    if let Some(uvm) = proc.majors.uvm {
        common.push(node("/dev/nvidia-uvm", uvm, 0));
        common.push(node("/dev/nvidia-uvm-tools", uvm, 1));
    }
    Topology { driver_version: proc.driver_version.clone(), common, gpus }
}

fn device_node(path: String, major: Major, minor: Minor, params: Params) -> DeviceNode {
    let Params { uid, gid, mode } = params;
    DeviceNode { path, major, minor, mode, uid, gid, host: HostNode::Missing }
}

fn gpu_of(proc: &ProcView, index: Option<GpuIndex>, information: &Information) -> Gpu {
    let minor = information.minor;
    let path = format!("/dev/nvidia{minor}");
    Gpu {
        index,
        minor,
        pci: information.pci,
        uuid: information.uuid.clone(),
        model: information.model.clone(),
        mig: MigMode::Unknown,
        node: device_node(path, proc.majors.gpu, Minor(minor.0), proc.params),
        dri: Vec::new(),
        gpu_instances: Vec::new(),
    }
}

/// One GPU of NVML held against `/proc`.
fn one_gpu(
    proc: &ProcView,
    index: GpuIndex,
    report: &nvml::Gpu,
    seen: &mut BTreeSet<PciAddress>,
    problems: &mut Vec<Problem>,
) -> Result<Gpu, Problem> {
    let subject = format!("gpu {index}");
    let fail = |reason: String| Problem::new(&subject, reason);
    let pci: PciAddress = report.pci.parse().map_err(|e| fail(format!("nvml: {e}")))?;
    seen.insert(pci);
    let information = match proc.gpus.get(&pci) {
        Some(Ok(information)) => information,
        Some(Err(reason)) => return Err(fail(reason.clone())),
        None => {
            let reason = format!("nvml lists {pci}, /proc/driver/nvidia/gpus does not");
            return Err(Problem::disagreement(subject, reason));
        }
    };
    if information.minor.0 != report.minor {
        let reason = format!(
            "nvml says {pci} is /dev/nvidia{}, /proc/driver/nvidia/gpus/{pci}/information says /dev/nvidia{}",
            report.minor, information.minor
        );
        return Err(Problem::disagreement(subject, reason));
    }
    let uuid = report.uuid.parse().map_err(|e| fail(format!("nvml: {e}")))?;
    if information.uuid.as_ref().is_some_and(|known| *known != uuid) {
        let reason = format!(
            "nvml says {pci} is {uuid}, /proc/driver/nvidia/gpus/{pci}/information does not"
        );
        return Err(Problem::disagreement(subject, reason));
    }
    let mut gpu = gpu_of(proc, Some(index), information);
    gpu.uuid = Some(uuid);
    gpu.model.clone_from(&report.model);
    gpu.mig = match report.mig {
        None => MigMode::Unsupported,
        Some(false) => MigMode::Disabled,
        Some(true) => MigMode::Enabled,
    };
    let none = Instances::new();
    let tree = proc.instances.get(&gpu.minor).unwrap_or(&none);
    let listed = listed(&subject, gpu.minor, tree, report, problems);
    for (&gi, instance) in tree {
        let found = listed.get(&gi).cloned().unwrap_or_default();
        gpu.gpu_instances.extend(gpu_instance(proc, &subject, gi, instance, found, problems));
    }
    Ok(gpu)
}

/// What NVML says of a compute instance.
#[derive(Debug, Clone, Default)]
struct Named {
    ci: CiId,
    index: Option<MigIndex>,
    uuid: Option<MigUuid>,
    profile: Option<Profile>,
    memory_mib: Option<u64>,
    gi_placement: Option<mig_cdi_model::Placement>,
    ci_placement: Option<mig_cdi_model::Placement>,
}

/// The devices of NVML that the capability tree has too, by GPU instance.
fn listed(
    subject: &str,
    minor: GpuMinor,
    tree: &Instances,
    report: &nvml::Gpu,
    problems: &mut Vec<Problem>,
) -> BTreeMap<GiId, BTreeMap<CiId, Named>> {
    let mut listed: BTreeMap<GiId, BTreeMap<CiId, Named>> = BTreeMap::new();
    for (index, device) in &report.devices {
        let device = match device {
            Ok(device) => device,
            Err(error) => {
                let subject = format!("{subject} mig {index}");
                problems.push(Problem::disagreement(subject, format!("nvml {error}")));
                continue;
            }
        };
        let (gi, ci) = (GiId(device.gi), CiId(device.ci));
        let subject = format!("{subject} gi {gi} ci {ci}");
        let in_tree = tree.get(&gi).is_some_and(|instance| instance.compute.contains_key(&ci));
        if !in_tree {
            let reason = format!(
                "nvml lists it, /proc/driver/nvidia/capabilities/gpu{minor}/mig/gi{gi}/ci{ci} is not there"
            );
            problems.push(Problem::disagreement(subject, reason));
            continue;
        }
        match named(MigIndex(*index), device) {
            Ok(named) => drop(listed.entry(gi).or_default().insert(ci, named)),
            Err(reason) => problems.push(Problem::new(subject, reason)),
        }
    }
    let missing =
        tree.iter().flat_map(|(gi, instance)| instance.compute.keys().map(move |ci| (*gi, *ci)));
    let known: BTreeSet<_> = report
        .devices
        .iter()
        .filter_map(|(_, device)| {
            device.as_ref().ok().map(|device| (GiId(device.gi), CiId(device.ci)))
        })
        .collect();
    // A device that NVML could not describe has been reported already.
    if report.devices.iter().all(|(_, device)| device.is_ok()) {
        for (gi, ci) in missing.filter(|pair| !known.contains(pair)) {
            let reason = format!(
                "/proc/driver/nvidia/capabilities/gpu{minor}/mig/gi{gi}/ci{ci} is there, nvml does not list it"
            );
            problems.push(Problem::disagreement(format!("{subject} gi {gi} ci {ci}"), reason));
        }
    }
    listed
}

fn named(index: MigIndex, device: &nvml::MigDevice) -> Result<Named, String> {
    let sizes = device.sizes;
    let by_size = || {
        let s = sizes?;
        Profile::of_sizes(s.compute_slices, s.gpu_slices, s.memory_mib, s.gpu_bytes?)
    };
    Ok(Named {
        ci: CiId(device.ci),
        index: Some(index),
        uuid: Some(device.uuid.parse().map_err(|e| format!("nvml: {e}"))?),
        profile: Profile::of_device_name(&device.name).or_else(by_size),
        memory_mib: sizes.map(|s| s.memory_mib),
        gi_placement: device.gi_placement,
        ci_placement: device.ci_placement,
    })
}

/// A GPU instance with those of its compute instances whose numbers are certain; nothing when its
/// own are not.
fn gpu_instance(
    proc: &ProcView,
    gpu: &str,
    gi: GiId,
    instance: &Instance,
    found: BTreeMap<CiId, Named>,
    problems: &mut Vec<Problem>,
) -> Option<GpuInstance> {
    let caps = proc.majors.caps?;
    let cap = |access: &Access| DeviceNode {
        path: format!("/dev/nvidia-caps/nvidia-cap{}", access.minor),
        major: caps,
        minor: access.minor,
        mode: access.mode,
        uid: 0,
        gid: 0,
        host: HostNode::Missing,
    };
    let own = match &instance.access {
        Ok(access) => cap(access),
        Err(reason) => {
            problems.push(Problem::new(format!("{gpu} gi {gi}"), reason));
            return None;
        }
    };
    let first = found.values().next().cloned().unwrap_or_default();
    let mut compute_instances = Vec::new();
    for (ci, named) in found {
        match instance.compute.get(&ci) {
            Some(Ok(access)) => compute_instances.push(ComputeInstance {
                id: named.ci,
                index: named.index,
                uuid: named.uuid,
                profile: named.profile,
                placement: named.ci_placement,
                memory_mib: named.memory_mib,
                cap: cap(access),
            }),
            Some(Err(reason)) => {
                problems.push(Problem::new(format!("{gpu} gi {gi} ci {ci}"), reason));
            }
            None => {}
        }
    }
    Some(GpuInstance {
        id: gi,
        profile: first.profile.map(|profile| profile.of_gpu_instance()),
        placement: first.gi_placement,
        cap: own,
        compute_instances,
    })
}

/// GPUs of `/proc` that NVML does not list. One that NVML lists without saying which it is, because
/// it is lost, has been reported already, and is named here with its address.
fn unlisted(proc: &ProcView, seen: &BTreeSet<PciAddress>) -> Vec<Problem> {
    let gpus = proc.gpus.iter().filter(|(pci, _)| !seen.contains(pci));
    let gpus = gpus.filter(|(_, gpu)| !gpu.as_ref().is_ok_and(|information| information.excluded));
    let problem = |(pci, gpu): (&PciAddress, &Result<Information, String>)| {
        let subject = match gpu {
            Ok(information) => format!("/dev/nvidia{}", information.minor),
            Err(_) => "gpu".to_owned(),
        };
        let reason = format!("/proc/driver/nvidia/gpus has {pci}, nvml does not answer for it");
        Problem::disagreement(format!("{subject} at {pci}"), reason)
    };
    gpus.map(problem).collect()
}
