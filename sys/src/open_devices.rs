//! Character devices that a process has open.

use crate::{
    Error, Result, Root,
    error::optional,
    kernel::{process, stat::char_device},
    root::read_all,
};
use caps::{CapSet, Capability};
use mig_cdi_model::{Major, Minor};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat},
    sys::stat::{Mode, fstatat},
    unistd::{Whence, lseek},
};
use std::{
    collections::BTreeSet, ffi::CStr, fs::File, io::ErrorKind, ops::Range, os::fd::OwnedFd,
    path::Path,
};

/// Largest `/proc/PID/fdinfo/FD` of a device.
const LIMIT: usize = 1 << 16;

/// Reports whether two threads have one table of descriptors; false where that cannot be found out.
#[must_use]
pub fn share_descriptors(a: u32, b: u32) -> bool {
    process::share_descriptors(a, b).unwrap_or(false)
}

/// Reports whether this process may look at the descriptors and namespaces of the processes of all users: `/proc/PID/fd` is a directory of
/// the process's user, and what is behind its links takes the right to trace it (`proc_fd_access_allowed` in fs/proc/base.c), which a
/// security module may deny nevertheless.
#[must_use]
pub fn may_examine_processes() -> bool {
    let has = |one| caps::has_cap(None, CapSet::Effective, one).unwrap_or(false);
    has(Capability::CAP_SYS_PTRACE)
        && (has(Capability::CAP_DAC_READ_SEARCH) || has(Capability::CAP_DAC_OVERRIDE))
        // Without a security module that has labels, it cannot be read.
        && !std::fs::read_to_string("/proc/thread-self/attr/current").is_ok_and(|label| confines(&label))
        && !is_kept_from_others()
}

/// Reports whether this process may not even look at the kernel's own thread `kthreadd`, which has process id 2 on every machine: it is in
/// a Landlock domain, which shows nowhere and keeps it from all processes outside (`hook_ptrace_access_check` in
/// security/landlock/task.c), or in a user namespace. That it may not look at some program does not tell: a security product protects
/// its own from root.
fn is_kept_from_others() -> bool {
    std::fs::read_link("/proc/2/ns/mnt").is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

/// Reports whether a security module confines a process with this label: a context of SELinux (`system_u:system_r:container_t:s0`), or a
/// profile of AppArmor and its mode (`docker-default (enforce)`), or `unconfined` (`aa_getprocattr` in security/apparmor/procattr.c).
fn confines(label: &str) -> bool {
    let label = label.trim_end_matches(['\0', '\n']);
    !label.is_empty() && label != "unconfined" && !label.ends_with(" (unconfined)")
}

/// Character devices that a process or thread has open, with descriptors of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenDevices {
    /// The wanted ones among them.
    pub devices: BTreeSet<(Major, Minor)>,
    /// Number of descriptors in the range.
    pub descriptors: usize,
    /// True when there are descriptors behind the range.
    pub has_more: bool,
}

