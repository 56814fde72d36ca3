//! The work of the child process: one pass over `/proc`.

use super::{
    Access, AccessKinds, AccessQuery, AccessReport, Accessor, CGROUP_SUBCOMMAND, CgroupQuery,
    CgroupReply, DescribedProcess, ProcessHints,
    hints::container_id,
    task::{HostNode, Task, TaskStatus, host_nodes},
};
use mig_cdi_gen::{Error, Result, child};
use mig_cdi_model::{Major, Minor};
use mig_cdi_sys::{
    DevicePolicies, DevicePolicy, Root, enter_host_cgroup_namespace, is_root,
    may_examine_processes, share_descriptors,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// Largest `/proc/PID/cgroup` that is read: a path has at most 4 KiB (`PATH_MAX`), and there are some 15 hierarchies.
const CGROUP_LIMIT: usize = 64 << 10;
/// Time for a child that checks a cgroup from within, which takes some milliseconds.
const WITHIN_LIMIT: Duration = Duration::from_millis(300);
/// Largest `/proc/PID/status` that is read: a process may have 65,536 groups.
const STATUS_LIMIT: usize = 1 << 20;
/// Largest number of accessors in a report. There are more only where somebody makes them, and then all devices count as in use.
const ACCESSORS: usize = 4096;

/// Finds the processes that can use the devices of a query.
pub(super) fn find(query: &AccessQuery) -> Result<(Root, AccessReport)> {
    let host = Root::open(&query.host_root)?;
    // Paths of cgroups are relative to our namespace. Without the privilege they stay so, and those outside of it are unknown.
    let _ = enter_host_cgroup_namespace(&host);
    let scan = Scan { query, host: &host, nodes: host_nodes(query) };
    let report = scan.report()?;
    Ok((host, report))
}

/// A task with the text of its file `cgroup`.
type TaskCgroups = (Task, Result<String, mig_cdi_sys::Error>);

/// A task that no policy restricts.
pub(super) struct Unrestricted {
    pub(super) task: Task,
    pub(super) container: Option<String>,
}

/// Results of the search so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) accessors: Vec<Accessor>,
    pub(super) unrestricted: Vec<Unrestricted>,
    /// Processes that may not be examined by this user.
    pub(super) forbidden: BTreeSet<u32>,
}

pub(super) struct Scan<'a> {
    pub(super) query: &'a AccessQuery,
    pub(super) host: &'a Root,
    pub(super) nodes: Vec<Option<HostNode>>,
}

