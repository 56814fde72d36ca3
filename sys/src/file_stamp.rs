//! A cheap answer to "is this still the file that I wrote?".

use serde::{Deserialize, Serialize};
use std::{os::unix::fs::MetadataExt, path::Path};

/// Identity and age of a file: differs for another file at the same path, and for the same file once it has
/// been written. Serialised as `[inode, size, seconds, nanoseconds]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 4]", into = "[u64; 4]")]
pub struct FileStamp {
    inode: u64,
    size: u64,
    seconds: u64,
    nanoseconds: u64,
}

impl FileStamp {
    /// A stamp that no file has: inode 0 is never used.
    pub const NO_FILE: FileStamp = FileStamp { inode: 0, size: 0, seconds: 0, nanoseconds: 0 };

    /// Takes the stamp of a file, or of a link itself. `None` when there is none or it cannot be read.
    #[must_use]
    pub fn of(path: &Path) -> Option<FileStamp> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        // The time alone is not enough: the kernel takes it from a clock that ticks every 1 to 10 ms
        // (`current_time` in fs/inode.c), so that two writes in a row can have the same.
        Some(FileStamp {
            inode: metadata.ino(),
            size: metadata.size(),
            seconds: metadata.mtime().cast_unsigned(),
            nanoseconds: metadata.mtime_nsec().cast_unsigned(),
        })
    }
}

impl From<[u64; 4]> for FileStamp {
    fn from([inode, size, seconds, nanoseconds]: [u64; 4]) -> FileStamp {
        FileStamp { inode, size, seconds, nanoseconds }
    }
}

impl From<FileStamp> for [u64; 4] {
    fn from(stamp: FileStamp) -> [u64; 4] {
        [stamp.inode, stamp.size, stamp.seconds, stamp.nanoseconds]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_file_has_another_stamp() {
        let path = std::env::temp_dir().join(format!("mig-cdi-stamp-{}", std::process::id()));
        std::fs::write(&path, "a").unwrap();
        let before = FileStamp::of(&path);
        assert!(before.is_some() && before == FileStamp::of(&path));
        assert_ne!(before, Some(FileStamp::NO_FILE));
        std::fs::write(&path, "ab").unwrap();
        assert_ne!(FileStamp::of(&path), before);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(FileStamp::of(&path), None);
    }
}
