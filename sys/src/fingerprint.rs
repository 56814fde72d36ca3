//! Whether the driver's capability tree is still the one that was looked at. procfs tells nobody of a
//! change, so it has to be asked again and again, as cheaply as that can be done.

use crate::{Root, error::optional};
use nix::{
    fcntl::{AtFlags, OFlag},
    sys::stat::fstatat,
};
use std::{os::fd::OwnedFd, rc::Rc};

const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
const GPUS: &str = "/proc/driver/nvidia/gpus";
const DEVICES: &str = "/proc/devices";
const VERSION: &str = "/proc/driver/nvidia/version";
/// Far above what the driver prints.
const LIMIT: usize = 64 << 10;

/// What shows that a node has changed: the directories of GPU instances and compute instances, the
/// numbers of drivers, the GPUs and the driver's version.
#[derive(Debug, Clone)]
pub struct Fingerprint {
    /// [`CAPABILITIES`], held open: the driver that takes it away takes all that is in it.
    tree: Option<Rc<OwnedFd>>,
    /// Directories below [`CAPABILITIES`]: of GPUs, of GPU instances, of compute instances.
    dirs: [Vec<(String, Option<Mark>)>; 3],
    texts: Texts,
}

/// [`DEVICES`], [`VERSION`] and the names in [`GPUS`], or why they cannot be read. A GPU with another minor
/// has another directory of capabilities.
type Texts = (Text, Text, Result<Option<Vec<String>>, String>);
type Text = Result<Option<Vec<u8>>, String>;

/// One directory at one time. In procfs the number of links tells how many directories are in it, and a
/// directory that is made again has another time: the kernel gives numbers and inodes of removed ones
/// to new ones (`proc_alloc_inum` in `fs/proc/generic.c`), but no inode outlives its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: u64,
    links: u64,
    time: (i64, i64),
}

impl Fingerprint {
    /// Takes the fingerprint of a node.
    #[must_use]
    pub fn take(proc: &Root) -> Fingerprint {
        let tree = open(proc).map(Rc::new);
        let migs = below(proc, "", "gpu").into_iter().map(|gpu| format!("{gpu}/mig"));
        let gpus: Vec<_> = [String::new()].into_iter().chain(migs).collect();
        let gis: Vec<_> = gpus[1..].iter().flat_map(|mig| below(proc, mig, "gi")).collect();
        let cis: Vec<_> = gis.iter().flat_map(|gi| below(proc, gi, "ci")).collect();
        let mark = |dir: String| {
            let mark = tree.as_ref().and_then(|tree| mark(tree, &dir));
            (dir, mark)
        };
        let dirs = [gpus, gis, cis].map(|dirs| dirs.into_iter().map(mark).collect());
        Fingerprint { tree, dirs, texts: texts(proc) }
    }

    /// True when no GPU instance came or went, as far as a glance tells: one system call for each GPU, and
    /// for each GPU instance at every fourth turn, which shows its compute instances.
    #[must_use]
    pub fn holds_at_a_glance(&self, turn: u64) -> bool {
        let [gpus, gis, _] = &self.dirs;
        let due = (0..4).map(|n| n == turn % 4).cycle();
        let gis = gis.iter().zip(due).filter(|(_, due)| *due).map(|(gi, _)| gi);
        marks_hold(self.tree.as_deref(), gpus.iter().chain(gis))
    }

    /// True when nothing has changed.
    #[must_use]
    pub fn holds(&self, proc: &Root) -> bool {
        marks_hold(open(proc).as_ref(), self.dirs.iter().flatten()) && self.texts == texts(proc)
    }

    /// True when a directory below `/proc/driver/nvidia/capabilities` is the one that it was in `other`.
    #[must_use]
    pub fn has_the_same(&self, other: &Fingerprint, dir: &str) -> bool {
        let mark = |of: &Fingerprint| {
            of.dirs.iter().flatten().find(|(name, _)| name == dir).and_then(|(_, mark)| *mark)
        };
        let identity = |mark: Mark| (mark.inode, mark.time);
        mark(self).is_some_and(|now| mark(other).map(identity) == Some(identity(now)))
    }
}

fn marks_hold<'d>(
    tree: Option<&OwnedFd>,
    mut dirs: impl Iterator<Item = &'d (String, Option<Mark>)>,
) -> bool {
    dirs.all(|(dir, old)| *old == tree.and_then(|tree| mark(tree, dir)))
}

fn open(proc: &Root) -> Option<OwnedFd> {
    optional(proc.open_below(CAPABILITIES, OFlag::O_PATH | OFlag::O_DIRECTORY)).ok().flatten()
}

fn mark(tree: &OwnedFd, dir: &str) -> Option<Mark> {
    let flags = AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW;
    let stat = fstatat(tree, dir, flags).ok()?;
    #[allow(clippy::useless_conversion, reason = "the types are others on other machines")]
    Some(Mark {
        inode: stat.st_ino.into(),
        links: stat.st_nlink.into(),
        time: (stat.st_mtime.into(), stat.st_mtime_nsec.into()),
    })
}

/// The directories `prefix` with a number in a directory of the tree.
fn below(proc: &Root, dir: &str, prefix: &str) -> Vec<String> {
    let names = proc.list(&format!("{CAPABILITIES}/{dir}")).ok().flatten().unwrap_or_default();
    let numbered = names.into_iter().filter(|name| crate::text::numbered(name, prefix).is_some());
    numbered.map(|name| if dir.is_empty() { name } else { format!("{dir}/{name}") }).collect()
}

fn texts(proc: &Root) -> Texts {
    let read = |path| proc.read(path, LIMIT).map_err(|e| e.to_string());
    (read(DEVICES), read(VERSION), proc.list(GPUS).map_err(|e| e.to_string()))
}
