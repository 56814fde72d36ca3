//! A configuration file of another program: read where its links lead, and replaced there atomically, with the
//! mode and the owner that it has.
//!
//! The file belongs to that program and its administrator. This module never changes it in place, never
//! replaces a link, and never changes its attributes.

use crate::{
    Error, Owner, Result, Root,
    atomic_write::{FileAttributes, Lock, TrustedDir, make},
    error::{Weakness, optional},
    root::read_all,
    trusted_path::{CheckedPath, Trust, check, check_above},
    user_path::exists,
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::stat::{SFlag, fstat},
    unistd::geteuid,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

/// A configuration file, or the path of one that does not exist yet.
#[derive(Debug)]
pub struct ConfigFile {
    /// Real path, every symbolic link followed.
    path: PathBuf,
    /// Directories on it that do not exist yet, outermost first.
    missing: Vec<PathBuf>,
    current: Option<Current>,
    /// Reason why another user could exchange what the path leads to, found in its directories and links.
    dirs: Option<String>,
    /// Reason why another user could change the file.
    content: Option<String>,
}

/// The file as it was when it was opened.
#[derive(Debug)]
struct Current {
    bytes: Vec<u8>,
    attributes: FileAttributes,
    modified: i64,
}

impl ConfigFile {
    /// Opens and reads a file at a path below a root. Links are followed: the link stays, and its target is
    /// what a replacement replaces.
    ///
    /// # Errors
    /// When it cannot be read, is larger than `limit` bytes or is not a regular file; and for a link to a path
    /// that does not exist, or that leads through an open file of a process.
    pub fn open(root: &Root, below: &str, limit: usize) -> Result<ConfigFile> {
        let CheckedPath { file, dirs, content } =
            check(root.path(), Path::new(below), Trust::OwnNow);
        // A magic link of /proc leads to whatever its process has open, and not where its text says.
        if let Err(Errno::ELOOP) = file {
            let cause = "its links are a loop, or lead to an open file through /proc";
            let weakness = Weakness { cause: cause.to_owned(), cure: Some("remove the link") };
            return Err(Error::unsafe_dir(root.display_path(below), weakness));
        }
        let (path, missing) = real_path(root, below)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let fd = match missing.is_empty() {
            true => optional(root.open_below(below, flags))?,
            false => None,
        };
        let Some(fd) = fd else {
            return Ok(ConfigFile { path, missing, current: None, dirs, content: None });
        };
        let stat = fstat(&fd).map_err(|errno| Error::call("stat", &path, errno))?;
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(Error::refused("read", &path, "it is no regular file"));
        }
        let attributes =
            FileAttributes { mode: stat.st_mode & 0o7777, owner: Some(Owner::of(&stat)) };
        let bytes = read_all(File::from(fd), &path, limit)?;
        let current = Some(Current { bytes, attributes, modified: stat.st_mtime });
        Ok(ConfigFile { path, missing, current, dirs, content })
    }

    /// Refuses a file whose content another user could have written.
    ///
    /// # Errors
    /// [`Error::UnsafeDir`] in that case; for other users than root only when it is the file itself that others can
    /// change.
    pub fn expect_own(&self) -> Result<()> {
        self.expect_own_dirs()?;
        self.content.as_ref().map_or(Ok(()), |weakness| Err(self.unsafe_because(weakness)))
    }

    /// Refuses, for root, a path that another user could lead elsewhere. Other users change what is theirs at their own
    /// risk: the homes of many are writable by a group that has no other member.
    fn expect_own_dirs(&self) -> Result<()> {
        match &self.dirs {
            Some(weakness) if geteuid().is_root() => Err(self.unsafe_because(weakness)),
            _ => Ok(()),
        }
    }

    fn unsafe_because(&self, weakness: &str) -> Error {
        let cause = format!("{weakness}, so another user could have written it");
        let cure = Some("run chmod go-w on it and give it to root, or run this as its owner");
        Error::unsafe_dir(&self.path, Weakness { cause, cure })
    }

    /// Real path, every symbolic link followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Content of the file; `None` when it does not exist.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.current.as_ref().map(|current| &current.bytes[..])
    }

    /// Time of its last modification, in seconds since 1970.
    #[must_use]
    pub fn changed(&self) -> Option<i64> {
        self.current.as_ref().map(|current| current.modified)
    }

    /// Makes the directories that are missing on its path, with mode 0755, and returns them.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make_dirs(&self) -> Result<Vec<PathBuf>> {
        self.expect_own_dirs()?;
        for dir in &self.missing {
            make(dir)?;
        }
        Ok(self.missing.clone())
    }

    /// Replaces its content. Mode and owner stay; a new file gets `mode`.
    ///
    /// # Errors
    /// When a step fails, or another user than root and ours could change its directory; the old file is
    /// then as it was.
    pub fn replace(&self, bytes: &[u8], mode: u32) -> Result<()> {
        let (dir, name) = self.dir()?;
        let new = FileAttributes { mode, owner: None };
        let attributes = self.current.as_ref().map_or(new, |current| current.attributes);
        dir.replace_as(&name, bytes, attributes)
    }

    /// Copies the content that was read to a file beside it, named with a suffix, with its mode and owner. A copy
    /// that exists already stays: it is of the file before our first change. False when nothing was written.
    ///
    /// # Errors
    /// As [`ConfigFile::replace`].
    pub fn back_up(&self, suffix: &str) -> Result<bool> {
        let Some(current) = &self.current else { return Ok(false) };
        let (dir, name) = self.dir()?;
        let name = format!("{name}{suffix}");
        if dir.read(&name, usize::MAX >> 1)?.is_some() {
            return Ok(false);
        }
        dir.replace_as(&name, &current.bytes, current.attributes).map(|()| true)
    }

    /// Removes the file that is named with a suffix; with an empty one, the file itself.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, suffix: &str) -> Result<()> {
        let (dir, name) = self.dir()?;
        dir.remove(&format!("{name}{suffix}")).map(|_| ())
    }

    /// Locks its directory against other mig-cdi processes until the lock is dropped. Missing directories are
    /// made.
    ///
    /// # Errors
    /// When another process keeps the lock longer than `limit`, or as [`ConfigFile::replace`].
    pub fn lock(&self, limit: Duration) -> Result<Lock> {
        self.make_dirs()?;
        self.dir()?.0.lock(limit)
    }

    fn dir(&self) -> Result<(TrustedDir, String)> {
        self.expect_own_dirs()?;
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or_else(|| Error::refused("write", &self.path, "not the name of a file"))?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        Ok((TrustedDir::open_plain(dir)?, name.to_owned()))
    }
}

