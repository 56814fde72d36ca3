//! The devices that the kernel lets the processes of any cgroup open.
//!
//! A process is subject to one cgroup in each hierarchy. Version 1 has a list of rules, in which a cgroup never allows more than
//! the one above it (`security/device_cgroup.c`, `propagate_exception` and `parent_has_perm`). Version 2 has programs, all of
//! which have to allow an access: those of the cgroup and those that it inherits. Where both exist, both have to.

use super::{
    CgroupDir,
    hierarchy::{Hierarchy, cgroup, hierarchies, nearest},
    interpreter::{DeviceAccess, allows},
    locate::{self, CgroupVersion},
    members::visit_cgroups_of,
    program::obstacle,
    rules,
};
use crate::{Error, Result, Root, kernel::bpf};
use mig_cdi_model::{Major, Minor};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
    time::Instant,
};

/// Character and block devices, reading and writing: `BPF_DEVCG_*` in `include/uapi/linux/bpf.h`.
const CHAR: u32 = 2;
const BLOCK: u32 = 1;
const READ: u32 = 1 << 1;
const WRITE: u32 = 1 << 2;
/// A device that no driver has. A program that allows it allows every device.
pub(super) const NO_DEVICE: (u32, u32) = (0xffe, 0xf_fffe);

/// What the kernel allows the processes of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DevicePolicy {
    /// Every device, as for processes of the host, privileged and rootless containers.
    Everything,
    /// Of the devices in question, those at these positions, for reading or writing.
    Some(Vec<usize>),
    /// It cannot be determined, for this reason.
    Unknown(String),
}

/// Finds the policy of a cgroup of version 2, given by its path, where its programs cannot be read.
pub type PolicyFromWithin<'a> = dyn Fn(&str) -> std::result::Result<DevicePolicy, String> + 'a;

/// The device policies of all cgroups of a machine, for the devices in question. Each is determined once.
pub struct DevicePolicies<'a> {
    devices: Vec<(Major, Minor)>,
    from_within: &'a PolicyFromWithin<'a>,
    v1: Hierarchy,
    v2: Hierarchy,
    /// By the paths in both hierarchies.
    policies: HashMap<Paths, Rc<DevicePolicy>>,
    /// Answers of programs of version 2, by id.
    programs: HashMap<u32, Rc<DevicePolicy>>,
    /// Answers from within, by the ids of all programs that decide together.
    unread: HashMap<Vec<u32>, DevicePolicy>,
}

/// The policies of tasks, by their ids.
pub type TaskPolicies = HashMap<u32, TaskPolicy>;

/// The policy of a task, and its cgroup.
#[derive(Debug, Clone)]
pub struct TaskPolicy {
    /// Devices that the task may use.
    pub policy: DevicePolicy,
    /// Path of its cgroup in the hierarchy that restricts it, or of the nearest one above with a path that the kernel takes.
    pub path: PathBuf,
}

/// Paths of a process's cgroups of versions 1 and 2.
type Paths = (Option<String>, Option<String>);

fn paths(cgroups: &str) -> Paths {
    let path = |version| locate::group(cgroups, version).map(str::to_owned);
    (path(CgroupVersion::V1), path(CgroupVersion::V2))
}

/// Opens the directory of a cgroup, or of one that stands for it.
type OpenCgroup = fn(&OwnedFd, &str) -> Result<CgroupDir>;

