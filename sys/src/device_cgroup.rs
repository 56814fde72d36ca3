//! The device cgroup of a process: to allow devices, to undo that, and to prove what is allowed.
//!
//! Version 1 has a list of rules for each cgroup (`devices.allow`). Version 2 has BPF programs attached to
//! cgroups, which allow or deny every open; all programs from the root down to the cgroup must allow it.
//!
//! Never changed: a cgroup that holds another process than the container's, also below it; a systemd service, which may
//! start others; and cgroups above a container's systemd unit. Other processes would be allowed the devices too.

mod hierarchy;
mod interpreter;
mod locate;
mod members;
mod policies;
mod policy_probe;
mod program;
mod rules;

pub use hierarchy::enter_host_cgroup_namespace;
pub use policies::{DevicePolicies, DevicePolicy, PolicyFromWithin, TaskPolicies, TaskPolicy};
pub use policy_probe::PolicyProbe;

use crate::{
    Error, Result, Root,
    kernel::bpf::{self, Program},
    root::read_all,
};
use locate::{CgroupVersion, MountEntry};
use mig_cdi_model::{Major, Minor};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::Mode,
    unistd::{AccessFlags, faccessat, write},
};
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
};

/// More than the largest list of mounts, processes or rules, in bytes.
const LIMIT: usize = 16 << 20;
const PROCESSES: &str = "cgroup.procs";
/// Name of systemd's own device programs (`src/core/bpf-devices.c`).
const SYSTEMD: &[u8] = b"sd_devices";

/// The device cgroup of a process.
#[derive(Debug)]
pub struct DeviceCgroup {
    version: CgroupVersion,
    group: String,
    own_group: String,
    dir: Rc<CgroupDir>,
    /// Cgroup of this process in the same hierarchy.
    own: CgroupDir,
    /// The cgroups to change: this one and those above it in the same systemd unit.
    subjects: Vec<Rc<CgroupDir>>,
    /// True when its systemd unit is a scope that holds no other process.
    has_own_scope: bool,
}

/// The changes that [`DeviceCgroup::allow`] made. When it is dropped, they stay.
#[derive(Debug, Default)]
#[must_use = "undo it, or drop it to let it stay"]
pub struct DeviceRule(Vec<Step>);

#[derive(Debug)]
enum Step {
    Rule { dir: Rc<CgroupDir>, text: String },
    Program(Swap),
}

/// A program that is replaced by another.
#[derive(Debug)]
struct Swap {
    dir: Rc<CgroupDir>,
    flags: u32,
    old: OwnedFd,
    new: OwnedFd,
}

impl DeviceCgroup {
    /// Finds the device cgroup of a process: in the hierarchy of the `devices` controller if there is
    /// one, else in the unified one. `proc` is the root that has `/proc`.
    ///
    /// # Errors
    /// When there is no such process, or its cgroup or ours is in no mount.
    pub fn of(proc: &Root, pid: u32) -> Result<DeviceCgroup> {
        let text = |path: &str| -> Result<String> {
            let absent = || Error::call("open", proc.display_path(path), Errno::ENOENT);
            let bytes = proc.read(path, LIMIT)?.ok_or_else(absent)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let path = format!("/proc/{pid}/cgroup");
        let (theirs, ours) = (text(&path)?, text("/proc/self/cgroup")?);
        let mountinfo = text("/proc/self/mountinfo")?;
        for version in [CgroupVersion::V1, CgroupVersion::V2] {
            let mounts = locate::mounts(&mountinfo, version);
            let groups = (locate::group(&theirs, version), locate::group(&ours, version));
            if let (false, (Some(group), Some(own_group))) = (mounts.is_empty(), groups) {
                let (dir, depth) = find(&mounts, group, pid)?;
                let (own, _) = find(&mounts, own_group, std::process::id())?;
                let dir = Rc::new(dir);
                let (group, own_group) = (group.to_owned(), own_group.to_owned());
                let (subjects, has_own_scope) =
                    subjects(&dir, depth, version, &group, &own_group, pid)?;
                return Ok(DeviceCgroup {
                    version,
                    group,
                    own_group,
                    dir,
                    own,
                    subjects,
                    has_own_scope,
                });
            }
        }
        Err(Error::refused(
            "find the device cgroup in",
            proc.display_path(&path),
            "its hierarchy is not mounted",
        ))
    }

    /// Name of the systemd unit that it is or is part of, if any: the nearest `.scope` or `.service`.
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        locate::unit(&self.group).map(|(_, name)| name)
    }

