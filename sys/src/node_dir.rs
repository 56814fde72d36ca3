//! A directory of device nodes on the host, changed so that a reader finds the old entry or the new one and
//! never a half-made one.
//!
//! It writes into `/dev` of the machine as root, so it follows no link and never goes through a directory that
//! another user can change.

use crate::{
    Error, NodeStat, Owner, Result, Root,
    atomic_write::weakness,
    error::{Weakness, optional},
    program::is_running,
    root,
    trusted_path::check_above,
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat, renameat},
    sys::stat::{Mode, SFlag, fstat, fstatat, makedev, mkdirat, mknodat, umask},
    unistd::{UnlinkatFlags, geteuid, symlinkat, unlinkat},
};
use std::{os::fd::OwnedFd, path::PathBuf};

/// Start of the name that an entry has until it is complete; the rest is the id of the process that makes it.
const TEMPORARY: &str = ".mig-cdi.";

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// True for a process of root.
#[must_use]
pub fn is_root() -> bool {
    user_id() == 0
}

/// Effective user id of this process.
#[must_use]
pub fn user_id() -> u32 {
    geteuid().as_raw()
}

/// An entry of a directory, by name. Links are not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeDirEntry {
    /// No entry.
    Absent,
    /// A character device.
    Node(NodeStat),
    /// A symbolic link, with its text.
    Link(String),
    /// Anything else, as a phrase: `a directory`, `a regular file`.
    Other(&'static str),
}

/// An open directory that only root and this process's user can change; or one that does not exist yet.
#[derive(Debug)]
pub struct NodeDir {
    fd: Option<OwnedFd>,
    path: PathBuf,
}

impl NodeDir {
    /// Opens a directory below a root.
    ///
    /// # Errors
    /// [`Error::UnsafeDir`] when it is a link, not a directory, or another user can change it.
    pub fn open(root: &Root, below: &str) -> Result<NodeDir> {
        let path = root.display_path(below);
        check_above(&path)?;
        NodeDir::checked(root.open_below(below, DIRECTORY), path)
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// As [`NodeDir::open`].
    pub fn child(&self, name: &str) -> Result<NodeDir> {
        let path = self.display_path(name);
        let opened = openat(self.fd()?, name, DIRECTORY, Mode::empty());
        NodeDir::checked(opened.map_err(|errno| Error::call("open", &path, errno)), path)
    }

    fn checked(opened: Result<OwnedFd>, path: PathBuf) -> Result<NodeDir> {
        let fd = match opened {
            Err(Error::Call { errno: Errno::ENOENT, .. }) => return Ok(NodeDir { fd: None, path }),
            Err(Error::Call { errno: Errno::ENOTDIR | Errno::ELOOP, .. }) => {
                let cause = "it is a symbolic link or no directory".to_owned();
                return Err(Error::unsafe_dir(path, Weakness { cause, cure: Some("remove it") }));
            }
            opened => opened?,
        };
        let stat = fstat(&fd).map_err(|errno| Error::call("stat", &path, errno))?;
        match weakness(&stat, geteuid().as_raw()) {
            Some(weakness) => Err(Error::unsafe_dir(path, weakness)),
            None => Ok(NodeDir { fd: Some(fd), path }),
        }
    }

    fn fd(&self) -> Result<&OwnedFd> {
        self.fd.as_ref().ok_or_else(|| Error::call("open", &self.path, Errno::ENOENT))
    }

    /// Path of an entry, for messages.
    #[must_use]
    pub fn display_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// True when the directory existed when it was opened, or has been made since.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.fd.is_some()
    }

    /// Makes the directory in `parent`, with mode 0755 whatever the umask, and opens it.
    ///
    /// # Errors
    /// When it cannot be made, or something else has taken its place.
    pub fn make(&mut self, parent: &NodeDir, name: &str) -> Result<()> {
        let (fd, mode) = (parent.fd()?, Mode::from_bits_truncate(0o755));
        let made = unmasked(|| mkdirat(fd, name, mode));
        made.map_err(|errno| Error::call("make directory", &self.path, errno))?;
        *self = parent.child(name)?;
        Ok(())
    }

