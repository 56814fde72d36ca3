//! Replacing a file so that a reader sees the old one or the new one, whole, and nothing between;
//! and the directory that such a file may stand in.

use crate::{
    Error, Result,
    error::optional,
    root::{names, read_all},
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, geteuid, unlinkat},
};
use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The file is as it was.
    Unchanged,
    /// The file is new, replaced or removed.
    Changed,
}

/// What a file that is replaced keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Like {
    pub mode: u32,
    /// `None` is whoever runs this.
    pub owner: Option<(Uid, Gid)>,
}

/// While it is held, no other process that takes it writes into the directory.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// A directory, held open. Nobody but root and ourselves can change it, unless it was opened as a shared one.
#[derive(Debug)]
pub struct SpecDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl SpecDir {
    /// Opens `path`, and makes it (0755) when it is missing and its parent is there.
    ///
    /// # Errors
    /// [`Error::UnsafeDir`] when it is a symbolic link, writable by its group or by others, or
    /// somebody else's.
    pub fn open_or_make(path: &Path) -> Result<SpecDir> {
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

    /// Opens `path` for a change, or `None` when it is not there.
    ///
    /// # Errors
    /// As [`SpecDir::open_or_make`].
    pub fn open_existing(path: &Path) -> Result<Option<SpecDir>> {
        let dir = optional(Self::open(path))?;
        dir.map(|dir| dir.check().map(|()| dir)).transpose()
    }

    /// Opens `path` to read what root has written, or `None` when it is not there. As strict, but for one thing: in a
    /// user namespace that does not have the machine's root, as rootless podman makes it, what is root's is
    /// shown as nobody's (`user_namespaces(7)`, "Unmapped user and group IDs"). It is then somebody's whom the user
    /// of the namespace cannot be; the path has to be one that root has named.
    ///
    /// # Errors
    /// As [`SpecDir::open_or_make`].
    pub fn open_to_read(path: &Path) -> Result<Option<SpecDir>> {
        let Some(dir) = optional(Self::open(path))? else { return Ok(None) };
        let stat = fstat(&dir.fd).map_err(|errno| Error::call("stat", &dir.path, errno))?;
        let owner = if is_unmapped(stat.st_uid) { stat.st_uid } else { geteuid().as_raw() };
        match unsafe_reason(&stat, owner) {
            Some(reason) => Err(Error::UnsafeDir { path: dir.path, reason }),
            None => Ok(Some(dir)),
        }
    }

    /// Opens `path` for a change of a file that somebody else reads: for root as strict as
    /// [`SpecDir::open_or_make`]; another user changes what is in their own hands.
    pub(crate) fn open_plain(path: &Path) -> Result<SpecDir> {
        let dir = Self::open(path)?;
        if geteuid().is_root() {
            dir.check()?;
        }
        Ok(dir)
    }

    /// Opens `path` for a file that nobody has to trust, as a picture is: the directory may be anybody's, and a
    /// link to it. A file in it is replaced all the same, and no link in its place is followed.
    ///
    /// # Errors
    /// When it cannot be opened, or is no directory.
    pub fn open_shared(path: &Path) -> Result<SpecDir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match nix::fcntl::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(SpecDir { fd, path: path.to_owned() }),
            Err(errno) => Err(Error::call("open", path, errno)),
        }
    }

    fn open(path: &Path) -> Result<SpecDir> {
        // A trailing slash would make the kernel follow a link in spite of O_NOFOLLOW.
        let path: PathBuf = path.components().collect();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match nix::fcntl::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(SpecDir { fd, path }),
            Err(errno @ (Errno::ENOTDIR | Errno::ELOOP)) => {
                Err(not_a_directory(&path).unwrap_or_else(|| Error::call("open", &path, errno)))
            }
            Err(errno) => Err(Error::call("open", &path, errno)),
        }
    }

    fn check(&self) -> Result<()> {
        let stat = fstat(&self.fd).map_err(|errno| Error::call("stat", &self.path, errno))?;
        match unsafe_reason(&stat, geteuid().as_raw()) {
            Some(reason) => Err(Error::UnsafeDir { path: self.path.clone(), reason }),
            None => Ok(()),
        }
    }

    /// Takes the directory's lock, and waits for it so long. What writers that were killed have left is
    /// taken away. The lock is on a file that nobody else can open: anyone could hold the directory's.
    ///
    /// # Errors
    /// When another process keeps the lock.
    pub fn lock(&self, limit: Duration) -> Result<Lock> {
        const NAME: &str = ".mig-cdi.lock";
        let end = Instant::now() + limit;
        let fail = |op| move |errno| Error::call(op, self.show(NAME), errno);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, NAME, flags, Mode::from_bits_truncate(0o600));
        let mut file = File::from(file.map_err(fail("open"))?);
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => {
                    self.sweep().map_err(fail("remove what is left over beside"))?;
                    return Ok(Lock { _file: held });
                }
                Err((same, Errno::EWOULDBLOCK)) if Instant::now() < end => file = same,
                Err((_, Errno::EWOULDBLOCK)) => {
                    let why = format!("another mig-cdi has been at work for {} s", limit.as_secs());
                    return Err(Error::refused("lock", self.show(NAME), why));
                }
                Err((_, errno)) => return Err(fail("lock")(errno)),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes temporary files of [`SpecDir::replace`]. Whoever holds the lock knows that nobody is at work
    /// on one.
    fn sweep(&self) -> nix::Result<()> {
        let list = openat(&self.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        for name in names(Dir::from_fd(list))? {
            let ours = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
            let number = ours.and_then(|ours| ours.rsplit_once('.')).map(|(_, number)| number);
            if number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit())) {
                unlinkat(&self.fd, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
            }
        }
        Ok(())
    }

    /// Path of a file in it, for messages.
    #[must_use]
    pub fn show(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The whole of a regular file in it, or `None`. Links are not followed.
    ///
    /// # Errors
    /// When it cannot be read or is larger than `limit` bytes.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        match optional(self.open_file(name))? {
            Some(file) => read_all(file, &self.show(name), limit).map(Some),
            None => Ok(None),
        }
    }

    /// Refuses a name that something else has than a file, which a file is not to take from it: `/dev/null`, and
    /// `/dev/stdout`, which is a link.
    ///
    /// # Errors
    /// [`Error::Refused`] then.
    pub fn expect_file(&self, name: &str) -> Result<()> {
        let fail = |errno| Error::call("look at", self.show(name), errno);
        let found = nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let stat = optional(found.map_err(fail))?;
        match stat.map(|stat| stat.st_mode & SFlag::S_IFMT.bits()) {
            Some(kind) if kind != SFlag::S_IFREG.bits() => {
                Err(Error::refused("write", self.show(name), "it is no regular file; name another"))
            }
            _ => Ok(()),
        }
    }

    fn open_file(&self, name: &str) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = openat(&self.fd, name, flags, Mode::empty());
        fd.map(File::from).map_err(|errno| Error::call("open", self.show(name), errno))
    }

    /// Gives `name` this content and mode 0644. Nothing is written when it has both already.
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
        self.replace_as(name, bytes, Like { mode: 0o644, owner: None })?;
        Ok(Outcome::Changed)
    }

    /// The same with another mode, and perhaps an owner. Always writes.
    pub(crate) fn replace_as(&self, name: &str, bytes: &[u8], like: Like) -> Result<()> {
        let temporary = format!(".{name}.{}.tmp", std::process::id());
        let written = self.write_new(&temporary, bytes, like);
        let done = written.and_then(|()| self.rename(&temporary, name));
        if done.is_err() {
            // The error that matters is the first one.
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

    fn write_new(&self, name: &str, bytes: &[u8], like: Like) -> Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fail = |op| move |errno| Error::call(op, self.show(name), errno);
        let create = || openat(&self.fd, name, flags, Mode::from_bits_truncate(0o600));
        let fd = match create() {
            // Left by a process of our number that was killed.
            Err(Errno::EEXIST) => {
                unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir).map_err(fail("remove"))?;
                create()
            }
            created => created,
        };
        let mut file = File::from(fd.map_err(fail("create"))?);
        file.write_all(bytes).map_err(|e| Error::io("write", self.show(name), &e))?;
        if let Some((user, group)) = like.owner {
            fchown(&file, Some(user), Some(group)).map_err(fail("chown"))?;
        }
        fchmod(&file, Mode::from_bits_truncate(like.mode)).map_err(fail("chmod"))?;
        fsync(&file).map_err(fail("sync"))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        renameat(&self.fd, from, &self.fd, to)
            .map_err(|errno| Error::call("rename to", self.show(to), errno))?;
        fsync(&self.fd).map_err(|errno| Error::call("sync", &self.path, errno))
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<Outcome> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => fsync(&self.fd)
                .map(|()| Outcome::Changed)
                .map_err(|errno| Error::call("sync", &self.path, errno)),
            Err(Errno::ENOENT) => Ok(Outcome::Unchanged),
            Err(errno) => Err(Error::call("remove", self.show(name), errno)),
        }
    }

    /// True when `path` leads to this directory.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        match (fstat(&self.fd), nix::sys::stat::stat(path)) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        }
    }
}

