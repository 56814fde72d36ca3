//! The inside of a container that has been created and not started: nodes in its `/dev`, files of the
//! machine bound into it, in its mount namespace and nowhere else.
//!
//! Every path of the container is resolved below a handle of its root (`open_in_root`), every node and every
//! mount is made by descriptor, and all that was made can be undone. Nothing is written to a file of the image,
//! and no file of the image is the source of a mount (CVE-2025-31133).

mod bind_over;

use crate::{
    Error, FileIdentity, Owner, Result,
    kernel::mount as kernel,
    open_in_root::{Links, open_in_root},
    root::read_all,
};
use mig_cdi_model::{Major, Minor};
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sched::{CloneFlags, setns},
    sys::{
        stat::{FileStat, Mode, SFlag, fstat, makedev, mkdirat, mknodat},
        statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, TMPFS_MAGIC, fstatfs},
    },
    unistd::{UnlinkatFlags, unlinkat},
};
use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The machine's own procfs.
const PROC: &str = "/proc";

const DEV_CURE: &str = "mount a tmpfs on its /dev";

/// A file or directory of the machine that is ready to be bound: opened, and detached from its path, before the
/// container is entered. In the container's mount namespace the same path would lead elsewhere.
#[derive(Debug)]
pub struct MountSource {
    mount: OwnedFd,
    is_dir: bool,
}

impl MountSource {
    /// Opens a path of the machine without symbolic links: `generate` has written real paths, so a link means
    /// that the path was replaced.
    ///
    /// # Errors
    /// When it does not exist, or leads through a link.
    pub fn open(path: &Path) -> Result<MountSource> {
        let fail = |op| move |errno| Error::call(op, path, errno);
        let root = open(Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let fd = open_in_root(&root, path, OFlag::O_PATH, Links::Refused).map_err(fail("open"))?;
        let is_dir = kind(&fstat(&fd).map_err(fail("stat"))?) == SFlag::S_IFDIR;
        // Cloned, then made read-only, then attached: no moment in which the container could write to it.
        let mount = kernel::detached_bind(fd.as_fd()).map_err(fail("clone the mount of"))?;
        kernel::protect(mount.as_fd()).map_err(fail("set the mount attributes of"))?;
        Ok(MountSource { mount, is_dir })
    }

    /// Makes a read-only directory with one file in it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn file(name: &str, content: &str) -> Result<MountSource> {
        let fail = |op| move |errno| Error::call(op, name, errno);
        let mount = tmpfs_with(name, content.as_bytes())?;
        kernel::protect(mount.as_fd()).map_err(fail("set the mount attributes of"))?;
        Ok(MountSource { mount, is_dir: true })
    }
}

/// A device node to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewNode<'a> {
    /// Path below `/dev`: `nvidia-caps/nvidia-cap12`.
    pub path: &'a str,
    /// Major number.
    pub major: Major,
    /// Minor number.
    pub minor: Minor,
    /// Permission bits.
    pub mode: u32,
    /// User and group, as the initial user namespace has them.
    pub owner: Owner,
}

/// A file or directory that was made, by its parent and name.
#[derive(Debug)]
struct CreatedEntry {
    parent: OwnedFd,
    name: String,
    flag: UnlinkatFlags,
}

/// A container whose mount namespace this process has entered.
#[derive(Debug)]
pub struct Container {
    outside: OwnedFd,
    root: OwnedFd,
    path: PathBuf,
    dev: OwnedFd,
    /// Device numbers of the file systems that are mounted on the machine.
    host_systems: Vec<u64>,
    created: Vec<CreatedEntry>,
}

impl Container {
    /// Enters the mount namespace of a container that the process `pid` is about to become, whose root
    /// is at `root` there. This process must have one thread: the kernel refuses setns(2) into a mount namespace
    /// to a process whose threads share their working directory.
    ///
    /// # Errors
    /// When the container has no mount namespace or no `/dev` of its own, or has a user namespace, in
    /// which no device node opens.
    pub fn enter(pid: u32, root: &Path) -> Result<Container> {
        let outside = namespace("self", "mnt")?;
        let inside = namespace(&pid.to_string(), "mnt")?;
        if same(&outside, &inside)? {
            let cause = "the container has no mount namespace of its own";
            return Err(Error::refused("enter", root, cause));
        }
        // Mounts of a user namespace are nodev (`SB_I_NODEV` in fs/super.c), and mknod(2) takes CAP_MKNOD
        // of the initial one: a node made there opens nothing.
        if !same(&namespace("self", "user")?, &namespace(&pid.to_string(), "user")?)? {
            let cause = "the container has a user namespace, in which no new node opens";
            return Err(Error::refused("enter", root, cause)
                .with_cure("request the device from the engine, by its cdi name"));
        }
        check_root(root)?;
        let host_systems = mounted_systems("self")?;
        set_namespace(&inside)?;
        let entered = Container::open(&outside, root, host_systems);
        if entered.is_err() {
            set_namespace(&outside)?;
        }
        entered
    }

