//! Replacing a file atomically, so that a reader finds the whole old one or the whole new one; and the
//! directory that such a file may be in.
//!
//! A spec decides which host files and devices engines put into containers, so nothing is ever written into a
//! directory in which another user could replace it.

use crate::{
    Error, FileIdentity, Owner, Result,
    error::{Weakness, optional},
    lock_holder::lock_holder,
    root::{names, read_all},
    trusted_path::{check_above, is_unmapped},
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat},
    unistd::{UnlinkatFlags, fsync, geteuid, unlinkat},
};
use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The effect of a write or a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The file is as it was.
    Unchanged,
    /// The file is new, replaced or removed.
    Changed,
}

/// Mode and owner for a file that is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileAttributes {
    pub mode: u32,
    /// `None` for that of this process.
    pub owner: Option<Owner>,
}

/// The lock of a directory. While it is held, no other process that takes it writes there.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// An open directory that only root and this process's user can change, unless it was opened with
/// [`TrustedDir::open_shared`].
#[derive(Debug)]
pub struct TrustedDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl TrustedDir {
    /// Opens `path`, and makes it (0755) when it is missing and its parent is there.
    ///
    /// # Errors
    /// [`Error::UnsafeDir`] when it is a symbolic link, writable by its group or by others, or
    /// owned by another user than root and ours; and when that is true of a directory above it.
    pub fn open_or_make(path: &Path) -> Result<TrustedDir> {
        check_above(path)?;
        let opened = match Self::open(path) {
            Err(error) if error.is_absent() => {
                make(path)?;
                Self::open(path)
            }
            opened => opened,
        };
        let dir = opened?;
        dir.check()?;
        Ok(dir)
    }

    /// Opens `path` for a change, or returns `None` when it does not exist.
    ///
    /// # Errors
    /// As [`TrustedDir::open_or_make`].
    pub fn open_existing(path: &Path) -> Result<Option<TrustedDir>> {
        check_above(path)?;
        let dir = optional(Self::open(path))?;
        dir.map(|dir| dir.check().map(|()| dir)).transpose()
    }

    /// Opens `path` to read what root has written, or returns `None` when it does not exist. It is as strict, with one
    /// exception: in a user namespace without the machine's root, as rootless podman makes it, files of root appear
    /// to belong to nobody (`user_namespaces(7)`, "Unmapped user and group IDs"). Such an owner is accepted, since
    /// the namespace's user cannot be it; the path must be one that root has named.
    ///
    /// # Errors
    /// As [`TrustedDir::open_or_make`].
    pub fn open_to_read(path: &Path) -> Result<Option<TrustedDir>> {
        check_above(path)?;
        let Some(dir) = optional(Self::open(path))? else { return Ok(None) };
        let stat = fstat(&dir.fd).map_err(|errno| Error::call("stat", &dir.path, errno))?;
        let owner = if is_unmapped(stat.st_uid) { stat.st_uid } else { geteuid().as_raw() };
        match weakness(&stat, owner) {
            Some(weakness) => Err(Error::unsafe_dir(dir.path, weakness)),
            None => Ok(Some(dir)),
        }
    }

    /// Opens `path` for a change of another program's file. For root it is as strict as
    /// [`TrustedDir::open_or_make`]; other users may change what is theirs, at their own risk.
    pub(crate) fn open_plain(path: &Path) -> Result<TrustedDir> {
        if geteuid().is_root() {
            check_above(path)?;
        }
        let dir = Self::open(path)?;
        if geteuid().is_root() {
            dir.check()?;
        }
        Ok(dir)
    }