    /// Name of the systemd unit that this program runs in, if any.
    #[must_use]
    pub fn unit_of_caller(&self) -> Option<&str> {
        locate::unit(&self.own_group).map(|(_, name)| name)
    }

    /// Name of the systemd scope that holds this process and no other.
    #[must_use]
    pub fn own_scope(&self) -> Option<&str> {
        self.unit().filter(|_| self.has_own_scope)
    }

    /// True when it holds another process than the container's, and so is not changed.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.subjects.is_empty()
    }

    /// Path of its directory, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir.path
    }

    /// Allows reading and writing of these character devices, and nothing else. When a step fails,
    /// the steps before it are undone.
    ///
    /// With `systemd_informed`, programs of systemd are left alone: it replaces them itself, at once and at each
    /// `daemon-reload`, which would discard a change of ours.
    ///
    /// # Errors
    /// When a cgroup above does not allow a device (version 1), or when a program cannot be read back
    /// and loaded again (version 2).
    pub fn allow(&self, devices: &[(Major, Minor)], systemd_informed: bool) -> Result<DeviceRule> {
        let mut change = DeviceRule::default();
        let done = match self.version {
            CgroupVersion::V1 => self.add_rules(devices, &mut change),
            CgroupVersion::V2 => self.replace_programs(devices, systemd_informed, &mut change),
        };
        match done {
            Ok(()) => Ok(change),
            Err(error) => {
                // The first error is the one to report.
                let _ = change.undo();
                Err(error)
            }
        }
    }

    fn add_rules(&self, devices: &[(Major, Minor)], change: &mut DeviceRule) -> Result<()> {
        for dir in &self.subjects {
            for &(major, minor) in devices {
                if let Some(text) = rules::missing(&dir.read("devices.list")?, major, minor) {
                    dir.write("write", "devices.allow", &text)?;
                    change.0.push(Step::Rule { dir: dir.clone(), text });
                }
            }
        }
        Ok(())
    }

    /// Replaces each program by itself with a rule in front. One more program would not help: all of them must
    /// allow a device. All are loaded before the first is replaced, so that a refusal changes nothing.
    fn replace_programs(
        &self,
        devices: &[(Major, Minor)],
        systemd_informed: bool,
        change: &mut DeviceRule,
    ) -> Result<()> {
        let rule = program::rule(devices);
        let mut swaps = Vec::new();
        for dir in &self.subjects {
            let fail = |op| move |errno| Error::call(op, &dir.path, errno);
            let (ids, flags) = bpf::attached(&dir.fd).map_err(fail("list device programs of"))?;
            for id in ids {
                let old = bpf::open(id).map_err(fail("open the device program of"))?;
                let mut program = bpf::read(&old).map_err(fail("read the device program of"))?;
                let name = program.name.split(|&byte| byte == 0).next();
                if systemd_informed && name == Some(SYSTEMD) {
                    continue;
                }
                if let Some(reason) = program::obstacle(&program.instructions) {
                    return Err(Error::refused("extend the device program of", &dir.path, reason));
                }
                let instructions = [&rule[..], &program.instructions].concat();
                program = Program { instructions, ..program };
                let new = bpf::load(&program).map_err(fail("load a device program for"))?;
                swaps.push(Swap { dir: dir.clone(), flags, old, new });
            }
        }
        for swap in swaps {
            let done = bpf::replace(&swap.dir.fd, &swap.old, &swap.new, swap.flags);
            done.map_err(|e| Error::call("replace the device program of", &swap.dir.path, e))?;
            change.0.push(Step::Program(swap));
        }
        Ok(())
    }

    /// Index of the first of these device nodes that the cgroup denies reading and writing of, as tried from
    /// within: this process, which must have one thread, moves into the cgroup and back. No device is
    /// opened: the kernel consults the cgroup in every permission check (`inode_permission` in
    /// `fs/namei.c`). The descriptors may be of `O_PATH`.
    ///
    /// # Errors
    /// When the process cannot move in or back, or is denied a node for another reason.
    pub fn denies(&self, nodes: &[impl AsFd]) -> Result<Option<usize>> {
        let back = || self.own.write("return to", PROCESSES, "0");
        // First a move to where we are: a cgroup can hold processes and accept no new ones (no write permission,
        // or an invalid domain: cgroups(7)), and then there would be no way back.
        back()?;
        self.dir.write("enter", PROCESSES, "0")?;
        let denied = first_denied(nodes);
        back()?;
        denied
    }
}

