//! Opening a path so that it cannot lead out of a directory, whatever others rename or link meanwhile.
//!
//! The kernel does it in one call, openat2 (Linux 5.6). Where it has none, or a filter of system calls
//! hides it, the same is done a name at a time: every step is taken from a handle of the directory before it, no step
//! follows a link, and the text of a link is resolved from where it stands, as more names. A `..` goes back
//! to the handle that the walk came by, and not to wherever that directory has been moved.

use nix::{
    Result,
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat},
    sys::{
        stat::{Mode, SFlag, fstat},
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
};
use std::{
    ffi::OsString,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
};

/// How often openat2 is asked before its "try again" is taken for an answer: it gives up on a `..` while anything
/// on the machine is renamed or mounted (openat2(2), `EAGAIN`).
const TRIES: usize = 128;

/// After so many links the kernel gives up too (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// What becomes of links on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// They lead to what they name below the directory; those of `/proc` that lead to what is open, nowhere.
    Followed,
    /// A path with a link in it leads nowhere.
    Refused,
}

/// Opens `path` as if `root` were the root of the file system. `path` is taken from there, with a `/` in front or without.
pub(crate) fn open_within(
    root: impl AsFd,
    path: &Path,
    flags: OFlag,
    links: Links,
) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT
        | match links {
            Links::Followed => ResolveFlag::RESOLVE_NO_MAGICLINKS,
            Links::Refused => ResolveFlag::RESOLVE_NO_SYMLINKS,
        };
    let how = OpenHow::new().flags(flags).resolve(resolve);
    // An empty path is none to the kernel.
    let asked = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut tries = (0..TRIES).map(|_| openat2(root.as_fd(), asked, how));
    match tries.find(|opened| !matches!(opened, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN)) {
        // Filters that are older than the call say EPERM, and newer ones that it is not there.
        Err(Errno::ENOSYS | Errno::EPERM) => walk(root, path, flags, links),
        opened => opened,
    }
}

/// The same without openat2.
fn walk(root: impl AsFd, path: &Path, flags: OFlag, links: Links) -> Result<OwnedFd> {
    let place = OFlag::O_PATH | OFlag::O_CLOEXEC;
    // The way from the root to where the walk is, and the names that are left, the next one last.
    let mut way = vec![openat(&root, ".", place | OFlag::O_DIRECTORY, Mode::empty())?];
    let mut left = names(path.as_os_str().as_bytes());
    let mut turns = 0;
    while let Some(name) = left.pop() {
        let parent = way.last().ok_or(Errno::ENOENT)?;
        if name == "." || name == ".." {
            let up = usize::from(name == "..");
            way.truncate((way.len() - up).max(1));
            continue;
        }
        let found = openat(parent, name.as_os_str(), place | OFlag::O_NOFOLLOW, Mode::empty())?;
        let kind = kind(&found)?;
        if kind != SFlag::S_IFLNK && !left.is_empty() {
            if kind != SFlag::S_IFDIR {
                return Err(Errno::ENOTDIR);
            }
            way.push(found);
            continue;
        }
        if kind != SFlag::S_IFLNK || (left.is_empty() && flags.contains(OFlag::O_NOFOLLOW)) {
            match last(parent, &name, found, flags) {
                // Until now it was no link: another look.
                Err(Errno::ELOOP) if kind != SFlag::S_IFLNK => left.push(name),
                done => return done,
            }
        } else {
            let to = readlinkat(&found, "")?;
            if links == Links::Refused || is_magic(&found, to.as_bytes())? {
                return Err(Errno::ELOOP);
            }
            if to.as_bytes().starts_with(b"/") {
                way.truncate(1);
            }
            left.extend(names(to.as_bytes()));
        }
        turns += 1;
        if turns > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
    }
    openat(way.last().ok_or(Errno::ENOENT)?, ".", flags, Mode::empty())
}

/// The end of a path, of which `found` is a handle: opened as it was asked for.
fn last(parent: &OwnedFd, name: &OsString, found: OwnedFd, flags: OFlag) -> Result<OwnedFd> {
    if !flags.contains(OFlag::O_PATH) {
        return openat(parent, name.as_os_str(), flags | OFlag::O_NOFOLLOW, Mode::empty());
    }
    match flags.contains(OFlag::O_DIRECTORY) && kind(&found)? != SFlag::S_IFDIR {
        true => Err(Errno::ENOTDIR),
        false => Ok(found),
    }
}