    /// Opens `path` for a file that needs no trust, such as a picture: any user may own the directory, and the
    /// path may be a link to it. Files in it are replaced atomically, and a link in a file's place is not followed.
    ///
    /// # Errors
    /// When it cannot be opened, or is not a directory.
    pub fn open_shared(path: &Path) -> Result<TrustedDir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match nix::fcntl::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(TrustedDir { fd, path: path.to_owned() }),
            Err(errno) => Err(Error::call("open", path, errno)),
        }
    }

    fn open(path: &Path) -> Result<TrustedDir> {
        // A trailing slash would make the kernel follow a link in spite of O_NOFOLLOW.
        let path: PathBuf = path.components().collect();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match nix::fcntl::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(TrustedDir { fd, path }),
            Err(errno @ (Errno::ENOTDIR | Errno::ELOOP)) => {
                Err(not_a_directory(&path).unwrap_or_else(|| Error::call("open", &path, errno)))
            }
            Err(errno) => Err(Error::call("open", &path, errno)),
        }
    }

    fn check(&self) -> Result<()> {
        let stat = fstat(&self.fd).map_err(|errno| Error::call("stat", &self.path, errno))?;
        match weakness(&stat, geteuid().as_raw()) {
            Some(weakness) => Err(Error::unsafe_dir(&self.path, weakness)),
            None => Ok(()),
        }
    }

    /// Takes the directory's lock, waiting for it up to `limit`, and removes temporary files that killed writers
    /// left behind.
    ///
    /// # Errors
    /// When another process keeps the lock.
    pub fn lock(&self, limit: Duration) -> Result<Lock> {
        const NAME: &str = ".mig-cdi.lock";
        let end = Instant::now() + limit;
        let fail = |op| move |errno| Error::call(op, self.display_path(NAME), errno);
        // A file of mode 0600, not the directory: flock(2) works on any descriptor, so every user who may read
        // the directory could hold its lock for ever.
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, NAME, flags, Mode::from_bits_truncate(0o600));
        let mut file = File::from(file.map_err(fail("open"))?);
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => {
                    self.remove_stale_temporaries()
                        .map_err(fail("remove temporary files beside"))?;
                    return Ok(Lock { _file: held });
                }
                Err((same, Errno::EWOULDBLOCK)) if Instant::now() < end => file = same,
                Err((file, Errno::EWOULDBLOCK)) => {
                    let pid = lock_holder(&file).map(|pid| format!(", pid {pid},"));
                    let (pid, seconds) = (pid.unwrap_or_default(), limit.as_secs());
                    let cause =
                        format!("another mig-cdi{pid} did not release it within {seconds} s");
                    return Err(Error::refused("lock", self.display_path(NAME), cause)
                        .with_cure("try again when that has ended"));
                }
                Err((_, errno)) => return Err(fail("lock")(errno)),
            }
            // A blocking flock(2) has no time limit.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes temporary files of [`TrustedDir::replace`]. With the lock held, no other process is writing one.
    fn remove_stale_temporaries(&self) -> nix::Result<()> {
        let list = openat(&self.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        for name in names(Dir::from_fd(list))? {
            // Ours are plain text.
            let Some(name) = name.to_str() else { continue };
            let ours = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
            let number = ours.and_then(|ours| ours.rsplit_once('.')).map(|(_, number)| number);
            if number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit())) {
                unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?;
            }
        }
        Ok(())
    }

    /// Path of a file in it, for messages.
    #[must_use]
    pub fn display_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a whole file in it, or returns `None` when there is none. Links are not followed.
    ///
    /// # Errors
    /// When it cannot be read or is larger than `limit` bytes.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        match optional(self.open_file(name))? {
            Some(file) => read_all(file, &self.display_path(name), limit).map(Some),
            None => Ok(None),
        }
    }

    /// Refuses a name that belongs to something other than a regular file, which a rename would replace:
    /// `/dev/null`, or `/dev/stdout`, which is a link.
    ///
    /// # Errors
    /// [`Error::Refused`] in that case.
    pub fn expect_file(&self, name: &str) -> Result<()> {
        let fail = |errno| Error::call("stat", self.display_path(name), errno);
        let found = nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let stat = optional(found.map_err(fail))?;
        match stat.map(|stat| stat.st_mode & SFlag::S_IFMT.bits()) {
            Some(kind) if kind != SFlag::S_IFREG.bits() => {
                Err(Error::refused("write", self.display_path(name), "it is no regular file")
                    .with_cure("name another file"))
            }
            _ => Ok(()),
        }
    }

    fn open_file(&self, name: &str) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = openat(&self.fd, name, flags, Mode::empty());
        fd.map(File::from).map_err(|errno| Error::call("open", self.display_path(name), errno))
    }

    /// Replaces the file `name` by one with this content and mode 0644. Nothing is written when it has both.
    ///
    /// The new file is complete and on disk before it takes the name, in the same directory: the
    /// engines' watchers notice a rename and no other way of appearing
    /// (container-device-interface `pkg/cdi/cache.go`, watch mask without create).
    ///
    /// # Errors
    /// When a step fails; the old file is then as it was.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<Outcome> {
        if self.has(name, bytes) {
            return Ok(Outcome::Unchanged);
        }
        self.replace_as(name, bytes, FileAttributes { mode: 0o644, owner: None })?;
        Ok(Outcome::Changed)
    }

    /// Replaces a file as [`TrustedDir::replace`] does, with these attributes. Always writes.
    pub(crate) fn replace_as(
        &self,
        name: &str,
        bytes: &[u8],
        attributes: FileAttributes,
    ) -> Result<()> {
        self.replace_prepared(name, bytes, attributes, |_| Ok(())).map(drop)
    }

    /// Replaces a file as [`TrustedDir::replace_as`] does, and returns the new one. `prepare` is called while nobody else
    /// can open it.
    pub(crate) fn replace_prepared(
        &self,
        name: &str,
        bytes: &[u8],
        attributes: FileAttributes,
        prepare: impl FnOnce(&File) -> Result<()>,
    ) -> Result<File> {
        // Engines read files named `*.json` and `*.yaml`: this suffix keeps a half-written one out of sight.
        let temporary = format!(".{name}.{}.tmp", std::process::id());
        let written = self.write_new(&temporary, bytes, attributes, prepare);
        let done = written.and_then(|file| self.rename(&temporary, name).map(|()| file));
        if done.is_err() {
            // The first error is the one to report.
            let _ = unlinkat(&self.fd, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        done
    }

    fn has(&self, name: &str, bytes: &[u8]) -> bool {
        let same = || {
            let file = self.open_file(name).ok()?;
            let stat = fstat(&file).ok()?;
            let right = stat.st_mode == SFlag::S_IFREG.bits() | 0o644
                && usize::try_from(stat.st_size) == Ok(bytes.len());
            right.then(|| read_all(file, &self.path, bytes.len()).ok()).flatten()
        };
        same().is_some_and(|old| old == bytes)
    }

    fn write_new(
        &self,
        name: &str,
        bytes: &[u8],
        attributes: FileAttributes,
        prepare: impl FnOnce(&File) -> Result<()>,
    ) -> Result<File> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fail = |op| move |errno| Error::call(op, self.display_path(name), errno);
        // 0600 until it is complete and has its owner: nobody else may open it in between.
        let create = || openat(&self.fd, name, flags, Mode::from_bits_truncate(0o600));
        let fd = match create() {
            // Left by a killed process that had our process id.
            Err(Errno::EEXIST) => {
                unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir).map_err(fail("remove"))?;
                create()
            }
            created => created,
        };
        let mut file = File::from(fd.map_err(fail("create"))?);
        prepare(&file)?;
        file.write_all(bytes).map_err(|e| Error::io("write", self.display_path(name), &e))?;
        // The owner first: chown(2) clears the set-user-id bits that a chmod before it would have set. And
        // fchmod, as the umask applies to the mode of an open.
        if let Some(owner) = attributes.owner {
            owner.own(&file).map_err(fail("chown"))?;
        }
        fchmod(&file, Mode::from_bits_truncate(attributes.mode)).map_err(fail("chmod"))?;
        // Before the rename: some file systems would write the new name first, and an empty file would remain
        // after a crash.
        fsync(&file).map_err(fail("sync"))?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        renameat(&self.fd, from, &self.fd, to)
            .map_err(|errno| Error::call("rename to", self.display_path(to), errno))?;
        // The name itself is content of the directory (fsync(2)).
        fsync(&self.fd).map_err(|errno| Error::call("sync", &self.path, errno))
    }

    /// Removes a file. One that does not exist is no error.
    ///
    /// # Errors
    /// When it exists and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<Outcome> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => fsync(&self.fd)
                .map(|()| Outcome::Changed)
                .map_err(|errno| Error::call("sync", &self.path, errno)),
            Err(Errno::ENOENT) => Ok(Outcome::Unchanged),
            Err(errno) => Err(Error::call("remove", self.display_path(name), errno)),
        }
    }

    /// True when `path` leads to this directory.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        match (fstat(&self.fd), nix::sys::stat::stat(path)) {
            (Ok(own), Ok(other)) => FileIdentity::of(&own) == FileIdentity::of(&other),
            _ => false,
        }
    }
}