impl DeviceRule {
    /// True when nothing had to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts everything back as it was, the last step first, and carries on when a step fails.
    ///
    /// # Errors
    /// The first error of a step.
    pub fn undo(self) -> Result<()> {
        let undo = |step: &Step| match step {
            Step::Rule { dir, text } => dir.write("write", "devices.deny", text),
            Step::Program(Swap { dir, flags, old, new }) => bpf::replace(&dir.fd, new, old, *flags)
                .map_err(|e| Error::call("restore the device program of", &dir.path, e)),
        };
        self.0.iter().rev().map(undo).fold(Ok(()), Result::and)
    }
}

/// An open directory of a cgroup.
#[derive(Debug)]
struct CgroupDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl CgroupDir {
    fn open(path: &Path) -> Result<CgroupDir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty());
        let fd = fd.map_err(|errno| Error::call("open", path, errno))?;
        Ok(CgroupDir { fd, path: path.to_owned() })
    }

    fn file(&self, op: &'static str, name: &str, flags: OFlag) -> Result<OwnedFd> {
        let fd = openat(&self.fd, name, flags | OFlag::O_CLOEXEC, Mode::empty());
        fd.map_err(|errno| Error::call(op, self.path.join(name), errno))
    }

    fn read(&self, name: &str) -> Result<String> {
        let fd = self.file("open", name, OFlag::O_RDONLY)?;
        let bytes = read_all(File::from(fd), &self.path.join(name), LIMIT)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn write(&self, op: &'static str, name: &str, text: &str) -> Result<()> {
        let fd = self.file(op, name, OFlag::O_WRONLY)?;
        let written = write(fd, text.as_bytes());
        written.map(drop).map_err(|errno| Error::call(op, self.path.join(name), errno))
    }
}

/// Finds the directory of a cgroup and its depth below the mount point. It must list a process that is known to
/// be in it: another mount may hide the one that is meant.
fn find(mounts: &[MountEntry], group: &str, pid: u32) -> Result<(CgroupDir, usize)> {
    let pid = pid.to_string();
    for mount in mounts {
        let Some(path) = locate::directory(mount, group) else { continue };
        let Ok(dir) = CgroupDir::open(&path) else { continue };
        if dir.read(PROCESSES).is_ok_and(|pids| pids.lines().any(|line| line == pid)) {
            let depth = path.components().count() - Path::new(&mount.point).components().count();
            return Ok((dir, depth));
        }
    }
    let cause = format!("no mount shows it with process {pid} in it");
    Err(Error::refused("find the cgroup", group, cause))
}

/// Chooses the cgroups to change, by the rule in the head of this file, and whether they reach to a scope. In version 1 only a cgroup's own rules count; the kernel refuses one that its parent does not
/// allow (`parent_has_perm` in `security/device_cgroup.c`).
fn subjects(
    dir: &Rc<CgroupDir>,
    depth: usize,
    version: CgroupVersion,
    group: &str,
    own_group: &str,
    pid: u32,
) -> Result<(Vec<Rc<CgroupDir>>, bool)> {
    let unit = locate::unit(group).map(|(height, _)| height);
    let height = unit.unwrap_or_default().min(depth);
    let shared = |group: &Path| Path::new(own_group).starts_with(group);
    let paths = dir.path.ancestors().zip(Path::new(group).ancestors()).take(height + 1);
    let mut subjects = Vec::new();
    for (path, group) in paths {
        let is_service = group.extension().is_some_and(|kind| kind == "service");
        if is_service || shared(group) || !holds_only(path, pid) {
            break;
        }
        subjects.push(match path == dir.path {
            true => dir.clone(),
            false => Rc::new(CgroupDir::open(path)?),
        });
    }
    let has_own_scope = unit.is_some_and(|height| subjects.len() == height + 1);
    if version == CgroupVersion::V1 {
        subjects.truncate(1);
    }
    Ok((subjects, has_own_scope))
}

/// True when a cgroup and those below it hold this process and no other. What cannot be read counts as another.
fn holds_only(path: &Path, pid: u32) -> bool {
    /// More than any engine makes for a container that has not started.
    const CGROUPS: usize = 1000;
    let (mut dirs, mut left) = (vec![path.to_owned()], CGROUPS);
    while let Some(dir) = dirs.pop() {
        // Processes of other PID namespaces are listed as 0 (cgroup_namespaces(7)).
        let only = |text: String| text.lines().all(|line| line.parse() == Ok(pid));
        let below = |entries: std::fs::ReadDir| -> std::io::Result<Vec<PathBuf>> {
            let entries: Vec<_> = entries.collect::<std::io::Result<_>>()?;
            Ok(entries.iter().filter(|e| e.path().is_dir()).map(std::fs::DirEntry::path).collect())
        };
        let read = CgroupDir::open(&dir).and_then(|dir| dir.read(PROCESSES));
        match (read.is_ok_and(only), std::fs::read_dir(&dir).and_then(below)) {
            (true, Ok(more)) if more.len() <= left => {
                left -= more.len();
                dirs.extend(more);
            }
            _ => return false,
        }
    }
    true
}

