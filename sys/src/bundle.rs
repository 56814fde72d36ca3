//! The bundle of a container: the directory with the OCI configuration that its engine wrote.
//!
//! Only `config.json` is touched. The root file system beside it belongs to the image and is never resolved
//! through here.

use crate::{Error, Owner, Result, root::read_all};
use nix::{
    fcntl::{OFlag, openat, renameat},
    sys::stat::{Mode, SFlag, fchmod, fstat},
    unistd::{UnlinkatFlags, unlinkat},
};
use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

const CONFIG: &str = "config.json";

/// An open bundle.
#[derive(Debug)]
pub struct Bundle {
    dir: OwnedFd,
    path: PathBuf,
}

impl Bundle {
    /// Opens a directory.
    ///
    /// # Errors
    /// When it does not exist or is not a directory.
    pub fn open(path: &Path) -> Result<Bundle> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|errno| Error::call("open the bundle", path, errno))?;
        Ok(Bundle { dir, path: path.to_owned() })
    }

    fn file(&self) -> Result<File> {
        let fail = |errno| Error::call("open", self.path.join(CONFIG), errno);
        // The engine writes a regular file: a link or a fifo there is another program's.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.dir, CONFIG, flags, Mode::empty()).map_err(fail)?);
        let stat = fstat(&file).map_err(fail)?;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG {
            true => Ok(file),
            false => Err(Error::refused("read", self.path.join(CONFIG), "it is no regular file")),
        }
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// When it cannot be read, is not a regular file, or is larger than `limit` bytes.
    pub fn read(&self, limit: usize) -> Result<Vec<u8>> {
        read_all(self.file()?, &self.path.join(CONFIG), limit)
    }

    /// Replaces the configuration by a rename, with the same owner and mode.
    ///
    /// # Errors
    /// When a step fails; the old configuration is then as it was.
    pub fn replace(&self, bytes: &[u8]) -> Result<()> {
        let name = format!(".{CONFIG}.{}.tmp", std::process::id());
        let done = self.write(&name, bytes).and_then(|()| {
            renameat(&self.dir, name.as_str(), &self.dir, CONFIG)
                .map_err(|errno| Error::call("rename to", self.path.join(CONFIG), errno))
        });
        if done.is_err() {
            // The first error is the one to report.
            let _ = unlinkat(&self.dir, name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        done
    }

    /// Writes the new file without an fsync: after a crash of the machine no container is started from it.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let fail = |op| move |errno| Error::call(op, self.path.join(name), errno);
        let old = fstat(self.file()?).map_err(fail("stat"))?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.dir, name, flags, Mode::from_bits_truncate(0o600));
        let mut file = File::from(fd.map_err(fail("create"))?);
        file.write_all(bytes).map_err(|e| Error::io("write", self.path.join(name), &e))?;
        // The owner before the mode, as chown(2) clears set-user-id bits.
        Owner::of(&old).own(&file).map_err(fail("chown"))?;
        fchmod(&file, Mode::from_bits_truncate(old.st_mode & 0o7777)).map_err(fail("chmod"))
    }
}
