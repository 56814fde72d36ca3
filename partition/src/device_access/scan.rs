//! The work of the child process: one pass over `/proc`.

use super::{
    Access, AccessKinds, AccessQuery, AccessReport, Accessor, CGROUP_SUBCOMMAND, CgroupQuery,
    CgroupReply, DescribedProcess, ProcessHints,
};
use mig_cdi_gen::{Error, Result, child};
use mig_cdi_model::{DeviceVariable, Major, Minor, one_line};
use mig_cdi_sys::{
    DevicePolicies, DevicePolicy, NodeStat, Root, cgroup_v2_path, enter_host_cgroup_namespace,
    is_root,
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
/// Largest `/proc/PID/mountinfo` that is read. A user can make a namespace of 100,000 mounts; one with a mounted device has some
/// hundred.
const MOUNTS_LIMIT: usize = 1 << 20;
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

/// User and groups of a process, from `/proc/PID/status`.
struct ProcessUser {
    uid: u32,
    groups: Vec<u32>,
}

impl ProcessUser {
    fn parse(status: &str) -> Option<ProcessUser> {
        let numbers = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>())
        };
        // Real, effective, saved, and that for file systems, which the kernel compares (credentials(7)).
        let (uid, gid) = (*numbers("Uid:")?.get(3)?, *numbers("Gid:")?.get(3)?);
        let mut groups = numbers("Groups:")?;
        groups.push(gid);
        Some(ProcessUser { uid, groups })
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

struct Scan<'a> {
    query: &'a AccessQuery,
    host: &'a Root,
    nodes: Vec<Option<HostNode>>,
}

/// A process that no policy restricts.
struct Unrestricted {
    pid: u32,
    container: Option<String>,
}

