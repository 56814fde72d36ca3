//! Mounting by descriptor (Linux 5.12): no path is looked up twice.
//!
//! The order is always the same: make a mount that is attached nowhere, change its attributes, attach it. With
//! mount(2) a bind is writable until a second call, and both calls look the path up.
//!
//! Common to all: descriptors are borrowed for the call, strings are `CStr`s that outlive it, and the result
//! is a descriptor that nobody else owns. The calls go by number: musl has no wrappers for them.
#![allow(unsafe_code)]

use nix::{Result, errno::Errno};
use std::{
    ffi::{CStr, CString, c_int, c_uint},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

/// `OPEN_TREE_CLONE`, `FSCONFIG_*`, `FSMOUNT_CLOEXEC` … of `include/uapi/linux/mount.h`.
mod uapi {
    use std::ffi::c_uint;
    pub(super) const OPEN_TREE_CLONE: c_uint = 1;
    pub(super) const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC as c_uint;
    pub(super) const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;
    pub(super) const MOVE_MOUNT_T_EMPTY_PATH: c_uint = 0x40;
    pub(super) const FSOPEN_CLOEXEC: c_uint = 1;
    pub(super) const FSMOUNT_CLOEXEC: c_uint = 1;
    pub(super) const FSCONFIG_SET_FLAG: c_uint = 0;
    pub(super) const FSCONFIG_SET_STRING: c_uint = 1;
    pub(super) const FSCONFIG_CMD_CREATE: c_uint = 6;
    pub(super) const MOUNT_ATTR_RDONLY: u64 = 0x1;
    pub(super) const MOUNT_ATTR_NOSUID: u64 = 0x2;
    pub(super) const MOUNT_ATTR_NODEV: u64 = 0x4;
}

/// With an empty path and `AT_EMPTY_PATH` or its like, a call is about the descriptor itself.
const EMPTY: &CStr = c"";

/// Takes over the descriptor that a system call returned.
fn descriptor(returned: i64) -> Result<OwnedFd> {
    let number = Errno::result(c_int::try_from(returned).unwrap_or(-1))?;
    // SAFETY: the call has made it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Clones the mount of an open file or directory, without mounts below it (no `AT_RECURSIVE`): those of the host
/// do not follow into a container. It is attached nowhere yet.
pub(crate) fn detached_bind(source: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = uapi::OPEN_TREE_CLONE | uapi::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as c_uint;
    // SAFETY: see the head of this file.
    descriptor(unsafe {
        libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), EMPTY.as_ptr(), flags)
    })
}

/// Makes an empty tmpfs of at most `size` bytes that is attached nowhere yet.
pub(crate) fn detached_tmpfs(size: usize) -> Result<OwnedFd> {
    let size = CString::new(size.to_string()).map_err(|_| Errno::EINVAL)?;
    let options = [(c"size", Some(size.as_c_str())), (c"mode", Some(c"0755"))];
    detached(c"tmpfs", &options)
}

/// Mounts the unified hierarchy of cgroups, attached nowhere: all of it that our cgroup namespace has.
pub(crate) fn detached_cgroup_v2() -> Result<OwnedFd> {
    detached(c"cgroup2", &[])
}

/// Mounts a hierarchy of cgroups of version 1 in the same way. A hierarchy is known by all of its controllers.
pub(crate) fn detached_cgroup_v1(controllers: &str) -> Result<OwnedFd> {
    let names = controllers.split(',').map(CString::new);
    let names: Vec<_> = names.collect::<std::result::Result<_, _>>().map_err(|_| Errno::EINVAL)?;
    let options: Vec<_> = names.iter().map(|name| (name.as_c_str(), None)).collect();
    detached(c"cgroup", &options)
}

/// Makes a mount that is attached nowhere, with options that have a value or are flags.
fn detached(file_system: &CStr, options: &[(&CStr, Option<&CStr>)]) -> Result<OwnedFd> {
    // SAFETY: see the head of this file.
    let context = descriptor(unsafe {
        libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), uapi::FSOPEN_CLOEXEC)
    })?;
    for (key, value) in options {
        let command = value.map_or(uapi::FSCONFIG_SET_FLAG, |_| uapi::FSCONFIG_SET_STRING);
        configure(&context, command, Some(key), *value)?;
    }
    configure(&context, uapi::FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: as above.
    descriptor(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), uapi::FSMOUNT_CLOEXEC, 0)
    })
}

fn configure(
    context: &OwnedFd,
    command: c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    let (key, value) = (pointer(key), pointer(value));
    // SAFETY: see the head of this file; a command takes no key and no value where they are null.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0)
    })
    .map(drop)
}

/// Makes a detached mount read-only, without set-user-id programs, device nodes and propagation.
pub(crate) fn protect(mount: BorrowedFd<'_>) -> Result<()> {
    /// `struct mount_attr`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let attributes = Attributes {
        set: uapi::MOUNT_ATTR_RDONLY | uapi::MOUNT_ATTR_NOSUID | uapi::MOUNT_ATTR_NODEV,
        clear: 0,
        // A clone stays a peer of its source otherwise, and mounts would appear on the host.
        propagation: libc::MS_PRIVATE,
        user_namespace: 0,
    };
    // SAFETY: see the head of this file; the structure and its size are those of the kernel's first
    // version of this call.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    })
    .map(drop)
}

/// Attaches a detached mount on what `target` is open on, in the mount namespace of this process.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: see the head of this file.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            target.as_raw_fd(),
            EMPTY.as_ptr(),
            uapi::MOVE_MOUNT_F_EMPTY_PATH | uapi::MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}
