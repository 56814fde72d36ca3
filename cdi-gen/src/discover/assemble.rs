//! The topology, built of what `/proc` says and the names that NVML gives. Pure.

use super::{
    Problem,
    proc_view::{Instance, ProcView},
};
use mig_cdi_model::{
    AdminNode, Attributes, CiId, ComputeInstance, DeviceNode, GiId, Gpu, GpuIndex, GpuInstance,
    HostNode, Major, MigIndex, MigMode, MigUuid, Minor, Placement, Profile, Topology,
};
use mig_cdi_sys::text::{Access, Information, Params};
use std::collections::BTreeMap;

/// What NVML says of a compute instance; all empty when it is not asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    pub index: Option<MigIndex>,
    pub uuid: Option<MigUuid>,
    pub profile: Option<Profile>,
    pub memory_mib: Option<u64>,
    pub attributes: Option<Attributes>,
    pub gi_placement: Option<Placement>,
    pub ci_placement: Option<Placement>,
}

/// The compute instances of one GPU that are certain to be there.
pub(super) type Certain = BTreeMap<(GiId, CiId), Named>;

/// The whole node.
pub(super) fn topology(proc: &ProcView, gpus: Vec<Gpu>) -> Topology {
    let node = |path: &str, major, minor| device_node(path.to_owned(), major, minor, proc.params);
    // NV_CONTROL_DEVICE_MINOR is 255; nvidia-uvm has minor 0, its tools 1 (uvm_common.h).
    let mut common = vec![node("/dev/nvidiactl", proc.majors.control, 255)];
    if let Some(uvm) = proc.majors.uvm {
        common.push(node("/dev/nvidia-uvm", uvm, 0));
        common.push(node("/dev/nvidia-uvm-tools", uvm, 1));
    }
    let admin = proc.admin.iter().zip(proc.majors.caps.iter().cycle());
    let admin =
        admin.map(|((name, access), caps)| AdminNode { name, node: cap_node(*caps, access) });
    let driver_version = proc.driver_version.clone();
    Topology { driver_version, cuda_version: None, common, gpus, admin: admin.collect() }
}

fn device_node(path: String, major: Major, minor: u32, params: Params) -> DeviceNode {
    let Params { uid, gid, mode, modify } = params;
    DeviceNode { path, major, minor: Minor(minor), mode, uid, gid, host: HostNode::Missing, modify }
}

/// A GPU as `/proc` knows it, without instances.
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
        node,
        dri,
        gpu_instances,
    }
}

/// Gives a GPU those of its instances that are certain in every number. A GPU instance whose own
/// numbers are not takes its compute instances with it.
pub(super) fn add_instances(
    proc: &ProcView,
    gpu: &mut Gpu,
    certain: &Certain,
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
                let compute = compute_instances(caps, (gi, instance), &label, certain, problems);
                let named = certain.range((gi, CiId(0))..).next().filter(|((of, _), _)| *of == gi);
                let named = named.map(|(_, named)| named.clone()).unwrap_or_default();
                gpu.gpu_instances.push(GpuInstance {
                    id: gi,
                    profile: named.profile.map(|profile| profile.gpu_instance_profile()),
                    placement: named.gi_placement,
                    cap: cap_node(caps, access),
                    compute_instances: compute,
                });
            }
            // The instance may be going at this moment.
            Err(reason) => problems.push(Problem::transient(label, reason)),
        }
    }
}

fn compute_instances(
    caps: Major,
    (gi, instance): (GiId, &Instance),
    label: &str,
    certain: &Certain,
    problems: &mut Vec<Problem>,
) -> Vec<ComputeInstance> {
    let mut found = Vec::new();
    for (&ci, access) in &instance.compute {
        match (certain.get(&(gi, ci)).cloned(), access) {
            (Some(named), Ok(access)) => found.push(ComputeInstance {
                id: ci,
                index: named.index,
                uuid: named.uuid,
                profile: named.profile,
                placement: named.ci_placement,
                memory_mib: named.memory_mib,
                attributes: named.attributes,
                cap: cap_node(caps, access),
            }),
            (Some(_), Err(reason)) => {
                problems.push(Problem::transient(format!("{label} ci {ci}"), reason));
            }
            // The views differ on it, and that has been said.
            (None, _) => {}
        }
    }
    found
}

fn cap_node(caps: Major, access: &Access) -> DeviceNode {
    let Access { minor, mode, modify } = *access;
    let path = format!("/dev/nvidia-caps/nvidia-cap{minor}");
    DeviceNode { path, major: caps, minor, mode, uid: 0, gid: 0, host: HostNode::Missing, modify }
}
