//! Processes and threads, and the device nodes that they may open by their modes.

use super::AccessQuery;
use crate::{NodeStat, Root};
use std::{path::Path, sync::Arc};

/// A device node of the host, which may be missing.
pub(super) struct HostNode {
    /// Numbers of its file system, and the end of its path there, as in a mountinfo file.
    pub(super) file_system: Option<String>,
    pub(super) path: String,
    pub(super) stat: Option<NodeStat>,
}

impl HostNode {
    /// Reports whether it is the root of a mount, by the file system and the root in a mountinfo file. A node that was removed since, or
    /// made anew, has a mark behind its path there (`dentry_path` in `fs/d_path.c`), and opens the device as before.
    pub(super) fn is_root_of(&self, file_system: &str, root: &str) -> bool {
        let root = root.strip_suffix("//deleted").unwrap_or(root);
        self.file_system.as_deref() == Some(file_system) && root.ends_with(&self.path)
    }
}

/// Returns the nodes of the devices on the host.
pub(super) fn host_nodes(query: &AccessQuery) -> Vec<HostNode> {
    // The `/dev` of a container, as that of the device plugin, is not the host's.
    let is_own = query.dev_root == Path::new("/");
    let of_host = is_own.then(|| Root::open(&query.host_root.join("proc/1/root")).ok()).flatten();
    let dev = of_host.or_else(|| Root::open(&query.dev_root).ok());
    let node = |name: &String| {
        let path = format!("/dev/{name}");
        let stat = dev.as_ref().and_then(|dev| dev.node(&path).ok().flatten());
        // Where a node is missing, the file system is that of its directory.
        let identity = |path: &Path| dev.as_ref()?.identity(path.to_str()?).ok().flatten();
        let mut below_root =
            Path::new(&path).ancestors().take_while(|path| path.parent().is_some());
        let file_system = below_root.find_map(identity);
        let file_system = file_system.map(|identity| identity.file_system());
        HostNode { file_system, path: format!("/{name}"), stat }
    };
    query.nodes.iter().map(node).collect()
}

/// A task that is examined, and its cgroup.
pub(super) struct Examined {
    pub(super) task: Task,
    pub(super) cgroup: Arc<TaskCgroup>,
}

/// Properties that the tasks of one cgroup share.
pub(super) struct TaskCgroup {
    pub(super) container: Option<String>,
    pub(super) right: DeviceRight,
}

/// The devices that a cgroup lets its tasks open.
pub(super) enum DeviceRight {
    /// All: no rule restricts it, or it may partition GPUs.
    All,
    /// Those at these positions, by a rule.
    Rule(Vec<usize>),
    /// Not known, for this reason.
    Unknown(String),
}

/// State, user and groups of a process or thread, from its file `status`.
pub(super) struct TaskStatus {
    /// It has ended. Of a process this is said of the main thread; others may go on.
    pub(super) is_dead: bool,
    /// Number above those of all its descriptors.
    pub(super) descriptors: u32,
    uid: u32,
    groups: Vec<u32>,
}

impl TaskStatus {
    pub(super) fn parse(status: &str) -> Option<TaskStatus> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let numbers = |name: &str| {
            let ids = field(name)?.split_whitespace().filter_map(|id| id.parse().ok());
            Some(ids.collect::<Vec<u32>>())
        };
        // Real, effective, saved, and that for file systems, which the kernel compares (credentials(7)).
        let (uid, gid) = (*numbers("Uid:")?.get(3)?, *numbers("Gid:")?.get(3)?);
        let mut groups = numbers("Groups:")?;
        groups.push(gid);
        let is_dead = field("State:")?.trim_start().starts_with(['Z', 'X']);
        let descriptors = numbers("FDSize:").and_then(|size| size.first().copied()).unwrap_or(0);
        Some(TaskStatus { is_dead, descriptors, uid, groups })
    }

    /// Reports whether the user is root, to whom no mode applies.
    pub(super) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Reports whether the mode of a node lets the user read or write it. Root may, whatever the mode. Without a node there is none.
    pub(super) fn may_open(&self, node: &HostNode) -> bool {
        let Some(stat) = &node.stat else { return true };
        let class = match () {
            () if self.uid == 0 => return true,
            () if self.uid == stat.uid => 6,
            () if self.groups.contains(&stat.gid) => 3,
            () => 0,
        };
        stat.mode >> class & 0o6 != 0
    }
}

/// A process, or one of its threads. A thread can have a cgroup, descriptors and a mount namespace of its own, and goes on when the
/// main one has ended, of which `/proc/PID` then shows none of the three.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub(super) pid: u32,
    /// Id of a thread; `None` for the main one.
    pub(super) thread: Option<u32>,
    /// False for a thread with the descriptors of the main one.
    pub(super) has_own_files: bool,
}

impl Task {
    pub(super) fn process(pid: u32) -> Task {
        Task { pid, thread: None, has_own_files: true }
    }

    /// Its id, which is that of the process for the main one.
    pub(super) fn id(self) -> u32 {
        self.thread.unwrap_or(self.pid)
    }

    /// Path of a file in its directory of `/proc`.
    pub(super) fn file(self, name: &str) -> String {
        match self.thread {
            None => format!("/proc/{}/{name}", self.pid),
            Some(thread) => format!("/proc/{}/task/{thread}/{name}", self.pid),
        }
    }
}
