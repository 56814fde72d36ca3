//! statx(2), with which the status of a file is read without a request to its file system.
#![allow(unsafe_code)]

use nix::{Result, errno::Errno, libc};
use std::{
    ffi::{CStr, c_int, c_uint},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd},
};

/// Returns the numbers of the character device that a name in a directory leads to; `None` for another file.
///
/// The kernel answers from what it holds in memory (`AT_STATX_DONT_SYNC`): a network or FUSE server that is dead, or an
/// attacker's, is not asked, and cannot block the caller.
pub(crate) fn char_device(dir: impl AsFd, name: &CStr) -> Result<Option<(u32, u32)>> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    let flags: c_int = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    let mask: c_uint = libc::STATX_TYPE;
    let dir = dir.as_fd().as_raw_fd();
    // By number: older versions of musl have no wrapper.
    // SAFETY: the name is a `CStr` that outlives the call, and the kernel writes at most one `struct statx`, of which any
    // bytes are a value.
    let done = unsafe {
        libc::syscall(libc::SYS_statx, dir, name.as_ptr(), flags, mask, status.as_mut_ptr())
    };
    Errno::result(done)?;
    // SAFETY: zeroed, then written by the kernel.
    let status = unsafe { status.assume_init() };
    let is_char = u32::from(status.stx_mode) & libc::S_IFMT == libc::S_IFCHR;
    Ok(is_char.then_some((status.stx_rdev_major, status.stx_rdev_minor)))
}
