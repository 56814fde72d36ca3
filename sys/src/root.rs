//! A directory that stands for `/`: paths below it are resolved as if it were the root of the file
//! system, so that a driver container's absolute links lead to its own files.
//!
//! A root is only read through this module; it writes nothing.

use crate::{
    Error, FileIdentity, NodeStat, Result,
    error::optional,
    open_in_root::{Links, open_in_root},
    trusted_path::{Trust, check, check_below},
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat},
    sys::{
        stat::{FileStat, Mode, fstat, fstatat},
        statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs},
    },
};
use std::{
    ffi::OsString,
    fs::File,
    io::{ErrorKind, Read},
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
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
    /// When it does not exist or is not a directory.
    pub fn open(path: &Path) -> Result<Root> {
        // O_PATH: a root that may be searched and not listed will do, and nothing is opened for reading.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, path, flags, Mode::empty());
        let fd = fd.map_err(|errno| Error::call("open", path, errno))?;
        Ok(Root { fd, path: path.to_owned() })
    }

    /// True for the machine's own root, where plain path resolution is enough: nothing leads out of it.
    pub(crate) fn is_real(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Path of the root itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Path of `below` for a message, root included.
    #[must_use]
    pub fn display_path(&self, below: &str) -> PathBuf {
        self.path.join(below.trim_start_matches('/'))
    }

    /// Opens a path below the root. Symbolic links are followed and cannot leave it.
    pub(crate) fn open_below(&self, below: &str, flags: OFlag) -> Result<OwnedFd> {
        let relative = match below.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        let opened = match self.is_real() {
            true => openat(&self.fd, relative, flags | OFlag::O_CLOEXEC, Mode::empty()),
            false => open_in_root(&self.fd, Path::new(relative), flags, Links::Followed),
        };
        opened.map_err(|errno| Error::call("open", self.display_path(below), errno))
    }

    /// Status of the file at a path below the root; symbolic links are followed.
    pub(crate) fn stat(&self, below: &str) -> Result<FileStat> {
        let fail = |errno| Error::call("stat", self.display_path(below), errno);
        if self.is_real() {
            return fstatat(&self.fd, below, AtFlags::empty()).map_err(fail);
        }
        // fstatat(2) takes no resolve flags as openat2(2) does: open the path confined, then stat the handle.
        fstat(self.open_below(below, OFlag::O_PATH)?).map_err(fail)
    }

    /// Numbers, mode and owner of the device node at a path, or `None` when nothing is there. Symbolic links
    /// are followed; the node itself is not opened, which could wake a GPU.
    ///
    /// # Errors
    /// When the path cannot be looked up.
    pub fn node(&self, below: &str) -> Result<Option<NodeStat>> {
        let stat = optional(self.stat(below))?;
        Ok(stat.map(|stat| NodeStat::of(&stat)))
    }

    /// Returns the reason why another user than root and this process's could exchange what a path leads to, found in
    /// its directories and links; `None` when no user could. What does not exist yet is judged by what does.
    #[must_use]
    pub fn exchangeable(&self, below: &str) -> Option<String> {
        check(&self.path, Path::new(below), Trust::OwnNow).dirs
    }

    /// Returns the reason why another user than root and this process's could put another program at a path; `None` when no
    /// user could. Where the root itself is does not count: an image that is being built runs elsewhere.
    #[must_use]
    pub fn untrusted_program(&self, below: &Path) -> Option<String> {
        check_below(&self.fd, below, Trust::OwnNow).weakness(below)
    }

    /// Refuses a `/proc` of the machine that is not the kernel's: a process that may mount over it could
    /// forge every file there (CVE-2025-52881). Another root was named by an administrator and is trusted.
    ///
    /// # Errors
    /// When it does not exist or is not a procfs.
    pub fn check_proc(&self) -> Result<()> {
        self.check_file_system("/proc", PROC_SUPER_MAGIC, "it is no procfs")
    }

    /// Refuses a `/sys` of the machine that is not the kernel's, as [`Root::check_proc`] does.
    ///
    /// # Errors
    /// When it does not exist or is not a sysfs.
    pub fn check_sys(&self) -> Result<()> {
        let checked = self.check_file_system("/sys", SYSFS_MAGIC, "it is no sysfs");
        checked.map_err(|error| error.with_cure("mount sysfs on it"))
    }

    fn check_file_system(&self, path: &str, magic: FsType, otherwise: &str) -> Result<()> {
        if !self.is_real() {
            return Ok(());
        }
        let system = fstatfs(self.open_below(path, OFlag::O_PATH)?)
            .map_err(|errno| Error::call("stat", path, errno))?;
        match system.filesystem_type() == magic {
            true => Ok(()),
            false => Err(Error::refused("read", path, otherwise)),
        }
    }

    /// Reads a whole file, or returns `None` when there is none. At most `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read or is larger.
    pub fn read(&self, below: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        // O_NONBLOCK: an image may have a fifo there, whose open would wait for a writer.
        let Some(fd) = optional(self.open_below(below, OFlag::O_RDONLY | OFlag::O_NONBLOCK))?
        else {
            return Ok(None);
        };
        read_all(File::from(fd), &self.display_path(below), limit).map(Some)
    }

    /// Lists the sorted names in a directory, or returns `None` when there is none. Names that are not UTF-8
    /// have replacement characters: no driver makes such names, and none will match.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self, below: &str) -> Result<Option<Vec<String>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let Some(fd) = optional(self.open_below(below, flags))? else {
            return Ok(None);
        };
        let fail = |errno: Errno| Error::call("list", self.display_path(below), errno);
        let names = names(Dir::from_fd(fd)).map_err(fail)?;
        Ok(Some(names.iter().map(|name| name.to_string_lossy().into_owned()).collect()))
    }

    /// Text of a symbolic link. That of a namespace in `/proc` identifies it: `mnt:[4026531841]`.
    ///
    /// # Errors
    /// When it cannot be read, or is not a link.
    pub fn link(&self, below: &str) -> Result<String> {
        // An empty path reads the link that the descriptor itself is open on (readlink(2), since 2.6.39).
        let fd = self.open_below(below, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let text =
            readlinkat(&fd, "").map_err(|e| Error::call("read", self.display_path(below), e))?;
        Ok(text.to_string_lossy().into_owned())
    }

    /// Identity of the file that a path leads to; `None` when nothing is there.
    ///
    /// # Errors
    /// When the path cannot be looked up.
    pub fn identity(&self, below: &str) -> Result<Option<FileIdentity>> {
        Ok(optional(self.stat(below))?.map(|stat| FileIdentity::of(&stat)))
    }

    /// Follows every symbolic link of a path below the root, and returns where it leads as a path of the
    /// machine.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub fn resolve(&self, below: &str) -> Result<PathBuf> {
        use std::os::fd::AsRawFd;
        let fd = self.open_below(below, OFlag::O_PATH)?;
        // The kernel's own name for what is open (proc(5), /proc/pid/fd): no second walk that could differ.
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        std::fs::read_link(&link).map_err(|e| Error::io("resolve", self.display_path(below), &e))
    }

    /// Follows every symbolic link of a path below the root, and returns where it leads as a path below the root;
    /// `None` when it leads nowhere, as a link that dangles or loops.
    #[must_use]
    pub fn resolve_below(&self, below: &str) -> Option<String> {
        let (root, real) = (self.resolve("/").ok()?, self.resolve(below).ok()?);
        Some(format!("/{}", real.strip_prefix(root).ok()?.to_str()?))
    }
}

/// Sorted names in an open directory, without `.` and `..`.
pub(crate) fn names(dir: nix::Result<Dir>) -> nix::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in dir? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads to the end, or fails at `limit`. Most files are small: they are read onto the stack, and cost
/// one allocation of their size. The size in the status is of no use: it is 0 for files of procfs.
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
