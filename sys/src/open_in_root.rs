//! Opening a path so that it cannot lead out of a directory, whatever others rename or link meanwhile.
//!
//! The kernel does it in one call, openat2 (Linux 5.6). Where it lacks the call, or a filter of system calls
//! hides it, the same is done one name at a time: every step starts from a handle of the directory before it, no
//! step follows a link, and the text of a link is resolved from where it stands, as more names. A `..` goes back
//! to the handle that the walk came by, and not to wherever that directory has been moved.
//!
//! Never resolve a path of a container in another way: a string that was checked and is used again can lead
//! elsewhere the second time (CVE-2024-0132, CVE-2025-23359, CVE-2026-24260).

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

/// Number of openat2 calls before its "try again" is taken for an answer: it gives up on a `..` while anything
/// on the machine is renamed or mounted (openat2(2), `EAGAIN`).
const TRIES: usize = 128;

/// Number of links after which the kernel gives up too (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// The treatment of symbolic links in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// They are followed below the directory. Magic links of `/proc`, which lead to open files, are refused.
    Followed,
    /// A path with a link in it is refused.
    Refused,
}

/// Opens `path` as if `root` were the root of the file system. `path` starts there, with a leading `/` or without.
pub(crate) fn open_in_root(
    root: impl AsFd,
    path: &Path,
    flags: OFlag,
    links: Links,
) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC;
    // IN_ROOT, not BENEATH: an absolute link of an image or a driver container is meant from its own root.
    // NO_MAGICLINKS: /proc/self/root and /proc/self/fd/N would jump out of any root.
    let resolve = ResolveFlag::RESOLVE_IN_ROOT
        | match links {
            Links::Followed => ResolveFlag::RESOLVE_NO_MAGICLINKS,
            Links::Refused => ResolveFlag::RESOLVE_NO_SYMLINKS,
        };
    let how = OpenHow::new().flags(flags).resolve(resolve);
    // The kernel answers ENOENT to an empty path.
    let nonempty = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut tries = (0..TRIES).map(|_| openat2(root.as_fd(), nonempty, how));
    match tries.find(|opened| !matches!(opened, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN)) {
        // seccomp filters that are older than the call answer EPERM, newer ones ENOSYS.
        Err(Errno::ENOSYS | Errno::EPERM) => walk(root, path, flags, links, &mut |_, _| ()),
        opened => opened,
    }
}

/// Opens `path` as [`open_in_root`] does, without openat2. `visit` is called with a handle of each directory, link and
/// file on the way, and one of the directory that it is in.
pub(crate) fn walk(
    root: impl AsFd,
    path: &Path,
    flags: OFlag,
    links: Links,
    visit: &mut dyn FnMut(&OwnedFd, &OwnedFd),
) -> Result<OwnedFd> {
    // O_PATH opens anything, even a device or a fifo, without an effect on it (open(2)).
    let handle = OFlag::O_PATH | OFlag::O_CLOEXEC;
    // Handles from the root to the current directory, and the names that remain, the next one last.
    let mut parents = vec![openat(&root, ".", handle | OFlag::O_DIRECTORY, Mode::empty())?];
    let mut remaining = names(path.as_os_str().as_bytes());
    let mut turns = 0;
    while let Some(name) = remaining.pop() {
        let parent = parents.last().ok_or(Errno::ENOENT)?;
        if name == "." || name == ".." {
            let up = usize::from(name == "..");
            parents.truncate((parents.len() - up).max(1));
            continue;
        }
        let entry = openat(parent, name.as_os_str(), handle | OFlag::O_NOFOLLOW, Mode::empty())?;
        visit(parent, &entry);
        let kind = kind(&entry)?;
        if kind != SFlag::S_IFLNK && !remaining.is_empty() {
            if kind != SFlag::S_IFDIR {
                return Err(Errno::ENOTDIR);
            }
            parents.push(entry);
            continue;
        }
        if kind != SFlag::S_IFLNK || (remaining.is_empty() && flags.contains(OFlag::O_NOFOLLOW)) {
            match open_last(parent, &name, entry, flags) {
                // A link has taken the place of what was examined: examine it again.
                Err(Errno::ELOOP) if kind != SFlag::S_IFLNK => remaining.push(name),
                done => return done,
            }
        } else {
            let target = readlinkat(&entry, "")?;
            if links == Links::Refused || is_magic(&entry, target.as_bytes())? {
                return Err(Errno::ELOOP);
            }
            if target.as_bytes().starts_with(b"/") {
                parents.truncate(1);
            }
            remaining.extend(names(target.as_bytes()));
        }
        turns += 1;
        if turns > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
    }
    openat(parents.last().ok_or(Errno::ENOENT)?, ".", flags, Mode::empty())
}

