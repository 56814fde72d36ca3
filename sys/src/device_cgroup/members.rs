//! The cgroups of tasks, found from the other side: by the members of all cgroups.

use super::{CgroupDir, LIMIT};
use crate::{Error, Result, root::read_all};
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
    fs::File,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::Instant,
};

/// Visits each cgroup of a hierarchy in which some of these tasks are, by the name of the file that lists their ids there.
///
/// It goes from one directory to the next, as a path may be longer than the kernel takes, and has one of them open, as they may be
/// nested deeper than a process can have files open.
///
/// # Errors
/// When a cgroup cannot be read, or they take longer than until `end`.
pub(super) fn visit_cgroups_of(
    tasks: &BTreeSet<u32>,
    root: &OwnedFd,
    members: &str,
    end: Instant,
    mut visit: impl FnMut(&CgroupDir, Vec<u32>),
) -> Result<()> {
    let mut path = PathBuf::from("/");
    let fail = |path: &Path, errno| Error::call("visit the cgroup", shown(path), errno);
    let mut dir = open(root, ".".as_ref()).map_err(|errno| fail(&path, errno))?;
    // The cgroups below each one on the way that are still to be visited.
    let mut levels = Vec::new();
    loop {
        if Instant::now() >= end {
            return Err(Error::refused("visit", "all cgroups", "it takes too long"));
        }
        let found = members_among(tasks, &dir, members, &path)?;
        if !found.is_empty() {
            let fd =
                dir.try_clone().map_err(|e| Error::io("visit the cgroup", shown(&path), &e))?;
            visit(&CgroupDir { fd, path: shown(&path).to_owned() }, found);
        }
        levels.push(names_below(&dir).map_err(|errno| fail(&path, errno))?);
        dir = loop {
            match levels.last_mut().map(Vec::pop) {
                None => return Ok(()),
                Some(Some(name)) => {
                    path.push(&name);
                    match open(&dir, &name) {
                        // It was removed.
                        Err(Errno::ENOENT) => path.pop(),
                        below => break below.map_err(|errno| fail(&path, errno))?,
                    };
                }
                Some(None) => {
                    levels.pop();
                    if path.pop() {
                        dir = open(&dir, "..".as_ref()).map_err(|errno| fail(&path, errno))?;
                    }
                }
            }
        };
    }
}

/// The path in messages: its own, or that of the nearest directory above which the kernel takes.
fn shown(path: &Path) -> &Path {
    let is_short = |path: &&Path| path.as_os_str().len() < PATH_MAX.cast_unsigned() as usize;
    path.ancestors().find(is_short).unwrap_or(path)
}

fn open(dir: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    openat(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn members_among(
    tasks: &BTreeSet<u32>,
    dir: &OwnedFd,
    members: &str,
    path: &Path,
) -> Result<Vec<u32>> {
    let ids = openat(dir, members, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::call("open the members of", shown(path), errno))
        .and_then(|fd| read_all(File::from(fd), Path::new(members), LIMIT));
    let ids = match ids {
        // The cgroup was removed.
        Err(Error::Call { errno: Errno::ENOENT | Errno::ENODEV, .. }) => Vec::new(),
        ids => ids?,
    };
    let ids = String::from_utf8_lossy(&ids);
    let ids = ids.lines().filter_map(|id| id.parse().ok());
    Ok(ids.filter(|id| tasks.contains(id)).collect())
}

fn names_below(dir: &OwnedFd) -> nix::Result<Vec<OsString>> {
    // One link, one from itself, and one from each directory in it (`kernfs_refresh_inode` in fs/kernfs/inode.c).
    if fstat(dir)?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in Dir::from_fd(open(dir, ".".as_ref())?)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if entry.file_type() == Some(Type::Directory) && name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