/// Makes one directory, 0755 whatever the umask: engines of other users read it.
pub(crate) fn make(path: &Path) -> Result<()> {
    let fail = |errno| Error::call("create directory", path, errno);
    match mkdirat(nix::fcntl::AT_FDCWD, path, Mode::from_bits_truncate(0o755)) {
        // Another process was first; what it is shows when it is opened.
        Err(Errno::EEXIST) => return Ok(()),
        made => made.map_err(fail)?,
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(fail)?;
    fchmod(&fd, Mode::from_bits_truncate(0o755)).map_err(fail)
}

/// Says what stands in a directory's place, when something does.
fn not_a_directory(path: &Path) -> Option<Error> {
    let stat =
        nix::sys::stat::fstatat(nix::fcntl::AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    let is_link = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits();
    let reason = match is_link {
        true => "it is a symbolic link; name the directory itself",
        false => "it is not a directory",
    };
    Some(Error::UnsafeDir { path: path.to_owned(), reason: reason.to_owned() })
}

/// Whether this is how an owner is shown whom our user namespace does not have. The first namespace has all.
fn is_unmapped(uid: u32) -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let map = read("/proc/self/uid_map");
    let all = map.split_whitespace().eq(["0", "0", "4294967295"]);
    !map.is_empty() && !all && read("/proc/sys/kernel/overflowuid").trim().parse() == Ok(uid)
}

pub(crate) fn unsafe_reason(stat: &FileStat, me: u32) -> Option<String> {
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return Some(format!("mode {mode:04o} lets others write to it; run chmod go-w"));
    }
    let foreign = stat.st_uid != 0 && stat.st_uid != me;
    foreign.then(|| format!("it belongs to user {}, not to root or user {me}", stat.st_uid))
}
