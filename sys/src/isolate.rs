//! A process that sheds what it inherited before it does anything as root.

use crate::{Error, Result, kernel::process as kernel};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    errno::Errno,
    sys::{prctl, stat::Mode},
};

/// The capabilities that a process keeps when it isolates itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepCaps {
    /// None: root can still read what root owns.
    None,
    /// `CAP_SYS_ADMIN`, for the NVML calls that only administrators may make.
    ReadNvml,
    /// Capabilities that a search for holders of a slice takes. They are not in effect: a child process that runs this program as root
    /// gets them.
    Search,
    /// Capabilities to enter a container that is being created, make nodes and mounts there, and change its
    /// cgroup.
    Inject,
    /// Capabilities to make a file and a mount in a container that is being created, from inside.
    Mount,
}

impl KeepCaps {
    fn permitted(self) -> CapsHashSet {
        let list: &[Capability] = match self {
            KeepCaps::None => &[],
            KeepCaps::ReadNvml => &[Capability::CAP_SYS_ADMIN],
            // Device programs: SYS_ADMIN, and before Linux 6.9 NET_ADMIN to list them (`bpf_prog_query` in kernel/bpf/syscall.c). PTRACE
            // for a `/proc` that hides processes, DAC_OVERRIDE for cgroups of other users.
            KeepCaps::Search => &[
                Capability::CAP_DAC_OVERRIDE,
                Capability::CAP_NET_ADMIN,
                Capability::CAP_SYS_ADMIN,
                Capability::CAP_SYS_PTRACE,
            ],
            // setns(2) into a mount namespace takes SYS_ADMIN and SYS_CHROOT; the namespace links in /proc of
            // another process take PTRACE (namespaces(7), "The /proc/pid/ns/ directory"). NET_ADMIN: see above.
            KeepCaps::Inject => &[
                Capability::CAP_CHOWN,
                Capability::CAP_DAC_OVERRIDE,
                Capability::CAP_MKNOD,
                Capability::CAP_NET_ADMIN,
                Capability::CAP_SYS_ADMIN,
                Capability::CAP_SYS_CHROOT,
                Capability::CAP_SYS_PTRACE,
            ],
            // PTRACE: to compare the container's mount namespace with that of process 1.
            KeepCaps::Mount => &[
                Capability::CAP_DAC_OVERRIDE,
                Capability::CAP_SYS_ADMIN,
                Capability::CAP_SYS_CHROOT,
                Capability::CAP_SYS_PTRACE,
            ],
        };
        list.iter().copied().collect()
    }
}

/// Sheds all that a caller may have passed on: descriptors except the first three, environment, working
/// directory, umask, and capabilities that are not in `keep`. The process can no longer be traced by other
/// processes of its user, nor gain privileges by running a program.
///
/// Call it first, in a process with one thread and no open descriptor of its own.
///
/// # Errors
/// When the kernel refuses a step, or the process has a second thread.
pub fn isolate(keep: KeepCaps) -> Result<()> {
    let fail = |op| move |errno| Error::call(op, "this process", errno);
    // runc 1.1 leaves a socket, a log pipe and exec.fifo open in a createContainer hook, and a leaked
    // directory of the host was CVE-2024-21626.
    kernel::close_from(3).map_err(fail("close descriptors of"))?;
    // A hook without `env` gets the environment of the image from runc, LD_PRELOAD included
    // (CVE-2025-23266); programs that are run later must not see it.
    kernel::clear_environment().map_err(fail("clear the environment of"))?;
    // That hook also starts in the container's root, where `./x` is a file of the image.
    nix::unistd::chdir("/").map_err(|errno| Error::call("change to", "/", errno))?;
    nix::sys::stat::umask(Mode::empty());
    // Not dumpable: no core file, no ptrace, and /proc/PID/exe cannot be opened for writing by the user of a
    // container (CVE-2019-5736, CVE-2024-0135).
    prctl::set_dumpable(false).map_err(fail("make non-dumpable"))?;
    prctl::set_no_new_privs().map_err(fail("set no-new-privileges of"))?;
    drop_capabilities(keep).map_err(|_| fail("drop capabilities of")(Errno::EPERM))
}

/// The bounding set stays: with no-new-privileges nothing that we run gains what is not permitted here, and what root runs has all of
/// that in effect (capabilities(7), "Capabilities and execution of programs by root").
fn drop_capabilities(keep: KeepCaps) -> std::result::Result<(), caps::errors::CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let (is_for_child, none) = (keep == KeepCaps::Search, CapsHashSet::new());
    let keep: CapsHashSet = keep.permitted().intersection(&permitted).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    // In this order: capset(2) refuses an effective set that is larger than the permitted one.
    caps::set(None, CapSet::Effective, if is_for_child { &none } else { &keep })?;
    caps::set(None, CapSet::Permitted, &keep)?;
    caps::clear(None, CapSet::Inheritable)
}