impl Scan<'_> {
    fn report(&self) -> Result<AccessReport> {
        let mut report = AccessReport::default();
        let mut unrestricted = match self.query.kinds {
            AccessKinds::OpenFile => self.every_process()?,
            AccessKinds::Cgroup | AccessKinds::All => self.restricted(&mut report)?,
        };
        if self.query.kinds != AccessKinds::Cgroup {
            self.open_files(&unrestricted, &mut report);
        }
        if self.query.kinds == AccessKinds::All {
            self.mounts(&mut unrestricted, &mut report);
        }
        if report.accessors.len() > ACCESSORS {
            return Err(Error::failed("find", "the processes that can use devices")
                .because(format!("there are more than {ACCESSORS}"))
                .with_cure("end processes that have device nodes open"));
        }
        report.accessors.sort_by_key(|accessor| accessor.pid);
        let described = |pid: &u32| DescribedProcess {
            pid: *pid,
            container: self.cgroups(*pid).as_deref().and_then(container_id),
            hints: ProcessHints::default(),
        };
        report.described = self.query.describe.iter().map(described).collect();
        Ok(report)
    }

    /// Reads the cgroups of all processes, on all processors. Returns the processes by the text of their `/proc/PID/cgroup`.
    fn processes(&self) -> Result<BTreeMap<String, Vec<u32>>> {
        let pids = self.pids()?;
        let read = |pids: &[u32]| -> Vec<(String, u32)> {
            pids.iter().filter_map(|pid| Some((self.cgroups(*pid)?, *pid))).collect()
        };
        let parts = pids.chunks(pids.len().div_ceil(processors()).max(1)).map(|part| || read(part));
        let mut processes: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (cgroups, pid) in in_parallel(parts).into_iter().flatten() {
            processes.entry(cgroups).or_default().push(pid);
        }
        Ok(processes)
    }

    /// Finds the processes whose cgroup allows devices by a rule, one for each cgroup. Returns those that may open every device.
    fn restricted(&self, report: &mut AccessReport) -> Result<Vec<Unrestricted>> {
        let mut policies = DevicePolicies::open(self.host, self.query.devices.clone())?;
        let mut unrestricted = Vec::new();
        for (cgroups, pids) in self.processes()? {
            let policy = policies.of(&cgroups);
            // A cgroup that is gone was left by its processes: they have ended, or are in another one.
            let (stayed, moved) = match policy.as_ref() {
                DevicePolicy::Unknown(_) => self.again(&cgroups, pids),
                _ => (pids, Vec::new()),
            };
            self.judge(&cgroups, stayed, &policy, &mut unrestricted, report);
            for (cgroups, pid) in moved {
                let policy = policies.of(&cgroups);
                self.judge(&cgroups, vec![pid], &policy, &mut unrestricted, report);
            }
        }
        Ok(unrestricted)
    }

    /// Reads the cgroups of processes once more. Returns those that are where they were, and the others with their cgroups.
    fn again(&self, cgroups: &str, pids: Vec<u32>) -> (Vec<u32>, Vec<(String, u32)>) {
        let (mut stayed, mut moved) = (Vec::new(), Vec::new());
        for pid in pids {
            match self.cgroups(pid) {
                Some(now) if now == cgroups => stayed.push(pid),
                Some(now) => moved.push((now, pid)),
                None => {}
            }
        }
        (stayed, moved)
    }

    /// Judges processes of one cgroup by its policy.
    fn judge(
        &self,
        cgroups: &str,
        pids: Vec<u32>,
        policy: &DevicePolicy,
        unrestricted: &mut Vec<Unrestricted>,
        report: &mut AccessReport,
    ) {
        let Some(&first) = pids.first() else { return };
        let container = container_id(cgroups);
        let mut add = |pid, devices: Vec<usize>, access| {
            if !devices.is_empty() {
                let (container, hints) = (container.clone(), ProcessHints::default());
                report.accessors.push(Accessor { pid, container, devices, access, hints });
            }
        };
        match policy {
            DevicePolicy::Everything => unrestricted.extend(
                pids.into_iter().map(|pid| Unrestricted { pid, container: container.clone() }),
            ),
            DevicePolicy::Some(devices) => add(first, devices.clone(), Access::Cgroup),
            DevicePolicy::Unknown(_) if !is_root() => report.forbidden += pids.len(),
            DevicePolicy::Unknown(reason) => match self.allowed_from_within(cgroups) {
                Ok(devices) => add(first, devices, Access::Cgroup),
                Err(cause) => {
                    // The mode of a node is the other thing that the kernel checks.
                    let able = pids.into_iter().map(|pid| (pid, self.openable(pid)));
                    if let Some((pid, devices)) = able.into_iter().find(|able| !able.1.is_empty()) {
                        add(pid, devices, Access::Unknown(format!("{reason}; {cause}")));
                    }
                }
            },
        }
    }

    /// Finds what a cgroup of version 2 allows where its programs cannot be read. Where a cgroup of version 1 restricts the process
    /// further, the answer has too many devices, and none too few.
    fn allowed_from_within(&self, cgroups: &str) -> std::result::Result<Vec<usize>, String> {
        let path = cgroup_v2_path(cgroups).ok_or("it has no cgroup of version 2")?.to_owned();
        let query = CgroupQuery { path, devices: self.query.devices.clone() };
        match child::call(CGROUP_SUBCOMMAND, &query, WITHIN_LIMIT) {
            Ok(CgroupReply::Allowed(devices)) => Ok(devices),
            Ok(CgroupReply::Failed(cause)) => Err(cause),
            Err(error) => Err(error.without_cure()),
        }
    }

    fn every_process(&self) -> Result<Vec<Unrestricted>> {
        let process = |(cgroups, pids): (String, Vec<u32>)| {
            let container = container_id(&cgroups);
            pids.into_iter().map(move |pid| Unrestricted { pid, container: container.clone() })
        };
        Ok(self.processes()?.into_iter().flat_map(process).collect())
    }

    /// Positions of the devices whose nodes on the host the user of a process may open.
    fn openable(&self, pid: u32) -> Vec<usize> {
        let status = self.host.read(&format!("/proc/{pid}/status"), STATUS_LIMIT).ok().flatten();
        let status = String::from_utf8_lossy(&status.unwrap_or_default()).into_owned();
        let user = ProcessUser::parse(&status);
        let may_open = |node: &Option<HostNode>| match node {
            Some(node) => user.as_ref().is_none_or(|user| user.may_open(node)),
            // Without a node there is no mode to look at.
            None => true,
        };
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(|(_, node)| may_open(node)).map(|(position, _)| position).collect()
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

    /// Text of `/proc/PID/cgroup`; `None` when the process has ended.
    fn cgroups(&self, pid: u32) -> Option<String> {
        let bytes = self.host.read(&format!("/proc/{pid}/cgroup"), CGROUP_LIMIT).ok()??;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Finds the unrestricted processes that have devices open, on all processors.
    fn open_files(&self, processes: &[Unrestricted], report: &mut AccessReport) {
        let next = AtomicUsize::new(0);
        let positions: BTreeMap<(Major, Minor), usize> =
            self.query.devices.iter().enumerate().map(|(i, device)| (*device, i)).collect();
        let work = || {
            let (mut found, mut forbidden) = (Vec::new(), 0);
            while let Some(process) = processes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let is_wanted = |major, minor| positions.contains_key(&(major, minor));
                match self.host.open_devices(process.pid, is_wanted) {
                    Ok(Some(open)) => {
                        let devices = open.iter().filter_map(|device| positions.get(device));
                        let devices: BTreeSet<usize> = devices.copied().collect();
                        if !devices.is_empty() {
                            found.push(process.accessor(devices, Access::OpenFile));
                        }
                    }
                    Ok(None) => {}
                    Err(error) if error.is_denied() => forbidden += 1,
                    Err(error) => {
                        let all = (0..self.query.devices.len()).collect();
                        found.push(process.accessor(all, Access::Unknown(error.to_string())));
                    }
                }
            }
            (found, forbidden)
        };
        for (found, forbidden) in in_parallel((0..processors()).map(|_| work)) {
            report.accessors.extend(found);
            report.forbidden += forbidden;
        }
    }

    /// Finds the mount namespaces of unrestricted processes that have devices mounted one by one, as rootless containers have
    /// them. The host's own `/dev`, and a mount of all of it, shows every device to everybody: it is no hold.
    fn mounts(&self, processes: &mut [Unrestricted], report: &mut AccessReport) {
        let namespace = |pid: &str| self.host.link(&format!("/proc/{pid}/ns/mnt")).ok();
        let mut known: BTreeSet<String> = namespace("1").into_iter().collect();
        for process in processes {
            let pid = process.pid.to_string();
            if !namespace(&pid).is_some_and(|namespace| known.insert(namespace)) {
                continue;
            }
            let text = self.host.read(&format!("/proc/{pid}/mountinfo"), MOUNTS_LIMIT);
            let text = text.ok().flatten().unwrap_or_default();
            let mut devices = self.mounted_in(&String::from_utf8_lossy(&text));
            if !devices.is_empty() {
                // Any user can mount a node in a namespace of their own, also one that they may not open.
                let openable = self.openable(process.pid);
                devices.retain(|device| openable.contains(device));
            }
            if !devices.is_empty() {
                report.accessors.push(process.accessor(devices, Access::Mount));
            }
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

impl Unrestricted {
    fn accessor(&self, devices: BTreeSet<usize>, access: Access) -> Accessor {
        Accessor {
            pid: self.pid,
            container: self.container.clone(),
            devices: devices.into_iter().collect(),
            access,
            hints: ProcessHints::default(),
        }
    }
}
