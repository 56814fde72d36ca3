//! The work of the child process: one pass over `/proc`.

use super::{
    Access, AccessKinds, AccessQuery, AccessReport, Accessor, DescribedProcess, ProcessHints, fail,
    hints::container_id,
    sees_all_processes,
    task::{DeviceRight, Examined, HostNode, Task, TaskCgroup, TaskStatus, host_nodes},
};
use crate::{Result, Root, enter_host_cgroup_namespace, may_examine_processes, share_descriptors};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Largest `/proc/PID/cgroup` that is read: a path has at most 4 KiB (`PATH_MAX`), and there are some 15 hierarchies.
pub(super) const CGROUP_LIMIT: usize = 64 << 10;
/// Largest `/proc/PID/status` that is read: a process may have 65,536 groups.
const STATUS_LIMIT: usize = 1 << 20;
/// Largest number of accessors in a report. There are more only where somebody makes them.
const ACCESSORS: usize = 4096;

/// Finds the processes that can use the devices of a query.
pub(super) fn find(query: &AccessQuery, limit: Duration) -> Result<(Root, AccessReport)> {
    // Some of the time is for the start of this process, mounts, and the report.
    let end = Instant::now() + limit * 5 / 6;
    let host = Root::open(&query.host_root)?;
    // Paths of cgroups are relative to our namespace. Without the privilege they stay so, and those outside of it are unknown.
    let _ = enter_host_cgroup_namespace(&host);
    // A `/proc` elsewhere is that of a machine by what the user says.
    let is_own_proc = query.host_root == Path::new("/");
    if query.is_for_machine && is_own_proc && !sees_all_processes() {
        return Err(fail("the processes of the whole machine cannot be seen from here")
            .with_cure("run it in the pid namespace of the host"));
    }
    let mut scan = Scan {
        query,
        host: &host,
        nodes: host_nodes(query),
        end,
        own_cgroups: None,
        own_container: None,
    };
    scan.own_cgroups = scan.cgroups_at("/proc/self/cgroup").ok().flatten();
    scan.own_container = query.own.and_then(|pid| scan.cgroups(Task::process(pid)).ok().flatten());
    let report = scan.report()?;
    Ok((host, report))
}

/// A task with the text of its file `cgroup`.
pub(super) type TaskCgroups = (Task, Result<String>);

/// Results of the search so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) accessors: Vec<Accessor>,
    pub(super) tasks: Vec<Examined>,
    /// Cgroups of these tasks, by the text of their files `cgroup`.
    pub(super) cgroups: HashMap<String, Arc<TaskCgroup>>,
    /// Processes that may not be examined by this user.
    pub(super) forbidden: BTreeSet<u32>,
}

pub(super) struct Scan<'a> {
    pub(super) query: &'a AccessQuery,
    pub(super) host: &'a Root,
    pub(super) nodes: Vec<HostNode>,
    /// End of the search for open files.
    pub(super) end: Instant,
    /// Text of the file `cgroup` of this process, where `/proc` shows it.
    pub(super) own_cgroups: Option<String>,
    /// The same of the container whose own use does not count.
    own_container: Option<String>,
}