impl Scan<'_> {
    fn report(&self) -> Result<AccessReport> {
        let mut findings = Findings::default();
        match self.query.kinds {
            AccessKinds::OpenFile => self.every_task(&mut findings)?,
            AccessKinds::Cgroup | AccessKinds::All => self.cgroup_rules(&mut findings)?,
        }
        if self.query.kinds != AccessKinds::Cgroup {
            self.open_files(&mut findings);
        }
        if self.query.kinds == AccessKinds::All {
            self.mounts(&mut findings);
        }
        let Findings { mut accessors, forbidden, .. } = findings;
        if accessors.len() > ACCESSORS {
            return Err(Error::failed("find", "the processes that can use devices")
                .because(format!("there are more than {ACCESSORS}"))
                .with_cure("end processes that have device nodes open"));
        }
        accessors.sort_by_key(|accessor| accessor.pid);
        let described = |pid: &u32| {
            let cgroups = self.cgroups(Task::process(*pid)).ok().flatten();
            let container = cgroups.as_deref().and_then(container_id);
            DescribedProcess { pid: *pid, container, hints: ProcessHints::default() }
        };
        let described = self.query.describe.iter().map(described).collect();
        Ok(AccessReport { accessors, forbidden: forbidden.len(), described })
    }

    /// Reads the cgroups of all processes, on all processors.
    fn processes(&self) -> Result<Vec<TaskCgroups>> {
        let pids = self.pids()?;
        let read = |pids: &[u32]| -> Vec<TaskCgroups> {
            pids.iter().filter_map(|pid| self.with_cgroups(Task::process(*pid))).collect()
        };
        let parts = pids.chunks(pids.len().div_ceil(processors()).max(1)).map(|part| || read(part));
        Ok(in_parallel(parts).into_iter().flatten().collect())
    }

    /// Reads the cgroups of the other threads of processes, on all processors.
    fn threads(&self, processes: &[Unrestricted]) -> Vec<TaskCgroups> {
        let has_own_proc = self.host.has_own_proc();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = Vec::new();
            while let Some(process) = processes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let pid = process.task.pid;
                let threads = self.host.list(&format!("/proc/{pid}/task")).ok().flatten();
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

    /// Finds the processes whose cgroup allows devices by a rule, one for each cgroup, and those that may open every device.
    fn cgroup_rules(&self, findings: &mut Findings) -> Result<()> {
        let from_within = |path: &str| self.policy_from_within(path);
        let mut policies =
            DevicePolicies::open(self.host, self.query.devices.clone(), &from_within)?;
        self.judge_all(self.processes()?, &mut policies, findings);
        // The kernel shows one whose main thread has ended as unrestricted: in cgroups of version 1 it is at the root then
        // (`proc_cgroup_show` in kernel/cgroup/cgroup.c).
        let threads = self.threads(&findings.unrestricted);
        self.judge_all(threads, &mut policies, findings);
        Ok(())
    }

    fn judge_all(
        &self,
        tasks: Vec<TaskCgroups>,
        policies: &mut DevicePolicies<'_>,
        findings: &mut Findings,
    ) {
        let mut groups: BTreeMap<String, Vec<Task>> = BTreeMap::new();
        for (task, cgroups) in tasks {
            match cgroups {
                Ok(cgroups) => groups.entry(cgroups).or_default().push(task),
                Err(error) => self.judge_unknown(None, vec![task], &error.to_string(), findings),
            }
        }
        for (cgroups, tasks) in groups {
            // A cgroup that is gone was left by its processes: they have ended, or are in another one.
            let (stayed, moved) = match &*policies.of(&cgroups) {
                DevicePolicy::Unknown(_) => self.again(&cgroups, tasks),
                _ => (tasks, Vec::new()),
            };
            self.judge(&cgroups, stayed, policies, findings);
            for (cgroups, task) in moved {
                self.judge(&cgroups, vec![task], policies, findings);
            }
        }
    }

    /// Reads the cgroups of tasks once more. Returns those that are where they were, and the others with their cgroups.
    fn again(&self, cgroups: &str, tasks: Vec<Task>) -> (Vec<Task>, Vec<(String, Task)>) {
        let (mut stayed, mut moved) = (Vec::new(), Vec::new());
        for task in tasks {
            match self.cgroups(task) {
                Ok(Some(now)) if now != cgroups => moved.push((now, task)),
                Ok(Some(_)) | Err(_) => stayed.push(task),
                Ok(None) => {}
            }
        }
        (stayed, moved)
    }

    /// Judges tasks of one cgroup by its policy.
    fn judge(
        &self,
        cgroups: &str,
        tasks: Vec<Task>,
        policies: &mut DevicePolicies<'_>,
        findings: &mut Findings,
    ) {
        let Some(first) = tasks.first().copied() else { return };
        let container = container_id(cgroups);
        let policy = policies.of(cgroups);
        let devices = match &*policy {
            DevicePolicy::Everything => None,
            DevicePolicy::Some(devices) => Some(devices.clone()),
            DevicePolicy::Unknown(reason) => match policies.at_most(cgroups) {
                Some(devices) => Some(devices),
                None => return self.judge_unknown(container, tasks, reason, findings),
            },
        };
        // One that may partition GPUs is given the nodes of all slices (libnvidia-container mounts all of /dev/nvidia-caps for
        // NVIDIA_MIG_CONFIG_DEVICES): it holds those that it has open.
        let is_restricted = |devices: &Vec<usize>| {
            !self.query.config.is_some_and(|config| devices.contains(&config))
        };
        match devices.filter(is_restricted) {
            Some(devices) => {
                findings.accessors.extend(accessor(first, container, devices, Access::Cgroup));
            }
            None => findings.unrestricted.extend(
                tasks.into_iter().map(|task| Unrestricted { task, container: container.clone() }),
            ),
        }
    }

    /// Judges tasks whose policy is not known, by the other thing that the kernel checks: the mode of a node.
    fn judge_unknown(
        &self,
        container: Option<String>,
        tasks: Vec<Task>,
        reason: &str,
        findings: &mut Findings,
    ) {
        let mut is_reported = false;
        for task in tasks {
            let status = self.status(task);
            if status.as_ref().is_some_and(|status| status.is_dead) {
                // Its threads may be alive, and have cgroups that are known.
                findings.unrestricted.push(Unrestricted { task, container: container.clone() });
            } else if !is_root() {
                findings.forbidden.insert(task.pid);
            } else if !is_reported {
                let devices = self.openable(|| status);
                is_reported = !devices.is_empty();
                let access = Access::Unknown(reason.to_owned());
                findings.accessors.extend(accessor(task, container.clone(), devices, access));
            }
        }
    }

    /// Finds what a cgroup of version 2 allows where its programs cannot be read.
    fn policy_from_within(&self, path: &str) -> std::result::Result<DevicePolicy, String> {
        let query = CgroupQuery { path: path.to_owned(), devices: self.query.devices.clone() };
        match child::call(CGROUP_SUBCOMMAND, &query, WITHIN_LIMIT) {
            Ok(CgroupReply::Policy(policy)) => Ok(policy),
            Ok(CgroupReply::Failed(cause)) => Err(cause),
            Err(error) => Err(error.without_cure()),
        }
    }

    fn every_task(&self, findings: &mut Findings) -> Result<()> {
        let unrestricted = |(task, cgroups): TaskCgroups| {
            let container = cgroups.ok().as_deref().and_then(container_id);
            Unrestricted { task, container }
        };
        findings.unrestricted = self.processes()?.into_iter().map(unrestricted).collect();
        let threads = self.threads(&findings.unrestricted).into_iter().map(unrestricted);
        findings.unrestricted.extend(threads);
        Ok(())
    }

    pub(super) fn status(&self, task: Task) -> Option<TaskStatus> {
        let text = self.host.read(&task.file("status"), STATUS_LIMIT).ok().flatten()?;
        TaskStatus::parse(&String::from_utf8_lossy(&text))
    }

    /// Reports whether this process lacks the privilege to look at a task, after the kernel has denied it. It also denies that for
    /// a task that has ended (`proc_fd_access_allowed` in fs/proc/base.c), and where a security module confines this process.
    pub(super) fn is_forbidden(&self, task: Task) -> bool {
        !may_examine_processes() && self.status(task).is_some_and(|status| !status.is_dead)
    }

    /// Positions of the devices whose nodes on the host a task may open, by its status. Without one it may open all.
    pub(super) fn openable(&self, status: impl FnOnce() -> Option<TaskStatus>) -> Vec<usize> {
        let is_for_all = |node: &HostNode| node.stat.mode & 0o6 != 0;
        let positions = 0..self.nodes.len();
        // Without a node there is no mode to look at.
        if self.nodes.iter().flatten().all(is_for_all) {
            return positions.collect();
        }
        let Some(status) = status() else { return positions.collect() };
        positions
            .filter(|&i| self.nodes[i].as_ref().is_none_or(|node| status.may_open(node)))
            .collect()
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let names = self.host.list("/proc")?.unwrap_or_default();
        let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        if pids.is_empty() {
            return Err(Error::failed("find", "the processes that can use devices")
                .because("/proc does not show the processes")
                .with_cure("mount /proc, or name the directory that holds it with --host-root"));
        }
        // The first process of a container, after which it is named, mostly has the lowest number.
        pids.sort_unstable();
        Ok(pids)
    }

    /// Text of the file `cgroup` of a task; `None` when it has ended.
    fn cgroups(&self, task: Task) -> Result<Option<String>, mig_cdi_sys::Error> {
        match self.host.read(&task.file("cgroup"), CGROUP_LIMIT) {
            Ok(bytes) => Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.is_ended() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn with_cgroups(&self, task: Task) -> Option<TaskCgroups> {
        self.cgroups(task).transpose().map(|cgroups| (task, cgroups))
    }

    /// Finds the unrestricted tasks that have devices open, on all processors.
    fn open_files(&self, findings: &mut Findings) {
        let tasks: Vec<_> =
            findings.unrestricted.iter().filter(|found| found.task.has_own_files).collect();
        let next = AtomicUsize::new(0);
        let positions: BTreeMap<(Major, Minor), usize> =
            self.query.devices.iter().enumerate().map(|(i, device)| (*device, i)).collect();
        let work = || {
            let (mut found, mut forbidden) = (Vec::new(), Vec::new());
            while let Some(Unrestricted { task, container }) =
                tasks.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let is_wanted = |major, minor| positions.contains_key(&(major, minor));
                let (devices, access) = match self.host.open_devices(&task.file("fd"), is_wanted) {
                    Ok(Some(open)) => {
                        let devices: BTreeSet<usize> = open
                            .iter()
                            .filter_map(|device| positions.get(device))
                            .copied()
                            .collect();
                        (devices, Access::OpenFile)
                    }
                    Ok(None) => continue,
                    Err(error) if error.is_denied() => {
                        forbidden.extend(self.is_forbidden(*task).then_some(task.pid));
                        continue;
                    }
                    Err(error) => (self.all(), Access::Unknown(error.to_string())),
                };
                found.extend(accessor(*task, container.clone(), devices, access));
            }
            (found, forbidden)
        };
        for (found, forbidden) in in_parallel((0..processors()).map(|_| work)) {
            findings.accessors.extend(found);
            findings.forbidden.extend(forbidden);
        }
    }

    /// Positions of all devices.
    pub(super) fn all(&self) -> BTreeSet<usize> {
        (0..self.query.devices.len()).collect()
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does parts of the work at the same time.
fn in_parallel<T: Send>(parts: impl Iterator<Item = impl FnOnce() -> T + Send>) -> Vec<T> {
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
