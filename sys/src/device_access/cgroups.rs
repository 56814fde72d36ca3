//! Verdicts on tasks by the rules of their cgroups.

use super::{
    Access, AccessKinds, CGROUP_SUBCOMMAND, CgroupReply,
    hints::container_id,
    messages,
    scan::{Findings, Scan, TaskCgroups, accessor},
    task::{DeviceRight, Examined, Task, TaskCgroup},
};
use crate::{
    ChildLines, DevicePolicies, DevicePolicy, Error, Result, TaskPolicies, TaskPolicy,
    in_user_namespace, is_root, own_image,
};
use mig_cdi_model::{Major, Minor};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// Time for a check from within a cgroup, which takes some milliseconds.
const WITHIN_LIMIT: Duration = Duration::from_millis(300);

impl Scan<'_> {
    /// Finds the processes whose cgroup allows devices by a rule, one for each cgroup, and those that may open every device.
    pub(super) fn cgroup_rules(&self, findings: &mut Findings) -> Result<()> {
        let child = CgroupChild { devices: &self.query.devices, running: RefCell::default() };
        let from_within = |path: &str| child.policy(path);
        let mut policies =
            DevicePolicies::open(self.host, self.query.devices.clone(), &from_within)?;
        self.judge_all(self.processes()?, &mut policies, findings);
        // The kernel shows one whose main thread has ended as unrestricted: in cgroups of version 1 it is at the root then
        // (`proc_cgroup_show` in kernel/cgroup/cgroup.c). A thread of a restricted one matters by its descriptors alone.
        let asks_files = self.query.kinds != AccessKinds::Cgroup;
        let is_asked =
            |found: &&Examined| asks_files || !matches!(found.cgroup.right, DeviceRight::Rule(_));
        let processes: Vec<u32> =
            findings.tasks.iter().filter(is_asked).map(|found| found.task.pid).collect();
        self.judge_all(self.threads(&processes), &mut policies, findings);
        Ok(())
    }

    fn judge_all(
        &self,
        tasks: Vec<TaskCgroups>,
        policies: &mut DevicePolicies<'_>,
        findings: &mut Findings,
    ) {
        let mut groups: BTreeMap<String, Vec<Task>> = BTreeMap::new();
        let mut not_shown = Vec::new();
        for (task, cgroups) in tasks {
            match cgroups {
                Ok(cgroups) if is_cut_off(&cgroups) => not_shown.push((task, Ok(cgroups))),
                Ok(cgroups) => groups.entry(cgroups).or_default().push(task),
                Err(error) => not_shown.push((task, Err(error))),
            }
        }
        self.judge_by_members(not_shown, policies, findings);
        for (cgroups, tasks) in groups {
            // A cgroup that is gone was left by its processes: they have ended, or are in another one.
            let (stayed, moved) = match &*policies.of(&cgroups) {
                DevicePolicy::Unknown(_) => self.again(&cgroups, tasks),
                _ => (tasks, Vec::new()),
            };
            self.judge(&cgroups, stayed, policies, findings);
            for (cgroups, task) in moved {
                match is_cut_off(&cgroups) {
                    true => self.judge_by_members(vec![(task, Ok(cgroups))], policies, findings),
                    false => self.judge(&cgroups, vec![task], policies, findings),
                }
            }
        }
    }

    /// Judges tasks whose cgroups are not shown, or not with their whole paths, by the members of all cgroups.
    fn judge_by_members(
        &self,
        tasks: Vec<TaskCgroups>,
        policies: &mut DevicePolicies<'_>,
        findings: &mut Findings,
    ) {
        let ids: BTreeSet<u32> = tasks.iter().map(|(task, _)| task.id()).collect();
        // Members are listed by the ids that they have for this process.
        let mut found = match !ids.is_empty() && self.host.has_own_proc() {
            true => policies.of_members(&ids, self.end),
            false => TaskPolicies::new(),
        };
        for (task, cgroups) in tasks {
            let (policy, path) = match (found.remove(&task.id()), cgroups) {
                (Some(TaskPolicy { policy, path }), _) => (policy, path),
                // The task moves between cgroups meanwhile. All but the last name of a path that is cut off is true.
                (None, Ok(cgroups)) => {
                    (policies.above(&without_cut_names(&cgroups)), cgroups.into())
                }
                (None, Err(error)) => (DevicePolicy::Unknown(error.to_string()), PathBuf::new()),
            };
            let (container, right) =
                (container_id(&path.to_string_lossy()), self.right_by(&policy));
            if let DeviceRight::Rule(devices) = &right {
                let devices = devices.iter().copied();
                let held = accessor(task, container.clone(), devices, Access::Cgroup);
                findings.accessors.extend(held);
            }
            self.record(Arc::new(TaskCgroup { container, right }), vec![task], findings);
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
        if let Some(known) = findings.cgroups.get(cgroups).cloned() {
            return self.record(known, tasks, findings);
        }
        let cgroup = Arc::new(TaskCgroup {
            container: container_id(cgroups),
            right: self.right(cgroups, policies),
        });
        findings.cgroups.insert(cgroups.to_owned(), cgroup.clone());
        if let (DeviceRight::Rule(devices), false) = (&cgroup.right, self.is_own(cgroups)) {
            let (container, devices) = (cgroup.container.clone(), devices.iter().copied());
            findings.accessors.extend(accessor(first, container, devices, Access::Cgroup));
        }
        self.record(cgroup, tasks, findings);
    }

    /// Determines what a cgroup allows.
    fn right(&self, cgroups: &str, policies: &mut DevicePolicies<'_>) -> DeviceRight {
        let policy = policies.of(cgroups);
        match &*policy {
            DevicePolicy::Unknown(_) => match policies.at_most(cgroups) {
                DevicePolicy::Unknown(_) => self.right_by(&policy),
                policy => self.right_by(&policy),
            },
            policy => self.right_by(policy),
        }
    }

    fn right_by(&self, policy: &DevicePolicy) -> DeviceRight {
        let devices = match policy {
            DevicePolicy::Everything => return DeviceRight::All,
            DevicePolicy::Some(devices) => devices.clone(),
            DevicePolicy::Unknown(reason) => return DeviceRight::Unknown(reason.clone()),
        };
        // One that may partition GPUs is given the nodes of all slices (libnvidia-container mounts all of /dev/nvidia-caps for
        // NVIDIA_MIG_CONFIG_DEVICES): it holds those that it has open.
        match self.query.config.is_some_and(|config| devices.contains(&config)) {
            true => DeviceRight::All,
            false => DeviceRight::Rule(devices),
        }
    }

    /// Records tasks of a cgroup as examined.
    fn record(&self, cgroup: Arc<TaskCgroup>, tasks: Vec<Task>, findings: &mut Findings) {
        if let DeviceRight::Unknown(reason) = &cgroup.right {
            self.judge_unknown(&cgroup, reason, &tasks, findings);
        }
        let examined = |task| Examined { task, cgroup: cgroup.clone() };
        findings.tasks.extend(tasks.into_iter().map(examined));
    }

    /// Judges tasks whose policy is not known, by the other thing that the kernel checks: the modes of the nodes that they see.
    fn judge_unknown(
        &self,
        cgroup: &TaskCgroup,
        reason: &str,
        tasks: &[Task],
        findings: &mut Findings,
    ) {
        let mut is_reported = false;
        for task in tasks.iter().copied() {
            let status = self.status(task);
            if status.as_ref().map_or_else(|| self.has_ended(task), |status| status.is_dead) {
                // Its threads may be alive, and have cgroups that are known.
                continue;
            } else if !is_root() || in_user_namespace() {
                // The kernel shows programs of cgroups to no caller without privileges, and to no root of a user namespace.
                findings.forbidden.insert(task.pid);
            } else if !is_reported {
                // A container has nodes of its own, with the modes that its engine chose.
                let devices = match self.has_host_nodes(task) {
                    true => self.openable(|| status),
                    false => self.all().collect(),
                };
                is_reported = !devices.is_empty();
                let access = Access::Unknown(reason.to_owned());
                findings.accessors.extend(accessor(
                    task,
                    cgroup.container.clone(),
                    devices,
                    access,
                ));
            }
        }
    }
}