impl Root {
    /// Finds which of the wanted character devices a process or thread has open, by its directory of descriptors in `/proc`, with
    /// descriptors in a range; `None` when there is no such task.
    ///
    /// A device counts by its numbers, whatever its path. No file system is asked for them, so that none can block the caller,
    /// and nothing is kept for each descriptor, of which a process may have a million. A descriptor that only names a file
    /// (`O_PATH`) does not count: anyone can have it, without a right to open the device.
    ///
    /// # Errors
    /// When its descriptors cannot be listed, or not be looked at: that takes `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` for processes of others.
    pub fn open_devices(
        &self,
        path: &str,
        range: Range<u32>,
        is_wanted: impl Fn(Major, Minor) -> bool,
    ) -> Result<Option<OpenDevices>> {
        let opened = self.open_below(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let Some(fd) = optional(opened)? else { return Ok(None) };
        let fail = |errno| Error::call("list", self.display_path(path), errno);
        let dir = fd.try_clone().map_err(|e| Error::io("list", self.display_path(path), &e))?;
        if range.start > 0 {
            // Behind "." and "..", the position in the listing is that of the number (`proc_readfd_common` in fs/proc/fd.c).
            lseek(&fd, i64::from(range.start) + 2, Whence::SeekSet).map_err(fail)?;
        }
        let (mut open, mut infos) = (OpenDevices::default(), None);
        for entry in Dir::from_fd(fd).map_err(fail)? {
            let entry = match entry {
                Ok(entry) => entry,
                // The process has ended.
                Err(Errno::ENOENT | Errno::ESRCH) => break,
                Err(errno) => return Err(fail(errno)),
            };
            // "." and ".." are no descriptors.
            let name = entry.file_name();
            let number = name.to_str().ok().and_then(|name| name.parse::<u32>().ok());
            let Some(number) = number else { continue };
            if number >= range.end {
                open.has_more = true;
                break;
            }
            open.descriptors += 1;
            // One that was closed meanwhile holds nothing.
            let (major, minor) = match char_device(&dir, name) {
                Ok(Some(numbers)) => numbers,
                // Denied by its file system, as FUSE does, or by the kernel, which then denies to read the link as well.
                Err(Errno::EACCES | Errno::EPERM) => match readlinkat(&dir, name) {
                    Err(errno @ (Errno::EACCES | Errno::EPERM)) => return Err(fail(errno)),
                    _ => continue,
                },
                Err(Errno::ENOSYS) => return Err(fail(Errno::ENOSYS)),
                Ok(None) | Err(_) => continue,
            };
            let device = (Major(major), Minor(minor));
            if is_wanted(device.0, device.1) && !open.devices.contains(&device) {
                let infos = infos
                    .get_or_insert_with(|| self.open_below(&format!("{path}info"), OFlag::O_PATH));
                let only_names = infos.as_ref().is_ok_and(|infos| only_names(infos, name));
                open.devices.extend((!only_names).then_some(device));
            }
        }
        Ok(Some(open))
    }

    /// Reports whether a process has one thread, by the number of links of its directory of threads in `/proc`: two, and one for each
    /// thread (`proc_task_getattr` in fs/proc/base.c). That is cheaper than to list them.
    #[must_use]
    pub fn has_one_thread(&self, path: &str) -> bool {
        self.stat(path).is_ok_and(|status| status.st_nlink == 3)
    }

    /// Reports whether `/proc` is that of this process, so that it shows the ids which system calls take.
    #[must_use]
    pub fn has_own_proc(&self) -> bool {
        let own = fstatat(AT_FDCWD, "/proc", AtFlags::empty());
        self.stat("/proc").is_ok_and(|shown| own.is_ok_and(|own| own.st_dev == shown.st_dev))
    }
}

/// Reports whether a descriptor was opened with `O_PATH`, by the octal flags in its fdinfo (proc(5)).
fn only_names(infos: &OwnedFd, descriptor: &CStr) -> bool {
    let opened = openat(infos, descriptor, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let info = opened.ok().and_then(|fd| read_all(File::from(fd), Path::new("fdinfo"), LIMIT).ok());
    let info = info.unwrap_or_default();
    let info = String::from_utf8_lossy(&info);
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlag::O_PATH.bits() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_process_is_confined_by_a_profile_or_a_context() {
        for confined in [
            "docker-default (enforce)\n",
            "cri-containerd.apparmor.d (enforce)",
            "podman//&unconfined (enforce)\n",
            "system_u:system_r:container_t:s0:c1,c2\0",
        ] {
            assert!(confines(confined), "{confined}");
        }
        for free in ["", "\0", "unconfined\n", "podman (unconfined)\n"] {
            assert!(!confines(free), "{free}");
        }
    }

    #[test]
    fn descriptors_are_found_in_the_range_of_their_number() {
        let root = Root::open(Path::new("/")).unwrap();
        let null = File::open("/dev/null").unwrap();
        let number = null.as_raw_fd().cast_unsigned();
        let find = |range| {
            let is_null = |major, minor| (major, minor) == (Major(1), Minor(3));
            root.open_devices("/proc/thread-self/fd", range, is_null).unwrap().unwrap()
        };
        let only = find(number..number + 1);
        assert_eq!((only.devices.len(), only.descriptors), (1, 1));
        assert!(find(number + 1..u32::MAX).devices.len() <= 1 && !find(0..u32::MAX).has_more);
        let before = find(0..number);
        assert!(before.has_more && before.descriptors <= number as usize, "{before:?}");
    }
}
