//! Builds the topology from the numbers in `/proc` and the names of NVML. Pure.

use super::{
    problem::Problem,
    proc_view::{ProcAdmin, ProcInstance, ProcView},
};
use mig_cdi_model::{
    AdminNode, Attributes, CiId, ComputeInstance, DeviceNode, GiId, Gpu, GpuIndex, GpuInstance,
    HostNodeState, Major, MigIndex, MigMode, MigUuid, Minor, Placement, Profile, Topology,
};
use mig_cdi_sys::text::{Access, Information, Params};
use std::collections::BTreeMap;

/// Attributes of a compute instance that NVML reports; all empty when NVML is not read.
#[derive(Debug, Clone, Default)]
pub(super) struct NvmlAttributes {
    pub index: Option<MigIndex>,
    pub uuid: Option<MigUuid>,
    pub profile: Option<Profile>,
    pub memory_mib: Option<u64>,
    pub attributes: Option<Attributes>,
    pub gi_placement: Option<Placement>,
    pub ci_placement: Option<Placement>,
}

/// The compute instances of one GPU that every view confirms.
pub(super) type ConfirmedInstances = BTreeMap<(GiId, CiId), NvmlAttributes>;

/// Builds the topology of the node around its GPUs.
pub(super) fn topology(proc: &ProcView, gpus: Vec<Gpu>) -> Topology {
    let node = |path: &str, major, minor| device_node(path.to_owned(), major, minor, proc.params);
    // These minors are in no file: NV_CONTROL_DEVICE_MINOR is 255; nvidia-uvm has minor 0, its tools 1 (uvm_common.h).
    let mut common = vec![node("/dev/nvidiactl", proc.majors.control, 255)];
    if let Some(uvm) = proc.majors.uvm {
        common.push(node("/dev/nvidia-uvm", uvm, 0));
        common.push(node("/dev/nvidia-uvm-tools", uvm, 1));
    }
    let admin = proc.admin.iter().zip(proc.majors.caps.iter().cycle());
    let admin = admin.map(|(ProcAdmin { name, access }, caps)| AdminNode {
        name,
        node: cap_node(*caps, access),
    });
    let driver_version = proc.driver_version.clone();
    Topology { driver_version, cuda_version: None, common, gpus, admin: admin.collect() }
}

fn device_node(path: String, major: Major, minor: u32, params: Params) -> DeviceNode {
    let Params { uid, gid, mode, modify, .. } = params;
    DeviceNode {
        path,
        major,
        minor: Minor(minor),
        mode,
        uid,
        gid,
        host: HostNodeState::Missing,
        modify,
    }
}

/// A GPU as `/proc` shows it, without instances.
pub(super) fn gpu(proc: &ProcView, index: Option<GpuIndex>, information: &Information) -> Gpu {
    let Information { model, uuid, pci, minor, .. } = information.clone();
    let node = device_node(format!("/dev/nvidia{minor}"), proc.majors.gpu, minor.0, proc.params);
    let (mig, dri, gpu_instances) = (MigMode::Unknown, Vec::new(), Vec::new());
    let (memory_mib, compute_capability) = (None, None);
    Gpu {
        index,
        minor,
        pci,
        uuid,
        model,
        memory_mib,
        compute_capability,
        mig,
        pending_mode: None,
        node,
        dri,
        gpu_instances,
    }
}

/// Adds those instances to a GPU whose numbers are all confirmed. A GPU instance whose own number is not is omitted with its
/// compute instances: no client gets to these without its capability node (`gpu_instance_subscription.c:217-229`).
pub(super) fn add_instances(
    proc: &ProcView,
    gpu: &mut Gpu,
    confirmed: &ConfirmedInstances,
    problems: &mut Vec<Problem>,
) {
    let (Some(caps), Some(tree)) = (proc.majors.caps, proc.instances.get(&gpu.minor)) else {
        return;
    };
    let label = gpu.label();
    for (&gi, instance) in tree {
        let label = format!("{label} gi {gi}");
        match &instance.access {
            Ok(access) => {
                let compute = compute_instances(caps, (gi, instance), &label, confirmed, problems);
                // NVML reports the GPU instance with each of its compute instances: the first one's report is enough.
                let first =
                    confirmed.range((gi, CiId(0))..).next().filter(|((id, _), _)| *id == gi);
                let attributes = first.map(|(_, first)| first.clone()).unwrap_or_default();
                gpu.gpu_instances.push(GpuInstance {
                    id: gi,
                    profile: attributes.profile.map(|profile| profile.gpu_instance_profile()),
                    placement: attributes.gi_placement,
                    cap: cap_node(caps, access),
                    compute_instances: compute,
                });
            }
            // The instance may be being destroyed at this moment.
            Err(reason) => problems.push(Problem::transient(label, reason)),
        }
    }
}

fn compute_instances(
    caps: Major,
    (gi, instance): (GiId, &ProcInstance),
    label: &str,
    confirmed: &ConfirmedInstances,
    problems: &mut Vec<Problem>,
) -> Vec<ComputeInstance> {
    let mut instances = Vec::new();
    for (&ci, access) in &instance.compute {
        match (confirmed.get(&(gi, ci)).cloned(), access) {
            (Some(attributes), Ok(access)) => instances.push(ComputeInstance {
                id: ci,
                index: attributes.index,
                uuid: attributes.uuid,
                profile: attributes.profile,
                placement: attributes.ci_placement,
                memory_mib: attributes.memory_mib,
                attributes: attributes.attributes,
                cap: cap_node(caps, access),
            }),
            (Some(_), Err(reason)) => {
                problems.push(Problem::transient(format!("{label} ci {ci}"), reason));
            }
            // The views differ on it, which is reported already.
            (None, _) => {}
        }
    }
    instances
}

/// The path of a capability node is nvidia-modprobe's: `/dev/nvidia-caps/nvidia-cap<minor>`, owned by root. The driver
/// states the minor and the mode (`nv-caps.c:421-423`).
fn cap_node(caps: Major, access: &Access) -> DeviceNode {
    let Access { minor, mode, modify } = *access;
    let path = format!("/dev/nvidia-caps/nvidia-cap{minor}");
    DeviceNode {
        path,
        major: caps,
        minor,
        mode,
        uid: 0,
        gid: 0,
        host: HostNodeState::Missing,
        modify,
    }
}
