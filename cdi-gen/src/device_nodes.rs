//! Device nodes of the host. All changes are planned before the first is made.

mod change;

pub use change::Change;

use crate::{
    Error, Exit, MessageSink, NodeSource, Result,
    discover::{self, Source},
    node_source::report_details,
};
use mig_cdi_model::{DeviceNode, Major, Minor, Topology};
use mig_cdi_sys::{Machine, NodeDir, NodeDirEntry, NodeStat, Root, is_root, text::numbered};
use serde::Serialize;
use std::{collections::BTreeSet, path::Path};

const DEV: &str = "/dev";
const CAPS: &str = "/dev/nvidia-caps";
/// systemd allows a service's devices by the links in it.
const LINKS: &str = "/dev/char";

/// Extent of [`apply`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodesMode {
    /// Only remove nodes that are another device's now, and make none.
    pub prune: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// What was done to the host's device nodes, or would be.
#[derive(Debug, Serialize)]
pub struct Changes {
    /// Nothing was changed.
    pub dry_run: bool,
    /// In their order.
    pub changes: Vec<Change>,
    /// What was not done, and why. All of it has been said.
    pub problems: Vec<String>,
    /// How it ended.
    #[serde(skip)]
    pub exit: Exit,
}

/// Makes the host's device nodes what the driver says. What cannot be done is said and left out.
///
/// # Errors
/// When nothing was done: no root, no driver, directories that are not root's alone.
pub fn apply(node: &NodeSource, mode: NodesMode, messages: &dyn MessageSink) -> Result<Changes> {
    let NodesMode { prune, dry_run } = mode;
    if node.is_simulated() {
        return Err(Error::usage("make", "device nodes")
            .because("a simulated node has none")
            .cure("leave out --node"));
    }
    if !dry_run && !is_root() {
        return Err(Error::refused("make", "device nodes")
            .because("only root can")
            .cure("run it as root, or with --dry-run"));
    }
    let (machine, roots) = (node.host()?, &node.roots);
    Root::open(&roots.proc)?.check_proc()?;
    let dirs = Dirs::open(&roots.dev)?;
    // Before the driver is asked: a node that is made for a new instance meanwhile is no old one.
    let old = dirs.caps.names()?;
    let discovery = discover::discover(&machine, Source::Proc)?;
    report_details(&discovery, messages);
    let Some(caps) = discovery.caps else {
        return Err(Error::no_driver("read", "/proc/devices")
            .because("no character device \"nvidia-caps\"")
            .cure("load a driver that knows mig"));
    };
    let wanted = wanted(&discovery.topology);
    let links = wanted.iter().map(|node| link_path(node.major, node.minor)).collect();
    let mut plan = Plan { messages, dirs, links, steps: Vec::new(), problems: Vec::new() };
    discovery.problems.iter().for_each(|problem| plan.problem(problem.to_string()));
    plan.leftovers()?;
    let mut refused = false;
    for node in &wanted {
        refused |= !plan.node(node)?;
    }
    if discovery.problems.is_empty() {
        let kept = wanted.iter().map(|node| node.path.as_str()).collect();
        plan.vanished(&machine, &discovery.topology, (caps, &kept), &old)?;
    }
    if prune {
        plan.make_none()?;
    }
    plan.directories();
    Ok(plan.carry_out(dry_run, refused))
}

/// The nodes that the host should have.
fn wanted(topology: &Topology) -> Vec<&DeviceNode> {
    let gpus = topology.gpus.iter().map(|gpu| &gpu.node);
    let admin = topology.admin.iter().map(|admin| &admin.node);
    let instances =
        topology.gpus.iter().flat_map(|gpu| &gpu.gpu_instances).flat_map(|gi| {
            [&gi.cap].into_iter().chain(gi.compute_instances.iter().map(|ci| &ci.cap))
        });
    topology.common.iter().chain(gpus).chain(admin).chain(instances).collect()
}

fn link_path(major: Major, minor: Minor) -> String {
    format!("{LINKS}/{major}:{minor}")
}

/// As nvidia-modprobe makes them.
fn link_target(path: &str) -> String {
    format!("..{}", path.trim_start_matches(DEV))
}

/// The three directories that are changed.
struct Dirs {
    dev: NodeDir,
    caps: NodeDir,
    links: NodeDir,
}

