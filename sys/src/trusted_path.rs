//! The one rule for who could exchange what a path leads to, which every program, library, spec and record passes
//! before root relies on it.
//!
//! All of the path counts, from `/` on: each directory, since it can be renamed with everything in it; each symbolic
//! link; and the file itself. Access lists (acl(5)) need no look of their own: the group's bits of a mode are their
//! mask, so a mode without write permission for the group gives none to anybody else either.

use crate::{
    Error,
    error::{Weakness, describe},
    open_in_root::{Links, walk},
    user_path::absolute,
};
use nix::{
    Result,
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat},
    unistd::geteuid,
};
use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// What a path is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The path will be used again, by its name and by root. Only root may own what is on it.
    RootLater,
    /// What it leads to is used now. Root and this process's user may own what is on it.
    OwnNow,
    /// A program at its end is run now. Root and this process's user may own what is on it, and no owner that a user namespace does
    /// not show: it may be another user.
    RunNow,
}

/// End of a path, and the weaknesses on it.
#[derive(Debug)]
pub(crate) struct CheckedPath {
    /// Handle of what is at the end, opened with `O_PATH`. A magic link of `/proc` on the way is `ELOOP`.
    pub file: Result<OwnedFd>,
    /// Reason why another user could exchange the directories and links on the way, with the path of the first weak
    /// one. It may be known although the path leads nowhere.
    pub dirs: Option<String>,
    /// Reason why another user could change the file at the end.
    pub content: Option<String>,
}

/// Function that is called for each entry of a path, with the directory that it is in.
type Visit<'v> = dyn FnMut(Option<&OwnedFd>, &OwnedFd) + 'v;

/// Walks a path below a root, and checks all that is on it, the path of the root included.
pub(crate) fn check(root: &Path, below: &Path, trust: Trust) -> CheckedPath {
    CheckedPath::of(trust, |visit| walk_both(root, below, visit))
}

/// Walks a path below an open root, and checks the root and all that is below it.
pub(crate) fn check_below(root: &OwnedFd, below: &Path, trust: Trust) -> CheckedPath {
    CheckedPath::of(trust, |visit| {
        visit(None, root);
        let mut visit = |parent: &OwnedFd, entry: &OwnedFd| visit(Some(parent), entry);
        walk(root, below, OFlag::O_PATH | OFlag::O_CLOEXEC, Links::Followed, &mut visit)
    })
}

impl CheckedPath {
    fn of(trust: Trust, walk: impl FnOnce(&mut Visit<'_>) -> Result<OwnedFd>) -> CheckedPath {
        let (mut dirs, mut content) = (None, None);
        let file = walk(&mut |parent, entry| {
            let is_file = fstat(entry).is_ok_and(|stat| kind(&stat) == SFlag::S_IFREG);
            let found = if is_file { &mut content } else { &mut dirs };
            if found.is_none() {
                *found = trust.weakness_of(parent, entry);
            }
        });
        CheckedPath { file, dirs, content }
    }

    /// The first weakness of a path; what does not exist has none of its own.
    pub(crate) fn weakness(self, path: &Path) -> Option<String> {
        self.dirs.or(self.content).or_else(|| match self.file {
            Ok(_) | Err(Errno::ENOENT) => None,
            Err(errno) => {
                Some(format!("{} cannot be examined: {}", path.display(), describe(errno)))
            }
        })
    }
}

fn walk_both(root: &Path, below: &Path, visit: &mut Visit<'_>) -> Result<OwnedFd> {
    let handle = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let top = openat(AT_FDCWD, "/", handle | OFlag::O_DIRECTORY, Mode::empty())?;
    visit(None, &top);
    let mut visit = |parent: &OwnedFd, entry: &OwnedFd| visit(Some(parent), entry);
    // It fails when the working directory was removed. Not ENOENT, which callers take for "not made yet".
    let root = absolute(root).map_err(|_| Errno::ESTALE)?;
    let root = walk(&top, &root, handle, Links::Followed, &mut visit)?;
    if below.as_os_str().is_empty() {
        return Ok(root);
    }
    walk(&root, below, handle, Links::Followed, &mut visit)
}

/// Returns the reason why another user than root could exchange what a path leads to; `None` when no user could.
/// What does not exist yet is judged by the directories that do.
#[must_use]
pub fn replaceable_by_others(path: &Path) -> Option<String> {
    check(path, Path::new(""), Trust::RootLater).weakness(path)
}

/// Returns the reason why another user than root and this process's could exchange what a path leads to, for a program that is
/// run now; `None` when no user could.
#[must_use]
pub fn exchangeable_by_others(path: &Path) -> Option<String> {
    check(path, Path::new(""), Trust::RunNow).weakness(path)
}

/// Refuses a directory that another user than root and this process's could exchange, since they can change one above it:
/// its own owner and mode would not matter then. When no user can, none exchanges it after this check either.
pub(crate) fn check_above(dir: &Path) -> crate::Result<()> {
    let path = absolute(dir)?;
    let above = path.parent().unwrap_or(&path);
    let Some(reason) = check(above, Path::new(""), Trust::OwnNow).dirs else { return Ok(()) };
    let cause = format!("{reason}, so another user could exchange the directory");
    let cure = Some("use a directory below ones that only root can change");
    Err(Error::unsafe_dir(dir, Weakness { cause, cure }))
}

impl Trust {
    fn weakness_of(self, parent: Option<&OwnedFd>, entry: &OwnedFd) -> Option<String> {
        let weakness = match (parent.map(fstat).transpose(), fstat(entry)) {
            (Ok(parent), Ok(stat)) => self.weakness(parent.as_ref(), &stat),
            (Err(errno), _) | (_, Err(errno)) => {
                Some(format!("cannot be examined: {}", describe(errno)))
            }
        };
        weakness.map(|weakness| format!("{} {weakness}", path_of(entry).display()))
    }

