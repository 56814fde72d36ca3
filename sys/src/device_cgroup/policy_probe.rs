//! The devices that the kernel lets the processes of a cgroup of version 2 open, tried from within.

use super::{
    CgroupDir, PROCESSES,
    hierarchy::{LIMIT, cgroup},
    locate::{self, CgroupVersion},
    policies::{DevicePolicy, NO_DEVICE},
};
use crate::{Error, Result, Root, kernel::mount};
use mig_cdi_model::{Major, Minor};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, SFlag, makedev, mknodat},
    unistd::{AccessFlags, faccessat},
};
use std::{os::fd::OwnedFd, path::Path};

/// Finds from within cgroups of version 2 what they let their processes read or write, by a permission check: this process moves into
/// each and back, and opens no device. For device programs that cannot be read.
///
/// Use it in a process that can be killed: one that moves into a cgroup that is just being frozen stops.
#[derive(Debug)]
pub struct PolicyProbe {
    hierarchy: OwnedFd,
    /// Cgroup of this process.
    own: CgroupDir,
    /// Nodes of the devices, and of a character and a block device that no driver has.
    nodes: Vec<OwnedFd>,
}

impl PolicyProbe {
    /// Makes a probe for these devices.
    ///
    /// # Errors
    /// When this process cannot mount the hierarchy, or make nodes.
    pub fn new(devices: &[(Major, Minor)]) -> Result<PolicyProbe> {
        let mounted = mount::detached_cgroup_v2();
        let hierarchy =
            mounted.map_err(|e| Error::call("mount", "the unified cgroup hierarchy", e))?;
        let text =
            Root::open(Path::new("/"))?.read("/proc/self/cgroup", LIMIT)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let own = cgroup(&hierarchy, locate::group(&text, CgroupVersion::V2).unwrap_or("/"))?;
        let fail = |errno| Error::call("make", "device nodes", errno);
        let dir = mount::detached_tmpfs(64 << 10).map_err(fail)?;
        let node = |kind, (major, minor): (u32, u32)| {
            let name = format!("{}:{major}:{minor}", kind == SFlag::S_IFBLK);
            let mode = Mode::from_bits_truncate(0o666);
            mknodat(&dir, &*name, kind, mode, makedev(major.into(), minor.into()))?;
            openat(&dir, &*name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        };
        let char_node = |(major, minor): &(Major, Minor)| node(SFlag::S_IFCHR, (major.0, minor.0));
        let others = [SFlag::S_IFCHR, SFlag::S_IFBLK].map(|kind| node(kind, NO_DEVICE));
        let nodes = devices.iter().map(char_node).chain(others).collect::<nix::Result<Vec<_>>>();
        Ok(PolicyProbe { hierarchy, own, nodes: nodes.map_err(fail)? })
    }

    /// Returns what the cgroup with this path allows.
    ///
    /// # Errors
    /// When it is frozen, or this process cannot move into it.
    pub fn policy(&self, path: &str) -> Result<DevicePolicy> {
        let dir = cgroup(&self.hierarchy, path)?;
        // Frozen itself, or by a cgroup above it (Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze").
        if dir.read("cgroup.events")?.lines().any(|line| line == "frozen 1") {
            return Err(Error::refused("enter the cgroup", path, "it is frozen"));
        }
        dir.write("enter", PROCESSES, "0")?;
        let allowed =
            self.nodes.iter().map(|node| opens(node, path)).collect::<Result<Vec<bool>>>();
        // A process that cannot return goes on from where it is. It ends soon.
        let _ = self.own.write("return to", PROCESSES, "0");
        let allowed = allowed?;
        let (allowed, others) = allowed.split_at(allowed.len() - 2);
        Ok(match others.iter().all(|is_allowed| *is_allowed) {
            true => DevicePolicy::Everything,
            false => DevicePolicy::Some((0..allowed.len()).filter(|&i| allowed[i]).collect()),
        })
    }
}

/// Reports whether the cgroup that this process is in lets it read or write a device.
fn opens(node: &OwnedFd, path: &str) -> Result<bool> {
    let accesses = [AccessFlags::R_OK, AccessFlags::W_OK, AccessFlags::R_OK | AccessFlags::W_OK];
    let may = |access| faccessat(node, c"", access, AtFlags::AT_EMPTY_PATH);
    // The device cgroup answers EPERM.
    match accesses.into_iter().map(may).find(|answer| *answer != Err(Errno::EPERM)) {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(errno)) => Err(Error::call("check access in", path, errno)),
    }
}