impl Dirs {
    fn open(root: &Path) -> Result<Dirs> {
        let dev = NodeDir::open(&Root::open(root)?, DEV)?;
        if !dev.exists() {
            return Err(Error::failed("open", dev.show("").display())
                .because("not there")
                .cure("see --dev-root"));
        }
        Ok(Dirs { caps: dev.child("nvidia-caps")?, links: dev.child("char")?, dev })
    }

    /// The directory and the name of a path.
    fn at<'a>(&self, path: &'a str) -> (&NodeDir, &'a str) {
        let name = path.trim_start_matches("/dev/");
        match name.split_once('/') {
            None => (&self.dev, name),
            Some(("char", name)) => (&self.links, name),
            Some((_, name)) => (&self.caps, name),
        }
    }

    fn entry(&self, path: &str) -> mig_cdi_sys::Result<NodeDirEntry> {
        let (dir, name) = self.at(path);
        dir.entry(name)
    }

    fn show(&self, path: &str) -> String {
        let (dir, name) = self.at(path);
        dir.show(name).display().to_string()
    }

    fn act(&mut self, change: &Change) -> mig_cdi_sys::Result<()> {
        if let Change::Directory { path } = change {
            return match path == CAPS {
                true => self.caps.make(&self.dev, "nvidia-caps"),
                false => self.links.make(&self.dev, "char"),
            };
        }
        let (dir, name) = self.at(change.path());
        match change {
            Change::Make(node) | Change::Replace(node) => dir.put_node(name, &stat(node)),
            Change::Link { target, .. } => dir.put_link(name, target),
            Change::Directory { .. } | Change::Remove { .. } => dir.remove(name),
        }
    }
}

fn stat(node: &DeviceNode) -> NodeStat {
    let DeviceNode { major, minor, mode, uid, gid, .. } = *node;
    NodeStat { is_char: true, major, minor, mode, uid, gid }
}

/// What is to be done.
struct Plan<'a> {
    messages: &'a dyn MessageSink,
    dirs: Dirs,
    /// The links of all wanted nodes.
    links: BTreeSet<String>,
    /// Each list is done up to its first failure.
    steps: Vec<Vec<Change>>,
    problems: Vec<String>,
}

