//! A fingerprint of the driver's state in `/proc` and `/sys`: capability tree, GPUs, major numbers, version, DRI nodes. A later
//! poll shows whether anything has changed since.
//!
//! Neither reports a change by itself (inotify(7), "pseudo-filesystems"), so it has to be polled again and again,
//! as cheaply as that can be done. Equal fingerprints prove nothing about a slice that was recreated identically
//! while the kernel reused inode and time; see [`DirStamp`].

use crate::{Result, Root, error::optional};
use mig_cdi_model::PciAddress;
use nix::{
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, fstat, fstatat},
};
use std::{os::fd::OwnedFd, rc::Rc};

const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
const GPUS: &str = "/proc/driver/nvidia/gpus";
const DEVICES: &str = "/proc/devices";
const VERSION: &str = "/proc/driver/nvidia/version";
/// Far above what the driver prints, in bytes.
const LIMIT: usize = 64 << 10;

/// Everything in `/proc` and `/sys` that shows a change of the node: the directories of GPU instances and compute
/// instances, the major numbers of drivers, the GPUs with their DRI nodes, and the driver's version.
#[derive(Debug, Clone)]
pub struct Fingerprint {
    /// [`CAPABILITIES`].
    tree: Option<OpenDir>,
    gpus: Vec<GpuDir>,
    module_files: ModuleFiles,
}

/// An open directory and its stamp. To poll an open one costs half of polling a path. But once the directory is
/// removed, it keeps its old stamp: `proc_getattr` in `fs/proc/generic.c` leaves the number of links as it is when
/// the entry has none.
#[derive(Debug, Clone)]
struct OpenDir {
    fd: Rc<OwnedFd>,
    stamp: DirStamp,
}

/// The capability directory of a GPU.
#[derive(Debug, Clone)]
struct GpuDir {
    /// `gpu0/mig`.
    name: String,
    /// `None` when it was gone before it could be opened.
    dir: Option<OpenDir>,
    /// Stamps of `gi1` and `gi1/ci0` below it.
    instances: Vec<(String, Option<DirStamp>)>,
}

/// Files outside of the tree that a change of the driver shows in: content of [`DEVICES`] and [`VERSION`], the names in
/// [`GPUS`], and those of the DRI nodes of each, which come and go with the module nvidia-drm. The minor of a GPU is not read: a
/// GPU with another minor has another capability directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModuleFiles {
    devices: Result<Option<Vec<u8>>>,
    version: Result<Option<Vec<u8>>>,
    gpus: Result<Option<Vec<String>>>,
    /// Names in the directory `drm` of each GPU. A name has the minor in it (`drivers/gpu/drm/drm_sysfs.c`).
    drm: Vec<Result<Option<Vec<String>>>>,
}

/// Identity and age of a directory, as stat(2) reports them. In procfs the number of links shows how many directories are in it,
/// and a directory that is recreated has another time. The inode number alone proves nothing: the kernel gives that of a removed
/// entry to a new one (`proc_alloc_inum` in `fs/proc/generic.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DirStamp {
    inode: u64,
    links: u64,
    time: (i64, i64),
}

impl Fingerprint {
    /// Takes the fingerprint of a node.
    #[must_use]
    pub fn take(proc: &Root) -> Fingerprint {
        let tree = open(proc).and_then(OpenDir::of);
        let gpus = below(proc, "", "gpu").into_iter().map(|gpu| {
            let name = format!("{gpu}/mig");
            let dir = tree.as_ref().and_then(|tree| OpenDir::of(open_in(&tree.fd, &name)?));
            let gis = below(proc, &name, "gi");
            let cis = gis.iter().flat_map(|gi| {
                let cis = below(proc, &format!("{name}/{gi}"), "ci").into_iter();
                cis.map(move |ci| format!("{gi}/{ci}"))
            });
            let stamp = |instance: String| {
                let stamp = dir.as_ref().and_then(|dir| stamp_in(&dir.fd, &instance));
                (instance, stamp)
            };
            let cis: Vec<_> = cis.collect();
            let instances = gis.into_iter().chain(cis).map(stamp).collect();
            GpuDir { name, dir, instances }
        });
        let gpus = gpus.collect();
        Fingerprint { tree, gpus, module_files: ModuleFiles::read(proc) }
    }

    /// Plain poll, one system call for each GPU: true when no GPU instance came or went. Compute instances, major
    /// numbers and a recreated instance are seen by [`Fingerprint::is_unchanged`] alone.
    #[must_use]
    pub fn is_unchanged_at_plain_poll(&self) -> bool {
        let Some(tree) = &self.tree else { return true };
        // A driver that unloads removes the whole tree: one path, that of the first GPU, shows it. Open
        // directories would not.
        let first = self.gpus.first().is_none_or(|gpu| gpu.is_same_by_path(&tree.fd));
        let others = || self.gpus.iter().skip(1).all(|gpu| gpu.is_same_open(&tree.fd));
        first && tree.is_same() && others()
    }

