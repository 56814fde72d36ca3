//! Plan of all changes of device nodes, made from the driver's state and the entries that are there.

use super::{
    change::{NodeChange, NodeChanges},
    dirs::{CAPS, DEV, Dirs, LINKS, link_path, link_target, stat},
};
use crate::{Exit, MessageSink, Result, discover};
use mig_cdi_model::{DeviceNode, Major, Minor, Topology};
use mig_cdi_sys::{Machine, NodeDirEntry, NodeStat, in_user_namespace, text::numbered};
use std::{collections::BTreeSet, path::Path};

/// Planned changes, and the problems that were found while planning.
pub(super) struct NodePlan<'a> {
    messages: &'a dyn MessageSink,
    dirs: Dirs,
    /// Paths of all nodes that the host should have.
    paths: BTreeSet<&'a str>,
    /// Paths of the links of these nodes.
    links: BTreeSet<String>,
    /// Changes that belong together: each list is made up to its first failure.
    steps: Vec<Vec<NodeChange>>,
    problems: Vec<String>,
}

impl<'a> NodePlan<'a> {
    /// Makes an empty plan for a host that should have these nodes.
    pub fn new(
        messages: &'a dyn MessageSink,
        dirs: Dirs,
        expected: &[&'a DeviceNode],
    ) -> NodePlan<'a> {
        NodePlan {
            messages,
            dirs,
            paths: expected.iter().map(|node| node.path.as_str()).collect(),
            links: expected.iter().map(|node| link_path(node.major, node.minor)).collect(),
            steps: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Reports something that is not done.
    pub fn problem(&mut self, message: String) {
        self.messages.error(&message);
        self.problems.push(message);
    }

    /// Removes unfinished entries of an earlier run that was killed.
    pub fn remove_leftovers(&mut self) -> Result<()> {
        let Dirs { dev, caps, links } = &self.dirs;
        for (dir, path) in [(dev, DEV), (caps, CAPS), (links, LINKS)] {
            for name in dir.leftovers()? {
                if matches!(dir.entry(&name)?, NodeDirEntry::Node(_) | NodeDirEntry::Link(_)) {
                    self.steps.push(vec![NodeChange::Remove { path: format!("{path}/{name}") }]);
                }
            }
        }
        Ok(())
    }

    /// Adds what is missing or wrong of a node and its link. False when something else is in its place.
    pub fn add_node(&mut self, node: &DeviceNode) -> Result<bool> {
        let (path, expected) = (&node.path, stat(node));
        let has_same_numbers =
            |found: &NodeStat| (found.major, found.minor) == (node.major, node.minor);
        let mut steps = Vec::new();
        let obstacle = match self.dirs.entry(path)? {
            NodeDirEntry::Node(found) if found == expected => None,
            // `DeviceFileModify: 0` in a capability's `access` file, or the module parameter NVreg_ModifyDeviceFiles=0, stops
            // nvidia-modprobe from changing the node. It has to stop us too: the administrator may have chosen owner and mode.
            entry if !node.modify => {
                let setting = match path.starts_with(CAPS) {
                    true => "DeviceFileModify is 0 in its access file",
                    false => "NVreg_ModifyDeviceFiles is 0",
                };
                self.messages.detail(&format!("{path} is not changed: {setting}"));
                if !matches!(entry, NodeDirEntry::Node(found) if has_same_numbers(&found)) {
                    return Ok(true);
                }
                None
            }
            NodeDirEntry::Absent => {
                steps.push(NodeChange::Make(node.clone()));
                None
            }
            NodeDirEntry::Node(found) => {
                steps.push(NodeChange::Replace(node.clone()));
                steps.extend(self.remove_link(&found, path)?);
                None
            }
            NodeDirEntry::Link(target) => Some(format!("a symbolic link to {target:?}")),
            NodeDirEntry::Other(what) => Some(what.to_owned()),
        };
        if let Some(obstacle) = obstacle {
            let path = self.dirs.display_path(path);
            self.problem(format!("make {path}: {obstacle} is in its place; remove it"));
            return Ok(false);
        }
        steps.extend(self.make_link(node)?);
        self.steps.push(steps);
        Ok(true)
    }

    /// The link of a node, unless it is there. Another program's absolute link is as good as ours.
    fn make_link(&self, node: &DeviceNode) -> Result<Option<NodeChange>> {
        let (path, target) = (link_path(node.major, node.minor), link_target(&node.path));
        Ok(match self.dirs.entry(&path)? {
            NodeDirEntry::Link(to) if to == target || to == node.path => None,
            NodeDirEntry::Absent | NodeDirEntry::Link(_) => Some(NodeChange::Link { path, target }),
            NodeDirEntry::Node(_) | NodeDirEntry::Other(_) => {
                let path = self.dirs.display_path(&path);
                let message = format!(
                    "link {path}: a file that is no symbolic link is in its place; remove it"
                );
                self.messages.warn(&message);
                None
            }
        })
    }

    /// Removal of the link to a node that goes, unless the link is that of another node from now on.
    fn remove_link(&self, found: &NodeStat, path: &str) -> Result<Option<NodeChange>> {
        let link = link_path(found.major, found.minor);
        let points_to_node = |to: &str| to == path || to == link_target(path);
        Ok(match self.dirs.entry(&link)? {
            NodeDirEntry::Link(to) if points_to_node(&to) && !self.links.contains(&link) => {
                Some(NodeChange::Remove { path: link })
            }
            _ => None,
        })
    }

    /// Removes the nodes of instances that are gone. Requires that the driver's tree was read whole.
    ///
    /// A node outlives its instance, since nothing else removes it, and opens the next instance with the same numbers:
    /// `nv_cap_validate_and_dup_fd` (`nv-caps.c:506-559`) compares the minor alone.
    pub fn remove_vanished(
        &mut self,
        machine: &dyn Machine,
        topology: &Topology,
        caps_major: Major,
        old_caps: &[String],
    ) -> Result<()> {
        let unexpected = |name: &String| {
            let minor = numbered(name, "nvidia-cap").map(Minor)?;
            let path = format!("{CAPS}/nvidia-cap{minor}");
            // The name as the driver forms it: `nvidia-cap01` has the same number and is none of the driver's.
            (path == format!("{CAPS}/{name}") && !self.paths.contains(path.as_str()))
                .then_some((minor, path))
        };
        let unexpected: Vec<_> = old_caps.iter().filter_map(unexpected).collect();
        if unexpected.is_empty() {
            return Ok(());
        }
        let instances = match discover::capabilities_of_instances(machine, topology) {
            Ok(instances) => instances,
            Err(problem) => {
                self.problem(problem.to_string());
                return Ok(());
            }
        };
        for (minor, path) in unexpected {
            // A minor that the driver's table gives to no instance belongs to another capability. A GPU that was not attached
            // since the module was loaded shows no instances at all (`gpu_mgr.c` in the driver), so its nodes stay; but not
            // those of an old major, which may be another driver's by now.
            if let (Some(is_gpu_attached), NodeDirEntry::Node(found)) =
                (instances.get(&minor), self.dirs.entry(&path)?)
                && (*is_gpu_attached || found.major != caps_major)
            {
                // The link goes first: after a failure in between, a link without its node would never be found again.
                let mut steps: Vec<_> = self.remove_link(&found, &path)?.into_iter().collect();
                steps.push(NodeChange::Remove { path });
                self.steps.push(steps);
            }
        }
        Ok(())
    }

    /// Keeps removals alone, and removes nodes with other numbers instead of replacing them.
    pub fn keep_removals(&mut self) -> Result<()> {
        for steps in std::mem::take(&mut self.steps) {
            let mut kept = Vec::new();
            for change in steps {
                match change {
                    NodeChange::Remove { .. } => kept.push(change),
                    NodeChange::Replace(node) if !self.has_numbers_of(&node)? => {
                        kept.push(NodeChange::Remove { path: node.path });
                    }
                    _ => {}
                }
            }
            self.steps.push(kept);
        }
        Ok(())
    }

    fn has_numbers_of(&self, node: &DeviceNode) -> Result<bool> {
        let numbers = (node.major, node.minor);
        let found = self.dirs.entry(&node.path)?;
        Ok(matches!(found, NodeDirEntry::Node(found) if (found.major, found.minor) == numbers))
    }

    /// Adds missing directories that the planned changes need, before everything else.
    pub fn add_directories(&mut self) {
        for (dir, path) in [(&self.dirs.caps, CAPS), (&self.dirs.links, LINKS)] {
            let is_in_it =
                |change: &NodeChange| Path::new(change.path()).parent() == Some(Path::new(path));
            if !dir.exists() && self.steps.iter().flatten().any(is_in_it) {
                self.steps.insert(0, vec![NodeChange::Directory { path: path.to_owned() }]);
            }
        }
    }

    /// Makes the changes, unless it is a dry run. `is_blocked` is true when something was in the way of one already.
    pub fn carry_out(mut self, dry_run: bool, is_blocked: bool) -> NodeChanges {
        let (mut changes, mut has_failed) = (Vec::new(), is_blocked);
        let mut can_make_nodes = true;
        for steps in std::mem::take(&mut self.steps) {
            // Each would fail for the reason that was reported already.
            if !can_make_nodes && steps.iter().any(NodeChange::makes_node) {
                continue;
            }
            for change in steps {
                if !dry_run && let Err(error) = self.dirs.apply(&change) {
                    // mknod(2) of a device takes CAP_MKNOD in the initial user namespace (`fs/namei.c`, `vfs_mknod`).
                    let is_never_permitted =
                        change.makes_node() && error.is_denied() && in_user_namespace();
                    can_make_nodes &= !is_never_permitted;
                    let cure = match error.is_denied() {
                        true if is_never_permitted => {
                            "; the kernel makes no device node in a user namespace: run mig-cdi nodes on the host, and \
                             bind its nodes here"
                        }
                        true => "; run it with CAP_MKNOD and CAP_CHOWN",
                        false => "",
                    };
                    self.problem(format!("{error}{cure}"));
                    has_failed = true;
                    break;
                }
                changes.push(change);
            }
        }
        let exit = match (has_failed, self.problems.is_empty()) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::Success,
            (false, false) => Exit::Incomplete,
        };
        NodeChanges { dry_run, changes, problems: self.problems, exit }
    }
}
