//! The cgroups of tasks, found from the other side: by the members of all cgroups.

use super::CgroupDir;
use crate::{Error, Result};
use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{OFlag, openat},
    libc::PATH_MAX,
    sys::stat::{Mode, fstat},
};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::Instant,
};

/// Visits each cgroup of a hierarchy in which some of these tasks are, by the name of the file that lists their ids there.
///
/// It goes from one directory to the next, as a path may be longer than the kernel takes, and has one of them open, as they may be
/// nested deeper than a process can have files open.
pub(super) fn visit_cgroups_of(
    tasks: &BTreeSet<u32>,
    root: &OwnedFd,
    members: &str,
    end: Instant,
    mut visit: impl FnMut(&CgroupDir, Vec<u32>),
) -> Result<()> {
    let mut path = PathBuf::from("/");
    let mut dir = open(root, ".".as_ref(), &path)?;
    // The cgroups below each one on the way that are still to be visited.
    let mut levels = Vec::new();
    loop {
        if Instant::now() >= end {
            return Err(Error::refused("visit", "all cgroups", "it takes too long"));
        }
        let found = members_among(tasks, &dir, members)?;
        if !found.is_empty() {
            visit(&dir, found);
        }
        levels.push(names_below(&dir)?);
        dir = loop {
            match levels.last_mut().map(Vec::pop) {
                None => return Ok(()),
                Some(Some(name)) => {
                    path.push(&name);
                    match open(&dir.fd, &name, &path) {
                        Err(error) if error.is_absent() => path.pop(),
                        below => break below?,
                    };
                }
                Some(None) => {
                    levels.pop();
                    if path.pop() {
                        dir = open(&dir.fd, "..".as_ref(), &path)?;
                    }
                }
            }
        };
    }
}

/// Opens a directory by its name in another one. In messages it has its path, or that of the nearest one above which the kernel takes.
fn open(dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<CgroupDir> {
    let is_short = |path: &&Path| path.as_os_str().len() < PATH_MAX.cast_unsigned() as usize;
    let path = path.ancestors().find(is_short).unwrap_or(path);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty());
    let fd = fd.map_err(|errno| Error::call("open the cgroup", path, errno))?;
    Ok(CgroupDir { fd, path: path.to_owned() })
}

fn members_among(tasks: &BTreeSet<u32>, dir: &CgroupDir, members: &str) -> Result<Vec<u32>> {
    let ids = match dir.read(members) {
        // It was removed.
        Err(Error::Call { errno: Errno::ENOENT | Errno::ENODEV, .. }) => String::new(),
        ids => ids?,
    };
    let ids = ids.lines().filter_map(|id| id.parse().ok());
    Ok(ids.filter(|id| tasks.contains(id)).collect())
}

fn names_below(dir: &CgroupDir) -> Result<Vec<OsString>> {
    let fail = |errno| Error::call("list the cgroup", &dir.path, errno);
    // One link, one from itself, and one from each directory in it (`kernfs_refresh_inode` in fs/kernfs/inode.c).
    if fstat(&dir.fd).map_err(fail)?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    let fd = dir.fd.try_clone().map_err(|e| Error::io("list the cgroup", &dir.path, &e))?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(fd).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if entry.file_type() == Some(Type::Directory) && name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
