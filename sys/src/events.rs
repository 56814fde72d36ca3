//! The events that a resident process waits for: signals, changes in directories, and time.
//!
//! Directories are those of ordinary file systems: procfs and sysfs report no changes by inotify(7), which is
//! why [`crate::Fingerprint`] polls.

use crate::{Error, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::Duration,
};

/// Open sources of events.
#[derive(Debug)]
pub struct Events {
    signals: SignalFd,
    inotify: Inotify,
    dirs: HashMap<WatchDescriptor, PathBuf>,
}

/// Changes in a directory that are events, beside entries that appear or vanish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirEvents {
    /// No other.
    Names,
    /// Files that are written.
    Written,
    /// Files that get another mode or owner.
    Attributes,
}

/// The reasons for a wake-up. All are empty when the time ran out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wakeup {
    /// SIGTERM or SIGINT.
    pub stop: bool,
    /// SIGHUP.
    pub reload: bool,
    /// The extra descriptor of [`Events::wait`] can be read, or its other end is closed.
    pub is_extra_fd_ready: bool,
    /// Paths that were created, removed, renamed or written, or got another mode or owner.
    pub files: Vec<PathBuf>,
}

impl Events {
    /// Opens the sources. From now on the signals SIGTERM, SIGINT and SIGHUP are events; programs that this
    /// process runs start with them blocked.
    ///
    /// # Errors
    /// When the process may open no more descriptors.
    pub fn new() -> Result<Events> {
        let fail = |op| move |errno| Error::call(op, "this process", errno);
        let signals: SigSet =
            [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
        // A signal that is not blocked is delivered as usual and never read from the descriptor (signalfd(2)).
        signals.thread_block().map_err(fail("block signals of"))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals =
            SignalFd::with_flags(&signals, flags).map_err(fail("create a signalfd for"))?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(fail("create an inotify instance for"))?;
        Ok(Events { signals, inotify, dirs: HashMap::new() })
    }

    /// Adds changes in a directory to the events. A directory that does not exist is skipped.
    pub fn watch(&mut self, dir: &Path, events: DirEvents) {
        let names = AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        let flags = match events {
            DirEvents::Names => names,
            // When a writer closes the file, not at each write: the content is complete then.
            DirEvents::Written => names | AddWatchFlags::IN_CLOSE_WRITE,
            DirEvents::Attributes => names | AddWatchFlags::IN_ATTRIB,
        };
        if let Ok(descriptor) = self.inotify.add_watch(dir, flags) {
            self.dirs.insert(descriptor, dir.to_owned());
        }
    }

    /// Waits for the first event, until `extra_fd` can be read, or until `limit` has passed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wait(&mut self, limit: Duration, extra_fd: Option<BorrowedFd<'_>>) -> Result<Wakeup> {
        let fail = |errno| Error::call("wait for", "events", errno);
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let own = self.signals.as_fd();
        let mut fds = [own, self.inotify.as_fd(), extra_fd.unwrap_or(own)]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let count = if extra_fd.is_some() { 3 } else { 2 };
        match poll(&mut fds[..count], timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Wakeup::default()),
            Ok(_) => {}
            Err(errno) => return Err(fail(errno)),
        }
        // Any event: of a pipe whose other end is closed poll(2) reports POLLHUP alone.
        let is_extra_fd_ready = extra_fd.is_some() && fds[2].any() == Some(true);
        let mut woken = Wakeup { is_extra_fd_ready, ..Wakeup::default() };
        while let Some(signal) = self.signals.read_signal().map_err(fail)? {
            let reload = i32::try_from(signal.ssi_signo) == Ok(Signal::SIGHUP as i32);
            woken.reload |= reload;
            woken.stop |= !reload;
        }
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        let dir = self.dirs.get(&event.wd);
                        // IN_Q_OVERFLOW belongs to no watch (inotify(7)): anything may have changed.
                        let dir = dir.map_or(Path::new(""), PathBuf::as_path);
                        woken.files.push(dir.join(event.name.unwrap_or_default()));
                        // The kernel has dropped the watch: the directory was removed or unmounted.
                        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                            self.dirs.remove(&event.wd);
                        }
                    }
                }
                Err(Errno::EAGAIN) => return Ok(woken),
                Err(errno) => return Err(fail(errno)),
            }
        }
    }
}
