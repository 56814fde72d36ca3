//! The work of the child process: one pass over `/proc`.

use super::{
    Access, AccessKinds, AccessQuery, AccessReport, Accessor, CGROUP_SUBCOMMAND, CgroupQuery,
    CgroupReply, DescribedProcess, ProcessHints,
};
use mig_cdi_gen::{Error, Result, child};
use mig_cdi_model::{DeviceVariable, Major, Minor, one_line};
use mig_cdi_sys::{
    DevicePolicies, DevicePolicy, NodeStat, Root, enter_host_cgroup_namespace, is_root,
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
/// Largest `/proc/PID/mountinfo` that is read: 100,000 mounts (`fs.mount-max`) of some 80 bytes. A service with a mount namespace has
/// a copy of all mounts of the host's containers.
const MOUNTS_LIMIT: usize = 8 << 20;
/// Largest `/proc/PID/status` that is read: a process may have 65,536 groups.
const STATUS_LIMIT: usize = 1 << 20;
/// Largest command line and environment that are read.
const TEXT_LIMIT: usize = 1 << 20;
/// Number of characters of a command line that are shown.
const SHOWN_CHARACTERS: usize = 48;
/// Number of variables that are read, more than a GPU has slices.
const VARIABLES: usize = 256;
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

/// Reads what processes say of themselves.
pub(super) fn hints(host: &Root, pids: &[u32]) -> Vec<ProcessHints> {
    let hints = |pid: &u32| ProcessHints {
        command: command_line(host, *pid),
        variables: variables(host, *pid),
    };
    pids.iter().map(hints).collect()
}

/// Reads the beginning of a command line, in one line. The process itself can write it (proc(5)).
fn command_line(host: &Root, pid: u32) -> String {
    let line = host.read(&format!("/proc/{pid}/cmdline"), TEXT_LIMIT).ok().flatten();
    let line = String::from_utf8_lossy(&line.unwrap_or_default()).replace('\0', " ");
    one_line(&line).trim().chars().take(SHOWN_CHARACTERS).collect()
}

fn variables(host: &Root, pid: u32) -> Vec<String> {
    let text = host.read(&format!("/proc/{pid}/environ"), TEXT_LIMIT).ok().flatten();
    let text = text.unwrap_or_default();
    let variables = text.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok());
    let ours = variables.filter(|text| matches!(DeviceVariable::parse(text), Some(Ok(_))));
    ours.take(VARIABLES).map(str::to_owned).collect()
}