impl<'a> DevicePolicies<'a> {
    /// Opens the hierarchies of a machine. `host` is the root that has its `/proc`.
    ///
    /// # Errors
    /// When `/proc` cannot be read. A hierarchy that cannot be opened makes every policy unknown.
    pub fn open(
        host: &Root,
        devices: Vec<(Major, Minor)>,
        from_within: &'a PolicyFromWithin<'a>,
    ) -> Result<DevicePolicies<'a>> {
        let (v1, v2) = hierarchies(host)?;
        let (policies, programs, unread) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(DevicePolicies { devices, from_within, v1, v2, policies, programs, unread })
    }

    /// Returns the policy of the processes whose `/proc/PID/cgroup` has this text.
    pub fn of(&mut self, cgroups: &str) -> Rc<DevicePolicy> {
        let paths = paths(cgroups);
        if let Some(known) = self.policies.get(&paths) {
            return known.clone();
        }
        let policy = Rc::new(self.determine(&paths, cgroup));
        self.policies.insert(paths, policy.clone());
        policy
    }

    /// Returns what processes whose cgroups cannot be opened can use at most, by the nearest ones above that can; unknown where they can be
    /// opened. A process chooses the name of a cgroup that it makes in its own, also one that is no text or too long, and can remove
    /// it; an engine gives none such a name.
    #[must_use]
    pub fn at_most(&mut self, cgroups: &str) -> DevicePolicy {
        let paths = paths(cgroups);
        let is_open = |hierarchy: &Hierarchy, path: &Option<String>| match (hierarchy, path) {
            (Hierarchy::Open(root), Some(path)) => cgroup(root, path).is_ok(),
            _ => true,
        };
        if is_open(&self.v1, &paths.0) && is_open(&self.v2, &paths.1) {
            return DevicePolicy::Unknown("its cgroup can be opened".to_owned());
        }
        self.above(cgroups)
    }

    /// Returns what processes can use at most, by their cgroups, or by the nearest ones above that can be opened.
    #[must_use]
    pub fn above(&mut self, cgroups: &str) -> DevicePolicy {
        self.determine(&paths(cgroups), nearest)
    }

    /// Determines the policies of tasks of which `/proc/PID/cgroup` does not tell the cgroups, by the members of all cgroups, as far as that
    /// is done at `end`. Left out are tasks that are not found. A path of more than 4,095 bytes is not shown, and a process may nest
    /// cgroups in its own where it can write to that.
    pub fn of_members(&mut self, tasks: &BTreeSet<u32>, end: Instant) -> TaskPolicies {
        let everything =
            || TaskPolicy { policy: DevicePolicy::Everything, path: PathBuf::from("/") };
        let mut policies: TaskPolicies = tasks.iter().map(|task| (*task, everything())).collect();
        for version in [CgroupVersion::V1, CgroupVersion::V2] {
            let (hierarchy, members) = match version {
                CgroupVersion::V1 => (&self.v1, "tasks"),
                CgroupVersion::V2 => (&self.v2, "cgroup.threads"),
            };
            let root = match hierarchy {
                Hierarchy::Absent => continue,
                Hierarchy::Open(root) => root.try_clone().ok(),
                Hierarchy::Unreadable(_) => None,
            };
            let mut found = TaskPolicies::new();
            let visit = |dir: &CgroupDir, ids| {
                let policy = match version {
                    CgroupVersion::V1 => self.v1_policy(dir),
                    CgroupVersion::V2 => self.v2_policy(dir),
                };
                for id in ids {
                    let Some(known) = policies.remove(&id) else { continue };
                    let path = match policy {
                        DevicePolicy::Everything => known.path,
                        _ => dir.path.clone(),
                    };
                    let policy = both(known.policy, policy.clone());
                    found.insert(id, TaskPolicy { policy, path });
                }
            };
            // Those that are found before a failure are found.
            let _ = root.map(|root| visit_cgroups_of(tasks, &root, members, end, visit));
            policies = found;
        }
        policies
    }

    fn determine(&mut self, paths: &Paths, open: OpenCgroup) -> DevicePolicy {
        let v1 = match (&self.v1, &paths.0) {
            (Hierarchy::Open(root), Some(path)) => match open(root, path) {
                Ok(dir) => self.v1_policy(&dir),
                Err(error) => DevicePolicy::Unknown(error.to_string()),
            },
            (hierarchy, _) => hierarchy.without_path(),
        };
        let v2 = match (&self.v2, &paths.1) {
            (Hierarchy::Open(root), Some(path)) => match open(root, path) {
                Ok(dir) => self.v2_policy(&dir),
                Err(error) => DevicePolicy::Unknown(error.to_string()),
            },
            (hierarchy, _) => hierarchy.without_path(),
        };
        both(v1, v2)
    }

    fn v1_policy(&self, dir: &CgroupDir) -> DevicePolicy {
        match dir.read("devices.list") {
            Ok(list) => match rules::allows_everything(&list) {
                true => DevicePolicy::Everything,
                false => self.some(|major, minor| Some(rules::allows(&list, major, minor))),
            },
            Err(error) => DevicePolicy::Unknown(error.to_string()),
        }
    }

    fn v2_policy(&mut self, dir: &CgroupDir) -> DevicePolicy {
        match bpf::effective(&dir.fd) {
            Ok(ids) => {
                let policy = ids.iter().fold(DevicePolicy::Everything, |policy, id| {
                    both(policy, DevicePolicy::clone(&self.program(*id, dir)))
                });
                match policy {
                    DevicePolicy::Unknown(reason) => self.unread_policy(dir, ids, &reason),
                    policy => policy,
                }
            }
            // The kernel has no device programs (CONFIG_CGROUP_BPF).
            Err(Errno::EINVAL) => DevicePolicy::Everything,
            Err(errno) => {
                let error = Error::call("list device programs of", &dir.path, errno);
                DevicePolicy::Unknown(error.to_string())
            }
        }
    }

    /// Finds what programs allow that cannot be read.
    fn unread_policy(&mut self, dir: &CgroupDir, ids: Vec<u32>, reason: &str) -> DevicePolicy {
        if let Some(known) = self.unread.get(&ids) {
            return known.clone();
        }
        let ask = |path: &Path| (self.from_within)(&path.to_string_lossy());
        let answer = ask(&dir.path).or_else(|cause| match self.topmost(dir, &ids) {
            // A process with the right to write to its cgroup may freeze those that it makes below.
            Some(above) => ask(&above),
            None => Err(cause),
        });
        match answer {
            Ok(policy) => self.unread.entry(ids).insert_entry(policy).get().clone(),
            // The same programs may have an answer in another cgroup: this one may be frozen.
            Err(cause) => DevicePolicy::Unknown(format!("{reason}; {cause}")),
        }
    }

    /// Returns the path of the topmost cgroup above this one on which the same programs decide: an engine has made it.
    fn topmost(&self, dir: &CgroupDir, ids: &[u32]) -> Option<PathBuf> {
        let Hierarchy::Open(root) = &self.v2 else { return None };
        let above: Vec<&Path> = dir.path.ancestors().skip(1).collect();
        let has_same = |path: &&&Path| {
            let dir = path.to_str().and_then(|path| cgroup(root, path).ok());
            dir.is_some_and(|dir| bpf::effective(&dir.fd).is_ok_and(|found| found == ids))
        };
        above.iter().rev().find(has_same).map(|path| path.to_path_buf())
    }

    /// Returns what a program of version 2 allows.
    fn program(&mut self, id: u32, dir: &CgroupDir) -> Rc<DevicePolicy> {
        if let Some(known) = self.programs.get(&id) {
            return known.clone();
        }
        let read = bpf::open(id).and_then(bpf::read);
        let policy = match read {
            Ok(program) => self.interpreted(&program.instructions),
            Err(errno) => {
                let error = Error::call("read the device program of", &dir.path, errno);
                DevicePolicy::Unknown(error.to_string())
            }
        };
        let policy = Rc::new(policy);
        self.programs.insert(id, policy.clone());
        policy
    }

    fn interpreted(&self, program: &[bpf::Insn]) -> DevicePolicy {
        if let Some(reason) = obstacle(program) {
            return DevicePolicy::Unknown(format!(
                "its device program cannot be examined: {reason}"
            ));
        }
        let opens = |kind, (major, minor)| {
            let may = |access| allows(program, DeviceAccess { kind, access, major, minor });
            Some(may(READ)? || may(WRITE)? || may(READ | WRITE)?)
        };
        match (opens(CHAR, NO_DEVICE), opens(BLOCK, NO_DEVICE)) {
            (Some(true), Some(true)) => DevicePolicy::Everything,
            (Some(_), Some(_)) => self.some(|major, minor| opens(CHAR, (major.0, minor.0))),
            _ => DevicePolicy::Unknown("its device program cannot be interpreted".to_owned()),
        }
    }

    /// Collects the devices in question that are allowed.
    fn some(&self, is_allowed: impl Fn(Major, Minor) -> Option<bool>) -> DevicePolicy {
        let mut allowed = Vec::new();
        for (position, (major, minor)) in self.devices.iter().enumerate() {
            match is_allowed(*major, *minor) {
                Some(true) => allowed.push(position),
                Some(false) => {}
                None => {
                    return DevicePolicy::Unknown(
                        "its device program cannot be interpreted".to_owned(),
                    );
                }
            }
        }
        DevicePolicy::Some(allowed)
    }
}

