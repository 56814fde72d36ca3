//! Processes and threads, and the device nodes that they may open by their modes.

use super::AccessQuery;
use mig_cdi_sys::{NodeStat, Root};

/// A device node of the host.
pub(super) struct HostNode {
    /// Numbers of its file system, and the end of its path there, as in a mountinfo file.
    pub(super) file_system: String,
    pub(super) path: String,
    pub(super) stat: NodeStat,
}

/// Returns the nodes of the devices on the host; `None` for one that is not there.
pub(super) fn host_nodes(query: &AccessQuery) -> Vec<Option<HostNode>> {
    let dev = Root::open(&query.dev_root).ok();
    let node = |name: &String| {
        let (dev, path) = (dev.as_ref()?, format!("/dev/{name}"));
        let file_system = dev.identity(&path).ok()??.file_system();
        let stat = dev.node(&path).ok()??;
        Some(HostNode { file_system, path: format!("/{name}"), stat })
    };
    query.nodes.iter().map(node).collect()
}

/// State, user and groups of a process or thread, from its file `status`.
pub(super) struct TaskStatus {
    /// It has ended. Of a process this is said of the main thread; others may go on.
    pub(super) is_dead: bool,
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
        Some(TaskStatus { is_dead, uid, groups })
    }

    /// Reports whether the mode of a node lets the user read or write it. Root may, whatever the mode.
    pub(super) fn may_open(&self, HostNode { stat, .. }: &HostNode) -> bool {
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

    /// Path of a file in its directory of `/proc`.
    pub(super) fn file(self, name: &str) -> String {
        match self.thread {
            None => format!("/proc/{}/{name}", self.pid),
            Some(thread) => format!("/proc/{}/task/{thread}/{name}", self.pid),
        }
    }
}
