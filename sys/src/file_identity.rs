//! The identity of a file: two paths or descriptors with the same one are one file.

use nix::sys::stat::{FileStat, major, minor};

/// Device and inode number of a file, which no other file has while it exists (inode(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// Number of the device that holds its file system.
    pub device: u64,
    /// Inode number in that file system.
    pub inode: u64,
}

impl FileIdentity {
    /// Numbers of the device that holds the file system, as in a mountinfo file: `0:5`.
    #[must_use]
    pub fn file_system(&self) -> String {
        format!("{}:{}", major(self.device), minor(self.device))
    }

    pub(crate) fn of(stat: &FileStat) -> FileIdentity {
        FileIdentity { device: stat.st_dev, inode: stat.st_ino }
    }
}