/// Opens the last name of a path, of which `entry` is a handle, with the requested flags.
fn open_last(parent: &OwnedFd, name: &OsString, entry: OwnedFd, flags: OFlag) -> Result<OwnedFd> {
    // By name, since /proc/self/fd, the way from an O_PATH handle to a readable one, may not be mounted.
    // O_NOFOLLOW turns a link that came meanwhile into ELOOP.
    if !flags.contains(OFlag::O_PATH) {
        return openat(parent, name.as_os_str(), flags | OFlag::O_NOFOLLOW, Mode::empty());
    }
    // With O_PATH the kernel checks O_DIRECTORY only at the open, and `entry` was opened without it.
    match flags.contains(OFlag::O_DIRECTORY) && kind(&entry)? != SFlag::S_IFDIR {
        true => Err(Errno::ENOTDIR),
        false => Ok(entry),
    }
}

/// Names of a path, the first one last. A slash at its end counts as a `.`: the path must be a directory.
fn names(path: &[u8]) -> Vec<OsString> {
    let end = path.ends_with(b"/").then_some(&b"."[..]);
    let parts = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let mut names: Vec<_> =
        parts.chain(end).map(|name| OsString::from_vec(name.to_vec())).collect();
    names.reverse();
    names
}

/// True for a magic link of `/proc`: it leads to an open file, and its text only describes that (symlink(7)).
/// The plain links there are `self` and `thread-self`, whose text is a number, and those whose text starts
/// with `self/`.
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

    /// Identity and type of the opened file.
    fn identity(opened: Result<OwnedFd>) -> Result<(u64, u64, SFlag)> {
        let fd = opened?;
        let stat = fstat(&fd)?;
        Ok((stat.st_dev, stat.st_ino, kind(&fd)?))
    }

    /// Returns every path of up to three names of the tree, and of a fourth behind three directories.
    fn paths() -> Vec<String> {
        let names = [
            "", ".", "..", "d", "e", "f", "abs", "up", "out", "file", "slash", "me", "back",
            "self", "none",
        ];
        // The names that lead on to another directory.
        let onward = ["", "..", "d", "e", "abs", "up", "back"];
        let longer = |paths: &[String], names: &[&str]| -> Vec<String> {
            let longer = |path| names.iter().map(move |name| format!("{path}/{name}"));
            paths.iter().flat_map(longer).collect()
        };
        let mut paths = vec![String::new()];
        let (mut longest, mut leading) = (paths.clone(), paths.clone());
        for _ in 0..3 {
            longest = longer(&longest, &names);
            leading = longer(&leading, &onward);
            paths.extend_from_slice(&longest);
        }
        paths.extend(longer(&leading, &names));
        paths.extend(["f".to_owned(), "../f".to_owned(), "d/../abs/f".to_owned()]);
        paths
    }

    /// Every path, opened in both ways.
    #[test]
    fn the_walk_opens_the_same_file_as_openat2() {
        let dir = std::env::temp_dir().join(format!("mig-cdi-open-in-root-{}", std::process::id()));
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
        let paths = paths();
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
                    let kernel = identity(open_in_root(&handle, path, flags, links));
                    let ours = {
                        let flags = flags | OFlag::O_CLOEXEC;
                        identity(walk(&handle, path, flags, links, &mut |_, _| ()))
                    };
                    assert_eq!(ours, kernel, "{path:?} {flags:?} {links:?}");
                    opened += usize::from(ours.is_ok());
                }
            }
        }
        assert!(opened > 4_000, "{opened}");
        fs::remove_dir_all(dir).unwrap();
    }

    /// `/proc` has links that lead out of any root.
    #[test]
    fn magic_links_are_refused() {
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
                let kernel = open_in_root(&proc, Path::new(path), flags, Links::Followed).map(drop);
                let ours = walk(&proc, Path::new(path), flags, Links::Followed, &mut |_, _| ());
                let ours = ours.map(drop);
                assert_eq!(ours, kernel, "{path} {flags:?}");
            }
        }
    }
}