/// Returns the short id of the container that a cgroup belongs to. Every engine puts its 64 hexadecimal digits into the path, and
/// Kubernetes nests that of the container in that of the pod.
fn container_id(cgroups: &str) -> Option<String> {
    let parts = cgroups.split(|c: char| !c.is_ascii_alphanumeric());
    let mut ids = parts.filter(|p| p.len() == 64 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    ids.next_back().map(|id| id[..12].to_owned())
}

/// A device node of the host.
struct HostNode {
    /// Numbers of its file system, and the end of its path there, as in a mountinfo file.
    file_system: String,
    path: String,
    stat: NodeStat,
}

/// Returns the nodes of the devices on the host; `None` for one that is not there.
fn host_nodes(query: &AccessQuery) -> Vec<Option<HostNode>> {
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
struct TaskStatus {
    /// It has ended. Of a process this is said of the main thread; others may go on.
    is_dead: bool,
    uid: u32,
    groups: Vec<u32>,
}

impl TaskStatus {
    fn parse(status: &str) -> Option<TaskStatus> {
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
    fn may_open(&self, HostNode { stat, .. }: &HostNode) -> bool {
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
struct Task {
    pid: u32,
    /// Id of a thread; `None` for the main one.
    thread: Option<u32>,
    /// False for a thread with the descriptors of the main one.
    has_own_files: bool,
}

impl Task {
    fn process(pid: u32) -> Task {
        Task { pid, thread: None, has_own_files: true }
    }

    /// Path of a file in its directory of `/proc`.
    fn file(self, name: &str) -> String {
        match self.thread {
            None => format!("/proc/{}/{name}", self.pid),
            Some(thread) => format!("/proc/{}/task/{thread}/{name}", self.pid),
        }
    }
}

/// A task with the text of its file `cgroup`.
type TaskCgroups = (Task, Result<String, mig_cdi_sys::Error>);

/// A task that no policy restricts.
struct Unrestricted {
    task: Task,
    container: Option<String>,
}

/// What the search has found so far.
#[derive(Default)]
struct Findings {
    accessors: Vec<Accessor>,
    unrestricted: Vec<Unrestricted>,
    /// Processes that may not be examined by this user.
    forbidden: BTreeSet<u32>,
}

struct Scan<'a> {
    query: &'a AccessQuery,
    host: &'a Root,
    nodes: Vec<Option<HostNode>>,
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
        // One that may partition GPUs may open the nodes of all slices: it holds those that it has open.
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

    fn status(&self, task: Task) -> Option<TaskStatus> {
        let text = self.host.read(&task.file("status"), STATUS_LIMIT).ok().flatten()?;
        TaskStatus::parse(&String::from_utf8_lossy(&text))
    }

    /// Reports whether this process lacks the privilege to look at a task, after the kernel has denied it. It also denies that for
    /// a task that has ended (`proc_fd_access_allowed` in fs/proc/base.c), and where a security module confines this process.
    fn is_forbidden(&self, task: Task) -> bool {
        !may_examine_processes() && self.status(task).is_some_and(|status| !status.is_dead)
    }

    /// Positions of the devices whose nodes on the host a task may open, by its status. Without one it may open all.
    fn openable(&self, status: impl FnOnce() -> Option<TaskStatus>) -> Vec<usize> {
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
    fn all(&self) -> BTreeSet<usize> {
        (0..self.query.devices.len()).collect()
    }

    /// Finds the mount namespaces of unrestricted tasks that have devices mounted one by one, as rootless containers have
    /// them. The host's own `/dev`, and a mount of all of it, shows every device to everybody: it is no hold.
    fn mounts(&self, findings: &mut Findings) {
        let namespace = |task: Task| self.host.link(&task.file("ns/mnt"));
        let of_host = namespace(Task::process(1)).ok();
        // The devices of each namespace that nobody was found to hold yet.
        let mut namespaces: BTreeMap<String, (BTreeSet<usize>, Access)> = BTreeMap::new();
        for Unrestricted { task, container } in &findings.unrestricted {
            let name = match namespace(*task) {
                Ok(name) if of_host.as_ref() != Some(&name) => name,
                Err(error) if error.is_denied() && self.is_forbidden(*task) => {
                    findings.forbidden.insert(task.pid);
                    continue;
                }
                Ok(_) | Err(_) => continue,
            };
            if namespaces.get(&name).is_some_and(|(devices, _)| devices.is_empty()) {
                continue;
            }
            // Any user can mount a node in a namespace of their own, also one that they may not open, and one that takes long to read.
            let openable = self.openable(|| self.status(*task));
            if openable.is_empty() {
                continue;
            }
            let (mounted, access) =
                namespaces.entry(name).or_insert_with(|| self.mounted_for(*task));
            let devices: BTreeSet<usize> =
                openable.into_iter().filter(|device| mounted.remove(device)).collect();
            findings.accessors.extend(accessor(*task, container.clone(), devices, access.clone()));
        }
    }

    /// Positions of the devices that are mounted one by one in the mount namespace of a task, or of all when it cannot be read.
    fn mounted_for(&self, task: Task) -> (BTreeSet<usize>, Access) {
        match self.host.read(&task.file("mountinfo"), MOUNTS_LIMIT) {
            Ok(text) => {
                let text = text.unwrap_or_default();
                (self.mounted_in(&String::from_utf8_lossy(&text)), Access::Mount)
            }
            Err(error) => (self.all(), Access::Unknown(error.to_string())),
        }
    }

    /// Positions of the devices that are mounted one by one, by a mountinfo file: lines are
    /// `ID PARENT MAJOR:MINOR ROOT POINT …` (proc(5)), and the root of a bind mount of a file is that file.
    fn mounted_in(&self, mountinfo: &str) -> BTreeSet<usize> {
        let mut devices = BTreeSet::new();
        for line in mountinfo.lines() {
            let mut fields = line.split(' ').skip(2);
            let (Some(file_system), Some(root)) = (fields.next(), fields.next()) else { continue };
            let is_mounted =
                |node: &HostNode| node.file_system == file_system && root.ends_with(&node.path);
            let position = self.nodes.iter().position(|node| node.as_ref().is_some_and(is_mounted));
            devices.extend(position);
        }
        devices
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
fn accessor(
    task: Task,
    container: Option<String>,
    devices: impl IntoIterator<Item = usize>,
    access: Access,
) -> Option<Accessor> {
    let devices: Vec<usize> = devices.into_iter().collect();
    let (pid, hints) = (task.pid, ProcessHints::default());
    (!devices.is_empty()).then_some(Accessor { pid, container, devices, access, hints })
}
