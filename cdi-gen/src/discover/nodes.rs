//! Compares the device nodes on the host with those of the driver, and finds the DRI nodes of graphics profiles.

use super::{
    discovery::Discovery,
    problem::{Problem, Reason},
};
use mig_cdi_model::{DeviceNode, Gpu, GpuInstance, HostNodeState, MigMode, PciAddress, Profile};
use mig_cdi_sys::{Machine, NodeStat};

/// Reads every node on the host, and finds the DRI nodes of GPUs with graphics slices.
pub(super) fn inspect(machine: &dyn Machine, discovery: &mut Discovery) {
    let Discovery { topology, problems, .. } = discovery;
    for gpu in &mut topology.gpus {
        let has_graphics =
            |gi: &GpuInstance| gi.profile.as_ref().is_some_and(Profile::has_graphics);
        if gpu.gpu_instances.iter().any(has_graphics) {
            find_dri(machine, gpu, problems);
        } else if matches!(gpu.mig, MigMode::Disabled | MigMode::Unsupported) {
            // A whole GPU computes without them, so a missing one is no problem.
            let nodes = ["card", "render"].map(|kind| dri_node(machine, gpu.pci, kind));
            gpu.dri = nodes.into_iter().collect::<Result<_, _>>().unwrap_or_default();
        }
    }
    topology.for_each_node(|node| node.host = host_node(machine, node));
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

/// Finds the DRI nodes by the links that udev makes for each PCI address. Without them a slice of a `+gfx` profile
/// computes and does not render, so it is omitted.
fn find_dri(machine: &dyn Machine, gpu: &mut Gpu, problems: &mut Vec<Problem>) {
    let card = dri_node(machine, gpu.pci, "card");
    let render = dri_node(machine, gpu.pci, "render");
    let reason = match (card, render) {
        (Ok(card), Ok(render)) => {
            gpu.dri = vec![card, render];
            return;
        }
        (Err(reason), _) | (_, Err(reason)) => reason,
    };
    let label = gpu.label();
    for gi in &mut gpu.gpu_instances {
        if gi.profile.as_ref().is_some_and(Profile::has_graphics) {
            let subject = format!("{label} gi {}", gi.id);
            problems.push(Problem::new(subject, &reason));
            gi.compute_instances.clear();
        }
    }
}

/// Reads a DRI node. The kernel names DRI nodes by their minors: `card1` is 226:1, `renderD128` is 226:128
/// (`drivers/gpu/drm/drm_sysfs.c`).
fn dri_node(machine: &dyn Machine, pci: PciAddress, kind: &str) -> Result<DeviceNode, Reason> {
    let link = format!("/dev/dri/by-path/pci-{pci}-{kind}");
    let failed = |cause: String| Err(Reason::with_cure(cause, "run modprobe nvidia-drm"));
    match machine.node(&link) {
        Ok(Some(NodeStat { is_char: true, major, minor, mode, uid, gid })) => {
            let name = if kind == "card" { "card" } else { "renderD" };
            let path = format!("/dev/dri/{name}{minor}");
            let host = HostNodeState::Missing;
            Ok(DeviceNode { path, major, minor, mode, uid, gid, host, modify: false })
        }
        Ok(Some(_)) => failed(format!("stat {link}: no character device")),
        Ok(None) => failed(format!("stat {link}: not there")),
        Err(error) => failed(error.to_string()),
    }
}
