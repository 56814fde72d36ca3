//! The device cgroup of a process: to allow devices, to undo that, and to prove what is allowed.
//!
//! Version 1 has a list of rules for each cgroup (`devices.allow`). Version 2 has BPF programs attached to
//! cgroups, which allow or deny every open; all programs from the root down to the cgroup must allow it.
//!
//! Never changed: a cgroup that this process is in itself, and cgroups above a container's systemd unit. Other
//! processes would be allowed the devices too.

mod interpreter;
mod locate;
mod policies;
mod program;
mod rules;

pub use policies::{
    DevicePolicies, DevicePolicy, PolicyFromWithin, enter_host_cgroup_namespace, policy_from_within,
};

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
    dir: Rc<CgroupDir>,
    /// Cgroup of this process in the same hierarchy.
    own: CgroupDir,
    /// The cgroups to change: this one and those above it in the same systemd unit.
    subjects: Vec<Rc<CgroupDir>>,
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
                let subjects = subjects(&dir, depth, version, group, own_group)?;
                return Ok(DeviceCgroup { version, group: group.to_owned(), dir, own, subjects });
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

/// Chooses the cgroups to change, by the rule in the head of this file. In version 1 only a cgroup's own rules
/// count; the kernel refuses one that its parent does not allow (`parent_has_perm` in
/// `security/device_cgroup.c`).
fn subjects(
    dir: &Rc<CgroupDir>,
    depth: usize,
    version: CgroupVersion,
    group: &str,
    own_group: &str,
) -> Result<Vec<Rc<CgroupDir>>> {
    let height = match (version, locate::unit(group)) {
        (CgroupVersion::V2, Some((height, _))) => height.min(depth),
        _ => 0,
    };
    let shared = |group: &Path| Path::new(own_group).starts_with(group);
    let paths = dir.path.ancestors().zip(Path::new(group).ancestors()).take(height + 1);
    let paths = paths.take_while(|(_, group)| !shared(group)).map(|(path, _)| path);
    paths
        .map(|path| match path == dir.path {
            true => Ok(dir.clone()),
            false => CgroupDir::open(path).map(Rc::new),
        })
        .collect()
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

    #[test]
    fn a_cgroup_of_our_own_is_not_changed() {
        let path = Path::new("/proc/self/fdinfo");
        let dir = Rc::new(CgroupDir::open(path).unwrap());
        let count =
            |version, group: &str, own: &str| subjects(&dir, 2, version, group, own).unwrap().len();
        let (v1, v2) = (CgroupVersion::V1, CgroupVersion::V2);
        assert_eq!(count(v2, "/a.service/b", "/"), 2);
        assert_eq!(count(v2, "/a.service/b", "/a.service/c"), 1);
        assert_eq!(count(v2, "/a.service/b", "/a.service/b"), 0);
        assert_eq!(count(v2, "/a.service/b", "/a.service/b/c"), 0);
        assert_eq!(count(v2, "/a.service/b", "/a.service/bc"), 1);
        assert_eq!(count(v2, "/a/b.scope/c/d/e", "/x"), 3);
        assert_eq!(count(v2, "/a/b", "/x"), 1);
        assert_eq!(count(v2, "/", "/"), 0);
        assert_eq!(count(v1, "/a.service/b", "/"), 1);
        assert_eq!(count(v1, "/a", "/a"), 0);
    }
}