/// Longest path of a cgroup that is sure to be whole. Since Linux 6.8 the kernel cuts off one of more than 4,095 bytes, before it showed
/// no cgroup at all then (`proc_cgroup_show` in kernel/cgroup/cgroup.c, `kernfs_path_from_node_locked` in fs/kernfs/dir.c).
const WHOLE_PATH: usize = 4094;

/// Reports whether the path of a cgroup may be cut off.
fn is_cut_off(cgroups: &str) -> bool {
    let path = |line: &str| line.splitn(3, ':').nth(2).map_or(0, str::len);
    cgroups.lines().any(|line| path(line) > WHOLE_PATH)
}

/// Removes the last names of paths that may be cut off.
fn without_cut_names(cgroups: &str) -> String {
    let whole = |line: &str| match line.rsplit_once('/').filter(|_| is_cut_off(line)) {
        Some((above, _)) => format!("{above}\n"),
        None => format!("{line}\n"),
    };
    cgroups.lines().map(whole).collect()
}

/// The child process that looks from within cgroups. One serves all: its start takes longer than an answer.
struct CgroupChild<'a> {
    devices: &'a [(Major, Minor)],
    running: RefCell<Option<ChildLines>>,
}

impl CgroupChild<'_> {
    /// Finds what a cgroup of version 2 allows where its programs cannot be read.
    fn policy(&self, path: &str) -> std::result::Result<DevicePolicy, String> {
        let end = Instant::now() + WITHIN_LIMIT;
        // The child ends early when the cgroup that it is in is killed, with the container.
        let reply = self.try_policy(path, end);
        let reply = reply.or_else(|error| match Instant::now() < end {
            true => self.try_policy(path, end),
            false => Err(error),
        });
        match reply.map_err(|error| error.to_string())? {
            CgroupReply::Policy(policy) => Ok(policy),
            CgroupReply::Failed(cause) => Err(cause),
        }
    }

    fn try_policy(&self, path: &str, end: Instant) -> Result<CgroupReply> {
        let mut child = match self.running.take() {
            Some(child) => child,
            None => {
                let args = messages::args(CGROUP_SUBCOMMAND, &self.devices)?;
                ChildLines::start_reader(&own_image()?, &args)?
            }
        };
        child.write(&messages::line(&path))?;
        let lines = child.next_lines(end).unwrap_or_default();
        let fail = |cause: String| Error::refused("enter the cgroup", path, cause);
        let line = lines.first().ok_or_else(|| fail("there is no answer".to_owned()))?;
        let reply = serde_json::from_str(line).map_err(|e| fail(e.to_string()))?;
        self.running.replace(Some(child));
        Ok(reply)
    }
}