impl Scan<'_> {
    fn report(&self) -> Result<AccessReport> {
        let mut findings = Findings::default();
        match self.query.kinds {
            AccessKinds::OpenFile => self.every_task(&mut findings)?,
            AccessKinds::Cgroup | AccessKinds::Confined | AccessKinds::All => {
                self.cgroup_rules(&mut findings)?;
            }
        }
        if self.query.kinds != AccessKinds::Cgroup {
            self.open_files(&mut findings);
        }
        if self.query.kinds == AccessKinds::All {
            self.mounts(&mut findings);
        }
        let Findings { accessors, forbidden, .. } = findings;
        let accessors = merge(accessors);
        let described = |pid: &u32| {
            let cgroups = self.cgroups(Task::process(*pid)).ok().flatten();
            let container = cgroups.as_deref().and_then(container_id);
            DescribedProcess { pid: *pid, container, hints: ProcessHints::default() }
        };
        let described = self.query.describe.iter().map(described).collect();
        Ok(AccessReport { accessors, forbidden: forbidden.len(), described })
    }

    /// Reads the cgroups of all processes, on all processors.
    pub(super) fn processes(&self) -> Result<Vec<TaskCgroups>> {
        let pids = self.pids()?;
        let read = |pids: &[u32]| -> Vec<TaskCgroups> {
            pids.iter().filter_map(|pid| self.with_cgroups(Task::process(*pid))).collect()
        };
        let parts = pids.chunks(pids.len().div_ceil(processors()).max(1)).map(|part| || read(part));
        Ok(in_parallel(parts).into_iter().flatten().collect())
    }

    /// Reads the cgroups of the other threads of processes, on all processors.
    pub(super) fn threads(&self, processes: &[u32]) -> Vec<TaskCgroups> {
        let has_own_proc = self.host.has_own_proc();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = Vec::new();
            while let Some(&pid) = processes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let path = format!("/proc/{pid}/task");
                if has_own_proc && self.host.has_one_thread(&path) {
                    continue;
                }
                let threads = self.host.list(&path).ok().flatten();
                let threads = threads.unwrap_or_default();
                let threads = threads.iter().filter_map(|name| name.parse().ok());
                for thread in threads.filter(|thread| *thread != pid) {
                    let has_own_files = !(has_own_proc && share_descriptors(pid, thread));
                    let task = Task { pid, thread: Some(thread), has_own_files };
                    found.extend(self.with_cgroups(task));
                }
            }
            found
        };
        in_parallel((0..processors()).map(|_| work)).into_iter().flatten().collect()
    }

    fn every_task(&self, findings: &mut Findings) -> Result<()> {
        let examined = |(task, cgroups): TaskCgroups| {
            let container = cgroups.ok().as_deref().and_then(container_id);
            Examined { task, cgroup: Arc::new(TaskCgroup { container, right: DeviceRight::All }) }
        };
        findings.tasks = self.processes()?.into_iter().map(examined).collect();
        let processes: Vec<u32> = findings.tasks.iter().map(|found| found.task.pid).collect();
        findings.tasks.extend(self.threads(&processes).into_iter().map(examined));
        Ok(())
    }

    pub(super) fn status(&self, task: Task) -> Option<TaskStatus> {
        let text = self.host.read(&task.file("status"), STATUS_LIMIT).ok().flatten()?;
        TaskStatus::parse(&String::from_utf8_lossy(&text))
    }

    /// Reports whether this process lacks a privilege to look at a task, after the kernel has denied it. It also denies that for
    /// a task that has ended (`proc_fd_access_allowed` in fs/proc/base.c).
    pub(super) fn is_forbidden(&self, task: Task) -> bool {
        !may_examine_processes() && self.status(task).is_some_and(|status| !status.is_dead)
    }

    /// Reports whether a task has the host's nodes: in the mount namespace of the machine's first process, or of this one.
    pub(super) fn has_host_nodes(&self, task: Task) -> bool {
        let link = |path: &str| self.host.link(path).ok();
        let namespace = link(&task.file("ns/mnt"));
        let is_same = |path| namespace.is_some() && namespace == link(path);
        let is_unchanged = link(&task.file("root")).is_some_and(|root| root == "/");
        is_unchanged && (is_same("/proc/1/ns/mnt") || is_same("/proc/self/ns/mnt"))
    }

    /// Reports whether a task is no longer there.
    pub(super) fn has_ended(&self, task: Task) -> bool {
        matches!(self.cgroups(task), Ok(None))
    }

    /// Positions of the devices whose nodes on the host a task may open, by its status. Without one it may open all.
    pub(super) fn openable(&self, status: impl FnOnce() -> Option<TaskStatus>) -> Vec<usize> {
        let is_for_all = |node: &HostNode| node.stat.is_none_or(|stat| stat.mode & 0o6 != 0);
        if self.nodes.iter().all(is_for_all) {
            return self.all().collect();
        }
        let Some(status) = status() else { return self.all().collect() };
        self.all().filter(|&i| status.may_open(&self.nodes[i])).collect()
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let names = self.host.list("/proc")?.unwrap_or_default();
        let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        if pids.is_empty() {
            let proc = self.host.display_path("/proc");
            return Err(fail(format!("{} does not show the processes", proc.display()))
                .with_cure("mount procfs there"));
        }
        // The first process of a container, after which it is named, mostly has the lowest number.
        pids.sort_unstable();
        Ok(pids)
    }

    /// Text of the file `cgroup` of a task; `None` when it has ended.
    pub(super) fn cgroups(&self, task: Task) -> Result<Option<String>> {
        self.cgroups_at(&task.file("cgroup"))
    }

    fn cgroups_at(&self, path: &str) -> Result<Option<String>> {
        match self.host.read(path, CGROUP_LIMIT) {
            Ok(bytes) => Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.is_ended() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reports whether what is in these cgroups does not count: this program, which keeps no slices for itself, also where its container
    /// may use all of them, as that of the device plugin; and the container of the query. A cgroup above that may be another container's,
    /// which the engine was told to start this one in.
    pub(super) fn is_own(&self, cgroups: &str) -> bool {
        [&self.own_cgroups, &self.own_container]
            .into_iter()
            .any(|own| own.as_deref() == Some(cgroups))
    }

    fn with_cgroups(&self, task: Task) -> Option<TaskCgroups> {
        self.cgroups(task).transpose().map(|cgroups| (task, cgroups))
    }

    /// Positions of all devices.
    pub(super) fn all(&self) -> Range<usize> {
        0..self.query.devices.len()
    }
}

pub(super) fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does parts of the work at the same time.
pub(super) fn in_parallel<T: Send>(
    parts: impl Iterator<Item = impl FnOnce() -> T + Send>,
) -> Vec<T> {
    thread::scope(|scope| {
        let threads: Vec<_> = parts.map(|part| scope.spawn(part)).collect();
        // Without the result of a thread that panicked, processes would be missing: the panic goes on here, and ends the child.
        let join = |thread: thread::ScopedJoinHandle<'_, T>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

/// Makes the accessor of devices; `None` without any.
pub(super) fn accessor(
    task: Task,
    container: Option<String>,
    devices: impl IntoIterator<Item = usize>,
    access: Access,
) -> Option<Accessor> {
    let devices: Vec<usize> = devices.into_iter().collect();
    let (pid, hints) = (task.pid, ProcessHints::default());
    (!devices.is_empty()).then_some(Accessor { pid, container, devices, access, hints })
}

/// Sorts accessors, and makes one of those of a container, or of a process, with the same access. Where there are very many, because
/// somebody makes them, those remain that hold a device as the first.
fn merge(mut accessors: Vec<Accessor>) -> Vec<Accessor> {
    accessors.sort_by_key(|accessor| accessor.pid);
    let mut known = HashSet::new();
    accessors.retain(|Accessor { pid, container, devices, access, .. }| {
        known.insert((container.clone().ok_or(*pid), devices.clone(), access.clone()))
    });
    if accessors.len() > ACCESSORS {
        let mut held = HashSet::new();
        accessors.retain(|accessor| {
            // All of its devices are inserted.
            accessor.devices.iter().filter(|&&device| held.insert(device)).count() > 0
        });
    }
    accessors
}
