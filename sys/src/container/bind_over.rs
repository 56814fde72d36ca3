//! Binding a changed copy over a file of a container, for a hook that runs in the container's mount namespace
//! (`createContainer`). The file itself is read, and never written: the image may be shared.

use super::{
    Container, MountSource, attach, check_root, is_of_kernel, kernel, kind, mounted_systems,
    namespace, open, open_proc, same, set_namespace, tmpfs_with,
};
use crate::{Error, Result, root::read_all};
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, SFlag, fstat},
};
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

impl Container {
    /// Opens the container in whose mount namespace this process was started, whose root is at `root` there.
    /// A `/dev` of its own, which only the container's namespace has mounted, proves that it is a container's.
    ///
    /// # Errors
    /// When this is the mount namespace of the machine.
    pub fn inside(root: &Path) -> Result<Container> {
        let own = namespace("self", "mnt")?;
        let is_container = match namespace("1", "mnt") {
            Ok(first) => !same(&own, &first)?,
            // Process 1 has another user namespace, or more capabilities than we kept.
            Err(error) if error.is_denied() => true,
            Err(error) => return Err(error),
        };
        if !is_container {
            return Err(Error::refused("enter", root, "this is the machine's mount namespace")
                .with_cure("run the hook in the stage createContainer"));
        }
        check_root(root)?;
        // In the container's namespace every file system is one of it: no node is made here.
        Container::open(&own, root, mounted_systems("self")?)
    }

    /// Binds over a file what `change` makes of its content. When the container has no such file, `change` gets no
    /// bytes, and an empty file is made with the directories above it.
    ///
    /// # Errors
    /// When the path leads out of the container, or to something that is not a file or larger than `limit`; and
    /// the error of `change`.
    pub fn bind_over<E: From<Error>>(
        &mut self,
        path: &str,
        limit: usize,
        change: impl FnOnce(&[u8]) -> std::result::Result<Vec<u8>, E>,
    ) -> std::result::Result<(), E> {
        let shown = self.path.join(path.trim_start_matches('/'));
        let existing = match self.resolve(path) {
            Err(Errno::ENOENT) => None,
            opened => Some(opened.map_err(|errno| Error::call("open", &shown, errno))?),
        };
        let old = existing.as_ref().map(|file| read(file, &shown, limit)).transpose()?;
        let source = MountSource::lone_file(&change(&old.unwrap_or_default())?)?;
        // The handle that was read is the target: what was checked is what is covered.
        let target = match existing {
            Some(file) => file,
            None => self.make_target(path, false, &shown)?,
        };
        Ok(attach(&source, &target, &shown)?)
    }
}

impl MountSource {
    /// Makes a read-only file to be bound. Before Linux 6.15 no file can be taken from a mount that is attached
    /// nowhere, so the tmpfs is attached in a mount namespace that is left, and so destroyed, at once.
    fn lone_file(content: &[u8]) -> Result<MountSource> {
        let home = namespace("self", "mnt")?;
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| Error::call("make", "a mount namespace", errno))?;
        let made = lone_file(content);
        set_namespace(&home)?;
        Ok(MountSource { mount: made?, is_dir: false })
    }
}

fn lone_file(content: &[u8]) -> Result<OwnedFd> {
    const NAME: &str = "file";
    let fail = |op| move |errno| Error::call(op, "a tmpfs", errno);
    // A copied namespace has the same peer groups (mount_namespaces(7)): without this the mount on `/` would
    // appear in the container, and on a shared root on the host.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(fail("make the root mount private for"))?;
    let tmpfs = tmpfs_with(NAME, content)?;
    let root = open(Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    kernel::attach(tmpfs.as_fd(), root.as_fd()).map_err(fail("mount"))?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(&tmpfs, NAME, flags, Mode::empty()).map_err(fail("open a file in"))?;
    let lone = kernel::detached_bind(file.as_fd()).map_err(fail("clone the mount of a file in"))?;
    kernel::protect(lone.as_fd()).map_err(fail("set the mount attributes of a file in"))?;
    Ok(lone)
}

/// Reads a file through its `O_PATH` handle, once that is known to be a regular file: to open a device has
/// effects, and to open a fifo waits.
fn read(file: &OwnedFd, shown: &Path, limit: usize) -> Result<Vec<u8>> {
    let stat = fstat(file).map_err(|errno| Error::call("stat", shown, errno))?;
    if kind(&stat) != SFlag::S_IFREG || is_of_kernel(file, shown)? {
        return Err(Error::refused("read", shown, "it is no regular file"));
    }
    // An O_PATH handle cannot be read (open(2)); its link in /proc opens the same file, wherever its path leads now.
    let number = file.as_raw_fd().to_string();
    let again = open_proc(
        &Path::new("self/fd").join(number),
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
    );
    read_all(File::from(again?), shown, limit)
}
