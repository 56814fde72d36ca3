//! What the paths and nodes of a spec are on this host.

use mig_cdi_gen::spec_file::ContainerItem;
use mig_cdi_model::{
    DriverCapabilities, Topology,
    cdi::{ContainerEdits, SpecNode},
};
use mig_cdi_sys::{Machine, Root};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
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
        let (source, (right_major, right_minor)) = match self.nodes.get(path) {
            Some(numbers) => ("the driver", *numbers),
            // A node of another module, such as /dev/nvidia-modeset.
            None => {
                let stat = self.machine?.node(path).ok()??;
                ("the host", (stat.major.0, stat.minor.0))
            }
        };
        let is_wrong = node.has_numbers() && (*major, *minor) != (right_major, right_minor);
        let wrong = match (major == &right_major, minor == &right_minor) {
            (true, _) => "minor",
            (false, true) => "major",
            (false, false) => "major and minor",
        };
        is_wrong.then(|| {
            format!("wrong {wrong}: it is {major}:{minor} there, {source} has {right_major}:{right_minor}")
        })
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
