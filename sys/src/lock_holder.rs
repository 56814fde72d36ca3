//! The process that holds the lock of a file, for a message.

use nix::sys::stat::{fstat, major, minor};
use std::os::fd::AsFd;

/// Returns the process that has locked a file by flock(2), where `/proc/locks` shows it, as in
/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF` (proc(5)). Some file systems, such as btrfs, have another number there than
/// fstat(2) returns.
pub(crate) fn lock_holder(file: impl AsFd) -> Option<u32> {
    let stat = fstat(file).ok()?;
    let id = format!("{:02x}:{:02x}:{}", major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| match *line.split_whitespace().collect::<Vec<_>>() {
        [_, "FLOCK", _, _, pid, file, ..] if file == id => pid.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use crate::TrustedDir;
    use std::time::Duration;

    #[test]
    fn a_lock_that_is_not_free_names_its_holder() {
        // A tmpfs, whose number is the same everywhere.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let lock = || TrustedDir::open_shared(dir.path()).unwrap().lock(Duration::ZERO);
        let held = lock().unwrap();
        let error = lock().unwrap_err().to_string();
        assert!(error.contains(&format!(" pid {}, ", std::process::id())), "{error}");
        drop(held);
        lock().unwrap();
    }
}
