//! Character devices that a process has open.

use crate::{
    Error, Result, Root,
    error::optional,
    kernel::{process, stat::char_device},
};
use caps::{CapSet, Capability};
use mig_cdi_model::{Major, Minor};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, readlinkat},
    sys::stat::fstatat,
};
use std::collections::BTreeSet;

/// Largest `/proc/PID/fdinfo/FD` of a device.
const LIMIT: usize = 1 << 16;

/// Reports whether two threads have one table of descriptors; false where that cannot be found out.
#[must_use]
pub fn share_descriptors(a: u32, b: u32) -> bool {
    process::share_descriptors(a, b).unwrap_or(false)
}

/// Reports whether this process may look at the descriptors and namespaces of the processes of all users.
#[must_use]
pub fn may_examine_processes() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_PTRACE).unwrap_or(false)
}

impl Root {
    /// Returns which of the wanted character devices a process or thread has open, by its directory of descriptors in `/proc`;
    /// `None` when there is no such task.
    ///
    /// A device counts by its numbers, whatever its path. No file system is asked for them, so that none can block the caller,
    /// and nothing is kept for each descriptor, of which a process may have a million. A descriptor that only names a file
    /// (`O_PATH`) does not count: anyone can have it, without a right to open the device.
    ///
    /// # Errors
    /// When its descriptors cannot be listed, or not be looked at: that takes `CAP_SYS_PTRACE` for processes of others.
    pub fn open_devices(
        &self,
        path: &str,
        is_wanted: impl Fn(Major, Minor) -> bool,
    ) -> Result<Option<BTreeSet<(Major, Minor)>>> {
        let opened = self.open_below(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let Some(fd) = optional(opened)? else { return Ok(None) };
        let fail = |errno| Error::call("list", self.display_path(path), errno);
        let dir = fd.try_clone().map_err(|e| Error::io("list", self.display_path(path), &e))?;
        let mut devices = BTreeSet::new();
        for entry in Dir::from_fd(fd).map_err(fail)? {
            let entry = match entry {
                Ok(entry) => entry,
                // The process has ended.
                Err(Errno::ENOENT | Errno::ESRCH) => break,
                Err(errno) => return Err(fail(errno)),
            };
            let name = entry.file_name();
            // "." and ".." are no descriptors. One that was closed meanwhile holds nothing.
            let (major, minor) = match char_device(&dir, name) {
                Ok(Some(numbers)) => numbers,
                // Denied by its file system, as FUSE does, or by the kernel, which then denies to read the link as well.
                Err(Errno::EACCES | Errno::EPERM) => match readlinkat(&dir, name) {
                    Err(errno @ (Errno::EACCES | Errno::EPERM)) => return Err(fail(errno)),
                    _ => continue,
                },
                Ok(None) | Err(_) => continue,
            };
            let (major, minor) = (Major(major), Minor(minor));
            if is_wanted(major, minor) && !self.only_names(path, &name.to_string_lossy()) {
                devices.insert((major, minor));
            }
        }
        Ok(Some(devices))
    }

    /// Reports whether `/proc` is that of this process, so that it shows the ids which system calls take.
    #[must_use]
    pub fn has_own_proc(&self) -> bool {
        let own = fstatat(AT_FDCWD, "/proc", AtFlags::empty());
        self.stat("/proc").is_ok_and(|shown| own.is_ok_and(|own| own.st_dev == shown.st_dev))
    }

    /// Reports whether a descriptor was opened with `O_PATH`, by the octal flags in its fdinfo (proc(5)).
    fn only_names(&self, path: &str, descriptor: &str) -> bool {
        let info = self.read(&format!("{path}info/{descriptor}"), LIMIT).ok().flatten();
        let info = String::from_utf8_lossy(&info.unwrap_or_default()).into_owned();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & OFlag::O_PATH.bits() != 0)
    }
}
