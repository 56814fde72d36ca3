//! A lock that shows other processes that its holder is alive. A process id cannot show that: the kernel gives the id of
//! a process that has ended to another one, which may be any user's.
//!
//! It is a write lock on an open file description (fcntl(2), "Open file description locks"). The kernel drops it when
//! its holder ends, however that happens. To take one needs a descriptor that can write, which only the owner of the
//! file gets; to see it needs one that can read, which everybody gets. flock(2) would not do: a reader could take it.

use crate::{
    Error, Result, TrustedDir,
    atomic_write::FileAttributes,
    trusted_path::{CheckedPath, Trust, check},
};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    sys::stat::{Mode, SFlag, fstat},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// A held lock; it ends with this value.
#[derive(Debug)]
pub struct LifeLock {
    file: File,
    path: PathBuf,
}

impl LifeLock {
    /// Takes the lock `name` in a directory. A file of that name is replaced by one that is locked before others can open
    /// it: another user may lock for reading what they can read, which would keep a write lock from being taken.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub fn take(dir: &TrustedDir, name: &str) -> Result<LifeLock> {
        let path = dir.display_path(name);
        let attributes = FileAttributes { mode: 0o644, owner: None };
        let file = dir.replace_prepared(name, b"", attributes, |file| {
            let locked = fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK)));
            locked.map(drop).map_err(|errno| Error::call("lock", &path, errno))
        })?;
        Ok(LifeLock { file, path })
    }

    /// True when the locked file still has its name.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let found = std::fs::symlink_metadata(&self.path).map(identity).ok();
        found.is_some() && found == self.file.metadata().map(identity).ok()
    }
}

/// True while a process holds the lock whose file is at `path`. A file that another user than root and this process's
/// could have put there proves nothing.
#[must_use]
pub fn is_life_lock_held(path: &Path) -> bool {
    let CheckedPath { file, dirs, content } = check(path, Path::new(""), Trust::OwnNow);
    if file.is_err() || dirs.or(content).is_some() {
        return false;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let held = || {
        let file = nix::fcntl::open(path, flags, Mode::empty())?;
        let is_file = fstat(&file)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
        // A read lock conflicts with write locks alone.
        let mut lock = whole_file(libc::F_RDLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        nix::Result::Ok(is_file && i32::from(lock.l_type) == libc::F_WRLCK)
    };
    held().unwrap_or(false)
}

fn whole_file(kind: i32) -> libc::flock {
    // Offsets are from the start of the file, and a length of 0 reaches to its end (fcntl_locking(2)). The process id
    // has to be 0 for this kind of lock.
    let (l_type, l_whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 }
}
