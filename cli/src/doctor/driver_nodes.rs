//! Device nodes of the driver as they are now, to compare specs with.

use super::facts::NodeFacts;
use mig_cdi_model::cdi::{ContainerEdits, SpecNode};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers of the driver's nodes, by path.
// Made once for all devices of all specs: it reads files of the driver, and a spec may have 100,000 devices.
pub(super) struct DriverNodes {
    current: BTreeMap<String, (u32, u32)>,
    non_instance: BTreeSet<u32>,
}

impl DriverNodes {
    /// Reads the nodes; `None` when an instance is not confirmed, since its nodes would seem to belong to nothing.
    pub(super) fn read(facts: &NodeFacts<'_>) -> Option<DriverNodes> {
        let found = facts.proc_discovery.as_ref().ok().filter(|found| found.problems.is_empty())?;
        let mut current = BTreeMap::new();
        found.topology.clone().for_each_node(|node| {
            current.insert(node.path.clone(), (node.major.0, node.minor.0));
        });
        Some(DriverNodes { current, non_instance: facts.non_instance_capabilities() })
    }

    /// Reasons why device nodes in a part of a spec differ from those of the driver.
    pub(super) fn stale(&self, edits: &ContainerEdits) -> Vec<String> {
        edits.device_nodes.iter().filter_map(|node| self.reason(node)).collect()
    }

    fn reason(&self, node: &SpecNode) -> Option<String> {
        let SpecNode { path, major, minor, .. } = node;
        let cap = path.strip_prefix("/dev/nvidia-caps/nvidia-cap");
        let is_instance =
            cap.and_then(|n| n.parse().ok()).is_some_and(|n| !self.non_instance.contains(&n));
        match self.current.get(path) {
            None if is_instance => Some(format!("{path} belongs to no instance that exists")),
            // The engine reads the numbers from the node on the host.
            Some(_) if !node.has_numbers() => None,
            Some((now, _)) if major != now => {
                Some(format!("{path} has major {major}, the driver has {now}"))
            }
            Some((_, now)) if minor != now => {
                Some(format!("{path} has minor {minor}, the driver has {now}"))
            }
            _ => None,
        }
    }
}