    fn open(outside: &OwnedFd, path: &Path, host_systems: Vec<u64>) -> Result<Container> {
        let root = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let shown = path.join("dev");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        // An image may have a link as its /dev (CVE-2026-41579).
        let dev = open_in_root(&root, Path::new("dev"), flags, Links::Refused)
            .map_err(|errno| Error::call("open", &shown, errno))?;
        // On the file system of the image a node would stay on the host's disk, and outlive the container.
        if device(&dev)? == device(&root)? {
            return Err(
                Error::refused("use", shown, "it is a directory of the image").with_cure(DEV_CURE)
            );
        }
        let outside =
            outside.try_clone().map_err(|e| Error::io("duplicate the descriptor of", PROC, &e))?;
        let (path, created) = (path.to_owned(), Vec::new());
        Ok(Container { outside, root, path, dev, host_systems, created })
    }

    /// Makes a node, or finds the right one already there, and returns a handle of it. Nodes are made only where
    /// they end with the container: on a tmpfs that the machine has not mounted.
    ///
    /// # Errors
    /// When something else has its name, or it cannot be made.
    pub fn node(&mut self, node: &NewNode<'_>) -> Result<OwnedFd> {
        let shown = self.path.join("dev").join(node.path);
        let fail = |op| {
            let shown = shown.clone();
            move |errno| Error::call(op, &shown, errno)
        };
        let (parent, name) = match node.path.rsplit_once('/') {
            Some((dir, name)) => (self.dev_dir(dir, &shown)?, name),
            None => (clone(&self.dev)?, node.path),
        };
        let numbers = makedev(node.major.0.into(), node.minor.0.into());
        let mode = Mode::from_bits_truncate(node.mode);
        let obstacle = self.obstacle(&parent, &shown)?;
        let made = match obstacle {
            Some(_) => Err(Errno::EEXIST),
            None => mknodat(&parent, name, SFlag::S_IFCHR, mode, numbers),
        };
        match made {
            Ok(()) => self.record_created(&parent, name, UnlinkatFlags::NoRemoveDir)?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(fail("make node")(errno)),
        }
        // The handle is checked, not the name: a process of another container may share this /dev and rename.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match (openat(&parent, name, flags, Mode::empty()), obstacle) {
            (Err(Errno::ENOENT), Some(obstacle)) => return Err(obstacle),
            (opened, _) => opened.map_err(fail("open"))?,
        };
        let stat = fstat(&fd).map_err(fail("stat"))?;
        if kind(&stat) != SFlag::S_IFCHR || stat.st_rdev != numbers {
            let cause = format!(
                "the container has something else there, not the character device {}:{}",
                node.major, node.minor
            );
            return Err(Error::refused("use", shown, cause));
        }
        if made.is_ok() && node.owner != Owner::ROOT {
            node.owner.own(&fd).map_err(fail("chown"))?;
        }
        Ok(fd)
    }

    /// Opens a directory below `/dev`, and makes it when it is missing.
    fn dev_dir(&mut self, path: &str, shown: &Path) -> Result<OwnedFd> {
        let mut dir = clone(&self.dev)?;
        for name in path.split('/') {
            let obstacle = self.obstacle(&dir, shown)?;
            if obstacle.is_none() {
                self.make_dir(&dir, name, shown)?;
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            dir = match (openat(&dir, name, flags, Mode::empty()), obstacle) {
                (Err(Errno::ENOENT), Some(obstacle)) => return Err(obstacle),
                (opened, _) => opened.map_err(|e| Error::call("open", shown, e))?,
            };
        }
        Ok(dir)
    }

    /// Why no node is made in a directory, if so. An image that has `/dev` as a volume gets one on the machine's disk. A
    /// devtmpfs is a tmpfs by its type (`shmem_fill_super` in `mm/shmem.c` serves both), as are the machine's `/run`
    /// and `/dev/shm`, so the type alone does not tell.
    fn obstacle(&self, dir: &OwnedFd, shown: &Path) -> Result<Option<Error>> {
        let system = fstatfs(dir).map_err(|errno| Error::call("stat", shown, errno))?;
        let cause = if system.filesystem_type() != TMPFS_MAGIC {
            "its directory is not on a tmpfs, where the node would end with the container"
        } else if self.host_systems.contains(&device(dir)?) {
            "its directory is a file system of the machine, where the node would outlive the container"
        } else {
            return Ok(None);
        };
        Ok(Some(Error::refused("make node", shown, cause).with_cure(DEV_CURE)))
    }

    fn make_dir(&mut self, parent: &OwnedFd, name: &str, shown: &Path) -> Result<()> {
        match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => self.record_created(parent, name, UnlinkatFlags::RemoveDir),
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(Error::call("make directory", shown, errno)),
        }
    }

    /// Mounts a source on a path of the container. Missing directories on it are made.
    ///
    /// # Errors
    /// When the path leads out of the container or to something of another kind, or cannot be made.
    pub fn mount(&mut self, source: &MountSource, path: &str) -> Result<()> {
        let shown = self.path.join(path.trim_start_matches('/'));
        let target = match self.resolve(path) {
            Err(Errno::ENOENT) => self.make_target(path, source.is_dir, &shown)?,
            opened => opened.map_err(|errno| Error::call("open", &shown, errno))?,
        };
        attach(source, &target, &shown)
    }

    /// Opens a path of the container; symbolic links are followed below its root.
    fn resolve(&self, path: &str) -> nix::Result<OwnedFd> {
        let path = Path::new(path.trim_matches('/'));
        open_in_root(&self.root, path, OFlag::O_PATH, Links::Followed)
    }

    /// Makes a mount point, and the directories above it.
    fn make_target(&mut self, path: &str, is_dir: bool, shown: &Path) -> Result<OwnedFd> {
        let fail = |op| move |errno| Error::call(op, shown, errno);
        let (dir, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
        let parent = match self.resolve(dir) {
            Err(Errno::ENOENT) if !dir.is_empty() => self.make_target(dir, true, shown)?,
            opened => opened.map_err(fail("open"))?,
        };
        if is_dir {
            self.make_dir(&parent, name, shown)?;
        } else {
            // O_EXCL: a dangling link gets here too, and O_CREAT alone would create its target.
            let flags = OFlag::O_RDONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let file = openat(&parent, name, flags, Mode::from_bits_truncate(0o644));
            drop(file.map_err(fail("create"))?);
            self.record_created(&parent, name, UnlinkatFlags::NoRemoveDir)?;
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&parent, name, flags, Mode::empty()).map_err(fail("open"))
    }

    fn record_created(&mut self, parent: &OwnedFd, name: &str, flag: UnlinkatFlags) -> Result<()> {
        let parent = clone(parent)?;
        self.created.push(CreatedEntry { parent, name: name.to_owned(), flag });
        Ok(())
    }

    /// Goes back to the mount namespace of the machine. All that was made can still be undone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(&self) -> Result<()> {
        set_namespace(&self.outside)
    }

    /// Leaves, and removes all that was made. In the machine's namespace no file is a mount point, so
    /// each can be removed; its mounts in the container go with it (Linux 3.18).
    ///
    /// # Errors
    /// The error of the first step that failed; the others are done nevertheless.
    pub fn undo(self) -> Result<()> {
        let mut done = self.leave();
        for CreatedEntry { parent, name, flag } in self.created.iter().rev() {
            let removed = unlinkat(parent, name.as_str(), *flag);
            // A directory in which another program has made something meanwhile stays.
            if let Err(errno) = removed
                && errno != Errno::ENOTEMPTY
                && done.is_ok()
            {
                done = Err(Error::call("remove", self.path.join(name), errno));
            }
        }
        done
    }
}

