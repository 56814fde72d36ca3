//! Device nodes of the driver as they are now, to compare specs with.

use super::facts::NodeFacts;
use mig_cdi_model::cdi::{ContainerEdits, SpecNode};
use mig_cdi_sys::node_named;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

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
        // Without numbers, the engine reads them from the node on the host.
        let source = if node.has_numbers() { path.as_str() } else { node.source() };
        if let Some(gone) = [path.as_str(), source].into_iter().find(|path| self.is_gone(path)) {
            return Some(format!("{gone} belongs to no instance that exists"));
        }
        let now = self.current.get(path)?;
        match node.has_numbers() {
            true if *major != now.0 => {
                Some(format!("{path} has major {major}, the driver has {}", now.0))
            }
            true if *minor != now.1 => {
                Some(format!("{path} has minor {minor}, the driver has {}", now.1))
            }
            true => None,
            false if source == path => None,
            false => match self.numbers(source) {
                Some(found) if found == *now => None,
                Some(_) => Some(format!("{path} is made from {source}, another device")),
                None => Some(format!("{path} is made from {source}, which is no device node")),
            },
        }
    }

    /// Numbers of a node of the driver, or of the host: a driver container has its nodes elsewhere.
    fn numbers(&self, path: &str) -> Option<(u32, u32)> {
        let of_host = || {
            let stat = node_named(Path::new(path)).ok().flatten().filter(|stat| stat.is_char)?;
            Some((stat.major.0, stat.minor.0))
        };
        self.current.get(path).copied().or_else(of_host)
    }

    /// True for the node of an instance that does not exist.
    fn is_gone(&self, path: &str) -> bool {
        let cap = path.strip_prefix("/dev/nvidia-caps/nvidia-cap").and_then(|n| n.parse().ok());
        !self.current.contains_key(path) && cap.is_some_and(|n| !self.non_instance.contains(&n))
    }
}