    /// Lists the sorted names in it; an empty list when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let Some(fd) = &self.fd else { return Ok(Vec::new()) };
        // Opened again: the position of a listing belongs to the open file, so `self.fd` could be read once.
        let names = root::names(Dir::openat(fd, ".", DIRECTORY, Mode::empty()));
        let names = names.map_err(|errno| Error::call("list", &self.path, errno))?;
        Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    /// Names of entries that a process left unfinished when it ended.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        // Our own id: this process makes one entry at a time, so that one is of a former process.
        let ended = |pid: u32| pid == std::process::id() || !is_running(pid);
        let unfinished = |name: &String| {
            name.strip_prefix(TEMPORARY).and_then(|pid| pid.parse().ok()).is_some_and(ended)
        };
        Ok(self.names()?.into_iter().filter(unfinished).collect())
    }

    /// Entry with this name.
    ///
    /// # Errors
    /// When its status cannot be read.
    pub fn entry(&self, name: &str) -> Result<NodeDirEntry> {
        let Some(fd) = &self.fd else { return Ok(NodeDirEntry::Absent) };
        let fail = |op| move |errno| Error::call(op, self.display_path(name), errno);
        let stat = fstatat(fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail("stat"));
        let Some(stat) = optional(stat)? else { return Ok(NodeDirEntry::Absent) };
        Ok(match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFCHR => NodeDirEntry::Node(NodeStat::of(&stat)),
            SFlag::S_IFLNK => {
                let target = readlinkat(fd, name).map_err(fail("read link"))?;
                NodeDirEntry::Link(target.to_string_lossy().into_owned())
            }
            SFlag::S_IFDIR => NodeDirEntry::Other("a directory"),
            SFlag::S_IFREG => NodeDirEntry::Other("a regular file"),
            _ => NodeDirEntry::Other("no character device"),
        })
    }

    /// Makes a character device with this name, and replaces the entry that has it. Sets the umask of the whole
    /// process for a moment.
    ///
    /// # Errors
    /// When a step fails; the old entry then stays.
    pub fn put_node(&self, name: &str, node: &NodeStat) -> Result<()> {
        let numbers = makedev(node.major.0.into(), node.minor.0.into());
        let mode = Mode::from_bits_truncate(node.mode);
        let owner = Owner { uid: node.uid, gid: node.gid };
        let make = |fd: &OwnedFd, temporary: &str| {
            unmasked(|| mknodat(fd, temporary, SFlag::S_IFCHR, mode, numbers))?;
            // O_PATH: to open the device itself could initialise a GPU.
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let made = openat(fd, temporary, flags, Mode::empty())?;
            owner.own(&made)?;
            fstat(&made).map(|stat| NodeStat::of(&stat))
        };
        self.put(name, |fd, temporary| match make(fd, temporary) {
            Ok(made) if made == *node => Ok(()),
            Ok(_) => {
                // acl(5): where a directory has a default access list, it decides on the mode of new entries.
                let cause = "the new node has other permissions than requested";
                Err(Error::refused("make", self.display_path(name), cause)
                    .with_cure("remove the default access list of its directory with setfacl -k"))
            }
            Err(errno) => Err(Error::call("make", self.display_path(name), errno)),
        })
    }

    /// Makes a symbolic link with this name, and replaces the entry that has it.
    ///
    /// # Errors
    /// As [`NodeDir::put_node`].
    pub fn put_link(&self, name: &str, target: &str) -> Result<()> {
        self.put(name, |fd, temporary| {
            let made = symlinkat(target, fd, temporary);
            made.map_err(|errno| Error::call("link", self.display_path(name), errno))
        })
    }

    fn put(&self, name: &str, make: impl Fn(&OwnedFd, &str) -> Result<()>) -> Result<()> {
        let fd = self.fd()?;
        let temporary = &*format!("{TEMPORARY}{}", std::process::id());
        let rename = || {
            let renamed = renameat(fd, temporary, fd, name);
            renamed.map_err(|errno| Error::call("rename to", self.display_path(name), errno))
        };
        let done = make(fd, temporary).and_then(|()| rename());
        if done.is_err() {
            // The first error is the one to report.
            let _ = unlinkat(fd, temporary, UnlinkatFlags::NoRemoveDir);
        }
        done
    }

    /// Removes a node or a link. One that does not exist is no error.
    ///
    /// # Errors
    /// When it exists and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(self.fd()?, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::call("remove", self.display_path(name), errno)),
        }
    }
}

/// Runs a function with umask 0: mknod(2) and mkdir(2) apply the umask to the mode, and a chmod afterwards
/// would leave a moment with fewer permissions, in which a container fails to start.
fn unmasked<T>(make: impl FnOnce() -> T) -> T {
    let mask = umask(Mode::empty());
    let made = make();
    umask(mask);
    made
}
