//! Character devices that a process has open.

use crate::{Error, Result, Root, error::optional, kernel::stat::char_device};
use mig_cdi_model::{Major, Minor};
use nix::{dir::Dir, errno::Errno, fcntl::OFlag};
use std::collections::BTreeSet;

/// Largest `/proc/PID/fdinfo/FD` of a device.
const LIMIT: usize = 1 << 16;

impl Root {
    /// Returns which of the wanted character devices a process has open, by its descriptors in `/proc`; `None` when there is no such
    /// process.
    ///
    /// A device counts by its numbers, whatever its path. No file system is asked for them, so that none can block the caller,
    /// and nothing is kept for each descriptor, of which a process may have a million. A descriptor that only names a file
    /// (`O_PATH`) does not count: anyone can have it, without a right to open the device.
    ///
    /// # Errors
    /// When its descriptors cannot be listed.
    pub fn open_devices(
        &self,
        pid: u32,
        is_wanted: impl Fn(Major, Minor) -> bool,
    ) -> Result<Option<BTreeSet<(Major, Minor)>>> {
        let path = format!("/proc/{pid}/fd");
        let opened = self.open_below(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let Some(fd) = optional(opened)? else { return Ok(None) };
        let fail = |errno| Error::call("list", self.display_path(&path), errno);
        let dir = fd.try_clone().map_err(|e| Error::io("list", self.display_path(&path), &e))?;
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
            let Ok(Some((major, minor))) = char_device(&dir, name) else { continue };
            let (major, minor) = (Major(major), Minor(minor));
            if is_wanted(major, minor) && !self.only_names(pid, &name.to_string_lossy()) {
                devices.insert((major, minor));
            }
        }
        Ok(Some(devices))
    }

    /// Reports whether a descriptor was opened with `O_PATH`, by the octal flags in its fdinfo (proc(5)).
    fn only_names(&self, pid: u32, descriptor: &str) -> bool {
        let info = self.read(&format!("/proc/{pid}/fdinfo/{descriptor}"), LIMIT).ok().flatten();
        let info = String::from_utf8_lossy(&info.unwrap_or_default()).into_owned();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & OFlag::O_PATH.bits() != 0)
    }
}
