//! The numbers, the mode and the owner of a device node.

use mig_cdi_model::{Major, Minor};
use nix::sys::stat::{FileStat, SFlag, major, minor};

/// A device node as the file system shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStat {
    /// False for anything but a character device.
    pub is_char: bool,
    /// Major number.
    pub major: Major,
    /// Minor number.
    pub minor: Minor,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl NodeStat {
    pub(crate) fn of(stat: &FileStat) -> NodeStat {
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        NodeStat {
            is_char: kind == SFlag::S_IFCHR,
            major: Major(u32::try_from(major(stat.st_rdev)).unwrap_or(u32::MAX)),
            // The kernel has 12 bits for the major and 20 for the minor number: the conversion never fails.
            minor: Minor(u32::try_from(minor(stat.st_rdev)).unwrap_or(u32::MAX)),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }
}
