//! Runs a program, and all that it starts, as on a kernel without some system calls: a filter answers
//! `ENOSYS` to them, as an older kernel does.
//!
//!     older_kernel openat2,close_range PROGRAM [WORD…]
#![allow(missing_docs)]

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::{collections::BTreeMap, error::Error, os::unix::process::CommandExt, process::Command};

/// Returns the number of a system call that is newer than Linux 4.18, the oldest kernel of a distribution that the
/// supported engines run on.
fn number(name: &str) -> Result<i64, Box<dyn Error>> {
    match name {
        "open_tree" => Ok(libc::SYS_open_tree),
        "move_mount" => Ok(libc::SYS_move_mount),
        "fsopen" => Ok(libc::SYS_fsopen),
        "fsconfig" => Ok(libc::SYS_fsconfig),
        "fsmount" => Ok(libc::SYS_fsmount),
        "pidfd_open" => Ok(libc::SYS_pidfd_open),
        "openat2" => Ok(libc::SYS_openat2),
        "faccessat2" => Ok(libc::SYS_faccessat2),
        "close_range" => Ok(libc::SYS_close_range),
        "mount_setattr" => Ok(libc::SYS_mount_setattr),
        _ => Err(format!("the call {name} is not known").into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let (Some(calls), Some(program)) = (words.next(), words.next()) else {
        return Err("usage: older_kernel CALL,… PROGRAM [WORD…]".into());
    };
    let calls = calls.into_string().map_err(|_| "calls are words")?;
    let rules: Result<BTreeMap<_, _>, Box<dyn Error>> =
        calls.split(',').map(|name| Ok((number(name)?, Vec::new()))).collect();
    let absent = SeccompAction::Errno(u32::try_from(libc::ENOSYS)?);
    let filter = SeccompFilter::new(
        rules?,
        SeccompAction::Allow,
        absent,
        std::env::consts::ARCH.try_into()?,
    )?;
    apply_filter(&BpfProgram::try_from(filter)?)?;
    Err(Command::new(program).args(words).exec().into())
}
