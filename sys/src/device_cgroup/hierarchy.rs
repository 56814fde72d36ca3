//! The hierarchies of cgroups of a machine, and the directories in them.

use super::{
    CgroupDir,
    locate::{self, CgroupVersion},
    policies::DevicePolicy,
};
use crate::{Error, Result, Root, kernel::mount};
use nix::{
    fcntl::{OFlag, openat},
    sched::{CloneFlags, setns},
    sys::{
        stat::Mode,
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
};
use std::{os::fd::OwnedFd, path::Path};

/// Directory of the rules of version 1 below a root that is no machine's, as a test makes it.
const V1_FIXTURE: &str = "/sys/fs/cgroup/devices";
/// More than the largest list of rules, in bytes.
pub(super) const LIMIT: usize = 1 << 20;

/// The root directory of a hierarchy.
#[derive(Debug)]
pub(super) enum Hierarchy {
    Absent,
    Open(OwnedFd),
    Unreadable(String),
}

impl Hierarchy {
    /// The policy where a hierarchy is absent, or a process is not in it.
    pub(super) fn without_path(&self) -> DevicePolicy {
        match self {
            Hierarchy::Unreadable(reason) => DevicePolicy::Unknown(reason.clone()),
            Hierarchy::Absent | Hierarchy::Open(_) => DevicePolicy::Everything,
        }
    }
}

/// Opens the hierarchies of versions 1 and 2 of a machine. `host` is the root that has its `/proc`.
pub(super) fn hierarchies(host: &Root) -> Result<(Hierarchy, Hierarchy)> {
    match is_procfs(host)? {
        true => machine_hierarchies(),
        false => Ok((fixture(host), Hierarchy::Absent)),
    }
}

fn is_procfs(host: &Root) -> Result<bool> {
    let system = fstatfs(host.open_below("/proc", OFlag::O_PATH)?)
        .map_err(|errno| Error::call("stat", host.display_path("/proc"), errno))?;
    Ok(system.filesystem_type() == PROC_SUPER_MAGIC)
}

/// Opens the hierarchies of the machine through mounts of our own: those of others may show a part, or nothing, as where this
/// process runs in a container. Without the privilege, and before Linux 5.2, through a mount that shows all of a hierarchy.
fn machine_hierarchies() -> Result<(Hierarchy, Hierarchy)> {
    let proc = Root::open(Path::new("/"))?;
    let text = |path| -> Result<String> {
        let bytes = proc.read(path, LIMIT)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (groups, mountinfo) = (text("/proc/self/cgroup")?, text("/proc/self/mountinfo")?);
    let opened = |mounted: nix::Result<OwnedFd>, version, name| {
        let errno = match mounted {
            Ok(root) => return Hierarchy::Open(root),
            Err(errno) => errno,
        };
        let mounts = locate::mounts(&mountinfo, version);
        let whole = mounts.iter().filter(|mount| mount.root == "/");
        let mut open = whole.filter_map(|mount| CgroupDir::open(Path::new(&mount.point)).ok());
        match open.next() {
            Some(dir) => Hierarchy::Open(dir.fd),
            None => Hierarchy::Unreadable(Error::call("mount", name, errno).to_string()),
        }
    };
    let v1 = locate::controllers(&groups).map_or(Hierarchy::Absent, |names| {
        let mounted = mount::detached_cgroup_v1(names);
        opened(mounted, CgroupVersion::V1, "the cgroup hierarchy of devices")
    });
    let v2 = locate::group(&groups, CgroupVersion::V2).map_or(Hierarchy::Absent, |_| {
        opened(mount::detached_cgroup_v2(), CgroupVersion::V2, "the unified cgroup hierarchy")
    });
    Ok((v1, v2))
}

fn fixture(host: &Root) -> Hierarchy {
    match host.open_below(V1_FIXTURE, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(root) => Hierarchy::Open(root),
        Err(_) => Hierarchy::Absent,
    }
}

/// Opens the directory of a cgroup.
pub(super) fn cgroup(root: &OwnedFd, path: &str) -> Result<CgroupDir> {
    // A path with `..` leads out of our cgroup namespace (cgroup_namespaces(7)), and so out of the mount.
    if is_outside(path) {
        return Err(Error::refused(
            "open the cgroup",
            path,
            "it is outside of our cgroup namespace",
        ));
    }
    let relative = path.trim_start_matches('/');
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let relative = if relative.is_empty() { "." } else { relative };
    let fd = openat(root, relative, flags, Mode::empty());
    let fd = fd.map_err(|errno| Error::call("open the cgroup", path, errno))?;
    Ok(CgroupDir { fd, path: path.into() })
}

fn is_outside(path: &str) -> bool {
    path.split('/').any(|name| name == "..")
}

/// Opens the nearest directory above a cgroup, or its own.
pub(super) fn nearest(root: &OwnedFd, path: &str) -> Result<CgroupDir> {
    let own = cgroup(root, path);
    if own.is_ok() || is_outside(path) {
        return own;
    }
    let above = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
    above.map(|path| cgroup(root, path)).find(Result::is_ok).unwrap_or(own)
}

/// Moves this thread, and those that it starts later, to the cgroup namespace of the machine's first process, in which all cgroups
/// have paths and can be reached.
///
/// # Errors
/// When this process is not privileged.
pub fn enter_host_cgroup_namespace(host: &Root) -> Result<()> {
    const PATH: &str = "/proc/1/ns/cgroup";
    let (ours, hosts) = (host.identity("/proc/self/ns/cgroup")?, host.identity(PATH)?);
    if ours == hosts {
        return Ok(());
    }
    let namespace = host.open_below(PATH, OFlag::O_RDONLY)?;
    setns(namespace, CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| Error::call("enter", host.display_path(PATH), errno))
}