    /// Reason why another user can change a directory, link or file, or exchange it in its directory.
    pub(crate) fn weakness(self, parent: Option<&FileStat>, stat: &FileStat) -> Option<String> {
        if !self.trusts(stat.st_uid) {
            let owner = stat.st_uid;
            // user_namespaces(7), "Unmapped user and group IDs".
            let unmapped = match is_unmapped(owner) {
                true => format!(", {UNMAPPED_OWNER}"),
                false => String::new(),
            };
            return Some(format!("belongs to user {owner}{unmapped}"));
        }
        // In a directory with the sticky bit other users add entries and exchange none: /tmp, and /nix/store of mode
        // 1775. But a server of FUSE that one of them has mounted on their entry reports any owner.
        let is_mounted = |parent: &&FileStat| parent.st_dev != stat.st_dev;
        if parent.filter(|parent| parent.st_mode & 0o022 != 0).is_some_and(|p| is_mounted(&p)) {
            return Some("is a file system in a directory that others can write to".to_owned());
        }
        let mode = stat.st_mode & 0o7777;
        let is_weak = match kind(stat) {
            // A link has no permissions of its own (symlink(7)).
            SFlag::S_IFLNK => false,
            // The first user to come after a reboot makes an entry that is missing then.
            SFlag::S_IFDIR if mode & 0o1000 != 0 => self == Trust::RootLater && mode & 0o002 != 0,
            _ => mode & 0o022 != 0,
        };
        is_weak.then(|| format!("has mode {mode:04o}"))
    }

    fn trusts(self, uid: u32) -> bool {
        let is_own = || uid == geteuid().as_raw();
        match self {
            _ if uid == 0 => true,
            Trust::RootLater => false,
            Trust::OwnNow => is_own() || is_unmapped(uid),
            Trust::RunNow => is_own(),
        }
    }
}

/// Part of the reason against a path whose owner is not mapped into this user namespace.
pub const UNMAPPED_OWNER: &str = "which stands for every user outside of this user namespace";

/// True in a user namespace that does not map all ids, as in an unprivileged container of LXC, Incus or podman: there an
/// owner cannot be seen or changed to root (`user_namespaces(7)`).
#[must_use]
pub fn in_user_namespace() -> bool {
    !is_initial_map(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

/// True for the map of the initial namespace, and where there is none to read.
fn is_initial_map(map: &str) -> bool {
    map.is_empty() || map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// True for the id that stands for owners who are not mapped into our user namespace. The initial namespace
/// maps all.
pub(crate) fn is_unmapped(uid: u32) -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    in_user_namespace() && read("/proc/sys/kernel/overflowuid").trim().parse() == Ok(uid)
}

/// Path of an open file, as the kernel knows it (proc(5), /proc/pid/fd).
pub(crate) fn path_of(file: &OwnedFd) -> PathBuf {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(&link).unwrap_or(PathBuf::from(link))
}

/// Type of a file.
pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}
