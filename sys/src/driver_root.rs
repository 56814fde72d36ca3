//! The directory tree that holds the driver's files, and the facts about a file in it: its real path, its
//! ELF header, and whether another user than root could put another file in its place.
//!
//! A spec makes these files mounts of every container, so a file that a user can replace would be that
//! user's code in all of them.

use crate::{
    Error, LibraryDirs, NodeRoots, Result, Root,
    elf::{self, Elf, ElfError},
    error::{describe, optional},
    library_dirs,
    trusted_path::{Trust, kind},
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
    program_search_path: Vec<PathBuf>,
    dirs: OnceCell<LibraryDirs>,
    /// Weakness of each directory that was checked, `None` for a safe one. Hundreds of files share a few.
    directories: RefCell<HashMap<PathBuf, Option<String>>>,
}

/// A file of the driver and what was learned about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExaminedFile {
    /// Absolute path on this machine, every symbolic link resolved.
    pub path: PathBuf,
    /// True for a regular file.
    pub is_file: bool,
    /// Reason why a user who is not root could replace it, with the path; `None` when none could.
    pub unsafe_because: Option<String>,
    /// Its ELF header, when it was examined as a library.
    pub elf: Option<std::result::Result<Elf, ElfError>>,
}

impl DriverRoot {
    /// Opens the tree with the driver's files, and keeps the directories that are to be searched before all others.
    ///
    /// # Errors
    /// When it is not a directory.
    pub fn open(roots: &NodeRoots) -> Result<DriverRoot> {
        Ok(DriverRoot {
            root: Root::open(&roots.driver)?,
            search_path: roots.library_search_path.clone(),
            program_search_path: roots.program_search_path.clone(),
            dirs: OnceCell::new(),
            directories: RefCell::default(),
        })
    }

    /// Directories to search for libraries, best first. Computed once.
    pub fn library_dirs(&self) -> &LibraryDirs {
        self.dirs.get_or_init(|| library_dirs::find(&self.root, &self.search_path))
    }

    /// Directories that the user names for libraries.
    pub fn library_search_path(&self) -> impl Iterator<Item = String> {
        self.search_path.iter().map(|dir| dir.to_string_lossy().into_owned())
    }

    /// Directories that the user names for programs.
    pub fn program_search_path(&self) -> impl Iterator<Item = String> {
        self.program_search_path.iter().map(|dir| dir.to_string_lossy().into_owned())
    }

    #[cfg(feature = "nvml")]
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Path of `below` for a message, root included.
    #[must_use]
    pub fn display_path(&self, below: &str) -> PathBuf {
        self.root.display_path(below)
    }

    /// Reads a file as [`Root::read`] does.
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, below: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        self.root.read(below, limit)
    }

    /// Lists a directory as [`Root::list`] does.
    ///
    /// # Errors
    /// As there.
    pub fn list(&self, below: &str) -> Result<Option<Vec<String>>> {
        self.root.list(below)
    }

    /// Follows the links of a path as [`Root::resolve_below`] does.
    #[must_use]
    pub fn resolve_below(&self, below: &str) -> Option<String> {
        self.root.resolve_below(below)
    }

    /// Examines a regular file that should be a library; `None` when there is none.
    ///
    /// # Errors
    /// When it exists and cannot be read, or is not a regular file.
    pub fn examine_library(&self, below: &str) -> Result<Option<ExaminedFile>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let Some(fd) = optional(self.root.open_below(below, flags))? else {
            return Ok(None);
        };
        let stat = self.stat(&fd, below)?;
        if kind(&stat) != SFlag::S_IFREG {
            return Err(Error::refused("read", self.display_path(below), "it is no regular file"));
        }
        let examined = self.checked(&fd, &stat, below)?;
        Ok(Some(ExaminedFile { elf: Some(elf::read(&File::from(fd))), ..examined }))
    }

    /// Examines a file of any kind: a program, a directory, a socket. `None` when there is none.
    ///
    /// # Errors
    /// When it exists and its status cannot be read.
    pub fn examine(&self, below: &str) -> Result<Option<ExaminedFile>> {
        let Some(fd) = optional(self.root.open_below(below, OFlag::O_PATH))? else {
            return Ok(None);
        };
        let stat = self.stat(&fd, below)?;
        self.checked(&fd, &stat, below).map(Some)
    }

    fn stat(&self, fd: &OwnedFd, below: &str) -> Result<FileStat> {
        fstat(fd).map_err(|errno| Error::call("stat", self.display_path(below), errno))
    }

    fn checked(&self, fd: &OwnedFd, stat: &FileStat, below: &str) -> Result<ExaminedFile> {
        // The path of the open file, not the requested one: a check of the latter could be raced.
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let path = path.map_err(|e| Error::io("resolve", self.display_path(below), &e))?;
        // A socket is the daemon's, and its mode decides who may connect to it (unix(7)): one that all may write to is
        // intended.
        let is_socket = kind(stat) == SFlag::S_IFSOCK;
        let own = if is_socket { None } else { Trust::RootLater.weakness(None, stat) };
        let own = own.map(|reason| format!("{} {reason}", path.display()));
        let unsafe_because = match path.parent() {
            Some(parent) => self.directory_weakness(parent).or(own),
            None => own,
        };
        let is_file = kind(stat) == SFlag::S_IFREG;
        Ok(ExaminedFile { path, is_file, unsafe_because, elf: None })
    }

    /// Reason why another user than root could change a directory or one above it. All count: a parent can
    /// be renamed with everything in it.
    fn directory_weakness(&self, dir: &Path) -> Option<String> {
        if let Some(known) = self.directories.borrow().get(dir) {
            return known.clone();
        }
        let above = dir.parent().and_then(|parent| self.directory_weakness(parent));
        let weakness = above.or_else(|| own_weakness(dir));
        self.directories.borrow_mut().insert(dir.to_owned(), weakness.clone());
        weakness
    }
}

fn own_weakness(dir: &Path) -> Option<String> {
    match stat(dir) {
        Ok(stat) => Trust::RootLater
            .weakness(None, &stat)
            .map(|reason| format!("{} {reason}", dir.display())),
        Err(errno) => Some(format!("{} cannot be examined: {}", dir.display(), describe(errno))),
    }
}
