//! What the paths and nodes of a spec are on this host.

use mig_cdi_gen::spec_file::ContainerItem;
use mig_cdi_model::{
    DriverCapabilities, Topology,
    cdi::{ContainerEdits, SpecNode},
};
use mig_cdi_sys::{Machine, NodeStat, Root, node_named};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// The host that both specs are for.
pub(crate) struct HostView<'a> {
    /// Numbers of the driver's nodes, by path.
    nodes: BTreeMap<String, (u32, u32)>,
    machine: Option<&'a dyn Machine>,
    /// Root directory that paths in a spec refer to.
    root: Option<Root>,
    /// Capabilities that select our driver files, as text.
    capabilities: String,
    /// Paths that were resolved: every device of a spec may name the same file.
    resolved: RefCell<HashMap<String, Option<String>>>,
}

impl<'a> HostView<'a> {
    pub(crate) fn new(
        machine: &'a dyn Machine,
        root: Root,
        topology: &Topology,
        capabilities: &DriverCapabilities,
    ) -> HostView<'a> {
        let mut nodes = BTreeMap::new();
        topology.clone().for_each_node(|node| {
            nodes.insert(node.path.clone(), (node.major.0, node.minor.0));
        });
        HostView {
            nodes,
            machine: Some(machine),
            root: Some(root),
            capabilities: capabilities.to_string(),
            resolved: RefCell::default(),
        }
    }

    /// A host without a file or a node.
    #[cfg(test)]
    pub(super) fn empty() -> HostView<'a> {
        HostView {
            nodes: BTreeMap::new(),
            machine: None,
            root: None,
            capabilities: String::new(),
            resolved: RefCell::default(),
        }
    }

    /// The item with the path of its file resolved, so that one file under two paths is one item.
    pub(super) fn canonical(&self, item: &ContainerItem) -> ContainerItem {
        match item {
            ContainerItem::File(path) => {
                // Without the file, at least `//` and `/./` are gone.
                let plain =
                    || std::path::Path::new(path).components().collect::<std::path::PathBuf>();
                let path = self.resolve(path);
                ContainerItem::File(path.unwrap_or_else(|| plain().display().to_string()))
            }
            other => other.clone(),
        }
    }

    /// True when a file has this path on the host.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.resolve(path).is_some()
    }

    /// Where a path leads. A path that the machine does not have may be one of the driver's own root.
    fn resolve(&self, path: &str) -> Option<String> {
        if let Some(known) = self.resolved.borrow().get(path) {
            return known.clone();
        }
        let on_host = self.root.as_ref().and_then(|root| root.resolve(path).ok());
        let of_driver = || self.machine?.driver()?.examine(path).ok().flatten();
        let found = on_host.or_else(|| of_driver().map(|file| file.path));
        let found = found.map(|path| path.display().to_string());
        self.resolved.borrow_mut().insert(path.to_owned(), found.clone());
        found
    }

    /// Returns the reason why the numbers of a node are not those of this host; `None` for right ones, and where the spec
    /// leaves them to the engine.
    pub(super) fn wrong_numbers(&self, node: &SpecNode) -> Option<String> {
        let SpecNode { path, major, minor, .. } = node;
        let (right_major, right_minor) = self.numbers(path)?;
        let source = node.source();
        let (found, of) = match node.has_numbers() {
            true => ((*major, *minor), String::new()),
            false if source == path => return None,
            false => match self.numbers(source) {
                Some(found) => (found, format!(", of {source}")),
                None => return Some(format!("its hostPath {source} is no device node")),
            },
        };
        let wrong = match (found.0 == right_major, found.1 == right_minor) {
            (true, true) => return None,
            (true, false) => "minor",
            (false, true) => "major",
            (false, false) => "major and minor",
        };
        let right = if self.nodes.contains_key(path) { "the driver" } else { "the host" };
        let (major, minor) = found;
        Some(format!(
            "wrong {wrong}: it is {major}:{minor} there{of}, {right} has {right_major}:{right_minor}"
        ))
    }

    /// Numbers of a node of the driver, of another module, such as /dev/nvidia-modeset, or of another root directory, which a
    /// driver container has.
    fn numbers(&self, path: &str) -> Option<(u32, u32)> {
        let of_machine = || self.machine?.node(path).ok()?;
        let of_host = || node_named(Path::new(path)).ok()?;
        let is_char = |stat: &NodeStat| stat.is_char;
        let stat = || of_machine().filter(is_char).or_else(|| of_host().filter(is_char));
        let known = self.nodes.get(path).copied();
        known.or_else(|| stat().map(|stat| (stat.major.0, stat.minor.0)))
    }

    /// Reason why a device of theirs with these capability nodes has no counterpart.
    pub(super) fn unknown_device(&self, nodes: &[&str], edits: &ContainerEdits) -> String {
        let is_gpu = |path: &str| {
            path.strip_prefix("/dev/nvidia").is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let reason = match nodes {
            [] if edits.device_nodes.iter().any(|node| is_gpu(&node.path)) => {
                "it has no capability node: a whole gpu, no slice"
            }
            [] => "it has no capability node: no slice",
            _ if nodes.iter().all(|path| self.nodes.contains_key(*path)) => {
                "its capability nodes are not those of one slice, nor of all"
            }
            [_, _] => "no such slice is on this node now",
            _ => "some of its capability nodes are of no slice that is on this node now",
        };
        reason.to_owned()
    }

    /// True when our driver files include one of these classes, as [`capabilities_of`] joins them.
    ///
    /// [`capabilities_of`]: mig_cdi_gen::discover::capabilities_of
    pub(super) fn includes(&self, classes: &str) -> bool {
        let mut classes = classes.split(" or ");
        classes.any(|class| self.capabilities.split(',').any(|included| included == class))
    }
}