/// Removes a directory that is empty; one that is not stays.
///
/// # Errors
/// When it cannot be removed for another reason, and, for root, when another user could exchange it.
pub fn remove_empty_dir(path: &Path) -> Result<()> {
    if geteuid().is_root() {
        check_above(path)?;
    }
    match std::fs::remove_dir(path).map_err(|e| Error::io("remove", path, &e)) {
        Err(Error::Call { errno: Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOENT, .. }) => Ok(()),
        done => done,
    }
}

/// Follows every link of a path, and lists the directories that have to be made for it.
fn real_path(root: &Root, below: &str) -> Result<(PathBuf, Vec<PathBuf>)> {
    match root.resolve(below) {
        Ok(path) => return Ok((path, Vec::new())),
        Err(error) if !error.is_absent() => return Err(error),
        Err(_) => {}
    }
    if let Ok(target) = root.link(below) {
        let cause = format!("it is a link to {target}, which is not there");
        return Err(Error::refused("read", root.display_path(below), cause)
            .with_cure("create the target, or remove the link"));
    }
    let (above, name) = below.trim_end_matches('/').rsplit_once('/').unwrap_or(("", below));
    if name.is_empty() {
        return Err(Error::call("open", root.display_path(below), Errno::ENOENT));
    }
    let above = if above.is_empty() { "/" } else { above };
    let (dir, mut missing) = real_path(root, above)?;
    if !exists(&dir) {
        missing.push(dir.clone());
    }
    Ok((dir.join(name), missing))
}
