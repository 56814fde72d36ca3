//! Device nodes of the host: makes, replaces and removes nodes and their links in `/dev`. All changes are planned before the
//! first is made.
//!
//! Nothing else does it reliably: the driver makes no node of a capability itself (no `device_create` in its
//! `nv-caps.c`, hence no udev event), nvidia-modprobe makes one when a program of NVIDIA's happens to call it, and no program
//! removes those of instances that are gone.

mod change;
mod dirs;
mod plan;

pub use change::{NodeChange, NodeChanges};

use crate::{
    Error, MessageSink, NodeSource, Result,
    discover::{self, Source},
    node_source::report_details,
};
use dirs::Dirs;
use mig_cdi_model::{DeviceNode, Topology};
use mig_cdi_sys::{Root, is_root};
use plan::NodePlan;

/// Extent of [`apply`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodesMode {
    /// Only remove nodes that now stand for another device, and make none.
    pub prune: bool,
    /// Change nothing, and report what would be changed.
    pub dry_run: bool,
}

/// Makes the host's device nodes match the driver. Reports and omits what cannot be done.
///
/// # Errors
/// When nothing was changed: the process is not root's, there is no driver, or a directory is not root's alone.
pub fn apply(
    node: &NodeSource,
    mode: NodesMode,
    messages: &dyn MessageSink,
) -> Result<NodeChanges> {
    let NodesMode { prune, dry_run } = mode;
    if node.is_simulated() {
        return Err(Error::usage("make", "device nodes")
            .because("a simulated node has none")
            .with_cure("omit --node"));
    }
    if !dry_run && !is_root() {
        return Err(Error::failed("make", "device nodes")
            .because("not permitted")
            .with_cure("run it as root"));
    }
    let (machine, roots) = (node.host()?, &node.roots);
    Root::open(&roots.proc)?.check_proc()?;
    let dirs = Dirs::open(&roots.dev)?;
    // Before the driver is read: a node that is made for a new instance meanwhile must not count as an old one.
    let old_caps = dirs.caps.names()?;
    // /proc alone: it states all numbers, and NVML itself needs the nodes.
    let discovery = discover::discover(&machine, Source::Proc)?;
    report_details(&discovery, messages);
    let Some(caps_major) = discovery.caps else {
        return Err(Error::no_driver("read", "/proc/devices")
            .because("no character device \"nvidia-caps\"")
            .with_cure("load a driver that supports mig"));
    };
    let expected = expected_nodes(&discovery.topology);
    let mut plan = NodePlan::new(messages, dirs, &expected);
    discovery.problems.iter().for_each(|problem| plan.problem(problem.to_string()));
    plan.remove_leftovers()?;
    let mut is_blocked = false;
    for node in &expected {
        is_blocked |= !plan.add_node(node)?;
    }
    // In a tree that was not read whole, an instance that seems to be gone may only be unread.
    if discovery.problems.is_empty() {
        plan.remove_vanished(&machine, &discovery.topology, caps_major, &old_caps)?;
    }
    if prune {
        plan.keep_removals()?;
    }
    plan.add_directories();
    Ok(plan.carry_out(dry_run, is_blocked))
}

/// Nodes that the host should have.
fn expected_nodes(topology: &Topology) -> Vec<&DeviceNode> {
    let gpus = topology.gpus.iter().map(|gpu| &gpu.node);
    let admin = topology.admin.iter().map(|admin| &admin.node);
    let instances =
        topology.gpus.iter().flat_map(|gpu| &gpu.gpu_instances).flat_map(|gi| {
            [&gi.cap].into_iter().chain(gi.compute_instances.iter().map(|ci| &ci.cap))
        });
    topology.common.iter().chain(gpus).chain(admin).chain(instances).collect()
}
