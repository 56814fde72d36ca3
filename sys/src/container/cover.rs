//! A file of a container with another over it, for a hook that runs in the container's mount namespace
//! (`createContainer`). The file itself is read, and never written.

use super::{
    Container, Source, attach, check_root, is_of_kernel, kernel, kind, namespace, open, open_proc,
    our_dev, same, set_namespace, tmpfs_with,
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
    /// The container in whose mount namespace this process was started, whose root is at `root` there.
    /// That it is one shows in its `/dev`: the machine sees the directory of the image, and what a
    /// runtime mounted there only the container does.
    ///
    /// # Errors
    /// When this is the mount namespace of the machine.
    pub fn inside(root: &Path) -> Result<Container> {
        let own = namespace("self", "mnt")?;
        let outside = match namespace("1", "mnt") {
            Ok(first) => !same(&own, &first)?,
            // Of another user namespace, or with more capabilities than ours.
            Err(error) if error.is_denied() => true,
            Err(error) => return Err(error),
        };
        if !outside {
            let reason = "this is the machine's mount namespace; use the stage createContainer";
            return Err(Error::refused("enter", root, reason));
        }
        check_root(root)?;
        Container::open(&own, root, our_dev()?)
    }

    /// Mounts over a file what `change` makes of its content: of nothing, when the container has no such
    /// file; an empty one is then made, and the directories above it.
    ///
    /// # Errors
    /// When the path leads out of the container, or to something that is no file or larger than `limit`.
    pub fn cover<E: From<Error>>(
        &mut self,
        path: &str,
        limit: usize,
        change: impl FnOnce(&[u8]) -> std::result::Result<Vec<u8>, E>,
    ) -> std::result::Result<(), E> {
        let shown = self.path.join(path.trim_start_matches('/'));
        let found = match self.resolve(path) {
            Err(Errno::ENOENT) => None,
            opened => Some(opened.map_err(|errno| Error::call("open", &shown, errno))?),
        };
        let old = found.as_ref().map(|file| read(file, &shown, limit)).transpose()?;
        let source = Source::lone_file(&change(&old.unwrap_or_default())?)?;
        let target = match found {
            Some(file) => file,
            None => self.make_target(path, false, &shown)?,
        };
        Ok(attach(&source, &target, &shown)?)
    }
}

impl Source {
    /// A file that nobody changes. Before Linux 6.15 no file can be taken from a mount that is attached
    /// nowhere: the tmpfs is attached in a mount namespace that goes with it.
    fn lone_file(content: &[u8]) -> Result<Source> {
        let home = namespace("self", "mnt")?;
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| Error::call("make", "a mount namespace", errno))?;
        let made = lone_file(content);
        set_namespace(&home)?;
        Ok(Source { mount: made?, is_dir: false })
    }
}

fn lone_file(content: &[u8]) -> Result<OwnedFd> {
    const NAME: &str = "file";
    let fail = |op| move |errno| Error::call(op, "a tmpfs", errno);
    // Nothing of this is passed on to the namespaces that ours was copied from.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(fail("make private the root below"))?;
    let tmpfs = tmpfs_with(NAME, content)?;
    let root = open(Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    kernel::attach(tmpfs.as_fd(), root.as_fd()).map_err(fail("attach"))?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(&tmpfs, NAME, flags, Mode::empty()).map_err(fail("open a file in"))?;
    let lone = kernel::detached_bind(file.as_fd()).map_err(fail("take a file from"))?;
    kernel::protect(lone.as_fd()).map_err(fail("make read-only"))?;
    Ok(lone)
}

/// The content of what is open, once it is known to be a file: to open a device can do things, and a
/// fifo would wait.
fn read(file: &OwnedFd, shown: &Path, limit: usize) -> Result<Vec<u8>> {
    let stat = fstat(file).map_err(|errno| Error::call("stat", shown, errno))?;
    if kind(&stat) != SFlag::S_IFREG || is_of_kernel(file, shown)? {
        return Err(Error::refused("read", shown, "it is no regular file"));
    }
    let number = file.as_raw_fd().to_string();
    let again = open_proc(
        &Path::new("self/fd").join(number),
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
    );
    read_all(File::from(again?), shown, limit)
}
