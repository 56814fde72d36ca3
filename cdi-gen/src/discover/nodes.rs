//! Compares the device nodes on the host with those of the driver, and finds the DRI nodes of graphics profiles.

use super::{
    discovery::Discovery,
    problem::{Problem, Reason},
};
use mig_cdi_model::{DeviceNode, DriNode, Gpu, GpuInstance, HostNodeState, MigMode, Profile};
use mig_cdi_sys::{HostDriNode, Machine, NodeStat, dri_nodes};

/// Reads every node on the host, and finds the DRI nodes of GPUs that render.
pub(super) fn inspect(machine: &dyn Machine, discovery: &mut Discovery) {
    let Discovery { topology, problems, .. } = discovery;
    for gpu in &mut topology.gpus {
        let has_graphics = gpu.gpu_instances.iter().any(renders);
        // Without NVML no profile is known: each may render.
        let may_render = has_graphics || gpu.gpu_instances.iter().any(|gi| gi.profile.is_none());
        if !may_render && gpu.mig == MigMode::Enabled {
            continue;
        }
        match dri_nodes(machine, gpu.pci) {
            Ok(nodes) => gpu.dri = nodes.map(dri_node).into(),
            Err(error) if has_graphics => omit_graphics(gpu, &error.into(), problems),
            // A whole GPU computes without them, so a missing one is no problem.
            Err(_) => {}
        }
    }
    topology.for_each_node(|node| node.host = host_node(machine, node));
}

fn renders(gi: &GpuInstance) -> bool {
    gi.profile.as_ref().is_some_and(Profile::has_graphics)
}

fn host_node(machine: &dyn Machine, node: &DeviceNode) -> HostNodeState {
    match machine.node(&node.path) {
        Ok(Some(stat)) if stat.is_char && stat.major == node.major && stat.minor == node.minor => {
            HostNodeState::Ok
        }
        Ok(Some(_)) => HostNodeState::Wrong,
        Ok(None) | Err(_) => HostNodeState::Missing,
    }
}

/// Omits the slices that render: without its DRI nodes a slice of a `+gfx` profile computes and does not render.
fn omit_graphics(gpu: &mut Gpu, reason: &Reason, problems: &mut Vec<Problem>) {
    let label = gpu.label();
    for gi in gpu.gpu_instances.iter_mut().filter(|gi| renders(gi)) {
        problems.push(Problem::new(format!("{label} gi {}", gi.id), reason));
        gi.compute_instances.clear();
    }
}

fn dri_node(found: HostDriNode) -> DriNode {
    let HostDriNode { path, stat, link, is_linked, source } = found;
    let NodeStat { major, minor, mode, uid, gid, .. } = stat;
    let host = HostNodeState::Missing;
    let node = DeviceNode { path, major, minor, mode, uid, gid, host, modify: false };
    let link = is_linked.then(|| DeviceNode { path: link, ..node.clone() });
    DriNode { node, link, source }
}
