//! What a container with one or more MIG devices gets.

use super::Options;
use mig_cdi_model::{
    DeviceNode, MigDevice, Topology,
    cdi::{ContainerEdits, Node},
};
use std::collections::BTreeSet;

pub(super) struct Edits<'a> {
    pub options: &'a Options,
}

impl Edits<'_> {
    /// For every container: the nodes that all slices share, and `NVIDIA_VISIBLE_DEVICES=void`,
    /// which keeps an NVIDIA runtime hook that is installed too from adding devices of its own.
    pub fn common(&self, topology: &Topology) -> ContainerEdits {
        ContainerEdits {
            env: vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()],
            device_nodes: topology.common.iter().map(node).collect(),
        }
    }

    /// For a container with these devices: their nodes, each once, and their variables.
    pub fn of(&self, devices: &[MigDevice<'_>]) -> ContainerEdits {
        let mut seen = BTreeSet::new();
        let nodes = devices.iter().flat_map(MigDevice::nodes);
        let nodes = nodes.filter(|node| seen.insert(node.path.clone())).map(node).collect();
        let mut env: Vec<String> = devices.iter().filter_map(variable).collect();
        if self.options.cuda_env {
            env.extend(cuda_visible_devices(devices));
        }
        ContainerEdits { env, device_nodes: nodes }
    }
}

fn node(node: &DeviceNode) -> Node {
    let unless_root = |id: u32| (id != 0).then_some(id);
    Node {
        path: node.path.clone(),
        kind: "c",
        major: node.major.0,
        minor: node.minor.0,
        file_mode: node.mode,
        permissions: "rw",
        uid: unless_root(node.uid),
        gid: unless_root(node.gid),
    }
}

/// `MIG_CDI_DEVICE_<gpu minor>_<gi>_<ci>=<uuid>,<profile>`. The numbers are in the name, so that two
/// devices in one container never overwrite each other's variable.
fn variable(device: &MigDevice<'_>) -> Option<String> {
    let MigDevice { gpu, gi, ci } = device;
    let (uuid, profile) = (ci.uuid.as_ref()?, ci.profile.as_ref()?);
    Some(format!("MIG_CDI_DEVICE_{}_{}_{}={uuid},{profile}", gpu.minor, gi.id, ci.id))
}

/// One variable for the container: of several devices asked for one by one, the last wins.
fn cuda_visible_devices(devices: &[MigDevice<'_>]) -> Option<String> {
    let uuids: Vec<_> =
        devices.iter().filter_map(|d| Some(d.ci.uuid.as_ref()?.to_string())).collect();
    (!uuids.is_empty()).then(|| format!("CUDA_VISIBLE_DEVICES={}", uuids.join(",")))
}