/// What two policies allow together. An unknown one can only forbid more than the other.
fn both(a: DevicePolicy, b: DevicePolicy) -> DevicePolicy {
    use DevicePolicy::{Everything, Some, Unknown};
    match (a, b) {
        (Everything, other) | (other, Everything) => other,
        (Some(a), Some(b)) => Some(a.into_iter().filter(|device| b.contains(device)).collect()),
        (Some(allowed), Unknown(_)) | (Unknown(_), Some(allowed)) => Some(allowed),
        (Unknown(reason), Unknown(_)) => Unknown(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::{DevicePolicy::*, both};

    #[test]
    fn both_versions_have_to_allow_a_device() {
        let unknown = || Unknown("why".to_owned());
        let some = |devices: &[usize]| Some(devices.to_vec());
        for (a, b, together) in [
            (Everything, Everything, Everything),
            (Everything, some(&[1]), some(&[1])),
            (some(&[0, 1]), some(&[1, 2]), some(&[1])),
            (some(&[0]), unknown(), some(&[0])),
            (some(&[]), unknown(), some(&[])),
            (Everything, unknown(), unknown()),
            (unknown(), unknown(), unknown()),
        ] {
            assert_eq!(both(a.clone(), b.clone()), together);
            assert_eq!(both(b, a), together);
        }
    }
}
