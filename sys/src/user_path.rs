//! Paths that a user or an administrator named: followed wherever they lead, unlike paths of a container.

use crate::{
    Error, NodeStat, Result,
    error::optional,
    root::{names, read_all},
};
use nix::{
    dir::Dir,
    fcntl::OFlag,
    sys::stat::{Mode, stat},
};
use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
};

/// Reads a whole file that the user named, `-` for standard input. At most `limit` bytes.
///
/// # Errors
/// When it cannot be read or is larger.
pub fn read_named(path: &Path, limit: usize) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        return read_all(std::io::stdin(), path, limit);
    }
    let file = File::open(path).map_err(|e| Error::io("open", path, &e))?;
    read_all(file, path, limit)
}

/// Reads a whole regular file; symbolic links are followed. A pipe in its place does not block.
///
/// # Errors
/// When it cannot be read, is larger than `limit` bytes, or is not a regular file.
pub fn read_regular(path: &Path, limit: usize) -> Result<Vec<u8>> {
    // Without O_NONBLOCK the open itself waits for the other end of a fifo (fifo(7)).
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, Mode::empty());
    let file = File::from(fd.map_err(|errno| Error::call("open", path, errno))?);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => read_all(file, path, limit),
        Ok(_) => Err(Error::refused("read", path, "it is no regular file")),
        Err(error) => Err(Error::io("stat", path, &error)),
    }
}

/// Numbers, mode and owner of the file that a path leads to; `None` when nothing is there.
///
/// # Errors
/// When the path cannot be looked up.
pub fn node_named(path: &Path) -> Result<Option<NodeStat>> {
    let stat = stat(path).map_err(|errno| Error::call("stat", path, errno));
    Ok(optional(stat)?.map(|stat| NodeStat::of(&stat)))
}

/// True when something has this path; symbolic links are followed. A path that may not be searched counts
/// as absent.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// True for a directory; a symbolic link to one is none.
#[must_use]
pub fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Returns the same path, from `/` on. Nothing on it needs to exist.
///
/// # Errors
/// When the working directory has been removed.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("resolve", path, &e))
}

/// Lists the sorted names in a directory that the user named, whatever their bytes; `None` when it does not exist.
///
/// # Errors
/// When it cannot be read.
pub fn list_named(path: &Path) -> Result<Option<Vec<OsString>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let names = names(Dir::open(path, flags, Mode::empty()));
    optional(names.map_err(|errno| Error::call("list", path, errno)))
}