/// Makes one directory with mode 0755 whatever the umask: engines of other users read it.
pub(crate) fn make(path: &Path) -> Result<()> {
    let fail = |errno| Error::call("create directory", path, errno);
    match mkdirat(nix::fcntl::AT_FDCWD, path, Mode::from_bits_truncate(0o755)) {
        // Another process was first; what it has made is checked when it is opened.
        Err(Errno::EEXIST) => return Ok(()),
        made => made.map_err(fail)?,
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(fail)?;
    fchmod(&fd, Mode::from_bits_truncate(0o755)).map_err(fail)
}

/// Names what is in a directory's place, when something is.
fn not_a_directory(path: &Path) -> Option<Error> {
    let stat =
        nix::sys::stat::fstatat(nix::fcntl::AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    let is_link = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits();
    let (cause, cure) = match is_link {
        true => ("it is a symbolic link", Some("name the directory itself")),
        false => ("it is not a directory", None),
    };
    Some(Error::unsafe_dir(path, Weakness { cause: cause.to_owned(), cure }))
}

/// Finds out how another user than root and `me` could change a directory.
pub(crate) fn weakness(stat: &FileStat, me: u32) -> Option<Weakness> {
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        let cause = format!("mode {mode:04o} lets others write to it");
        return Some(Weakness { cause, cure: Some("run chmod go-w") });
    }
    let foreign = stat.st_uid != 0 && stat.st_uid != me;
    foreign.then(|| {
        let cause = format!("it belongs to user {}, not to root or user {me}", stat.st_uid);
        let cure = is_unmapped(stat.st_uid).then_some(
            "this is a user namespace, whose root does not own the host's files: run it on the host, or on a directory \
             that was made in the namespace",
        );
        Weakness { cause, cure }
    })
}
