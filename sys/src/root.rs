//! A directory that stands for `/`: paths below it are resolved as if it were the root of the file
//! system, so that a driver container's absolute links lead to its own files.

use crate::{
    Error, NodeStat, Result,
    error::optional,
    within::{Links, open_within},
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat},
    sys::{
        stat::{FileStat, Mode, fstat, fstatat},
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
};
use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// An open directory that stands for `/`.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens `path`, which must be a directory.
    ///
    /// # Errors
    /// When it is not there or is no directory.
    pub fn open(path: &Path) -> Result<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, path, flags, Mode::empty());
        let fd = fd.map_err(|errno| Error::call("open", path, errno))?;
        Ok(Root { fd, path: path.to_owned() })
    }

    /// True for the machine's own root, where plain path resolution is enough.
    pub(crate) fn is_real(&self) -> bool {
        self.path == Path::new("/")
    }

    /// The path of `below` for a message, root included.
    #[must_use]
    pub fn show(&self, below: &str) -> PathBuf {
        self.path.join(below.trim_start_matches('/'))
    }

    /// Opens a path below the root. Links are followed and cannot leave it.
    pub(crate) fn open_below(&self, below: &str, flags: OFlag) -> Result<OwnedFd> {
        let relative = match below.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        let opened = match self.is_real() {
            true => openat(&self.fd, relative, flags | OFlag::O_CLOEXEC, Mode::empty()),
            false => open_within(&self.fd, Path::new(relative), flags, Links::Followed),
        };
        opened.map_err(|errno| Error::call("open", self.show(below), errno))
    }

    /// What is at a path below the root, links followed.
    pub(crate) fn stat(&self, below: &str) -> Result<FileStat> {
        let fail = |errno| Error::call("stat", self.show(below), errno);
        if self.is_real() {
            return fstatat(&self.fd, below, AtFlags::empty()).map_err(fail);
        }
        fstat(self.open_below(below, OFlag::O_PATH)?).map_err(fail)
    }

    /// What is at a path of a device node, links followed.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn node(&self, below: &str) -> Result<Option<NodeStat>> {
        let stat = optional(self.stat(below))?;
        Ok(stat.map(|stat| NodeStat::of(&stat)))
    }

    /// Refuses a `/proc` of the machine that is not the kernel's: whoever may mount over it could say
    /// anything there (CVE-2025-52881). Another root was named by an administrator.
    ///
    /// # Errors
    /// When it is not there or no procfs.
    pub fn check_proc(&self) -> Result<()> {
        const PROC: &str = "/proc";
        if !self.is_real() {
            return Ok(());
        }
        let system = fstatfs(self.open_below(PROC, OFlag::O_PATH)?)
            .map_err(|errno| Error::call("stat", PROC, errno))?;
        match system.filesystem_type() == PROC_SUPER_MAGIC {
            true => Ok(()),
            false => Err(Error::refused("read", PROC, "it is no procfs")),
        }
    }

    /// The whole of a file, or `None` when there is none. At most `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read or is larger.
    pub fn read(&self, below: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let Some(fd) = optional(self.open_below(below, OFlag::O_RDONLY | OFlag::O_NONBLOCK))?
        else {
            return Ok(None);
        };
        read_all(File::from(fd), &self.show(below), limit).map(Some)
    }

    /// The names in a directory, sorted, or `None` when there is none. Names that are no UTF-8 are
    /// given with replacement characters: no driver makes such names, and none will match.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self, below: &str) -> Result<Option<Vec<String>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let Some(fd) = optional(self.open_below(below, flags))? else {
            return Ok(None);
        };
        let fail = |errno: Errno| Error::call("list", self.show(below), errno);
        names(Dir::from_fd(fd)).map(Some).map_err(fail)
    }

    /// The text of a link itself; that of a namespace in `/proc` says which it is.
    ///
    /// # Errors
    /// When it cannot be read, or is no link.
    pub fn link(&self, below: &str) -> Result<String> {
        let fd = self.open_below(below, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let text = readlinkat(&fd, "").map_err(|e| Error::call("read", self.show(below), e))?;
        Ok(text.to_string_lossy().into_owned())
    }

    /// Which file system and file a path leads to: two paths with the same are one thing. `None` when
    /// nothing is there.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn identity(&self, below: &str) -> Result<Option<(u64, u64)>> {
        Ok(optional(self.stat(below))?.map(|stat| (stat.st_dev, stat.st_ino)))
    }

    /// Where a path below the root leads once every link is followed, as a path of the machine.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub fn resolve(&self, below: &str) -> Result<PathBuf> {
        use std::os::fd::AsRawFd;
        let fd = self.open_below(below, OFlag::O_PATH)?;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        std::fs::read_link(&link).map_err(|e| Error::io("resolve", self.show(below), &e))
    }
}

/// The sorted names in an open directory.
pub(crate) fn names(dir: nix::Result<Dir>) -> nix::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in dir? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads to the end, or fails at `limit`. Most files are small: they are read into the stack, and cost
/// one allocation of their size.
pub(crate) fn read_all(from: impl Read, path: &Path, limit: usize) -> Result<Vec<u8>> {
    let fail = |e| Error::io("read", path, &e);
    let (mut buffer, mut bytes) = ([0; 4096], Vec::new());
    let mut from = from.take(limit as u64 + 1);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(fail(e)),
        }
        if bytes.len() >= buffer.len() {
            from.read_to_end(&mut bytes).map_err(fail)?;
            break;
        }
    }
    match bytes.len() > limit {
        true => Err(Error::TooLarge { path: path.to_owned(), limit }),
        false => Ok(bytes),
    }
}
