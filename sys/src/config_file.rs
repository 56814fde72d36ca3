//! A file that belongs to another program and to its administrator: read where it really is, and replaced
//! there, whole, with the mode and the owner that it has.

use crate::{
    Error, Result, Root,
    error::optional,
    publish::{Like, Lock, SpecDir, make},
    root::read_all,
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::stat::{SFlag, fstat},
    unistd::{Gid, Uid},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

/// Such a file, or the place for one.
#[derive(Debug)]
pub struct ConfigFile {
    /// Where it is, every link followed.
    path: PathBuf,
    /// Directories that are not there yet, outermost first.
    missing: Vec<PathBuf>,
    now: Option<Now>,
}

#[derive(Debug)]
struct Now {
    bytes: Vec<u8>,
    like: Like,
    changed: i64,
}

impl ConfigFile {
    /// Looks at a path below a root. A link leads to the file that is meant: it stays, and its target is
    /// what is replaced.
    ///
    /// # Errors
    /// When there is something that cannot be read, is larger than `limit` bytes or is no regular file; and
    /// for a link that leads nowhere.
    pub fn open(root: &Root, below: &str, limit: usize) -> Result<ConfigFile> {
        let (path, missing) = place(root, below)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let fd = match missing.is_empty() {
            true => optional(root.open_below(below, flags))?,
            false => None,
        };
        let Some(fd) = fd else { return Ok(ConfigFile { path, missing, now: None }) };
        let stat = fstat(&fd).map_err(|errno| Error::call("stat", &path, errno))?;
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(Error::refused("read", &path, "it is no regular file"));
        }
        let like = Like {
            mode: stat.st_mode & 0o7777,
            owner: Some((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))),
        };
        let bytes = read_all(File::from(fd), &path, limit)?;
        Ok(ConfigFile { path, missing, now: Some(Now { bytes, like, changed: stat.st_mtime }) })
    }

    /// Where it really is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; `None` when it is not there.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.now.as_ref().map(|now| &now.bytes[..])
    }

    /// When it was last written, in seconds since 1970.
    #[must_use]
    pub fn changed(&self) -> Option<i64> {
        self.now.as_ref().map(|now| now.changed)
    }

    /// Makes the directories that are missing on the way to it, 0755. Gives those made.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make_dirs(&self) -> Result<Vec<PathBuf>> {
        for dir in &self.missing {
            make(dir)?;
        }
        Ok(self.missing.clone())
    }

    /// Gives it this content. Its mode and owner stay; a new file has `mode`.
    ///
    /// # Errors
    /// When a step fails, or somebody but root and ourselves could change its directory; the old file is
    /// then as it was.
    pub fn replace(&self, bytes: &[u8], mode: u32) -> Result<()> {
        let (dir, name) = self.dir()?;
        let like = self.now.as_ref().map_or(Like { mode, owner: None }, |now| now.like);
        dir.replace_as(&name, bytes, like)
    }

    /// Puts what it says now beside it, under its name and a suffix, with its mode and owner. A file that is
    /// there already stays. False when there was nothing to do.
    ///
    /// # Errors
    /// As [`ConfigFile::replace`].
    pub fn back_up(&self, suffix: &str) -> Result<bool> {
        let Some(now) = &self.now else { return Ok(false) };
        let (dir, name) = self.dir()?;
        let name = format!("{name}{suffix}");
        if dir.read(&name, usize::MAX >> 1)?.is_some() {
            return Ok(false);
        }
        dir.replace_as(&name, &now.bytes, now.like).map(|()| true)
    }

    /// Removes it, or what stands beside it under its name and a suffix.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, suffix: &str) -> Result<()> {
        let (dir, name) = self.dir()?;
        dir.remove(&format!("{name}{suffix}")).map(|_| ())
    }

    /// Makes others that lock a file of its directory wait until the lock is dropped; the directories that are
    /// missing are made.
    ///
    /// # Errors
    /// When another process keeps the lock so long, or as [`ConfigFile::replace`].
    pub fn lock(&self, limit: Duration) -> Result<Lock> {
        self.make_dirs()?;
        self.dir()?.0.lock(limit)
    }

    fn dir(&self) -> Result<(SpecDir, String)> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or_else(|| Error::refused("write", &self.path, "not the name of a file"))?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        Ok((SpecDir::open_plain(dir)?, name.to_owned()))
    }
}

/// Removes a directory that is empty; one that is not stays.
///
/// # Errors
/// When it cannot be removed for another reason.
pub fn remove_empty_dir(path: &Path) -> Result<()> {
    match std::fs::remove_dir(path).map_err(|e| Error::io("remove", path, &e)) {
        Err(Error::Call { errno: Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOENT, .. }) => Ok(()),
        done => done,
    }
}

/// Where a path leads, and the directories that have to be made for it.
fn place(root: &Root, below: &str) -> Result<(PathBuf, Vec<PathBuf>)> {
    match root.resolve(below) {
        Ok(path) => return Ok((path, Vec::new())),
        Err(error) if !error.is_absent() => return Err(error),
        Err(_) => {}
    }
    if let Ok(target) = root.link(below) {
        let reason =
            format!("it is a link to {target}, which is not there; make that, or remove it");
        return Err(Error::refused("read", root.show(below), reason));
    }
    let (above, name) = below.trim_end_matches('/').rsplit_once('/').unwrap_or(("", below));
    if name.is_empty() {
        return Err(Error::call("open", root.show(below), Errno::ENOENT));
    }
    let above = if above.is_empty() { "/" } else { above };
    let (dir, mut missing) = place(root, above)?;
    if !dir.exists() {
        missing.push(dir.clone());
    }
    Ok((dir.join(name), missing))
}
