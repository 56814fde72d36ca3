//! The fence: every system call, every call into the driver's library and every path that mig-cdi
//! reads or writes goes through here. It knows how, never why: no policy.
//!
//! `unsafe` is allowed in two places: `nvml/raw.rs`, for calls that nvml-wrapper has no safe form of,
//! and `kernel/`, for system calls that nix has no safe form of.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod bundle;
mod config_file;
mod container;
mod device_cgroup;
mod driver_root;
mod error;
mod events;
mod fingerprint;
mod host;
mod kernel;
mod library_dirs;
mod listener;
mod log;
mod node_dir;
mod notify;
mod process;
mod publish;
mod root;
mod socket;
mod within;

pub mod elf;
pub mod ldcache;
pub mod nvml;
pub mod text;

pub use bundle::Bundle;
pub use config_file::{ConfigFile, remove_empty_dir};
pub use container::{Container, NewNode, Source};
pub use device_cgroup::{Change, DeviceCgroup};
pub use driver_root::{DriverRoot, Examined, exchangeable};
pub use error::{Error, Result};
pub use events::{Events, Woken};
pub use fingerprint::Fingerprint;
pub use host::{Host, Machine, NodeStat, Roots};
pub use library_dirs::LibraryDirs;
pub use listener::{Listener, end_with_parent};
pub use log::{Log, Severity, append_line};
pub use node_dir::{Entry, NodeDir, is_root};
pub use notify::Manager;
pub use process::{Powers, Ran, become_program, isolate, run, sleep};
pub use publish::{Lock, Outcome, SpecDir};
pub use root::Root;
pub use socket::{listen_at, remove_socket};

use nix::{dir::Dir, errno::Errno, fcntl::OFlag, sys::stat::Mode};
use std::path::Path;

/// The whole of a file that the user named, `-` for standard input. At most `limit` bytes.
///
/// # Errors
/// When it cannot be read or is larger.
pub fn read_named(path: &Path, limit: usize) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        return root::read_all(std::io::stdin(), path, limit);
    }
    let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, &e))?;
    root::read_all(file, path, limit)
}

/// The whole of a regular file, links followed. A pipe in its place does not hold us up.
///
/// # Errors
/// When it cannot be read, is larger than `limit` bytes, or is no regular file.
pub fn read_regular(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, Mode::empty());
    let file = std::fs::File::from(fd.map_err(|errno| Error::call("open", path, errno))?);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => root::read_all(file, path, limit),
        Ok(_) => Err(Error::call("read", path, Errno::EINVAL)),
        Err(error) => Err(Error::io("stat", path, &error)),
    }
}

/// Where the program that runs this is, or was before another was put in its place.
///
/// # Errors
/// When /proc does not tell.
pub fn own_program() -> Result<std::path::PathBuf> {
    let path = std::env::current_exe().map_err(|e| Error::io("resolve", "/proc/self/exe", &e))?;
    // The kernel's word for it: proc(5).
    let was = path.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(match was {
        Some(was) if !path.exists() => was.into(),
        _ => path,
    })
}

/// What to run for this very program once more: a package that is upgraded puts another in its place, and one that is
/// removed none, before this process is told to end.
///
/// # Errors
/// When /proc does not tell.
pub fn own_image() -> Result<std::path::PathBuf> {
    const IMAGE: &str = "/proc/self/exe";
    let path = std::env::current_exe().map_err(|e| Error::io("resolve", IMAGE, &e))?;
    Ok(if path.exists() { path } else { IMAGE.into() })
}

/// True for a regular file that can be run, links followed.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is = |metadata: std::fs::Metadata| {
        metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
    };
    std::fs::metadata(path).is_ok_and(is)
}

/// What tells a file from another at the same path, and from itself once it has been written: inode, size
/// and time, which alone stands still for some milliseconds. `None` when it cannot be told.
#[must_use]
pub fn file_mark(path: &Path) -> Option<[u64; 4]> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let time = [metadata.mtime(), metadata.mtime_nsec()].map(i64::cast_unsigned);
    Some([metadata.ino(), metadata.size(), time[0], time[1]])
}

/// True while there is a process of this number.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The same path from `/` on. Nothing on it need be there.
///
/// # Errors
/// When the working directory is gone.
pub fn absolute(path: &Path) -> Result<std::path::PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("resolve", path, &e))
}

/// The sorted names in a directory that the user named, or `None` when it is not there.
///
/// # Errors
/// When it cannot be read.
pub fn list_named(path: &Path) -> Result<Option<Vec<String>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let names = root::names(Dir::open(path, flags, Mode::empty()));
    error::optional(names.map_err(|errno| Error::call("list", path, errno)))
}
