//! A directory of device nodes, changed so that a reader finds the old entry or the new one and nothing
//! between.

use crate::{Error, NodeStat, Result, Root, error::optional, publish::unsafe_reason, root};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat, renameat},
    sys::stat::{Mode, SFlag, fstat, fstatat, makedev, mkdirat, mknodat, umask},
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, geteuid, symlinkat, unlinkat},
};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// The beginning of a name that an entry has until it is whole; the rest is the number of the process.
const TEMPORARY: &str = ".mig-cdi.";

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// True for a process of root.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// What has a name in a directory. Links are not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// A character device.
    Node(NodeStat),
    /// A symbolic link, and where it points.
    Link(String),
    /// Something else: `a directory`, `a regular file`.
    Other(&'static str),
}

/// A directory that nobody but root and ourselves can change, held open; or one that is not there yet.
#[derive(Debug)]
pub struct NodeDir {
    fd: Option<OwnedFd>,
    path: PathBuf,
}

impl NodeDir {
    /// Opens a directory below a root.
    ///
    /// # Errors
    /// [`Error::UnsafeDir`] when it is a link, no directory, or somebody else can change it.
    pub fn open(root: &Root, below: &str) -> Result<NodeDir> {
        NodeDir::checked(root.open_below(below, DIRECTORY), root.show(below))
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// As [`NodeDir::open`].
    pub fn child(&self, name: &str) -> Result<NodeDir> {
        let path = self.show(name);
        let opened = openat(self.fd()?, name, DIRECTORY, Mode::empty());
        NodeDir::checked(opened.map_err(|errno| Error::call("open", &path, errno)), path)
    }

    fn checked(opened: Result<OwnedFd>, path: PathBuf) -> Result<NodeDir> {
        let refuse = |reason: String| Err(Error::UnsafeDir { path: path.clone(), reason });
        let fd = match opened {
            Err(Error::Call { errno: Errno::ENOENT, .. }) => return Ok(NodeDir { fd: None, path }),
            Err(Error::Call { errno: Errno::ENOTDIR | Errno::ELOOP, .. }) => {
                return refuse("it is a symbolic link or no directory; remove it".to_owned());
            }
            opened => opened?,
        };
        let stat = fstat(&fd).map_err(|errno| Error::call("stat", &path, errno))?;
        match unsafe_reason(&stat, geteuid().as_raw()) {
            Some(reason) => refuse(reason),
            None => Ok(NodeDir { fd: Some(fd), path }),
        }
    }

    fn fd(&self) -> Result<&OwnedFd> {
        self.fd.as_ref().ok_or_else(|| Error::call("open", &self.path, Errno::ENOENT))
    }

    /// Path of an entry, for messages.
    #[must_use]
    pub fn show(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.fd.is_some()
    }

    /// Makes it, 0755 whatever the umask, in `parent`.
    ///
    /// # Errors
    /// When it cannot be made, or is not what was made.
    pub fn make(&mut self, parent: &NodeDir, name: &str) -> Result<()> {
        let (fd, mode) = (parent.fd()?, Mode::from_bits_truncate(0o755));
        let made = unmasked(|| mkdirat(fd, name, mode));
        made.map_err(|errno| Error::call("make directory", &self.path, errno))?;
        *self = parent.child(name)?;
        Ok(())
    }

    /// The sorted names in it; none when it is not there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let Some(fd) = &self.fd else { return Ok(Vec::new()) };
        let names = root::names(Dir::openat(fd, ".", DIRECTORY, Mode::empty()));
        names.map_err(|errno| Error::call("list", &self.path, errno))
    }

    /// Names of entries that a process which is no more did not finish.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let gone =
            |pid: u32| pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists();
        let left = |name: &String| {
            name.strip_prefix(TEMPORARY).and_then(|pid| pid.parse().ok()).is_some_and(gone)
        };
        Ok(self.names()?.into_iter().filter(left).collect())
    }

    /// What has this name.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn entry(&self, name: &str) -> Result<Entry> {
        let Some(fd) = &self.fd else { return Ok(Entry::Absent) };
        let fail = |op| move |errno| Error::call(op, self.show(name), errno);
        let stat = fstatat(fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail("stat"));
        let Some(stat) = optional(stat)? else { return Ok(Entry::Absent) };
        Ok(match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFCHR => Entry::Node(NodeStat::of(&stat)),
            SFlag::S_IFLNK => {
                let target = readlinkat(fd, name).map_err(fail("read link"))?;
                Entry::Link(target.to_string_lossy().into_owned())
            }
            SFlag::S_IFDIR => Entry::Other("a directory"),
            SFlag::S_IFREG => Entry::Other("a regular file"),
            _ => Entry::Other("no character device"),
        })
    }

    /// Gives a name to a new character device, in the place of what has it. Sets the umask of the whole
    /// process for a moment.
    ///
    /// # Errors
    /// When a step fails; what had the name then has it still.
    pub fn put_node(&self, name: &str, node: &NodeStat) -> Result<()> {
        let numbers = makedev(node.major.0.into(), node.minor.0.into());
        let mode = Mode::from_bits_truncate(node.mode);
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        let make = |fd: &OwnedFd, temporary: &str| {
            unmasked(|| mknodat(fd, temporary, SFlag::S_IFCHR, mode, numbers))?;
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let made = openat(fd, temporary, flags, Mode::empty())?;
            fchownat(&made, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
            fstat(&made).map(|stat| NodeStat::of(&stat))
        };
        self.put(name, |fd, temporary| match make(fd, temporary) {
            Ok(made) if made == *node => Ok(()),
            Ok(_) => {
                let reason = "it came out otherwise; has its directory a default access list?";
                Err(Error::refused("make", self.show(name), reason))
            }
            Err(errno) => Err(Error::call("make", self.show(name), errno)),
        })
    }

    /// Gives a name to a new symbolic link, in the place of what has it.
    ///
    /// # Errors
    /// As [`NodeDir::put_node`].
    pub fn put_link(&self, name: &str, target: &str) -> Result<()> {
        self.put(name, |fd, temporary| {
            let made = symlinkat(target, fd, temporary);
            made.map_err(|errno| Error::call("link", self.show(name), errno))
        })
    }

    fn put(&self, name: &str, make: impl Fn(&OwnedFd, &str) -> Result<()>) -> Result<()> {
        let fd = self.fd()?;
        let temporary = &*format!("{TEMPORARY}{}", std::process::id());
        let rename = || {
            let renamed = renameat(fd, temporary, fd, name);
            renamed.map_err(|errno| Error::call("rename to", self.show(name), errno))
        };
        let done = make(fd, temporary).and_then(|()| rename());
        if done.is_err() {
            // The error that matters is the first one.
            let _ = unlinkat(fd, temporary, UnlinkatFlags::NoRemoveDir);
        }
        done
    }

    /// Removes a node or a link; one that is not there is no error.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(self.fd()?, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::call("remove", self.show(name), errno)),
        }
    }
}

/// Runs with the umask that takes nothing away.
fn unmasked<T>(make: impl FnOnce() -> T) -> T {
    let mask = umask(Mode::empty());
    let made = make();
    umask(mask);
    made
}
