//! The user and the group that a file belongs to.

use nix::{
    Result,
    fcntl::AtFlags,
    sys::stat::FileStat,
    unistd::{Gid, Uid, fchownat},
};
use std::os::fd::AsFd;

/// The user and the group that a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// The superuser and its group.
    pub const ROOT: Owner = Owner { uid: 0, gid: 0 };

    pub(crate) fn of(stat: &FileStat) -> Owner {
        Owner { uid: stat.st_uid, gid: stat.st_gid }
    }

    /// Gives an open file to this owner.
    pub(crate) fn own(self, file: impl AsFd) -> Result<()> {
        // fchown(2) refuses an O_PATH descriptor; an empty path with AT_EMPTY_PATH is any descriptor itself.
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        fchownat(file, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
    }
}
