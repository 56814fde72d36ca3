//! The directory tree that holds the driver's files, and what a file in it is: where it really is,
//! what it says of itself, and whether anybody but root could put another in its place.

use crate::{
    Error, LibraryDirs, Result, Root,
    elf::{self, BadElf, Elf},
    error::optional,
    library_dirs,
};
use nix::{
    fcntl::OFlag,
    sys::stat::{FileStat, SFlag, fstat, stat},
};
use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// A tree with the driver's files: `/`, or the root of a driver container.
#[derive(Debug)]
pub struct DriverRoot {
    root: Root,
    search_path: Vec<PathBuf>,
    dirs: OnceCell<LibraryDirs>,
    /// What is wrong with a directory, asked once for each.
    directories: RefCell<HashMap<PathBuf, Option<String>>>,
}

/// Something at a path of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Absolute path on this machine, every link resolved.
    pub path: PathBuf,
    /// Why a user who is not root could put something else there; `None` when none could.
    pub unsafe_because: Option<String>,
    /// What it says of itself, when it was examined as a library.
    pub elf: Option<std::result::Result<Elf, BadElf>>,
}

impl DriverRoot {
    /// Opens the tree. Libraries are looked for in `search_path`, below it, before all other places.
    ///
    /// # Errors
    /// When `path` is no directory.
    pub fn open(path: &Path, search_path: &[PathBuf]) -> Result<DriverRoot> {
        Ok(DriverRoot {
            root: Root::open(path)?,
            search_path: search_path.to_vec(),
            dirs: OnceCell::new(),
            directories: RefCell::default(),
        })
    }

    /// The directories to look for libraries in, best first.
    pub fn library_dirs(&self) -> &LibraryDirs {
        self.dirs.get_or_init(|| library_dirs::find(&self.root, &self.search_path))
    }

    #[cfg(feature = "nvml")]
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// The path of `below` for a message.
    #[must_use]
    pub fn show(&self, below: &str) -> PathBuf {
        self.root.show(below)
    }

    /// See [`Root::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, below: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        self.root.read(below, limit)
    }

    /// See [`Root::list`].
    ///
    /// # Errors
    /// As there.
    pub fn list(&self, below: &str) -> Result<Option<Vec<String>>> {
        self.root.list(below)
    }

    /// Looks at a regular file that should be a library, or says that there is none.
    ///
    /// # Errors
    /// When there is something that cannot be looked at, or no regular file.
    pub fn library(&self, below: &str) -> Result<Option<Examined>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let Some(fd) = optional(self.root.open_below(below, flags))? else {
            return Ok(None);
        };
        let stat = self.stat(&fd, below)?;
        if kind(&stat) != SFlag::S_IFREG {
            return Err(Error::call("read", self.show(below), nix::errno::Errno::EINVAL));
        }
        let examined = self.examine(&fd, &stat, below)?;
        Ok(Some(Examined { elf: Some(elf::read(&File::from(fd))), ..examined }))
    }

    /// Looks at whatever is at a path: a program, a directory, a socket.
    ///
    /// # Errors
    /// When there is something that cannot be looked at.
    pub fn anything(&self, below: &str) -> Result<Option<Examined>> {
        let Some(fd) = optional(self.root.open_below(below, OFlag::O_PATH))? else {
            return Ok(None);
        };
        let stat = self.stat(&fd, below)?;
        self.examine(&fd, &stat, below).map(Some)
    }

    fn stat(&self, fd: &OwnedFd, below: &str) -> Result<FileStat> {
        fstat(fd).map_err(|errno| Error::call("stat", self.show(below), errno))
    }

    fn examine(&self, fd: &OwnedFd, stat: &FileStat, below: &str) -> Result<Examined> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let path = path.map_err(|e| Error::io("resolve", self.show(below), &e))?;
        // A socket is written to by those who use it.
        let own = if kind(stat) == SFlag::S_IFSOCK { None } else { weakness(stat) };
        let own = own.map(|reason| format!("{} {reason}", path.display()));
        let unsafe_because = match path.parent() {
            Some(parent) => self.directory_weakness(parent).or(own),
            None => own,
        };
        Ok(Examined { path, unsafe_because, elf: None })
    }

    /// Why somebody but root could change a directory or one above it.
    fn directory_weakness(&self, dir: &Path) -> Option<String> {
        if let Some(known) = self.directories.borrow().get(dir) {
            return known.clone();
        }
        let above = dir.parent().and_then(|parent| self.directory_weakness(parent));
        let found = above.or_else(|| own_weakness(dir));
        self.directories.borrow_mut().insert(dir.to_owned(), found.clone());
        found
    }
}

/// Why somebody but root could change a directory or one above it; `None` when nobody could, or when
/// it is still to be made below such ones.
#[must_use]
pub fn exchangeable(dir: &Path) -> Option<String> {
    let above = dir.parent().and_then(exchangeable);
    above.or_else(|| if dir.exists() { own_weakness(dir) } else { None })
}

fn own_weakness(dir: &Path) -> Option<String> {
    match stat(dir) {
        Ok(stat) => weakness(&stat).map(|reason| format!("{} {reason}", dir.display())),
        Err(errno) => Some(format!("{} cannot be looked at: {errno}", dir.display())),
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Why somebody but root can change a file or directory.
fn weakness(stat: &FileStat) -> Option<String> {
    let mode = stat.st_mode & 0o7777;
    if stat.st_uid != 0 {
        return Some(format!("belongs to user {}", stat.st_uid));
    }
    // In a directory with the sticky bit a group adds entries and exchanges none: /nix/store has mode
    // 1775 and belongs to the group of Nix's builders. One that all can write to is refused all the
    // same: whoever comes first after a reboot makes the entry.
    let sticky = kind(stat) == SFlag::S_IFDIR && mode & 0o1000 != 0;
    let by_group = mode & 0o020 != 0 && stat.st_gid != 0 && !sticky;
    (mode & 0o002 != 0 || by_group).then(|| format!("has mode {mode:04o}"))
}
