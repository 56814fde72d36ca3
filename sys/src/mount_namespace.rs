//! The mounts of a mount namespace.

use crate::{Error, Result, Root};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, setns, unshare},
};
use std::thread;

/// Returns the mountinfo file of a mount namespace as its root shows it. `namespace` is the path of its file in `/proc`.
///
/// `/proc/PID/mountinfo` shows the mounts below the root of that process, and chroot(2) hides all others (`show_mountinfo` in
/// `fs/proc_namespace.c`). To enter a namespace is to begin at its root (`mntns_install` in `fs/namespace.c`). A thread does that, which
/// ends afterwards; it looks up no path from there, so it asks no file system of the namespace.
///
/// # Errors
/// When it cannot be entered: that takes `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`.
pub fn mountinfo_from_root(host: &Root, namespace: &str, limit: usize) -> Result<Vec<u8>> {
    // Of the host's `/proc`, which is opened here and reached by descriptor from the other namespace.
    const OWN: &str = "/proc/thread-self/mountinfo";
    let fd = host.open_below(namespace, OFlag::O_RDONLY)?;
    let fail = |op| move |errno| Error::call(op, host.display_path(namespace), errno);
    let read = || {
        // A thread that shares its root with others may not enter.
        unshare(CloneFlags::CLONE_FS).map_err(fail("leave the root for"))?;
        setns(fd, CloneFlags::CLONE_NEWNS).map_err(fail("enter"))?;
        let absent = || Error::call("open", host.display_path(OWN), Errno::ENOENT);
        host.read(OWN, limit)?.ok_or_else(absent)
    };
    thread::scope(|scope| scope.spawn(read).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
