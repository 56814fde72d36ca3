//! What a process can do to itself.
#![allow(unsafe_code)]

use nix::{Result, errno::Errno};
use std::os::fd::RawFd;

/// Forgets every variable of the environment.
pub(crate) fn clear_environment() {
    // SAFETY: no other thread exists that could read the environment; the hook makes none.
    unsafe { libc::clearenv() };
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: RawFd) -> Result<()> {
    // By number: musl has no wrapper.
    // SAFETY: the caller owns no descriptor from `first` on yet: it is the first thing a mode does.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    match Errno::result(closed) {
        // Before Linux 5.9: RHEL 8, Ubuntu 20.04.
        Err(Errno::ENOSYS) => close_one_by_one(first),
        done => done.map(drop),
    }
}

fn close_one_by_one(first: RawFd) -> Result<()> {
    let failed = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(0));
    let entries = std::fs::read_dir("/proc/self/fd").map_err(failed)?;
    let numbers = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse().ok()));
    let numbers: std::io::Result<Vec<Option<RawFd>>> = numbers.collect();
    for number in numbers.map_err(failed)?.into_iter().flatten().filter(|n| *n >= first) {
        // SAFETY: as above. That of the directory itself is closed already, which is no failure.
        unsafe { libc::close(number) };
    }
    Ok(())
}