/// Mounts a source on an open file, if that is of its kind.
fn attach(source: &MountSource, target: &OwnedFd, shown: &Path) -> Result<()> {
    let fail = |op| move |errno| Error::call(op, shown, errno);
    let target_kind = kind(&fstat(target).map_err(fail("stat"))?);
    let fits = match source.is_dir {
        true => target_kind == SFlag::S_IFDIR,
        false => target_kind == SFlag::S_IFREG || target_kind == SFlag::S_IFSOCK,
    };
    if !fits {
        return Err(Error::refused("mount on", shown, "the container has something else there"));
    }
    if is_of_kernel(target, shown)? {
        return Err(Error::refused("mount on", shown, "nothing is mounted in /proc or /sys"));
    }
    kernel::attach(source.mount.as_fd(), target.as_fd()).map_err(fail("mount on"))
}

/// True for a file of procfs or sysfs. An image can lead a path there with a link; a mount on it would change what
/// the container's init, or the runtime itself, reads of the kernel (CVE-2025-52881).
fn is_of_kernel(target: &OwnedFd, shown: &Path) -> Result<bool> {
    let system = fstatfs(target).map_err(|errno| Error::call("stat", shown, errno))?;
    Ok([PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&system.filesystem_type()))
}

/// Makes a tmpfs with one file that is not attached anywhere yet.
fn tmpfs_with(name: &str, content: &[u8]) -> Result<OwnedFd> {
    let fail = |op| move |errno| Error::call(op, name, errno);
    // Room for the directory and the rounding up to pages, which have 64 KiB on some aarch64 kernels.
    let mount =
        kernel::detached_tmpfs(content.len() + (64 << 10)).map_err(fail("make a tmpfs for"))?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(&mount, name, flags, Mode::from_bits_truncate(0o444));
    let mut file = File::from(file.map_err(fail("create"))?);
    file.write_all(content).map_err(|e| Error::io("write", name, &e))?;
    Ok(mount)
}