/// The names of a path, the first one last. A slash at its end is a `.`: what is there must be a directory.
fn names(path: &[u8]) -> Vec<OsString> {
    let end = path.ends_with(b"/").then_some(&b"."[..]);
    let parts = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let mut names: Vec<_> =
        parts.chain(end).map(|name| OsString::from_vec(name.to_vec())).collect();
    names.reverse();
    names
}

/// True for a link of `/proc` that leads to what is open, of which its text is only a description
/// (symlink(7)). The others there are `self`, `thread-self`, and those that start with `self/`.
fn is_magic(link: &OwnedFd, text: &[u8]) -> Result<bool> {
    let plain = text.starts_with(b"self/") || text.first().is_some_and(u8::is_ascii_digit);
    Ok(!plain && fstatfs(link)?.filesystem_type() == PROC_SUPER_MAGIC)
}

fn kind(fd: &OwnedFd) -> Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode & SFlag::S_IFMT.bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    /// What was opened, as the kernel tells it apart.
    fn told(opened: Result<OwnedFd>) -> Result<(u64, u64, SFlag)> {
        let fd = opened?;
        let stat = fstat(&fd)?;
        Ok((stat.st_dev, stat.st_ino, kind(&fd)?))
    }

    /// Every path of up to four of these names, asked of both.
    #[test]
    fn the_walk_ends_where_openat2_does() {
        let dir = std::env::temp_dir().join(format!("mig-cdi-within-{}", std::process::id()));
        let (outside, root) = (dir.join("outside"), dir.join("root"));
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(root.join("d/e")).unwrap();
        for file in [outside.join("f"), root.join("f"), root.join("d/f"), root.join("d/e/f")] {
            fs::write(file, "").unwrap();
        }
        for (link, to) in [
            ("abs", "/d"),
            ("up", "../../outside"),
            ("out", outside.to_str().unwrap()),
            ("file", "d/f"),
            ("slash", "d/f/"),
            ("me", "me"),
            ("d/back", "../abs/./e"),
            ("d/self", "."),
            ("d/e/abs", "/file"),
            ("d/none", "nothing"),
        ] {
            symlink(to, root.join(link)).unwrap();
        }
        let handle = fs::File::open(&root).unwrap();
        let words = [
            "", ".", "..", "d", "e", "f", "abs", "up", "out", "file", "slash", "me", "back",
            "self", "none",
        ];
        let mut paths = vec![String::new()];
        let mut longest = paths.clone();
        for _ in 0..4 {
            longest = longest
                .iter()
                .flat_map(|path| words.iter().map(move |word| format!("{path}/{word}")))
                .collect();
            paths.extend_from_slice(&longest);
        }
        paths.extend(["f".to_owned(), "../f".to_owned(), "d/../abs/f".to_owned()]);
        let (path_only, folder) = (OFlag::O_PATH, OFlag::O_DIRECTORY);
        let kinds = [
            path_only,
            path_only | folder,
            path_only | OFlag::O_NOFOLLOW,
            OFlag::O_RDONLY,
            OFlag::O_RDONLY | folder,
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW,
        ];
        let mut opened = 0;
        for path in &paths {
            for flags in kinds {
                for links in [Links::Followed, Links::Refused] {
                    let path = Path::new(path);
                    let kernel = told(open_within(&handle, path, flags, links));
                    let ours = told(walk(&handle, path, flags | OFlag::O_CLOEXEC, links));
                    assert_eq!(ours, kernel, "{path:?} {flags:?} {links:?}");
                    opened += usize::from(ours.is_ok());
                }
            }
        }
        assert!(opened > 5_000, "{opened}");
        fs::remove_dir_all(dir).unwrap();
    }

    /// Of `/proc`, which has links that lead out of any root.
    #[test]
    fn links_to_what_is_open_lead_nowhere() {
        let proc = fs::File::open("/proc").unwrap();
        for path in [
            "self/root",
            "self/root/etc",
            "self/cwd/Cargo.toml",
            "self/fd/0",
            "self/exe",
            "self/ns/mnt",
            "self/status",
            "mounts",
            "net/dev",
            "thread-self/comm",
            "1/root",
        ] {
            for flags in [OFlag::O_PATH, OFlag::O_RDONLY, OFlag::O_PATH | OFlag::O_NOFOLLOW] {
                let kernel = open_within(&proc, Path::new(path), flags, Links::Followed).map(drop);
                let ours = walk(&proc, Path::new(path), flags, Links::Followed).map(drop);
                assert_eq!(ours, kernel, "{path} {flags:?}");
            }
        }
    }
}