impl Plan<'_> {
    fn problem(&mut self, message: String) {
        self.messages.error(&message);
        self.problems.push(message);
    }

    /// Removes what a run that was killed did not finish.
    fn leftovers(&mut self) -> Result<()> {
        let Dirs { dev, caps, links } = &self.dirs;
        for (dir, path) in [(dev, DEV), (caps, CAPS), (links, LINKS)] {
            for name in dir.leftovers()? {
                if matches!(dir.entry(&name)?, NodeDirEntry::Node(_) | NodeDirEntry::Link(_)) {
                    self.steps.push(vec![Change::Remove { path: format!("{path}/{name}") }]);
                }
            }
        }
        Ok(())
    }

    /// Plans a node and its link. False when something else is in its place.
    fn node(&mut self, node: &DeviceNode) -> Result<bool> {
        let (path, wanted) = (&node.path, stat(node));
        let same = |found: &NodeStat| (found.major, found.minor) == (node.major, node.minor);
        let mut steps = Vec::new();
        let other = match self.dirs.entry(path)? {
            NodeDirEntry::Node(found) if found == wanted => None,
            entry if !node.modify => {
                let message = format!("{path} is the administrator's to make: the driver says so");
                self.messages.detail(&message);
                if !matches!(entry, NodeDirEntry::Node(found) if same(&found)) {
                    return Ok(true);
                }
                None
            }
            NodeDirEntry::Absent => {
                steps.push(Change::Make(node.clone()));
                None
            }
            NodeDirEntry::Node(found) => {
                steps.push(Change::Replace(node.clone()));
                steps.extend(self.old_link(&found, path)?);
                None
            }
            NodeDirEntry::Link(target) => Some(format!("a symbolic link to {target:?}")),
            NodeDirEntry::Other(what) => Some(what.to_owned()),
        };
        if let Some(what) = other {
            let path = self.dirs.show(path);
            self.problem(format!("make {path}: {what} is in its place; remove it"));
            return Ok(false);
        }
        steps.extend(self.link(node)?);
        self.steps.push(steps);
        Ok(true)
    }

    fn link(&self, node: &DeviceNode) -> Result<Option<Change>> {
        let (path, target) = (link_path(node.major, node.minor), link_target(&node.path));
        Ok(match self.dirs.entry(&path)? {
            NodeDirEntry::Link(to) if to == target || to == node.path => None,
            NodeDirEntry::Absent | NodeDirEntry::Link(_) => Some(Change::Link { path, target }),
            NodeDirEntry::Node(_) | NodeDirEntry::Other(_) => {
                let path = self.dirs.show(&path);
                let message =
                    format!("link {path}: something that is no link is there, and is left");
                self.messages.warn(&message);
                None
            }
        })
    }

    /// The link of a node that goes, unless it is another's from now on.
    fn old_link(&self, found: &NodeStat, path: &str) -> Result<Option<Change>> {
        let link = link_path(found.major, found.minor);
        let is_its = |to: &str| to == path || to == link_target(path);
        Ok(match self.dirs.entry(&link)? {
            NodeDirEntry::Link(to) if is_its(&to) && !self.links.contains(&link) => {
                Some(Change::Remove { path: link })
            }
            _ => None,
        })
    }

    /// Removes the nodes of instances that are gone: those of an instance that could be and is not, in a
    /// tree that was read whole. The link goes first: one without a node would not be found again.
    fn vanished(
        &mut self,
        machine: &dyn Machine,
        topology: &Topology,
        (caps, kept): (Major, &BTreeSet<&str>),
        old: &[String],
    ) -> Result<()> {
        let minor = |name: &String| {
            let minor = numbered(name, "nvidia-cap").map(Minor)?;
            let path = format!("{CAPS}/nvidia-cap{minor}");
            (path == format!("{CAPS}/{name}") && !kept.contains(path.as_str()))
                .then_some((minor, path))
        };
        let old: Vec<_> = old.iter().filter_map(minor).collect();
        if old.is_empty() {
            return Ok(());
        }
        let instances = match discover::capabilities_of_instances(machine, topology) {
            Ok(instances) => instances,
            Err(problem) => {
                self.problem(problem.to_string());
                return Ok(());
            }
        };
        for (minor, path) in old {
            if let (Some(told), NodeDirEntry::Node(found)) =
                (instances.get(&minor), self.dirs.entry(&path)?)
                && (*told || found.major != caps)
            {
                let mut steps: Vec<_> = self.old_link(&found, &path)?.into_iter().collect();
                steps.push(Change::Remove { path });
                self.steps.push(steps);
            }
        }
        Ok(())
    }

    /// Leaves of the plan what goes, and has nodes with other numbers go too.
    fn make_none(&mut self) -> Result<()> {
        for steps in std::mem::take(&mut self.steps) {
            let mut kept = Vec::new();
            for change in steps {
                match change {
                    Change::Remove { .. } => kept.push(change),
                    Change::Replace(node) if !self.has_numbers_of(&node)? => {
                        kept.push(Change::Remove { path: node.path });
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

    /// Directories that are needed and missing are made before all else.
    fn directories(&mut self) {
        for (dir, path) in [(&self.dirs.caps, CAPS), (&self.dirs.links, LINKS)] {
            let below =
                |change: &Change| Path::new(change.path()).parent() == Some(Path::new(path));
            if !dir.exists() && self.steps.iter().flatten().any(below) {
                self.steps.insert(0, vec![Change::Directory { path: path.to_owned() }]);
            }
        }
    }

    fn carry_out(mut self, dry_run: bool, refused: bool) -> Changes {
        let (mut changes, mut failed) = (Vec::new(), refused);
        for steps in std::mem::take(&mut self.steps) {
            for change in steps {
                if !dry_run && let Err(error) = self.dirs.act(&change) {
                    let cure =
                        if error.is_denied() { "; it takes CAP_MKNOD and CAP_CHOWN" } else { "" };
                    self.problem(format!("{error}{cure}"));
                    failed = true;
                    break;
                }
                changes.push(change);
            }
        }
        let exit = match (failed, self.problems.is_empty()) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::Success,
            (false, false) => Exit::Incomplete,
        };
        Changes { dry_run, changes, problems: self.problems, exit }
    }
}