fn check_root(root: &Path) -> Result<()> {
    let up = root.components().any(|c| c == std::path::Component::ParentDir);
    match root == Path::new("/") || !root.is_absolute() || up {
        true => Err(Error::refused("enter", root, "this cannot be the root of a container")),
        false => Ok(()),
    }
}

/// Device numbers of the file systems that are mounted in the namespace of a process.
fn mounted_systems(pid: &str) -> Result<Vec<u64>> {
    const LIMIT: usize = 16 << 20;
    let path = Path::new(pid).join("mountinfo");
    let file = File::from(open_proc(&path, OFlag::O_RDONLY)?);
    let text = read_all(file, &Path::new(PROC).join(path), LIMIT)?;
    // ID PARENT MAJOR:MINOR …, proc(5).
    let number = |line: &str| {
        let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
        Some(makedev(major.parse().ok()?, minor.parse().ok()?))
    };
    Ok(String::from_utf8_lossy(&text).lines().filter_map(number).collect())
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn clone(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone()
        .map_err(|e| Error::io("duplicate the descriptor of", "a directory of the container", &e))
}

fn device(fd: &OwnedFd) -> Result<u64> {
    fstat(fd).map(|stat| stat.st_dev).map_err(|errno| Error::call("stat", "/dev", errno))
}

fn open(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::call("open", path, errno))
}

/// Opens a namespace of a process, in a `/proc` that is the kernel's.
fn namespace(pid: &str, which: &str) -> Result<OwnedFd> {
    open_proc(&Path::new(pid).join("ns").join(which), OFlag::O_RDONLY)
}

/// Opens a file of a `/proc` that is the kernel's: the handle is checked and then used, so that a mount over
/// `/proc` meanwhile changes nothing (CVE-2025-52881). Magic links are followed, which is their use here.
fn open_proc(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    let proc = open(Path::new(PROC), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let system = fstatfs(&proc).map_err(|errno| Error::call("stat", PROC, errno))?;
    if system.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Error::refused("read", PROC, "it is no procfs"));
    }
    openat(&proc, path, flags | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::call("open", Path::new(PROC).join(path), errno))
}

/// Two namespace files of one namespace have the same device and inode number (namespaces(7)).
fn same(a: &OwnedFd, b: &OwnedFd) -> Result<bool> {
    let stat = |fd| fstat(fd).map_err(|errno| Error::call("stat", PROC, errno));
    Ok(FileIdentity::of(&stat(a)?) == FileIdentity::of(&stat(b)?))
}

fn set_namespace(namespace: &OwnedFd) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::call("enter", "a mount namespace", errno))
}