    /// Full scan: true when nothing has changed.
    #[must_use]
    pub fn is_unchanged(&self, proc: &Root) -> bool {
        let tree = open(proc);
        if tree.as_ref().and_then(stamp_of) != self.tree.as_ref().map(|tree| tree.stamp) {
            return false;
        }
        let gpus = tree.is_none_or(|tree| {
            self.gpus.iter().all(|gpu| gpu.is_same_by_path(&tree) && gpu.has_same_instances())
        });
        gpus && self.module_files == ModuleFiles::read(proc)
    }

    /// True when a directory below `/proc/driver/nvidia/capabilities` is the one that it was in `other`.
    #[must_use]
    pub fn has_same_instance(&self, other: &Fingerprint, dir: &str) -> bool {
        let identity = |stamp: DirStamp| (stamp.inode, stamp.time);
        self.instance_stamp(dir)
            .is_some_and(|now| other.instance_stamp(dir).map(identity) == Some(identity(now)))
    }

    /// Stamp of an instance, by its directory: `gpu0/mig/gi1/ci0`.
    fn instance_stamp(&self, dir: &str) -> Option<DirStamp> {
        self.gpus.iter().find_map(|gpu| {
            let instance = dir.strip_prefix(&gpu.name)?.strip_prefix('/')?;
            gpu.instances.iter().find(|(name, _)| name == instance)?.1
        })
    }
}

impl OpenDir {
    fn of(fd: OwnedFd) -> Option<OpenDir> {
        let stamp = stamp_of(&fd)?;
        Some(OpenDir { fd: Rc::new(fd), stamp })
    }

    fn is_same(&self) -> bool {
        stamp_of(&self.fd) == Some(self.stamp)
    }
}

impl GpuDir {
    fn is_same_by_path(&self, tree: &OwnedFd) -> bool {
        stamp_in(tree, &self.name) == self.dir.as_ref().map(|dir| dir.stamp)
    }

    /// Half as expensive, and blind to the removal of the whole GPU.
    fn is_same_open(&self, tree: &OwnedFd) -> bool {
        self.dir.as_ref().map_or_else(|| self.is_same_by_path(tree), OpenDir::is_same)
    }

    fn has_same_instances(&self) -> bool {
        let now = |instance| self.dir.as_ref().and_then(|dir| stamp_in(&dir.fd, instance));
        self.instances.iter().all(|(instance, old)| *old == now(instance))
    }
}

fn open(proc: &Root) -> Option<OwnedFd> {
    optional(proc.open_below(CAPABILITIES, OFlag::O_PATH | OFlag::O_DIRECTORY)).ok().flatten()
}

fn open_in(tree: &OwnedFd, dir: &str) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(tree, dir, flags, Mode::empty()).ok()
}

fn stamp_in(dir: &OwnedFd, name: &str) -> Option<DirStamp> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok().as_ref().map(DirStamp::of)
}

fn stamp_of(fd: &OwnedFd) -> Option<DirStamp> {
    fstat(fd).ok().as_ref().map(DirStamp::of)
}

impl DirStamp {
    #[allow(clippy::useless_conversion, reason = "the types are others on other machines")]
    fn of(stat: &FileStat) -> DirStamp {
        DirStamp {
            inode: stat.st_ino.into(),
            links: stat.st_nlink.into(),
            time: (stat.st_mtime.into(), stat.st_mtime_nsec.into()),
        }
    }
}

/// Directories in a directory of the tree that are named `prefix` and a number.
fn below(proc: &Root, dir: &str, prefix: &str) -> Vec<String> {
    let names = proc.list(&format!("{CAPABILITIES}/{dir}")).ok().flatten().unwrap_or_default();
    let numbered = names.into_iter().filter(|name| crate::text::numbered(name, prefix).is_some());
    numbered.collect()
}

impl ModuleFiles {
    fn read(proc: &Root) -> ModuleFiles {
        let gpus = proc.list(GPUS);
        let names = gpus.iter().flatten().flatten();
        let addresses = names.filter_map(|name| name.parse::<PciAddress>().ok());
        let drm = addresses.map(|pci| proc.list(&format!("/sys/bus/pci/devices/{pci}/drm")));
        ModuleFiles {
            devices: proc.read(DEVICES, LIMIT),
            version: proc.read(VERSION, LIMIT),
            drm: drm.collect(),
            gpus,
        }
    }
}
