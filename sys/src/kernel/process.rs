//! Changes that a process makes to itself: its environment, its descriptors.
#![allow(unsafe_code)]

use crate::error::errno_of;
use nix::{
    Result,
    errno::Errno,
    sched::{CloneFlags, unshare},
};
use std::os::fd::RawFd;

/// Removes every variable from the environment.
///
/// # Errors
/// `EINVAL` when the process has a second thread, which could be reading the environment.
pub(crate) fn clear_environment() -> Result<()> {
    // A question, not a change: with this flag unshare(2) does nothing but fail in a process with several
    // threads (`check_unshare_flags` in kernel/fork.c). /proc shows it too, but may be a forgery here.
    unshare(CloneFlags::CLONE_THREAD)?;
    // SAFETY: `environ` may be changed while nobody else reads it. This is the only thread, as the kernel has
    // just confirmed, so nobody can start another meanwhile; and no reference into the environment lives
    // across this call, since std returns copies.
    unsafe { libc::clearenv() };
    Ok(())
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: RawFd) -> Result<()> {
    // By number: musl has no wrapper.
    // SAFETY: the caller owns no descriptor from `first` on yet: `isolate` is the first thing that a mode of
    // the hook does.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    match Errno::result(closed) {
        // Before Linux 5.9: RHEL 8, Ubuntu 20.04.
        Err(Errno::ENOSYS) => close_one_by_one(first),
        done => done.map(drop),
    }
}

/// Reports whether two threads have one table of descriptors (kcmp(2)). Needs `CAP_SYS_PTRACE` for those of others.
pub(crate) fn share_descriptors(a: u32, b: u32) -> Result<bool> {
    const KCMP_FILES: libc::c_int = 2;
    // By number: no C library has a wrapper.
    // SAFETY: no address.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, a, b, KCMP_FILES, 0, 0) };
    Errno::result(order).map(|order| order == 0)
}

fn close_one_by_one(first: RawFd) -> Result<()> {
    let failed = |e: std::io::Error| errno_of(&e);
    let entries = std::fs::read_dir("/proc/self/fd").map_err(failed)?;
    let numbers = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse().ok()));
    // Collected first: the listing has a descriptor of its own, which closes itself when it ends.
    let numbers: std::io::Result<Vec<Option<RawFd>>> = numbers.collect();
    for number in numbers.map_err(failed)?.into_iter().flatten().filter(|n| *n >= first) {
        // SAFETY: as above. That of the directory itself is closed already, which is no failure.
        unsafe { libc::close(number) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_descriptors_until_one_has_its_own() {
        let id = || nix::unistd::gettid().as_raw().cast_unsigned();
        let main = id();
        let thread = std::thread::spawn(move || {
            let before = share_descriptors(main, id());
            unshare(CloneFlags::CLONE_FILES).unwrap();
            (before, share_descriptors(main, id()))
        });
        assert_eq!(thread.join().unwrap(), (Ok(true), Ok(false)));
    }

    /// The test harness has a thread for each test and one that waits for them.
    #[test]
    fn the_environment_of_a_process_with_threads_is_left_alone() {
        assert_eq!(clear_environment(), Err(Errno::EINVAL));
        assert!(std::env::vars_os().next().is_some());
    }
}
