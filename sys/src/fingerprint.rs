//! Whether the driver's capability tree is still the one that was looked at. procfs tells nobody of a
//! change, so it has to be asked again and again, as cheaply as that can be done.

use crate::{Root, error::optional};
use nix::{
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, fstat, fstatat},
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
    /// [`CAPABILITIES`].
    tree: Option<Held>,
    gpus: Vec<Gpu>,
    texts: Texts,
}

/// A directory, held open, and what it was like. A look at what is held costs half of one at a path, but
/// of a directory that was removed it tells what was so before (`proc_getattr` in `fs/proc/generic.c`
/// leaves the number of links as it is once the entry has none).
#[derive(Debug, Clone)]
struct Held {
    fd: Rc<OwnedFd>,
    mark: Mark,
}

/// A GPU's part of the tree.
#[derive(Debug, Clone)]
struct Gpu {
    /// `gpu0/mig`.
    name: String,
    /// `None` when it was gone before it could be opened.
    held: Option<Held>,
    /// `gi1` and `gi1/ci0`, below it.
    instances: Vec<(String, Option<Mark>)>,
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
        let tree = open(proc).and_then(Held::of);
        let gpus = below(proc, "", "gpu").into_iter().map(|gpu| {
            let name = format!("{gpu}/mig");
            let held = tree.as_ref().and_then(|tree| Held::of(open_in(&tree.fd, &name)?));
            let gis = below(proc, &name, "gi");
            let cis = gis.iter().flat_map(|gi| {
                let cis = below(proc, &format!("{name}/{gi}"), "ci").into_iter();
                cis.map(move |ci| format!("{gi}/{ci}"))
            });
            let mark = |dir: String| {
                let mark = held.as_ref().and_then(|gpu| mark(&gpu.fd, &dir));
                (dir, mark)
            };
            let cis: Vec<_> = cis.collect();
            let instances = gis.into_iter().chain(cis).map(mark).collect();
            Gpu { name, held, instances }
        });
        let gpus = gpus.collect();
        Fingerprint { tree, gpus, texts: texts(proc) }
    }

    /// True when no GPU instance came or went, as far as a glance tells: one system call for each GPU.
    #[must_use]
    pub fn holds_at_a_glance(&self) -> bool {
        let Some(tree) = &self.tree else { return true };
        // The driver that takes the tree away takes all that is in it: one path tells of that.
        let is_there = self.gpus.first().is_none_or(|gpu| gpu.holds(&tree.fd));
        is_there && tree.holds() && self.gpus.iter().skip(1).all(|gpu| gpu.held_holds(&tree.fd))
    }

    /// True when nothing has changed.
    #[must_use]
    pub fn holds(&self, proc: &Root) -> bool {
        let tree = open(proc);
        if tree.as_ref().and_then(mark_of) != self.tree.as_ref().map(|tree| tree.mark) {
            return false;
        }
        let gpus = tree.is_none_or(|tree| {
            self.gpus.iter().all(|gpu| gpu.holds(&tree) && gpu.instances_hold())
        });
        gpus && self.texts == texts(proc)
    }

    /// True when a directory below `/proc/driver/nvidia/capabilities` is the one that it was in `other`.
    #[must_use]
    pub fn has_the_same(&self, other: &Fingerprint, dir: &str) -> bool {
        let identity = |mark: Mark| (mark.inode, mark.time);
        self.mark(dir).is_some_and(|now| other.mark(dir).map(identity) == Some(identity(now)))
    }

    /// Of an instance: `gpu0/mig/gi1/ci0`.
    fn mark(&self, dir: &str) -> Option<Mark> {
        self.gpus.iter().find_map(|gpu| {
            let instance = dir.strip_prefix(&gpu.name)?.strip_prefix('/')?;
            gpu.instances.iter().find(|(name, _)| name == instance)?.1
        })
    }
}

impl Held {
    fn of(fd: OwnedFd) -> Option<Held> {
        let mark = mark_of(&fd)?;
        Some(Held { fd: Rc::new(fd), mark })
    }

    fn holds(&self) -> bool {
        mark_of(&self.fd) == Some(self.mark)
    }
}

impl Gpu {
    /// As its path says.
    fn holds(&self, tree: &OwnedFd) -> bool {
        mark(tree, &self.name) == self.held.as_ref().map(|held| held.mark)
    }

    /// As long as nobody has taken the whole GPU away.
    fn held_holds(&self, tree: &OwnedFd) -> bool {
        self.held.as_ref().map_or_else(|| self.holds(tree), Held::holds)
    }

    fn instances_hold(&self) -> bool {
        let now = |dir| self.held.as_ref().and_then(|held| mark(&held.fd, dir));
        self.instances.iter().all(|(dir, old)| *old == now(dir))
    }
}

fn open(proc: &Root) -> Option<OwnedFd> {
    optional(proc.open_below(CAPABILITIES, OFlag::O_PATH | OFlag::O_DIRECTORY)).ok().flatten()
}

fn open_in(tree: &OwnedFd, dir: &str) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(tree, dir, flags, Mode::empty()).ok()
}

fn mark(dir: &OwnedFd, name: &str) -> Option<Mark> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok().as_ref().map(Mark::of)
}

fn mark_of(fd: &OwnedFd) -> Option<Mark> {
    fstat(fd).ok().as_ref().map(Mark::of)
}

impl Mark {
    #[allow(clippy::useless_conversion, reason = "the types are others on other machines")]
    fn of(stat: &FileStat) -> Mark {
        Mark {
            inode: stat.st_ino.into(),
            links: stat.st_nlink.into(),
            time: (stat.st_mtime.into(), stat.st_mtime_nsec.into()),
        }
    }
}

/// The directories `prefix` with a number in a directory of the tree.
fn below(proc: &Root, dir: &str, prefix: &str) -> Vec<String> {
    let names = proc.list(&format!("{CAPABILITIES}/{dir}")).ok().flatten().unwrap_or_default();
    let numbered = names.into_iter().filter(|name| crate::text::numbered(name, prefix).is_some());
    numbered.collect()
}

fn texts(proc: &Root) -> Texts {
    let read = |path| proc.read(path, LIMIT).map_err(|e| e.to_string());
    (read(DEVICES), read(VERSION), proc.list(GPUS).map_err(|e| e.to_string()))
}