fn first_denied(nodes: &[impl AsFd]) -> Result<Option<usize>> {
    for (index, node) in nodes.iter().enumerate() {
        match faccessat(node, c"", AccessFlags::R_OK | AccessFlags::W_OK, AtFlags::AT_EMPTY_PATH) {
            Ok(()) => {}
            // The device cgroup answers EPERM; file modes answer EACCES.
            Err(Errno::EPERM) => return Ok(Some(index)),
            Err(errno) => {
                let link = format!("/proc/self/fd/{}", node.as_fd().as_raw_fd());
                let path = std::fs::read_link(&link).unwrap_or_else(|_| link.into());
                return Err(Error::call("access", path, errno));
            }
        }
    }
    Ok(None)
}

/// The rest needs root: `device_cgroup.rs` of the tests of the host.
#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a cgroup with these processes, and those above it.
    fn make(root: &Path, group: &str, pids: &str) {
        let dir = root.join(group);
        std::fs::create_dir_all(&dir).unwrap();
        for dir in dir.ancestors().take_while(|dir| *dir != root).chain([root]) {
            if !dir.join(PROCESSES).exists() {
                std::fs::write(dir.join(PROCESSES), "").unwrap();
            }
        }
        std::fs::write(dir.join(PROCESSES), pids).unwrap();
    }

    #[test]
    fn only_cgroups_of_the_container_alone_are_changed() {
        let (v1, v2) = (CgroupVersion::V1, CgroupVersion::V2);
        let chosen = |version, group: &str, own: &str, others: &[(&str, &str)]| {
            let root = tempfile::tempdir().unwrap();
            make(root.path(), &group[1..], "7\n");
            others.iter().for_each(|(group, pids)| make(root.path(), group, pids));
            let dir = Rc::new(CgroupDir::open(&root.path().join(&group[1..])).unwrap());
            let (subjects, own_scope) =
                subjects(&dir, group.matches('/').count(), version, group, own, 7).unwrap();
            (subjects.len(), own_scope)
        };
        assert_eq!(chosen(v2, "/a.scope/b", "/", &[]), (2, true));
        assert_eq!(chosen(v2, "/a.service/b", "/", &[]), (1, false));
        assert_eq!(chosen(v2, "/a.service", "/", &[]), (0, false));
        assert_eq!(chosen(v2, "/a.scope/b", "/a.scope/c", &[]), (1, false));
        assert_eq!(chosen(v2, "/a.scope/b", "/a.scope/b", &[]), (0, false));
        assert_eq!(chosen(v2, "/a.scope/b", "/a.scope/b/c", &[]), (0, false));
        assert_eq!(chosen(v2, "/a.scope/b", "/a.scope/bc", &[]), (1, false));
        assert_eq!(chosen(v2, "/a/b.scope/c/d/e", "/x", &[]), (4, true));
        assert_eq!(chosen(v2, "/a/b", "/x", &[]), (1, false));
        assert_eq!(chosen(v1, "/a.scope/b", "/", &[]), (1, true));
        assert_eq!(chosen(v1, "/a", "/a", &[]), (0, false));
        // Other processes: in the unit, in a cgroup beside, in one below, of another PID namespace.
        assert_eq!(chosen(v2, "/a.scope/b", "/x", &[("a.scope", "8\n")]), (1, false));
        assert_eq!(chosen(v1, "/a.scope/b", "/x", &[("a.scope/conmon", "8\n")]), (1, false));
        assert_eq!(chosen(v2, "/a.scope/b/c", "/x", &[("a.scope/s/t", "0\n")]), (2, false));
        assert_eq!(chosen(v2, "/a.scope/b", "/x", &[("a.scope/b/c", "8\n")]), (0, false));
        assert_eq!(chosen(v1, "/a", "/x", &[("a", "7\n8\n")]), (0, false));
        assert_eq!(chosen(v2, "/a.scope/b", "/x", &[("a.scope/empty", "")]), (2, true));
    }
}
